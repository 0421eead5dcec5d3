# SPDX-License-Identifier: Apache-2.0
"""Red: a slot is skipped or fires twice with two servers on one PostgreSQL, or work is done twice."""

import time

import pytest
from holdfast_harness import ApiError


def test_two_servers_share_the_work(two_servers):
    home, first, second, cluster = two_servers
    source = home.source("mariadb")
    home.create_database("shop", "mariadb", [source])
    home.post(
        "/v1/databases/shop/policies",
        {"name": "minutely", "schedule": "* * * * *", "repository": "main", "retention": {"keep_last": 20}},
    )
    home.wait("/v1/backups", lambda value: any(backup["state"] == "succeeded" for backup in value["backups"]), 100)
    first.kill()
    home.current = second
    seen = len(home.get("/v1/backups")["backups"])
    home.wait(
        "/v1/backups",
        lambda value: len([backup for backup in value["backups"] if backup["state"] == "succeeded"]) > seen,
        180,
    )
    first.start()
    home.post("/v1/databases/shop/policies/minutely/pause")
    home.wait("/v1/databases/shop", lambda value: not value.get("running_backup_id"), 100)
    slots = cluster.query("SELECT slot_at, count(*) FROM policy_slots GROUP BY 1 ORDER BY 1", database="control")
    assert all(count == 1 for _, count in slots)
    moments = [slot for slot, _ in slots]
    for earlier, later in zip(moments, moments[1:]):
        assert (later - earlier).total_seconds() == 60, f"a slot between {earlier} and {later} is missing"
    doubled = cluster.query(
        "SELECT slot_at FROM backups WHERE slot_at IS NOT NULL GROUP BY 1 HAVING count(*) > 1", database="control"
    )
    assert doubled == []
    newest = home.get("/v1/backups?state=succeeded")["backups"][0]
    home.verify_backup(newest["id"], [source])


def test_missed_slots_collapse_into_one(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    holdfast.post("/v1/databases/shop/policies", {"name": "minutely", "schedule": "* * * * *", "repository": "main"})
    holdfast.server.stop()
    time.sleep(125 - time.time() % 60 if time.time() % 60 < 5 else 185 - time.time() % 60)
    holdfast.server.start()
    holdfast.wait("/v1/backups", lambda value: any(backup["state"] == "succeeded" for backup in value["backups"]), 60)
    holdfast.post("/v1/databases/shop/policies/minutely/pause")
    fired = [backup for backup in holdfast.get("/v1/backups")["backups"] if backup["trigger"] == "policy"]
    assert len(fired) <= 2, fired
    kinds = [event["kind"] for event in holdfast.get("/v1/events?database=shop&page_size=1000")["events"]]
    assert "policy.collapsed" in kinds, kinds


def test_overlap_pause_and_preview(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    backup = holdfast.start_backup("shop")
    with pytest.raises(ApiError) as caught:
        holdfast.start_backup("shop")
    assert caught.value.reason == "backup-running"
    holdfast.wait_backup(backup)
    policy = holdfast.post(
        "/v1/databases/shop/policies",
        {"name": "nightly", "schedule": "30 2 * * *", "repository": "main", "time_zone": "Europe/Berlin"},
    )
    assert policy["next_run_at"]
    paused = holdfast.post("/v1/databases/shop/policies/nightly/pause")
    assert paused["is_paused"] and not paused.get("next_run_at")
    resumed = holdfast.post("/v1/databases/shop/policies/nightly/resume")
    assert resumed["next_run_at"] == policy["next_run_at"]
    preview = holdfast.post(
        "/v1/schedules/preview",
        {"schedule": "30 2 * * *", "time_zone": "Europe/Berlin", "from": "2027-03-27T00:00:00Z", "count": 3},
    )
    # On 2027-03-28 clocks jump from 02:00 to 03:00 in Berlin: 02:30 does not exist and runs at the change.
    assert preview["runs"] == ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    preview = holdfast.post(
        "/v1/schedules/preview",
        {"schedule": "30 2 * * *", "time_zone": "Europe/Berlin", "from": "2027-10-30T00:00:00Z", "count": 3},
    )
    # On 2027-10-31 02:30 comes twice: it runs once, the first time.
    assert preview["runs"] == ["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]
