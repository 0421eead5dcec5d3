// SPDX-License-Identifier: Apache-2.0
// Entry of the dashboard.
import { render } from "preact";
import { App } from "./app";
import "./style.css";

render(<App />, document.getElementById("app")!);
