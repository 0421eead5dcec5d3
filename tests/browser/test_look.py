# SPDX-License-Identifier: Apache-2.0
"""Red: somebody cannot use the dashboard: by keyboard, in the dark, on a telephone, or while the server is away."""

import pytest
from conftest import LONG_NAME

# Every text with the colours behind it; those under the contrast that WCAG 2 asks for at level AA.
LOW_CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = (value) => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = (colour) => colour.slice(0, 3).map((value) => linear(value / 255))
    .reduce((sum, value, i) => sum + value * [.2126, .7152, .0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    const box = element.getBoundingClientRect();
    const isExempt = element.closest('.visually-hidden, .skip, :disabled, noscript');
    if (!node.textContent.trim() || box.width < 2 || isExempt) continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    const behind = chain.reduce((below, colour) => over(colour, below), [255, 255, 255, 1]);
    const style = getComputedStyle(element);
    const [a, b] = [light(over(parse(style.color), behind)), light(behind)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const isLarge = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
    const text = node.textContent.trim().slice(0, 40);
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${element.className}: ${text}`);
  }
  return [...new Set(found)];
})()"""


def places(fleet):
    shop = fleet.get("/v1/databases/shop")["last_backup_id"]
    return {
        "fleet": ("fleet", "Fleet", "article"),
        "database": ("databases/shop", "shop", "canvas"),
        "database-long": (f"databases/{LONG_NAME}", LONG_NAME, "tbody tr"),
        "backups": ("backups", "Backups", "tbody tr"),
        "backup": (f"backups/{shop}", "Backup of shop", ".bar"),
        "shard": (f"backups/{shop}/0", "Backup of shop", "dl.wide"),
        "repositories": ("repositories", "Repositories", "tbody tr"),
        "repository": ("repositories/main", "main", "canvas"),
        "restores": ("restores", "Restores", ".card"),
        "instances": ("instances", "Instances", ".card"),
        "activity": ("activity", "Activity", "ol.events li"),
    }


def visit(page, place):
    path, heading, sign = place
    page.go(path)
    page.see(f"h1:text-is('{heading}')")
    page.see(f"main {sign}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_readable(fleet, open_page, theme):
    page = open_page(dark=theme == "dark")
    for name, place in places(fleet).items():
        visit(page, place)
        page.screenshot(f"{name}-{theme}", is_whole=name != "database-long")
        assert page.evaluate(LOW_CONTRAST) == [], name


def test_every_page_fits_a_telephone(fleet, open_page):
    page = open_page(width=390, height=844)
    for name, place in places(fleet).items():
        visit(page, place)
        page.screenshot(f"{name}-narrow", is_whole=name not in ("database-long", "activity"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_the_theme_is_chosen_and_kept(fleet, open_page):
    page = open_page(dark=True)
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.click("role=button[name='Use light colours']")
    light = page.evaluate(colour)
    assert light != dark
    page.evaluate("window.location.reload()")
    page.see("role=button[name='Use dark colours']")
    assert page.evaluate(colour) == light


def test_by_keyboard_alone(fleet, page):
    page.see("article")
    page.press("Tab")
    order = [page.focused()]
    for _ in range(8):
        page.press("Tab")
        order.append(page.focused())
    assert order == [
        "To the content",
        "Holdfast",
        "Fleet",
        "Backups",
        "Repositories",
        "Restores",
        "Instances",
        "Activity",
        "Use dark colours",
    ], order
    for _ in range(30):
        page.press("Tab")
        if page.focused() == "shop":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus cannot be seen"
    page.press("Enter")
    page.see("role=heading[name=shop]")
    for _ in range(20):
        page.press("Tab")
        if page.focused() == "Restore":
            break
    page.press("Enter")
    page.see("role=dialog")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    for _ in range(15):
        page.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        ), "the focus left the dialog"
    page.screenshot("restore-dialog-keyboard", is_whole=False)
    page.press("Escape")
    page.see_gone("role=dialog")
    assert page.focused() == "Restore"


def test_z_the_server_goes_away_and_comes_back(fleet, page):
    page.expected += ["Failed to load resource", "ERR_"]
    page.go("databases/shop")
    page.see("canvas")
    page.evaluate("window.neverReloaded = true")
    fleet.server.stop()
    page.see("text=reconnecting", seconds=20)
    page.go("databases/ledger")
    page.see("text=The server cannot be reached")
    page.screenshot("server-away")
    fleet.server.start()
    page.see("role=heading[name=ledger]", seconds=30)
    page.see(".stream.live", seconds=20)
    assert page.evaluate("window.neverReloaded") is True
