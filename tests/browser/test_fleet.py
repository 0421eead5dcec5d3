# SPDX-License-Identifier: Apache-2.0
"""Red: the dashboard cannot do its work: show the fleet, start a backup and follow it, explain it, restore it."""

import time

from conftest import FETCH_FAILED, LONG_NAME
from holdfast_harness import connect, free_port_run

from demo import ledger, servers

BACKUPS = "section:has(h2:text-is('Backups')) tbody tr"
MARK = "window.neverReloaded = true"


def assert_not_reloaded(page):
    assert page.evaluate("window.neverReloaded") is True


def card(name):
    return f'article:has(a:text-is("{name}"))'


def test_the_fleet_tells_who_is_protected(fleet, page):
    page.see(card("shop"))
    assert "protected" == page.text(f"{card('shop')} >> .badge")
    assert "at risk" == page.text(f"{card('ledger')} >> .badge")
    assert "No backup is planned" in page.text(card("ledger"))
    for name in ["orders", LONG_NAME]:
        assert "unprotected" == page.text(f"{card(name)} >> .badge")
        assert "no restorable backup" in page.text(card(name))
    assert page.text(".summary") == "1 protected 1 at risk 2 unprotected"
    assert "256 shards" in page.text(card(LONG_NAME))
    assert page.text("article >> nth=0 >> .badge") == "unprotected", "the worst come first"


def test_back_up_now_is_followed_live(fleet, page, open_page):
    machines = open_page("instances")
    page.click(f"{card('shop')} >> role=link[name=shop]")
    page.see("role=heading[name=shop]")
    page.evaluate(MARK)
    page.click("role=button[name='Back up now']")
    page.see("text=Running backup")
    page.see("a.tile.busy")
    assert page.count("a.tile") == 2
    machines.see("tbody tr")
    assert "shop" in machines.text("tbody tr")
    machines.screenshot("instances-light")
    seen = set()
    deadline = time.monotonic() + 60
    while page.count("text=Running backup"):
        seen.update(page.call("allInnerTexts", selector="a.tile span"))
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    assert len(seen) >= 3, f"the grid did not move: {seen}"
    page.see(f"{BACKUPS} >> nth=0 >> text=succeeded")
    page.see("role=button[name='Back up now']")
    assert page.count(BACKUPS) == 3
    machines.see("text=No instance is running", seconds=30)
    assert_not_reloaded(page)


def test_back_up_from_the_fleet(fleet, page):
    page.evaluate(MARK)
    page.click(f"{card('orders')} >> role=button[name='Back up now']")
    page.see("role=heading[name='Backup of orders']")
    page.see(".badge >> text=running")
    page.screenshot("backup-running-light")
    page.see(".badge >> text=succeeded", seconds=60)
    page.go("fleet")
    page.see(f"{card('orders')} >> text=at risk")
    assert_not_reloaded(page)


def test_a_database_and_its_policy(fleet, page):
    page.go("databases/shop")
    page.see("canvas")
    table = page.text("role=group[name=Shards]")
    for shard, source in zip(["0", "1"], fleet.shop):
        assert f"127.0.0.1:{source.port}" in table and shard in table
    assert page.count("ol.runs li") == 5
    page.click("role=button[name=Pause]")
    page.see(".policy .badge >> text=paused")
    assert fleet.get("/v1/databases/shop/policies/nightly")["is_paused"] is True
    page.click("role=button[name=Resume]")
    page.see("ol.runs")
    assert not fleet.get("/v1/databases/shop/policies/nightly").get("is_paused")


def test_a_backup_is_explained(fleet, page):
    backup = fleet.get("/v1/databases/shop")["last_backup_id"]
    page.go(f"backups/{backup}")
    page.see("role=heading[name='Backup of shop']")
    page.see(".waterfall .bar")
    legend = page.text(".legend")
    for phase in ["restore", "replay", "checkpoint", "publish"]:
        assert phase in legend, legend
    assert page.count(".waterfall .row:not(.axis)") == 2
    assert page.text(".figure >> nth=0") == "Shards 2/2"
    page.click("a.tile >> nth=1")
    page.see("role=heading[name=/Shard 1/]")
    detail = page.text("dl.wide")
    assert "Generation 2" in detail and "Parent restored in" in detail and "Pages verified" in detail, detail
    assert page.count(".waterfall .row:not(.axis)") == 1


def test_a_backup_says_what_was_read_and_why(fleet, page):
    page.go(f"backups/{fleet.first_backup}")
    page.see("text=/A seed: there was no parent/")
    last = fleet.get("/v1/databases/shop")["last_backup_id"]
    page.go(f"backups/{last}")
    page.see("text=/only what the recorder of writes had noted/")
    shards = fleet.get(f"/v1/backups/{last}/shards")["shards"]
    read, size = (sum(int(shard[amount]) for shard in shards) for amount in ("read_bytes", "size_bytes"))
    assert 0 < read < size
    assert f"{round(100 * read / size)} %" in page.text("dl.amounts div:has(dt:text-is('Read to publish'))")
    fleet.call("PATCH", "/v1/databases/shop", {"reads_everything": True})
    full = fleet.start_backup("shop")
    page.go(f"backups/{full}")
    page.see("text=/A full read: everything but holes was read/", seconds=60)
    page.screenshot("backup-full-read-light")
    fleet.call("PATCH", "/v1/databases/shop", {"reads_everything": False})
    fleet.wait_backup(full)


def test_a_repository_says_what_it_holds(fleet, page):
    page.go("repositories")
    page.see("tbody tr >> text=file://")
    page.click("role=link[name=main]")
    page.see("role=heading[name=main]")
    page.evaluate(MARK)
    holds = fleet.get("/v1/repositories/main/databases")["databases"]
    names = [database["database"] for database in holds]
    assert names == sorted(names) and {"ledger", "shop"} <= set(names)
    rows = "section:has(h2:text-is('Databases')) tbody tr"
    for number, database in enumerate(holds):
        row = page.text(f"{rows} >> nth={number}")
        assert row.startswith(f"{database['database']} {database['backup_count']} "), row
    repository = fleet.get("/v1/repositories/main")
    ratio = sum(int(database["size_bytes"]) for database in holds) / int(repository["stored_bytes"])
    assert f"{ratio:.1f} : 1" in page.text(".figures")
    assert repository["key_fingerprint"] in page.text("dl.facts")
    page.see("canvas")

    # What is kept by hand is counted, found and, on the backup's page, let go.
    fleet.post(f"/v1/backups/{fleet.first_backup}/hold", {"note": "case 18"})
    page.see(f"{rows} >> text='1 on legal hold'", seconds=20)
    page.click("role=checkbox[name=/only pinned/]")
    assert page.count(BACKUPS) == 1
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot("repository-kept-light")
    assert_not_reloaded(page)
    page.click(f"{BACKUPS} >> role=link >> nth=0")
    page.click("role=button[name='End hold']")
    page.click("role=button[name='End the hold']")
    page.see_gone(".badge >> text='legal hold'")
    page.click("role=link[name=main]")
    page.see("role=heading[name=main]")
    page.click("role=checkbox[name=/only pinned/]")
    page.see("text=No backup is kept by hand")


def test_a_policy_says_what_it_keeps(fleet, page, open_page):
    page.go("databases/shop")
    page.click("role=button[name='What it keeps']")
    page.see("role=dialog >> text=/backups? stay/")
    page.press("Escape")
    page.see_gone("role=dialog")
    fleet.call("PATCH", "/v1/databases/shop/policies/nightly", {"retention": {"keep_daily": 7, "keep_yearly": 2}})
    dark = open_page("databases/shop", dark=True)
    dark.see(".policy >> text=/7 daily and 2 yearly/")
    limits = {"upload_bytes_per_second": 20 << 20, "cpu_count": 1}
    fleet.call("PATCH", "/v1/databases/shop/policies/nightly", {"limits": limits})
    dark.see(".policy >> text=/at most 20.0 MiB.s up, 1 processor each/")
    limits = {"upload_bytes_per_second": 0, "cpu_count": 0}
    fleet.call("PATCH", "/v1/databases/shop/policies/nightly", {"limits": limits})
    dark.click("role=button[name='What it keeps']")
    dark.see("role=dialog >> text=kept")
    dark.screenshot("retention-dialog-dark", is_whole=False)


def set_limits(page, **values):
    page.click("role=button[name=Limits]")
    for key, value in values.items():
        page.fill(f"role=dialog >> input[name={key}]", value)
    page.click("role=button[name='Set the limits']")


def test_limits_are_set_by_hand(fleet, page):
    page.expected.append(FETCH_FAILED)
    set_limits(page, upload_bytes_per_second="400", download_bytes_per_second="0.0625")
    page.see("text='at most 400 MiB/s up, 64.0 KiB/s down'")
    limits = fleet.get("/v1/limits")
    assert int(limits["upload_bytes_per_second"]) == 400 << 20 and int(limits["download_bytes_per_second"]) == 65536
    page.click("role=button[name=Limits]")
    assert page.call("inputValue", selector="input[name=upload_bytes_per_second]") == "400"
    # Somebody is faster: nothing is changed, and the dialog says so.
    fleet.call("PATCH", "/v1/limits", {"upload_bytes_per_second": 500 << 20})
    page.see("text=/at most 500 MiB/")
    page.fill("input[name=upload_bytes_per_second]", "1")
    page.click("role=button[name='Set the limits']")
    page.see("role=dialog >> [role=alert] >> text=/changed by somebody else/")
    page.screenshot("limits-dialog-light", is_whole=False)
    page.press("Escape")
    assert int(fleet.get("/v1/limits")["upload_bytes_per_second"]) == 500 << 20
    set_limits(page, upload_bytes_per_second="", download_bytes_per_second="")
    page.see_gone("text=/at most/")

    page.go("repositories/main")
    page.see("dl.facts >> text=none")
    set_limits(page, download_bytes_per_second="300")
    page.see("dl.facts >> text='at most 300 MiB/s down'")
    set_limits(page, download_bytes_per_second="")
    page.see_gone("dl.facts >> text=/at most/")

    page.go("databases/shop")
    set_limits(page, cpu_count="1", memory_bytes="128")
    page.see(".policy >> text=/at most 1 processor each, 128 MiB of memory each/")
    # A program chose a memory that is no whole number of MiB: the rest can still be set.
    fleet.call("PATCH", "/v1/databases/shop/policies/nightly", {"limits": {"cpu_count": 1, "memory_bytes": 10**8}})
    page.see(".policy >> text=/95.4 MiB of memory each/")
    set_limits(page, cpu_count="2")
    page.see(".policy >> text=/at most 2 processors each, 95.4 MiB of memory each/")
    set_limits(page, cpu_count="", memory_bytes="")
    page.see_gone(".policy >> text=/at most/")


def test_the_limits_of_what_runs_are_set_by_hand(fleet, page):
    fleet.call("PATCH", "/v1/databases/shop", {"reads_everything": True})
    backup = fleet.start_backup("shop", limits={"download_bytes_per_second": 65536})
    page.go(f"backups/{backup}")
    set_limits(page, download_bytes_per_second="100")
    page.see_gone("role=dialog")
    assert int(fleet.get(f"/v1/backups/{backup}")["limits"]["download_bytes_per_second"]) == 100 << 20
    fleet.call("PATCH", "/v1/databases/shop", {"reads_everything": False})
    fleet.wait_backup(backup)
    page.see_gone("role=button[name=Limits]", seconds=30)


def test_pins_and_legal_holds(fleet, page, open_page):
    backup = fleet.first_backup if isinstance(fleet.first_backup, str) else fleet.first_backup["id"]
    page.go(f"backups/{backup}")
    page.click("role=button[name=Pin]")
    page.fill("input[name=note]", "before the move")
    page.fill("input[name=until]", "2099-12-31")
    page.screenshot("pin-dialog-light", is_whole=False)
    page.click("role=dialog >> role=button[name=Pin]")
    page.see(".badge >> text=pinned")
    page.click("role=button[name='Legal hold']")
    page.fill("input[name=note]", "case 17")
    page.click("role=button[name='Put on hold']")
    page.see(".badge >> text='legal hold'")
    page.see("text=/On legal hold since .*case 17.*Pinned until .*2099.*before the move/")
    page.screenshot("backup-kept-light")
    dark = open_page("databases/shop", dark=True)
    dark.see("td .badge >> text='legal hold'")
    dark.screenshot("database-kept-dark")
    page.expected.append(FETCH_FAILED)  # a refused deletion
    page.click("role=button[name=Unpin]")
    page.see_gone(".badge >> text=pinned")
    page.click("role=button[name=Delete]")
    page.click("role=dialog >> role=button[name=Delete]")
    page.see(".problem >> text=/legal hold/")
    page.click("role=button[name='End hold']")
    page.click("role=button[name='End the hold']")
    page.see_gone(".badge >> text='legal hold'")
    assert fleet.get(f"/v1/backups/{backup}")["state"] == "succeeded"


def test_restore_as_running_servers(fleet, page):
    port = free_port_run(2)
    page.go("databases/shop")
    page.click("role=button[name=Restore]")
    page.see("role=dialog")
    page.screenshot("restore-dialog-light", is_whole=False)
    directory = f"{fleet.home}/restored-by-hand"
    servers.make_directory(directory)
    page.fill("role=dialog >> role=textbox", directory)
    page.fill("role=spinbutton", str(port))
    page.click("role=dialog >> role=button[name=Restore]")
    page.see("role=heading[name='Restore of shop']")
    page.evaluate(MARK)
    page.see(".head .badge >> text=serving", seconds=60)
    assert f"127.0.0.1:{port}" in page.text("tbody")
    for number in range(2):
        connection = connect("mariadb", port + number)
        ledger.verify(connection)
        connection.close()
    for theme in ["light", "dark"]:
        page.screenshot(f"restore-{theme}")
        page.click("role=button[name=/Use .* colours/]")
    page.click("role=button[name='Stop the servers']")
    page.see_gone("role=button[name='Stop the servers']", seconds=30)
    assert page.text(".head .badge") != "serving"
    assert_not_reloaded(page)


def test_a_restore_that_cannot_be(fleet, page):
    page.expected.append(FETCH_FAILED)
    page.go(f"backups/{fleet.first_backup}")
    page.click("role=button[name=Restore]")
    page.fill("role=dialog >> role=textbox", "/proc/nowhere")
    page.click("role=dialog >> role=button[name=Restore]")
    page.see("[role=alert]:has-text('/proc/nowhere')", seconds=40)


def test_activity_shows_what_happens_now(fleet, page):
    page.go("activity")
    page.see("ol.events li")
    fleet.post("/v1/databases/shop/policies/nightly/pause")
    page.see("ol.events li >> text=/paused/i")
    fleet.post("/v1/databases/shop/policies/nightly/resume")
    page.call("selectOption", "error", selector="select")
    page.see_gone("ol.events li >> text=/paused/i")
