# SPDX-License-Identifier: Apache-2.0
"""What a backup costs as the database grows, when as much is changed in it as before."""

import os
import shutil

import bench_store
from bench_data import Ours
from bench_datasets import PostgresDataset, changed_ranges
from bench_limits import Files
from bench_tools import STATE, Samples, compared, drop_caches, say

SIZES_MIB = (1024, 4096, 16384)
CHANGED_MIB = 10
BOUND_MIB = 256  # the default
PUBLISH, PUBLISH_ALL, READ, MEMORY = "publish", "publish without the recorder", "direct read", "peak memory"


def measure_size(samples, arguments, store, scratch, size_mib):
    dataset = PostgresDataset(size_mib, CHANGED_MIB)
    ranges, changed_bytes = changed_ranges(dataset.first, dataset.second)
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    store.new_bucket()
    ours = Ours(os.path.join(arguments.build, "tests", "bench", "bench_repository"), store, scratch)
    files = Files(dataset.second, scratch)
    written = ours.written_file(ranges)
    first, _, _ = ours.run("publish", dataset.first, "1")
    for number in range(arguments.rounds):
        say(f"{size_mib} MiB, {changed_bytes / 2**20:.1f} MiB changed: round {number + 1} of {arguments.rounds}")
        epoch = 2 + 2 * number
        drop_caches()
        with_recorder, *times = ours.publish_after_restore(dataset.second, str(epoch), first["manifest"], written)
        samples.note(PUBLISH, size_mib, times[0])
        samples.note(f"{PUBLISH}, processor", size_mib, times[1])
        drop_caches()
        without, *times = ours.run("publish", dataset.second, str(epoch + 1), first["manifest"])
        samples.note(PUBLISH_ALL, size_mib, times[0])
        samples.note(MEMORY, size_mib, max(with_recorder["peak_kib"], without["peak_kib"]) / 1024, "MiB")
        samples.note("stored", size_mib, with_recorder["stored_bytes"] / 2**20, "MiB")
        samples.note(READ, size_mib, files.size / files.read().rate)


def growth(samples, name, size_mib):
    return samples.median(name, size_mib) / samples.median(name, SIZES_MIB[0])


def row(samples, name, size_mib, growth_allowed, peer_name, bar):
    """The peer: what is measured of the smallest size, grown as it may grow. A ratio above 1: it grew less."""
    ours = samples.median(name, size_mib)
    allowed = samples.median(name, SIZES_MIB[0]) * growth_allowed
    title = f"{name}, {size_mib // 1024} GiB"
    spread = samples.spread(name, size_mib)
    return compared(title, samples.units[name], ours, allowed, peer_name, allowed / ours, bar, spread)


def bench_curve(arguments):
    """The same change in 1, 4 and 16 GiB: a publish is flat with the recorder, and grows as reading does without it."""
    scratch = os.path.join(STATE, "scratch")
    samples = Samples()
    with bench_store.running(scratch) as store:
        for size_mib in SIZES_MIB:
            measure_size(samples, arguments, store, scratch, size_mib)
    rows = []
    smallest = f"at {SIZES_MIB[0] // 1024} GiB"
    for size_mib in SIZES_MIB:
        for name in (PUBLISH, f"{PUBLISH}, processor"):
            rows.append(row(samples, name, size_mib, 1, smallest, 0.8))
        rows.append(row(samples, MEMORY, size_mib, BOUND_MIB / samples.median(MEMORY, SIZES_MIB[0]), "its bound", 1))
        rows.append(row(samples, "stored", size_mib, 1, smallest, None))
        reading = growth(samples, READ, size_mib)
        rows.append(row(samples, PUBLISH_ALL, size_mib, reading, f"{smallest}, grown as a direct read", 0.9))
    return rows
