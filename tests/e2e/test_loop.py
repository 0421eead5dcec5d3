# SPDX-License-Identifier: Apache-2.0
"""Red: the main job is broken. Seed, three generations on top of it, under writes, restored and proven exact."""

import pytest
from holdfast_harness import connect

from demo import ledger


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_three_generations_restore_to_their_checkpoints(holdfast, engine):
    sources = [holdfast.source(engine), holdfast.source(engine)]
    holdfast.create_database("shop", engine, sources)
    backups = [holdfast.backup("shop") for _ in range(4)]
    for generation, backup in enumerate(backups):
        assert backup["generation"] == generation, holdfast.explain(backup)
        assert backup["committed_count"] == 2
        assert float(backup["checkpoint_skew"].rstrip("s")) < 5
    shards = holdfast.shards_of(backups[3]["id"])
    for shard in shards:
        assert shard["parent_restore_time"] and shard["parent_start_time"], shard
        assert shard["new_bytes"] < shard["size_bytes"] / 2
    holdfast.verify_backup(backups[0]["id"], sources)
    holdfast.verify_backup(backups[3]["id"], sources)
    holdfast.wait_clean()
    daily = {"name": "daily", "schedule": "@daily", "repository": "main"}
    holdfast.post("/v1/databases/shop/policies", daily)
    database = holdfast.get("/v1/databases/shop")
    assert database["protection"] == "protected", database
    assert database["proven_recovery_time"]
    assert holdfast.server.peak_mib < 128


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_an_idle_shard_costs_almost_nothing(holdfast, engine):
    source = holdfast.source(engine, filler_mib=280, start_writer=False)
    writer = ledger.Writer(source, ledger.journal_of(source.directory), 40, seed=3)
    writer.start()
    ledger.wait_for_links(source, 20)
    writer.stop()
    holdfast.create_database("big", engine, [source])
    holdfast.backup("big", timeout=300)
    holdfast.wait_clean()
    before = holdfast.repository_bytes()
    writer = ledger.Writer(source, ledger.journal_of(source.directory), 5, seed=4)
    writer.start()
    backup = holdfast.backup("big", timeout=300)
    writer.stop()
    assert backup["generation"] == 1
    grown = holdfast.repository_bytes() - before
    size = backup["size_bytes"]
    print(
        f"{engine}: size {size >> 20} MiB, received {backup['received_bytes'] / size:.3%}, grown {grown / size:.3%}"
    )
    assert size > 280 << 20
    assert backup["received_bytes"] < size * 0.02
    assert grown < size * 0.02
    connection = None
    done = holdfast.restore(backup=backup["id"], first_port=source.port + 1)
    try:
        connection = connect(engine, done["shards"][0]["port"])
        ledger.verify_at(connection, engine, done["shards"][0]["checkpoint"], ledger.journal_of(source.directory))
    finally:
        if connection:
            connection.close()
        holdfast.stop_restore(done)
