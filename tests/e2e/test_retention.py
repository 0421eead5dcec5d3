# SPDX-License-Identifier: Apache-2.0
"""Red: retention deletes what it should keep, or does not free what it deletes."""

import os
import time

import pytest
from holdfast_harness import ApiError, connect, free_port, ledger, servers


def test_deleting_frees_space_and_touches_nothing_else(holdfast):
    source = holdfast.source("mariadb", filler_mib=30, start_writer=False)
    holdfast.create_database("shop", "mariadb", [source])
    first = holdfast.backup("shop")
    second = holdfast.backup("shop", seed=True)
    third = holdfast.backup("shop")
    holdfast.wait_clean()
    before = holdfast.repository_bytes()
    holdfast.call("DELETE", f"/v1/backups/{first['id']}")
    holdfast.wait(f"/v1/backups/{first['id']}", lambda value: value["state"] == "deleted", 60)
    deadline = time.monotonic() + 60
    while holdfast.repository_bytes() > before * 0.6 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holdfast.repository_bytes() <= before * 0.6, (before, holdfast.repository_bytes())
    for backup in (second, third):
        done = holdfast.restore(backup=backup["id"], first_port=free_port())
        connection = connect("mariadb", done["shards"][0]["port"])
        ledger.verify(connection)
        connection.close()
        holdfast.stop_restore(done)


def test_policy_retention_with_dry_run(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    holdfast.post(
        "/v1/databases/shop/policies",
        {"name": "minutely", "schedule": "* * * * *", "repository": "main", "retention": {"keep_last": 1}},
    )
    holdfast.wait(
        "/v1/backups",
        lambda value: len(
            [
                backup
                for backup in value["backups"]
                if backup["trigger"] == "policy" and backup["state"] in ("succeeded", "deleting", "deleted")
            ]
        )
        >= 2,
        180,
    )
    holdfast.post("/v1/databases/shop/policies/minutely/pause")
    holdfast.wait("/v1/databases/shop", lambda value: not value.get("running_backup_id"), 60)
    kept = holdfast.wait(
        "/v1/backups",
        lambda value: len([backup for backup in value["backups"] if backup["state"] == "succeeded"]) == 1,
        90,
    )["backups"]
    newest = [backup for backup in kept if backup["state"] == "succeeded"][0]
    verdicts = holdfast.get("/v1/databases/shop/policies/minutely/retention")["verdicts"]
    assert [verdict["backup_id"] for verdict in verdicts if verdict["is_kept"]] == [newest["id"]]
    assert all(verdict["why"] for verdict in verdicts)
    holdfast.verify_backup(newest["id"], [source])


def test_a_backup_that_is_being_restored_is_not_deleted(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    backup = holdfast.backup("shop")
    place = os.path.join(holdfast.home, "restored")
    servers.make_directory(place)
    restore = holdfast.post("/v1/restores", {"backup": backup["id"], "mode": "directory", "directory": place})
    with pytest.raises(ApiError) as caught:
        holdfast.call("DELETE", f"/v1/backups/{backup['id']}")
    assert caught.value.reason == "in-use" and caught.value.problem["hint"], caught.value
    done = holdfast.wait(f"/v1/restores/{restore['id']}", lambda value: value["state"] not in ("pending", "running"))
    assert done["state"] == "succeeded", done
    holdfast.call("DELETE", f"/v1/backups/{backup['id']}")
    holdfast.wait(f"/v1/backups/{backup['id']}", lambda value: value["state"] == "deleted", 60)
