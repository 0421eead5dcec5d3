# SPDX-License-Identifier: Apache-2.0
"""Measures the hot paths side by side with what one would use instead. Called by ./dev bench.

    bench_run.py --build DIR [--size-mib N] [--rounds N] [--engines mariadb,postgresql] [NAME...]

Each benchmark takes turns with its peers in one run, reports medians, prints a table, and writes
bench-results/NAME.json, a list of {name, ours, peer, peer_name, ratio, bar, holds, unit, spread}, and a chart,
NAME.svg. A ratio above 1: ours is better; `bar` is the ratio that we want to reach.
"""

import argparse
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from bench_curve import bench_curve  # noqa: E402
from bench_data import bench_data  # noqa: E402
from bench_sweeps import bench_retention  # noqa: E402
from bench_tools import RESULTS, STATE, show, write_results  # noqa: E402

BENCHMARKS = {"data": bench_data, "curve": bench_curve, "retention": bench_retention}


def main():
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", required=True, help="where the programs were built")
    parser.add_argument("--size-mib", type=int, default=4096, help="of each dataset of `data`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default="mariadb,postgresql", help="whose datasets `data` uses")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark '{name}'; there are {', '.join(BENCHMARKS)}")
    os.makedirs(STATE, exist_ok=True)
    for name in arguments.names or BENCHMARKS:
        print(f"==> {name}: {BENCHMARKS[name].__doc__}", flush=True)
        rows = BENCHMARKS[name](arguments)
        show(rows)
        write_results(name, rows)
    print(
        f"\nresults are in {RESULTS}; load average over the last minute: {os.getloadavg()[0]:.1f} "
        "(what else runs on the machine makes noise)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
