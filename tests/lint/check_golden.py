#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Golden repositories never change once frozen: their checksums are on record. --record adds those of new folders."""

import hashlib
import sys

import lint_tree

FOLDER = "tests/golden"
RECORD = "tests/golden/golden_checksums.txt"


def digests(root):
    """SHA-256 of every frozen file by its path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for version in sorted((root / FOLDER).glob("v*"))
        for path in sorted(version.rglob("*"))
        if path.is_file()
    }


def read_record(root):
    path = root / RECORD
    if not path.exists():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {name: digest for digest, name in lines}


def compare(found, record):
    findings = []
    for name in sorted(record.keys() | found.keys()):
        if name not in found:
            what = "the frozen file is gone: bring it back from git"
        elif name not in record:
            what = "the file is not on record: nothing is added to a frozen repository"
        elif found[name] != record[name]:
            what = "the frozen file was changed: bring it back from git; a new format gets a folder of its own"
        else:
            continue
        findings.append(lint_tree.Finding(name, 1, what))
    return findings


def check(root):
    return compare(digests(root), read_record(root))


def record_new(root):
    """add the checksums of folders of which nothing is on record yet"""
    record = read_record(root)
    known = {name.split("/")[2] for name in record}
    record.update({name: digest for name, digest in digests(root).items() if name.split("/")[2] not in known})
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(record.items()))
    (root / RECORD).write_text(text, encoding="utf-8")


def recorded(files):
    """The tree with a record of all its frozen files."""
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items()]
    return {**files, RECORD: "".join(lines)}


GOOD = recorded({f"{FOLDER}/v1/repository/repository": "{}", f"{FOLDER}/v1/first.key": "key"})
PLANTED = [
    ({**GOOD, f"{FOLDER}/v1/first.key": "other"}, "the frozen file was changed"),
    ({**GOOD, f"{FOLDER}/v1/more": ""}, "the file is not on record"),
    ({name: text for name, text in GOOD.items() if not name.endswith(".key")}, "the frozen file is gone"),
]

if __name__ == "__main__":
    sys.exit(lint_tree.main(__doc__, check, PLANTED, GOOD, record_new))
