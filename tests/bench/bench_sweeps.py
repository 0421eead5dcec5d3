# SPDX-License-Identifier: Apache-2.0
"""Retention: what a sweep costs with many backups of one shard."""

import json
import os
import shutil

from bench_tools import STATE, compared, measured

RETENTION_COUNTS = [1000, 2000, 5000, 10000]


def bench_retention(arguments):
    """Sweeps of one shard with up to 10,000 backups: what changed, against walking every manifest"""
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
            name = f"a sweep of {peer['backups']} backups, {key}"
            ratio = peer[key] / ours[key]
            rows.append(compared(name, unit, ours[key], peer[key], "walking every manifest", ratio, None, 0.0))
    return rows
