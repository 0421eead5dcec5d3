# SPDX-License-Identifier: Apache-2.0
"""Repositories that earlier versions made, frozen, restore for ever.

When this goes red: somebody who upgrades cannot restore what they have. The frozen bytes are right; the change is not.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from golden_tree import tree_of

HERE = pathlib.Path(__file__).parent
HOLDFAST = os.environ["HOLDFAST_CLI"]
READER = HERE.parent / "conformance" / "read_repository.py"
VERSIONS = sorted(path for path in HERE.iterdir() if path.name.startswith("v") and path.is_dir())


def test_there_is_a_golden_repository():
    assert [path.name for path in VERSIONS][:1] == ["v1"]


@pytest.fixture(name="golden", params=VERSIONS, ids=lambda path: path.name)
def fixture_golden(request, tmp_path):
    """A copy, with keys that only we may read: git keeps neither modes nor locks."""
    copy = tmp_path / "golden"
    shutil.copytree(request.param, copy)
    for key in copy.glob("*.key"):
        key.chmod(0o600)
    return copy


def holdfast(golden, key, *arguments, code=0):
    result = subprocess.run(
        [HOLDFAST, *arguments, "--repository", str(golden / "repository"), "--key-file", str(golden / key)],
        capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout


def expected_of(golden):
    return json.loads((golden / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", ["first.key", "second.key"])
def test_every_backup_restores(golden, key, tmp_path):
    for backup, shards in expected_of(golden).items():
        target = tmp_path / backup
        holdfast(golden, key, "restore", "--offline", "--backup", backup, "--target", str(target))
        shown = json.loads(holdfast(golden, key, "repository", "show", backup, "--output", "json"))
        names = {shard["shard_id"]: shard["shard"] for shard in shown["shards"]}
        assert {shard: tree_of(target / names[shard]) for shard in shards} == shards


def test_a_check_finds_nothing(golden):
    report = json.loads(holdfast(golden, "first.key", "repository", "check", "--output", "json"))
    assert report["problem_count"] == 0 and report["backups"] == len(expected_of(golden))
    states = {key["state"] for key in json.loads(
        holdfast(golden, "first.key", "repository", "keys", "--output", "json"))["keys"]}
    assert states == {"ready", "destroyed"}


def test_what_replaced_a_pack_is_part_of_it(golden):
    packs = [path.name for path in (golden / "repository" / "shards").glob("*/packs/*")]
    assert any("." in name for name in packs) and any("." not in name for name in packs)


@pytest.mark.parametrize("key", ["first.key", "second.key"])
def test_a_second_reader_restores_the_newest(golden, key, tmp_path):
    target = tmp_path / "read"
    subprocess.run(["/usr/bin/python3", "-B", str(READER), str(golden / "repository"), str(golden / key), str(target)],
                   check=True, timeout=300)
    newest = max(expected_of(golden))
    assert {shard.name: tree_of(shard) for shard in target.iterdir()} == expected_of(golden)[newest]
