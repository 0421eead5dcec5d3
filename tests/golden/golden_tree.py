# SPDX-License-Identifier: Apache-2.0
"""What a restored directory is: every path with mode, size and SHA-256."""

import hashlib
import json
import os


def tree_of(root):
    tree = {}
    for folder, folders, names in os.walk(root):
        for name in folders:
            tree[os.path.relpath(os.path.join(folder, name), root)] = "directory"
        for name in names:
            path = os.path.join(folder, name)
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
            facts = os.stat(path)
            tree[os.path.relpath(path, root)] = f"{facts.st_mode & 0o777:04o} {facts.st_size} {digest.hexdigest()}"
    return tree


def write_expected(path, expected):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, sort_keys=True)
        file.write("\n")
