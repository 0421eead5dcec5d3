# SPDX-License-Identifier: Apache-2.0
"""Measures the hot paths side by side with what one would use instead. Called by ./dev bench.

    bench_run.py --build DIR [--size-mib N] [--rounds N] [NAME...]

Each benchmark takes turns with its peers in one run, reports medians, prints a table, and writes
bench-results/NAME.json: a list of {name, ours, peer, peer_name, ratio, unit, spread}; a ratio above 1: ours is better.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from demo import ledger, servers  # noqa: E402

RESULTS = os.path.join(ROOT, "bench-results")
STATE = os.path.join(os.environ.get("HOLDFAST_DEV_STATE") or os.path.join(ROOT, ".dev"), "bench")
PORT = 13499
ROWS_PER_PAGE = 16
CHANGED_PART = 0.01


def measured(command):
    """Runs a program to its end; returns its output, the seconds it took, and the processor seconds it used."""
    start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ).stdout
    seconds, now = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return output, seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def pipeline(command):
    return ["bash", "-euo", "pipefail", "-c", command]


def tree_bytes(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(directory, name)) for directory, _, names in os.walk(path) for name in names
    )


class Dataset:
    """The data directory of a real MariaDB with the demo's tables, stopped; and again after a few pages changed."""

    def __init__(self, size_mib):
        home = os.path.join(STATE, f"mariadb-{size_mib}")
        self.first, self.second = os.path.join(home, "first"), os.path.join(home, "second")
        self.server = servers.MariadbServer(os.path.join(home, "server"), PORT)
        if not os.path.exists(os.path.join(home, "complete")):
            shutil.rmtree(home, ignore_errors=True)
            servers.make_directory(home)
            self.make(size_mib)
            open(os.path.join(home, "complete"), "w", encoding="ascii").close()

    def make(self, size_mib):
        print(f"making a data directory of {size_mib} MiB (kept for the next time)", flush=True)
        # As on an agent's instance: no binary logs.
        self.server.start("--skip-log-bin")
        try:
            ledger.create(self.server, size_mib << 20)
            self.server.stop()
            shutil.copytree(self.server.data, self.first)
            self.server.start("--skip-log-bin")
            every = round(ROWS_PER_PAGE / CHANGED_PART)
            self.server.query(
                "UPDATE item SET version = version + 1 WHERE id %% %s = 7", every, database=ledger.DATABASE
            )
            self.server.stop()
            shutil.copytree(self.server.data, self.second)
        finally:
            self.server.stop()


class Holdfast:
    """The repository, through the bench program."""

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.peak_kib = 0

    def run(self, note, name, action, *arguments):
        repository, key = (os.path.join(self.directory, part) for part in ("repository", "key"))
        output, seconds, processor = measured([self.program, action, repository, key, *arguments])
        answer = json.loads(output)
        self.peak_kib = max(self.peak_kib, answer["peak_kib"])
        note(name, "ours", seconds)
        note(f"{name}, processor", "ours", processor)
        return answer


def tar_commands(data, archive, key_file, target):
    cipher = f"openssl enc -aes-256-ctr -pbkdf2 -iter 1 -pass file:{key_file}"
    return (
        f"tar -C {data} -cf - . | zstd -q -1 -T2 | {cipher} > {archive} && sync {archive}",
        f"mkdir {target} && {cipher} -d < {archive} | zstd -q -d | tar -C {target} -xf - && sync -f {target}",
    )


def mariabackup_commands(server, archive, key_file, target):
    cipher = f"openssl enc -aes-256-ctr -pbkdf2 -iter 1 -pass file:{key_file}"
    return (
        "mariadb-backup --backup --stream=xbstream --parallel=2 --user=root "
        f"--socket={server.socket} --datadir={server.data} "
        f"| zstd -q -1 -T2 | {cipher} > {archive} && sync {archive}",
        f"mkdir {target} && {cipher} -d < {archive} | zstd -q -d | mbstream -x -C {target} && "
        f"mariadb-backup --prepare --target-dir={target} && sync -f {target}",
    )


def bench_data(arguments):
    """Publish, publish again after 1 % of the pages changed, restore; against tar | zstd | openssl, mariadb-backup."""
    dataset = Dataset(arguments.size_mib)
    program = os.path.join(arguments.build, "tests", "bench", "bench_repository")
    scratch = os.path.join(STATE, "scratch")
    samples = {}

    def note(name, who, value):
        samples.setdefault(name, {}).setdefault(who, []).append(value)

    def peer(who, commands, target, archive):
        _, seconds, processor = measured(pipeline(commands[0]))
        # A full copy is all they can make of a change.
        for name in ("backup", "backup after 1 % of pages changed"):
            note(name, who, seconds)
            note(f"{name}, processor", who, processor)
        for name in ("stored", "stored after 1 % of pages changed"):
            note(name, who, tree_bytes(archive) / 2**20)
        _, seconds, processor = measured(pipeline(commands[1]))
        note("restore", who, seconds)
        note("restore, processor", who, processor)
        shutil.rmtree(target)

    peak_mib = 0.0
    for _ in range(arguments.rounds):
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        key_file, archive, target = (os.path.join(scratch, name) for name in ("password", "archive", "restored"))
        with open(key_file, "w", encoding="ascii") as file:
            file.write("correct horse battery staple")
        peer("tar", tar_commands(dataset.first, archive, key_file, target), target, archive)
        if shutil.which("mariadb-backup"):
            dataset.server.start("--skip-log-bin")
            try:
                peer("mariadb-backup", mariabackup_commands(dataset.server, archive, key_file, target), target, archive)
            finally:
                dataset.server.stop()
        holdfast = Holdfast(program, scratch)
        first = holdfast.run(note, "backup", "publish", dataset.first, "1")
        note("stored", "ours", first["stored_bytes"] / 2**20)
        again = "backup after 1 % of pages changed"
        second = holdfast.run(note, again, "publish", dataset.second, "2", first["manifest"])
        note("stored after 1 % of pages changed", "ours", second["stored_bytes"] / 2**20)
        holdfast.run(note, "restore", "restore", target, second["manifest"])
        subprocess.run(["diff", "-r", dataset.second, target], check=True)
        peak_mib = max(peak_mib, holdfast.peak_kib / 1024)
        size_mib = first["size_bytes"] / 2**20
    shutil.rmtree(scratch)
    print(f"\n{size_mib:.0f} MiB of files, medians of {arguments.rounds}; peak memory of ours {peak_mib:.0f} MiB")
    return [
        {
            "name": name,
            "unit": "MiB" if name.startswith("stored") else "s",
            "ours": statistics.median(values["ours"]),
            "peer": statistics.median(values[who]),
            "peer_name": who,
            "spread": round(
                max((max(values[one]) - min(values[one])) / statistics.median(values[one]) for one in ("ours", who)), 3
            ),
            "ratio": statistics.median(values[who]) / statistics.median(values["ours"]),
        }
        for name, values in samples.items()
        for who in values
        if who != "ours"
    ]


RETENTION_COUNTS = [1000, 2000, 5000, 10000]


def bench_retention(arguments):
    """sweeps of one shard with up to 10,000 backups: what changed, against walking every manifest"""
    directory = os.path.join(STATE, "retention")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    program = os.path.join(arguments.build, "tests", "bench", "bench_retention")
    output, _, _ = measured([program, directory] + [str(count) for count in RETENTION_COUNTS])
    lines = [json.loads(line) for line in output.decode().splitlines()]
    for line in lines:
        print(
            f"{line['name']:20} {line['backups']:6} backups {line['seconds']:8.3f} s {line['calls']:7} calls "
            f"{line['walked']:6} walked {line['removed']:6} removed {line['memory_kib'] / 1024:7.1f} MiB"
        )
    rows = []
    for ours, peer in zip(lines[1::2], lines[0::2]):
        for unit, key in [("s", "seconds"), ("", "calls")]:
            rows.append(
                {
                    "name": f"a sweep of {peer['backups']} backups, {key}",
                    "ours": ours[key],
                    "peer": peer[key],
                    "peer_name": "walking every manifest",
                    "ratio": peer[key] / ours[key],
                    "unit": unit,
                    "spread": 0.0,
                }
            )
    return rows


BENCHMARKS = {"data": bench_data, "retention": bench_retention}


def show(rows):
    print(f"\n{'':46} {'ours':>10} {'peer':>10}      {'ratio':>6}  {'spread':>6}  peer")
    for row in rows:
        print(
            f"{row['name']:46} {row['ours']:10.2f} {row['peer']:10.2f} {row['unit']:4} {row['ratio']:6.2f}  "
            f"{row['spread']:6.0%}  {row['peer_name']}"
        )


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", required=True, help="where the programs were built")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark '{name}'; there are {', '.join(BENCHMARKS)}")
    os.makedirs(STATE, exist_ok=True)
    os.makedirs(RESULTS, exist_ok=True)
    for name in arguments.names or BENCHMARKS:
        print(f"==> {name}: {BENCHMARKS[name].__doc__}", flush=True)
        rows = BENCHMARKS[name](arguments)
        show(rows)
        with open(os.path.join(RESULTS, f"{name}.json"), "w", encoding="ascii") as file:
            json.dump(rows, file, indent=1)
    print(f"\nload average over the last minute: {os.getloadavg()[0]:.1f}; what else runs on the machine makes noise")
    return 0


if __name__ == "__main__":
    sys.exit(main())
