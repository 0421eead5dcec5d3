#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make_golden.py PROGRAM DIRECTORY: freezes a repository of this version below tests/golden, once for each version of
the format. PROGRAM is golden_repository. What is there is never made again: tests/lint/check_golden.py holds its
checksums."""

import os
import pathlib
import shutil
import subprocess
import sys

from golden_tree import tree_of, write_expected


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    directory = pathlib.Path(sys.argv[2]).resolve()
    if directory.exists():
        print(f"make_golden: {directory} exists: what is frozen is not made again", file=sys.stderr)
        return 1
    subprocess.run([sys.argv[1], str(directory)], check=True)
    trees = directory / "trees"
    expected = {
        backup.name: {shard.name: tree_of(shard) for shard in sorted(backup.iterdir())}
        for backup in sorted(trees.iterdir())
    }
    write_expected(directory / "expected.json", expected)
    shutil.rmtree(trees)
    shutil.rmtree(directory / "repository" / ".tmp", ignore_errors=True)
    size = sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(directory) for name in names)
    print(f"{directory}: {size} bytes; now run tests/lint/check_golden.py --record")
    return 0


sys.exit(main())
