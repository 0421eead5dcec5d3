// SPDX-License-Identifier: Apache-2.0
// Entry of the dashboard.
import { render } from "preact";
import { App } from "./app";
import "./style/base.css";
import "./style/parts.css";
import "./style/views.css";

render(<App />, document.getElementById("app")!);
