# SPDX-License-Identifier: Apache-2.0
"""The data path: seed, second backup after 1 % of the pages changed, restore; with peers, on one S3 server."""

import filecmp
import json
import os
import shutil

import bench_store
from bench_cycle import CYCLE, measure_cycles
from bench_datasets import DATASETS, changed_ranges
from bench_limits import limits
from bench_peers import PACKAGES, PEERS
from bench_tools import STATE, Samples, compared, drop_caches, measured, row, say

SEED, SECOND, RESTORE = "first backup", "second backup, 1 % of pages changed", "restore"
SECOND_ALL = "second backup without the recorder"


class Ours:
    """The agent's publish and restore, without an agent around it."""

    name = "ours"

    def __init__(self, program, store, scratch):
        self.program, self.store = program, store
        self.scratch = os.path.join(scratch, "ours")
        os.makedirs(self.scratch)
        self.environment = {
            "AWS_ACCESS_KEY_ID": bench_store.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": bench_store.SECRET_KEY,
            "AWS_REGION": bench_store.REGION,
        }
        self.peak_mib = 0.0

    def publish_after_restore(self, directory, epoch, parent, written):
        """As an agent does, which restores the parent first and knows its maps from then on; that is not measured
        here, nor is the start of the program."""
        restored = os.path.join(self.scratch, "parent")
        answer, _, _ = self.run("publish", directory, epoch, parent, f"--written={written}", f"--restored={restored}")
        shutil.rmtree(restored)
        return answer, answer["seconds"], answer["processor_seconds"]

    def run(self, action, *arguments):
        command = [
            self.program,
            action,
            f"s3://{self.store.bucket}/ours",
            os.path.join(self.scratch, "key"),
            *arguments,
            f"--endpoint={self.store.endpoint}",
            f"--ca={self.store.certificate}",
            "--path-style",
        ]
        output, seconds, processor = measured(command, self.environment)
        answer = json.loads(output)
        self.peak_mib = max(self.peak_mib, answer["peak_kib"] / 1024)
        return answer, seconds, processor

    def written_file(self, ranges):
        path = os.path.join(self.scratch, "written")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{name} {offset} {size}\n" for name, offset, size in ranges)
        return path


def note_both(samples, name, who, seconds, processor):
    samples.note(name, who, seconds)
    samples.note(f"{name}, processor", who, processor)


def compare_files(expected, restored):
    """Empty directories are not compared: the bench program publishes files."""
    for directory, _, names in os.walk(expected):
        for name in names:
            path = os.path.join(directory, name)
            other = os.path.join(restored, os.path.relpath(path, expected))
            if not filecmp.cmp(path, other, shallow=False):
                raise SystemExit(f"bench: {other} was not restored as it was")


def measure_ours(samples, ours, dataset, ranges):
    drop_caches()
    first, *times = ours.run("publish", dataset.first, "1")
    note_both(samples, SEED, "ours", *times)
    samples.note("stored, first", "ours", first["stored_bytes"] / 2**20, "MiB")
    drop_caches()
    second, *times = ours.publish_after_restore(dataset.second, "2", first["manifest"], ours.written_file(ranges))
    note_both(samples, SECOND, "ours", *times)
    samples.note("stored, second", "ours", second["stored_bytes"] / 2**20, "MiB")
    drop_caches()
    _, *times = ours.run("publish", dataset.second, "3", first["manifest"])
    note_both(samples, SECOND_ALL, "ours", *times)
    target = os.path.join(ours.scratch, "restored")
    drop_caches()
    _, *times = ours.run("restore", target, second["manifest"])
    note_both(samples, RESTORE, "ours", *times)
    compare_files(dataset.second, target)
    shutil.rmtree(target)
    return first


def measure_peer(samples, peer, dataset):
    peer.begin(dataset)
    try:
        drop_caches()
        note_both(samples, SEED, peer.name, *peer.full(dataset))
        stored = peer.stored_bytes()
        samples.note("stored, first", peer.name, stored / 2**20, "MiB")
        drop_caches()
        seconds, processor = peer.incremental(dataset)
        note_both(samples, SECOND, peer.name, seconds, processor)
        note_both(samples, SECOND_ALL, peer.name, seconds, processor)
        samples.note("stored, second", peer.name, (peer.stored_bytes() - stored) / 2**20, "MiB")
        target = os.path.join(peer.scratch, "restored")
        drop_caches()
        note_both(samples, RESTORE, peer.name, *peer.restore(target))
        shutil.rmtree(target)
    finally:
        peer.end()


def one_round(samples, arguments, dataset, ranges, store, scratch):
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    store.new_bucket()
    ours = Ours(os.path.join(arguments.build, "tests", "bench", "bench_repository"), store, scratch)
    first = measure_ours(samples, ours, dataset, ranges)
    for kind in PEERS:
        if dataset.engine in kind.engines:
            measure_peer(samples, kind(store, scratch), dataset)
    stored_part = first["stored_bytes"] / first["size_bytes"]
    for name, value in limits(dataset.first, store, scratch, stored_part).items():
        samples.note(f"limit: {name}", "machine", value.rate / 2**20, "MiB/s")
        samples.note(f"cost: {name}", "machine", value.processor * 2**20, "s/MiB")
    size_mib = first["size_bytes"] / 2**20
    samples.note("seed rate", "ours", size_mib / samples.values[SEED]["ours"][-1], "MiB/s")
    samples.note("restore rate", "ours", size_mib / samples.values[RESTORE]["ours"][-1], "MiB/s")
    samples.note("peak memory", "ours", ours.peak_mib, "MiB")
    return size_mib


# The ratios that we want to reach: of a measurement, to one peer or (None) to every one.
BARS = {
    (SEED, None): 1.5,
    (SECOND, None): 4.0,
    (f"{SECOND}, processor", "pgbackrest"): 5.0,
    (f"{SECOND}, processor", "restic"): 5.0,
    (f"{SECOND}, processor", "mariadb-backup"): 1.0,
    (RESTORE, "mariadb-backup"): 2.0,
    (RESTORE, "restic"): 2.0,
    (RESTORE, "pgbackrest"): 1.3,
}


def alone(samples, name):
    """Ours, which nobody else has."""
    spread = samples.spread(name, "ours")
    return compared(name, samples.units[name], samples.median(name, "ours"), 0, "", 0, None, spread)


SEED_STAGES = ("direct read", "zstd -1", "AES-256-GCM", "hash", "upload")
RESTORE_STAGES = ("download", "AES-256-GCM", "zstd -d", "direct write")


def limit_row(samples, name, rate, most, peer_name):
    ours = samples.median(rate, "ours")
    return compared(name, "MiB/s", ours, most, peer_name, ours / most, 0.8, samples.spread(rate, "ours"))


def limit_rows(samples, name, rate, stages):
    """Against the slowest stage on its own, and against all of them (and the store) sharing the processors."""
    slowest = min(stages, key=lambda stage: samples.median(f"limit: {stage}", "machine"))
    most = samples.median(f"limit: {slowest}", "machine")
    cost = sum(samples.median(f"cost: {stage}", "machine") for stage in stages)
    shared = min(most, (os.cpu_count() or 1) / cost)
    return [
        limit_row(samples, name, rate, most, f"limit: {slowest}"),
        limit_row(samples, name, rate, shared, "limit: all stages sharing the processors"),
    ]


def note_cycle_of_peers(samples):
    """What proves as much: a backup and its restore."""
    for peer in samples.peers(SECOND):
        for second, restored in zip(samples.values[SECOND][peer], samples.values[RESTORE][peer]):
            samples.note(CYCLE, f"{peer}, and restore", second + restored)


def rows_of(samples, engine, changed_mib):
    rows = []
    for name in samples.values:
        if name.startswith(CYCLE) and not samples.peers(name):
            rows.append({**alone(samples, name), "engine": engine})
        for peer in samples.peers(name):
            if peer != "machine":
                bar = BARS.get((name, peer), BARS.get((name, None)))
                rows.append({**row(samples, name, peer, bar), "engine": engine})
    for limit in limit_rows(samples, "seed against the machine", "seed rate", SEED_STAGES):
        rows.append({**limit, "engine": engine})
    for limit in limit_rows(samples, "restore against the machine", "restore rate", RESTORE_STAGES):
        rows.append({**limit, "engine": engine})
    stored, most = samples.median("stored, second", "ours"), 2.5 * changed_mib
    name = "stored for a change, at most 2.5 times it"
    rows.append(
        {**compared(name, "MiB", stored, most, "2.5 x pages changed", most / stored, 1.0, 0.0), "engine": engine}
    )
    return [{**one, "name": f"{engine}: {one['name']}"} for one in rows]


def bench_data(arguments):
    """Seed, second backup after 1 % of the pages changed, restore, whole cycle; with peers on one S3 server."""
    missing = [name for name in PACKAGES if not shutil.which(name)]
    if missing:
        raise SystemExit(f"bench: missing programs: {', '.join(missing)}; install the packages of these names")
    scratch = os.path.join(STATE, "scratch")
    rows = []
    with bench_store.running(scratch) as store:
        for engine in arguments.engines.split(","):
            dataset = DATASETS[engine](arguments.size_mib)
            ranges, changed_bytes = changed_ranges(dataset.first, dataset.second)
            samples = Samples()
            for number in range(arguments.rounds):
                say(f"{engine}: round {number + 1} of {arguments.rounds}")
                size_mib = one_round(samples, arguments, dataset, ranges, store, scratch)
            say(
                f"{engine}: {size_mib:.0f} MiB of files, {changed_bytes / 2**20:.1f} MiB of pages changed, "
                "peak memory of ours "
                f"{samples.median('peak memory', 'ours'):.0f} MiB; limits: "
                + ", ".join(
                    f"{name[7:]} {samples.median(name, 'machine'):.0f} MiB/s"
                    for name in samples.values
                    if name.startswith("limit: ")
                )
            )
            measure_cycles(samples, dataset, arguments.size_mib, arguments.rounds, store)
            note_cycle_of_peers(samples)
            rows += rows_of(samples, engine, changed_bytes / 2**20)
    return rows
