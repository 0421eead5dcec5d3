# SPDX-License-Identifier: Apache-2.0
"""A real Chromium for the tests, driven through driver.mjs."""

import itertools
import json
import os
import re
import select
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ANSWER_SECONDS = 40
SCREENSHOTS = os.path.join(os.environ.get("HOLDFAST_TEST_RESULTS") or os.path.join(ROOT, "test-results"), "screenshots")


class BrowserError(Exception):
    """The browser could not do it; the text says why."""


def chromium_program():
    chosen = os.environ.get("HOLDFAST_CHROMIUM")
    for path in [chosen] if chosen else ["/usr/bin/chromium", shutil.which("chromium"), shutil.which("google-chrome")]:
        if path and os.access(path, os.X_OK):
            return path
    raise BrowserError(
        "the browser tests need Chromium, and there is none: on Debian run ./dev setup; elsewhere set "
        "HOLDFAST_CHROMIUM to the program of a Chromium or Chrome"
    )


def node_program():
    state = os.environ.get("HOLDFAST_DEV_STATE") or os.path.join(ROOT, ".dev")
    own = os.path.join(state, "node", "node_modules", "node", "bin", "node")
    return own if os.access(own, os.X_OK) else "node"


class Browser:
    def __init__(self):
        self.names = (f"page{number}" for number in itertools.count())
        self.process = subprocess.Popen(
            [node_program(), os.path.join(HERE, "driver.mjs"), chromium_program()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.read()

    def read(self, seconds=ANSWER_SECONDS):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise BrowserError("the browser's driver " + ("ended" if ready else f"did not answer in {seconds} s"))
        return json.loads(line)

    def ask(self, seconds=0, **command):
        """`seconds`: how long the command itself may wait."""
        self.process.stdin.write(json.dumps(command) + "\n")
        answer = self.read(seconds + ANSWER_SECONDS)
        if "error" in answer:
            raise BrowserError(
                f"{command.get('method', command['do'])} {command.get('selector') or ''}: {answer['error']}"
            )
        return answer["result"]

    def open(self, url, dark=False, width=1280, height=800, **options):
        name = next(self.names)
        self.ask(
            do="open",
            page=name,
            url=url,
            options={
                "colorScheme": "dark" if dark else "light",
                "viewport": {"width": width, "height": height},
                **options,
            },
        )
        return Page(self, name, url)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Page:
    """One page. Selectors are Playwright's; every action waits for its element."""

    def __init__(self, browser, name, url):
        self.browser = browser
        self.name = name
        self.url = url

    def call(self, method, *arguments, selector=None, seconds=0):
        return self.browser.ask(
            seconds, do="call", page=self.name, selector=selector, method=method, args=list(arguments)
        )

    def go(self, path):
        """To a page of the dashboard, without loading it anew."""
        self.evaluate(f"window.location.hash = '#/{path}'")

    def evaluate(self, script):
        return self.call("evaluate", script)

    def click(self, selector):
        self.call("click", selector=selector)

    def fill(self, selector, text):
        self.call("fill", text, selector=selector)

    def press(self, key):
        self.call("keyboard.press", key)

    def see(self, selector, seconds=15):
        """Waits until it is visible."""
        self.call(
            "waitFor", {"state": "visible", "timeout": seconds * 1000}, selector=f"{selector} >> nth=0", seconds=seconds
        )

    def see_gone(self, selector, seconds=15):
        self.call(
            "waitFor", {"state": "hidden", "timeout": seconds * 1000}, selector=f"{selector} >> nth=0", seconds=seconds
        )

    def text(self, selector):
        return re.sub(r"\s+", " ", self.call("innerText", selector=f"{selector} >> nth=0")).strip()

    def count(self, selector):
        return self.call("count", selector=selector)

    def focused(self):
        """The focused element as a person would name it."""
        return self.evaluate(
            "(() => { const e = document.activeElement; "
            "return (e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.id || e.tagName)"
            ".trim().split('\\n')[0]; })()"
        )

    def screenshot(self, name, is_whole=True):
        os.makedirs(SCREENSHOTS, exist_ok=True)
        self.call(
            "screenshot",
            {"path": os.path.join(SCREENSHOTS, f"{name}.png"), "fullPage": is_whole, "animations": "disabled"},
        )

    def problems(self):
        return self.browser.ask(do="problems", page=self.name)

    def close(self):
        self.browser.ask(do="close", page=self.name)
