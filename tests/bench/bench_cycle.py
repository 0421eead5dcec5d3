# SPDX-License-Identifier: Apache-2.0
"""The whole cycle of a backup, by a whole Holdfast: restore the parent, start it, replay from the primary, publish."""

import datetime
import os
import sys

import bench_store
from bench_tools import ROOT, drop_caches, say

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from holdfast_harness import ENGINES, Holdfast, free_port  # noqa: E402

CYCLE = "whole cycle"
ROUND_COUNT_MAX = 3
TIMEOUT_S = 1800


def seconds(duration):
    return float(duration.rstrip("s")) if duration else 0.0


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def phase_seconds(shard, phase):
    (attempt,) = [one for one in shard["attempts"] if one["state"] == "committed"]
    return sum(
        (moment(one["ended_at"]) - moment(one["started_at"])).total_seconds()
        for one in attempt["phases"]
        if one["phase"] == phase
    )


def create_repository(holdfast, store):
    with open(store.certificate, encoding="ascii") as file:
        certificate = file.read()
    holdfast.post(
        "/v1/credentials",
        {"name": "store", "username": bench_store.ACCESS_KEY, "password": bench_store.SECRET_KEY},
    )
    holdfast.post(
        "/v1/repositories",
        {
            "repository": {
                "name": "main",
                "location": f"s3://{store.bucket}/cycle",
                "key_file": holdfast.key_file,
                "object_store": {
                    "endpoint": store.endpoint,
                    "region": bench_store.REGION,
                    "path_style": True,
                    "credential": "store",
                    "ca_certificate": certificate,
                },
            },
            "create_key_file": True,
        },
    )


def note_cycle(samples, backup, shard):
    """Durations of the phases, which follow each other; the rest of the cycle is launching, waiting and destroying."""
    samples.note(CYCLE, "ours", (moment(backup["finished_at"]) - moment(backup["created_at"])).total_seconds())
    samples.note(f"{CYCLE}: restore", "ours", seconds(shard["parent_restore_time"]))
    samples.note(f"{CYCLE}: start", "ours", seconds(shard["parent_start_time"]))
    samples.note(f"{CYCLE}: replay", "ours", seconds(shard["replay_time"]))
    samples.note(f"{CYCLE}: publish", "ours", phase_seconds(shard, "publish"))
    samples.note(f"{CYCLE}: sent by the primary", "ours", shard["received_bytes"] / 2**20, "MiB")


def measure_cycles(samples, dataset, size_mib, round_count, store):
    """A primary as `dataset` has it, in which one page in a hundred is changed before each backup."""
    store.new_bucket()
    holdfast = Holdfast()
    try:
        holdfast.start()
        holdfast.ensure_credential()
        create_repository(holdfast, store)
        source = ENGINES[dataset.engine](os.path.join(holdfast.home, "source"), free_port())
        holdfast.sources.append(source)
        source.start()
        dataset.fill(source, size_mib)
        holdfast.create_database("bench", dataset.engine, [source])
        holdfast.backup("bench", timeout=TIMEOUT_S)
        for number in range(min(round_count, ROUND_COUNT_MAX)):
            say(f"{dataset.engine}: whole cycle {number + 1} of {min(round_count, ROUND_COUNT_MAX)}")
            dataset.change(source, dataset.changed_part)
            drop_caches()
            backup = holdfast.backup("bench", timeout=TIMEOUT_S)
            note_cycle(samples, backup, holdfast.shards_of(backup["id"])[0])
    finally:
        holdfast.close()
