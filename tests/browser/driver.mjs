// SPDX-License-Identifier: Apache-2.0
// A real browser for the tests in Python: reads one command a line as JSON, answers each with one line.
//   {"do": "open", "page": "p", "url": ..., "options": {...}}   a page with a context of its own
//   {"do": "call", "page": "p", "selector": ..., "method": "click", "args": []}
//        a method of Playwright's locator, of the keyboard ("keyboard.press") or, without a selector, of the page
//   {"do": "problems", "page": "p"}                              what went wrong in it since it was last asked
//   {"do": "close", "page": "p"}
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { chromium } = createRequire(new URL("../../web/package.json", import.meta.url))("playwright-core");
const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  "--no-sandbox",
];
const PATIENCE_MS = 15000;

const browser = await chromium.launch({ executablePath: process.argv[2], headless: true, args: FLAGS });
const pages = new Map();

async function open({ page: name, url, options }) {
  const context = await browser.newContext({ locale: "en-GB", timezoneId: "UTC", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.host !== new URL(url).host) problems.push(`request to another host: ${request.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  pages.set(name, { page, context, problems });
  await page.goto(url);
}

async function call({ page: name, selector, method, args = [] }) {
  const { page } = pages.get(name);
  if (method.startsWith("keyboard.")) return page.keyboard[method.slice(9)](...args);
  const target = selector ? page.locator(selector) : page;
  const result = await target[method](...args);
  // Screenshots are written by path; handles stay here.
  return method === "screenshot" || (typeof result === "object" && !Array.isArray(result) && method !== "evaluate")
    ? null
    : result;
}

const actions = {
  open,
  call,
  problems: ({ page }) => pages.get(page).problems.splice(0),
  close: async ({ page }) => {
    await pages.get(page).context.close();
    pages.delete(page);
  },
};

process.stdout.write(`${JSON.stringify({ ready: browser.version() })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await actions[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
