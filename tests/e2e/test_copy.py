# SPDX-License-Identifier: Apache-2.0
"""Red: a repository cannot be copied between stores of different kinds and credentials, or its copy is another."""

import filecmp
import json
import os
import subprocess

from holdfast_harness import HOLDFAST
from object_stores import TokenServer, gcs_server, s3_server


def run(environment, *arguments):
    return subprocess.run(
        [HOLDFAST, *arguments, "--output", "json"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=240, check=False)


def do(environment, *arguments):
    done = run(environment, *arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else None


def s3_options(store, credential_file, prefix="--"):
    return [f"{prefix}endpoint", store["endpoint"], f"{prefix}region", store["region"], f"{prefix}path-style",
            f"{prefix}credential-file", str(credential_file)]


def write_credential(path, store, profile):
    path.write_text(f"[{profile}]\naws_access_key_id = {store['access_key_id']}\n"
                    f"aws_secret_access_key = {store['secret_key']}\n", encoding="utf-8")
    return path


def assert_same_trees(one, other):
    found = filecmp.dircmp(one, other, ignore=[])
    assert not found.left_only and not found.right_only, (found.left_only, found.right_only)
    assert filecmp.cmpfiles(one, other, found.common_files, shallow=False)[1:] == ([], []), one
    for name in found.common_dirs:
        assert_same_trees(os.path.join(one, name), os.path.join(other, name))


def test_a_copy_goes_from_store_to_store(holdfast, tmp_path):
    source = holdfast.source("postgresql")
    holdfast.create_database("shop", "postgresql", [source])
    holdfast.backup("shop")
    key = ["--key-file", holdfast.key_file]
    account = tmp_path / "account.json"
    with s3_server("swift", tmp_path / "swift") as swift, s3_server("moto", tmp_path / "moto") as moto, \
            gcs_server() as gcs:
        tokens = TokenServer()
        account.write_text(tokens.account_key(), encoding="utf-8")
        swift_file = write_credential(tmp_path / "swift-keys", swift, "default")
        moto_file = write_credential(tmp_path / "moto-keys", moto, "other")
        # What the environment has is nobody's: every side is told its own.
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing",
                  "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "missing")}
        places = {
            "swift": (f"s3://{swift['bucket']}/copy", s3_options(swift, swift_file),
                      s3_options(swift, swift_file, "--to-")),
            "gcs": ("gs://e2e/copy", ["--endpoint", gcs, "--credential-file", str(account)],
                    ["--to-endpoint", gcs, "--to-credential-file", str(account)]),
            "moto": (f"s3://{moto['bucket']}/copy", [*s3_options(moto, moto_file), "--profile", "other"],
                     [*s3_options(moto, moto_file, "--to-"), "--to-profile", "other"]),
        }
        last = ["--repository", holdfast.repository, *key]
        do(nobody, "restore", "--offline", *last, "--target", str(tmp_path / "first"))
        for name in ("swift", "gcs", "moto"):
            location, options, to_options = places[name]
            new_key = ["--key-file", str(tmp_path / f"{name}.key")]
            do(nobody, "repository", "create-key", *new_key)
            do(nobody, "repository", "init", "--repository", location, *options, *new_key)
            to = ["--to", location, "--to-key-file", new_key[1]]
            copied = do(nobody, "repository", "copy", *last, *to, *to_options)
            assert copied["copied_count"] == 1 and copied["stored_bytes"] > 0, copied
            last = ["--repository", location, *options, *new_key]
            assert do(nobody, "repository", "check", *last)["problem_count"] == 0
        do(nobody, "restore", "--offline", *last, "--target", str(tmp_path / "last"))
        assert_same_trees(tmp_path / "first", tmp_path / "last")

        # The options of one side are not the other's; and the environment stands in for options.
        location, options, to_options = places["swift"]
        to = ["--to", location, "--to-key-file", str(tmp_path / "swift.key")]
        refused = run(nobody, "repository", "copy", *last, *to, *to_options[:-2])
        assert refused.returncode != 0 and "nothing" not in refused.stderr, refused.stderr
        environment = {**nobody, "HOLDFAST_TO_STORE_ENDPOINT": swift["endpoint"],
                       "HOLDFAST_TO_STORE_REGION": swift["region"], "HOLDFAST_TO_STORE_PATH_STYLE": "true",
                       "HOLDFAST_TO_STORE_CREDENTIAL_FILE": str(swift_file)}
        assert do(environment, "repository", "copy", *last, *to)["copied_count"] == 0
        for name in places:
            location, options, _ = places[name]
            missing = run(nobody, "repository", "list", "--repository", location, *options, *key,
                          "--credential-file", str(tmp_path / "missing"))
            assert missing.returncode != 0 and "/missing'" in missing.stderr, missing.stderr
        tokens.close()
