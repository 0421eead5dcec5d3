# SPDX-License-Identifier: Apache-2.0
"""Red: one cannot get in, gets in without a token, or finds a fresh server confusing."""

import requests
from conftest import FETCH_FAILED


def test_a_wrong_token_is_refused(browser, holdfast):
    page = browser.open(holdfast.server.url + "/")
    page.screenshot("sign-in-light")
    assert page.focused() == "Token"
    page.fill("#token", "not-a-token")
    page.press("Enter")
    page.see("text=The server does not know this token")
    page.screenshot("sign-in-wrong-token")
    assert page.count("role=heading[name=Fleet]") == 0
    assert not page.evaluate("Object.values(localStorage).includes('not-a-token')")
    problems = page.problems()
    assert all(FETCH_FAILED in problem and "401" in problem for problem in problems), problems
    page.close()


def test_the_right_token_opens_and_sign_out_closes(open_page):
    page = open_page(dark=True)
    page.see("text=live")
    page.evaluate("window.location.reload()")
    page.see("role=heading[name=Fleet]")
    page.click("role=button[name='Sign out']")
    page.see("#token")
    page.screenshot("sign-in-dark")
    assert page.evaluate("localStorage.getItem('holdfast-token')") is None
    page.go("backups")
    page.see("#token")


def test_an_empty_fleet_says_what_to_do(page):
    page.see("text=No database is protected yet")
    page.screenshot("empty-fleet")
    for path, words in [
        ("backups", "No backup yet"),
        ("repositories", "No repository yet"),
        ("restores", "Nothing was restored yet"),
        ("instances", "No instance is running"),
    ]:
        page.go(path)
        page.see(f"text={words}")
        page.screenshot(f"empty-{path}")
    page.go("activity")
    page.see("role=heading[name=Activity]")


def test_places_that_do_not_exist(page):
    page.expected.append(FETCH_FAILED)
    page.go("nowhere")
    page.see("text=There is no such page")
    page.go("databases/nothing")
    page.see("role=alert")
    page.screenshot("database-missing")
    page.go("backups/nothing")
    page.see("role=alert")
    page.go("repositories/nothing")
    page.see("role=alert >> text=/there is no repository 'nothing'/i")


def test_the_files_are_served_strictly(holdfast):
    url = holdfast.server.url
    page = requests.get(url + "/", timeout=10)
    assert page.status_code == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    again = requests.get(url + "/", headers={"If-None-Match": page.headers["ETag"]}, timeout=10)
    assert again.status_code == 304 and not again.content
    script = page.text.split('src="')[1].split('"')[0]
    asset = requests.get(url + script, timeout=10)
    assert asset.status_code == 200 and asset.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in asset.headers["Cache-Control"] and asset.headers["X-Content-Type-Options"] == "nosniff"
    head = requests.head(url + script, timeout=10)
    assert head.status_code == 200 and not head.content and int(head.headers["Content-Length"]) == len(asset.content)
    for path in ["/assets/none.js", "/assets/../index.html.bak", "/etc/passwd", "/assets/", "/wp-admin"]:
        assert requests.get(url + path, timeout=10).status_code == 404, path
    assert requests.post(url + "/", timeout=10).status_code == 405
