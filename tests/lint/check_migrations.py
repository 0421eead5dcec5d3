#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Migrations are numbered without gaps and never change once committed: their checksums are on record."""

import hashlib
import re
import subprocess
import sys

import lint_tree

FOLDER = "migrations"
RECORD = "migrations/checksums.txt"
NAME = re.compile(r"^(\d{4})_[a-z][a-z0-9_]*\.sql$")
RECORD_LINE = re.compile(r"^([0-9a-f]{64})  (\S+)$")


def digest_of(root, base):
    return hashlib.sha256((root / FOLDER / base).read_bytes()).hexdigest()


def committed(root, bases):
    """The migrations that git has; all of them where there is no git."""
    if not (root / ".git").exists():
        return bases
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", FOLDER], check=True, capture_output=True)
    known = {name.rsplit("/", 1)[-1] for name in listed.stdout.decode().split("\0") if name}
    return [base for base in bases if base in known]


def read_record(root, findings):
    """Checksum and line by file name."""
    record = {}
    path = root / RECORD
    if not path.exists():
        return record
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        match = RECORD_LINE.match(line)
        if match is not None and match.group(2) not in record:
            record[match.group(2)] = (match.group(1), number)
        elif line and not line.startswith("#"):
            findings.append(lint_tree.Finding(
                RECORD, number, "expected '<sha256>  <file>', each file once: mend the line"))
    return record


def check_numbers(bases, findings):
    expected = 1
    for base in bases:
        match = NAME.match(base)
        if match is None:
            findings.append(lint_tree.Finding(f"{FOLDER}/{base}", 1, "the name is not NNNN_what.sql: rename it"))
            continue
        number = int(match.group(1))
        if number != expected:
            findings.append(lint_tree.Finding(
                f"{FOLDER}/{base}", 1, f"the number should be {expected:04d}: numbers follow each other without gaps"))
        expected = number + 1


def check(root):
    findings = []
    if not (root / FOLDER).is_dir():
        return findings
    bases = sorted(path.name for path in (root / FOLDER).iterdir() if path.suffix == ".sql")
    check_numbers(bases, findings)
    record = read_record(root, findings)
    for base, (_, number) in record.items():
        if base not in bases:
            findings.append(lint_tree.Finding(RECORD, number, f"'{base}' is gone: restore it, databases have run it"))
    must_be_recorded = committed(root, bases)
    for base in bases:
        if base in record and record[base][0] != digest_of(root, base):
            findings.append(lint_tree.Finding(
                f"{FOLDER}/{base}", 1, "the committed migration has changed: restore it and write a new one"))
        elif base not in record and base in must_be_recorded:
            findings.append(lint_tree.Finding(
                f"{FOLDER}/{base}", 1, f"no checksum in {RECORD}: run tests/lint/check_migrations.py --record"))
    return findings


def record_new(root):
    """add checksums of migrations that have none; those on record are never changed"""
    record = read_record(root, [])
    bases = sorted(path.name for path in (root / FOLDER).iterdir() if path.suffix == ".sql")
    with open(root / RECORD, "a", encoding="utf-8") as file:
        for base in bases:
            if base not in record:
                file.write(f"{digest_of(root, base)}  {base}\n")


def recorded(files):
    """The tree with a record of all its migrations."""
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name.rsplit('/', 1)[-1]}\n"
             for name, text in files.items()]
    return {**files, RECORD: "# a comment\n" + "".join(lines)}


GOOD = {"migrations/0001_create.sql": "-- one\n", "migrations/0002_add_column.sql": "-- two\n"}
PLANTED = [
    (recorded({"migrations/0001_a.sql": "", "migrations/0003_b.sql": ""}), "0003_b.sql:1: the number should be 0002"),
    (recorded({"migrations/0001_a.sql": "", "migrations/0001_b.sql": ""}), "0001_b.sql:1: the number should be 0002"),
    (recorded({"migrations/0000_a.sql": ""}), "the number should be 0001"),
    (recorded({"migrations/0001_a.sql": "", "migrations/2-b.sql": ""}), "2-b.sql:1: the name is not NNNN_what.sql"),
    ({**recorded(GOOD), "migrations/0001_create.sql": "-- other\n"},
     "0001_create.sql:1: the committed migration has changed"),
    ({**recorded(GOOD), "migrations/0003_new.sql": ""}, "0003_new.sql:1: no checksum"),
    (GOOD | {"migrations/0002_add_column.sql": "", RECORD: recorded(
        {"migrations/0001_create.sql": "-- one\n", "migrations/0002_add_column.sql": ""})[RECORD] + "rubbish\n"},
     "checksums.txt:4: expected"),
    ({"migrations/0001_create.sql": "-- one\n", RECORD: recorded(GOOD)[RECORD]}, "'0002_add_column.sql' is gone"),
]

if __name__ == "__main__":
    sys.exit(lint_tree.main(__doc__, check, PLANTED, recorded(GOOD), record_new))
