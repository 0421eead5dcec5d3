# SPDX-License-Identifier: Apache-2.0
"""Red: a repository in Google Cloud Storage cannot be made through the API, written, or read without the server."""

import json
import os
import subprocess

import pytest
from holdfast_harness import HOLDFAST, ApiError, servers
from object_stores import ACCOUNT, TokenServer, gcs_server


@pytest.fixture(name="tokens")
def fixture_tokens():
    tokens = TokenServer()
    yield tokens
    tokens.close()


@pytest.fixture(name="store")
def fixture_store():
    with gcs_server() as url:
        yield url


def repository_body(holdfast, store, **changes):
    return {
        "repository": {
            "name": "main",
            "location": "gs://e2e/backups/shop",
            "key_file": holdfast.key_file,
            "object_store": {"endpoint": store, "credential": "account", **changes},
        },
        "create_key_file": True,
    }


def refused(holdfast, body):
    with pytest.raises(ApiError) as caught:
        holdfast.post("/v1/repositories", body)
    assert caught.value.problem["hint"] and "PRIVATE" not in json.dumps(caught.value.problem), caught.value
    return caught.value.reason, caught.value.problem.get("field")


def offline(holdfast, store, environment, *arguments):
    place = ["--repository", "gs://e2e/backups/shop", "--key-file", holdfast.key_file, "--endpoint", store]
    return subprocess.run(
        [HOLDFAST, *arguments, *place, "--output", "json"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False)


def test_the_loop_in_google_cloud_storage(holdfast_without_repository, store, tokens, tmp_path):
    holdfast = holdfast_without_repository
    key = tokens.account_key()
    holdfast.post("/v1/credentials", {"name": "account", "username": ACCOUNT, "password": key})
    holdfast.post("/v1/credentials", {"name": "other", "username": "other@project", "password": key})
    holdfast.post("/v1/credentials", {"name": "word", "username": ACCOUNT, "password": "PRIVATE"})
    bad = repository_body(holdfast, store, credential="other")
    assert refused(holdfast, bad) == ("invalid-argument", "repository.object_store.credential")
    bad = repository_body(holdfast, store, credential="word")
    assert refused(holdfast, bad) == ("invalid-argument", "repository.object_store.credential")
    holdfast.post("/v1/repositories", repository_body(holdfast, store))
    source = holdfast.source("postgresql")
    holdfast.create_database("shop", "postgresql", [source])
    backup = holdfast.backup("shop")
    holdfast.verify_backup(backup["id"], [source])

    path = tmp_path / "account.json"
    path.write_text(key, encoding="utf-8")
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
    done = offline(holdfast, store, environment, "repository", "check")
    assert done.returncode == 0 and json.loads(done.stdout)["backups"] == 1, (done.stdout, done.stderr)
    target = os.path.join(holdfast.home, "offline")
    servers.make_directory(target)
    done = offline(holdfast, store, environment, "restore", "--offline", "--backup", backup["id"],
                   "--target", os.path.join(target, "shop"))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert os.path.exists(os.path.join(target, "shop", "0", "PG_VERSION"))
    path.write_text("{}", encoding="utf-8")
    done = offline(holdfast, store, environment, "repository", "check")
    assert done.returncode != 0 and "not a service account's key" in done.stderr, done.stderr
