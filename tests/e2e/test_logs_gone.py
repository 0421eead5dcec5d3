# SPDX-License-Identifier: Apache-2.0
"""Red: a shard whose source lost its logs, diverged or restarts is not protected any more, or silently."""

import time

import pytest


def purge(source):
    if source.engine == "postgresql":
        for (slot,) in source.query("SELECT slot_name FROM pg_replication_slots"):
            source.query("SELECT pg_drop_replication_slot(%s)", slot)
        for _ in range(3):
            source.query("CREATE TABLE IF NOT EXISTS junk (t text)", database="ledger")
            source.query(
                "INSERT INTO junk SELECT repeat('x', 1000) FROM generate_series(1, 30000)", database="ledger"
            )
            source.query("SELECT pg_switch_wal()")
            source.query("CHECKPOINT")
    else:
        source.query("FLUSH BINARY LOGS")
        name = source.query("SHOW BINARY LOGS")[-1][0]
        source.query("INSERT INTO ledger.account VALUES (100000, 0)")
        source.query("DELETE FROM ledger.account WHERE id = 100000")
        # A log that a replica's thread still reads is not purged, without an error: until that thread has noticed.
        deadline = time.monotonic() + 60
        while source.query("SHOW BINARY LOGS")[0][0] != name:
            assert time.monotonic() < deadline, "the logs are still in use"
            source.query("PURGE BINARY LOGS TO %s", name)
            time.sleep(0.2)


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_logs_gone_means_a_new_seed_said_loudly(holdfast, engine):
    source = holdfast.source(engine)
    holdfast.create_database("shop", engine, [source])
    holdfast.backup("shop")
    holdfast.wait_clean()
    source.query("SELECT 1")
    time.sleep(0.5)
    purge(source)
    backup = holdfast.backup("shop")
    shard = holdfast.shards_of(backup["id"])[0]
    assert shard["generation"] == 0, shard
    assert "logs" in shard["seed_reason"].lower() or shard["seed_reason"] == "logs-gone", shard
    kinds = [event["kind"] for event in holdfast.get("/v1/events?database=shop&minimum_severity=warning")["events"]]
    assert "shard_backup.reseeded" in kinds, kinds
    holdfast.verify_backup(backup["id"], [source])


@pytest.mark.parametrize("engine", ["mariadb", "postgresql"])
def test_a_source_that_is_another_one(holdfast, engine):
    source = holdfast.source(engine)
    holdfast.create_database("shop", engine, [source])
    holdfast.backup("shop")
    holdfast.wait_clean()
    other = holdfast.source(engine)
    holdfast.call(
        "PATCH",
        "/v1/databases/shop/shards/0",
        {"source": {"host": "127.0.0.1", "port": other.port, "credential": "source"}},
    )
    backup = holdfast.backup("shop")
    shard = holdfast.shards_of(backup["id"])[0]
    assert shard["generation"] == 0 and shard["seed_reason"], shard
    holdfast.verify_backup(backup["id"], [other])


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_the_source_restarts_in_the_middle(holdfast, engine):
    source = holdfast.source(engine)
    holdfast.create_database("shop", engine, [source])
    holdfast.backup("shop")
    backup = holdfast.start_backup("shop")
    holdfast.wait(
        f"/v1/backups/{backup}/shards",
        lambda value: value["shards"][0].get("phase") in ("start", "replay", "ready", "checkpoint"),
        60,
    )
    source.stop()
    source.start()
    done = holdfast.wait_backup(backup)
    assert done["state"] == "succeeded"
    last = holdfast.backup("shop")
    holdfast.verify_backup(last["id"], [source])


def test_cancel_stops_everything(holdfast):
    source = holdfast.source("mariadb", filler_mib=60)
    holdfast.create_database("shop", "mariadb", [source])
    backup = holdfast.start_backup("shop")
    holdfast.wait(
        f"/v1/backups/{backup}/shards",
        lambda value: value["shards"][0].get("phase") in ("seed", "start", "replay"),
        60,
    )
    holdfast.post(f"/v1/backups/{backup}/cancel")
    done = holdfast.wait(f"/v1/backups/{backup}", lambda value: value["state"] not in ("pending", "running"), 60)
    assert done["state"] == "canceled", done
    holdfast.wait_clean()
    again = holdfast.backup("shop")
    holdfast.verify_backup(again["id"], [source])
