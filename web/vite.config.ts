// SPDX-License-Identifier: Apache-2.0
// Builds the dashboard into dist/, which the server embeds; `vite` alone serves it for development against ./dev up.
import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [preact()],
  build: { target: "es2021", assetsInlineLimit: 0, sourcemap: false },
  server: { proxy: { "/v1": "http://127.0.0.1:8080" } },
});
