# SPDX-License-Identifier: Apache-2.0
"""Red: backups in an object store do not work as they do in a directory, or an unusable store is not named."""

import json
import os
import subprocess
import time
from datetime import datetime

import pytest
from holdfast_harness import HOLDFAST, ApiError, cli, servers
from object_stores import s3_server


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """OpenStack Swift's S3 interface; ends with standard input."""
    with s3_server("swift", tmp_path_factory.mktemp("swift")) as found:
        yield found


def repository_body(holdfast, store, **changes):
    options = {"endpoint": store["endpoint"], "region": store["region"], "path_style": True, "credential": "store"}
    return {
        "repository": {
            "name": "main",
            "location": f"s3://{store['bucket']}/e2e/shop",
            "key_file": holdfast.key_file,
            "object_store": {**options, **changes},
        },
        "create_key_file": True,
    }


def refused(holdfast, body):
    with pytest.raises(ApiError) as caught:
        holdfast.post("/v1/repositories", body)
    assert caught.value.problem["hint"], caught.value
    assert "wrong-secret" not in json.dumps(caught.value.problem)
    return caught.value.reason, caught.value.problem.get("field")


def create(holdfast, store):
    """The repository, after what cannot be one was refused."""
    holdfast.post("/v1/credentials", {"name": "wrong", "username": store["access_key_id"], "password": "wrong-secret"})
    holdfast.post(
        "/v1/credentials",
        {"name": "store", "username": store["access_key_id"], "password": store["secret_key"]},
    )
    bad = repository_body(holdfast, store, credential="wrong")
    assert refused(holdfast, bad) == ("storage-credential", "repository.location")
    bad = repository_body(holdfast, store)
    bad["repository"]["location"] = "s3://there-is-no-such-bucket"
    assert refused(holdfast, bad) == ("storage-bucket", "repository.location")
    bad = repository_body(holdfast, store, encryption="rot13")
    assert refused(holdfast, bad) == ("invalid-argument", "repository.object_store.encryption")
    bad = repository_body(holdfast, store, credential="nobody")
    assert refused(holdfast, bad) == ("invalid-argument", "repository.object_store.credential")
    bad = repository_body(holdfast, store, endpoint="http://127.0.0.1:1/bucket?x")
    assert refused(holdfast, bad) == ("invalid-argument", "repository.object_store.endpoint")
    made = holdfast.post("/v1/repositories", repository_body(holdfast, store))
    assert made["object_store"]["credential"] == "store" and store["secret_key"] not in json.dumps(made)
    with pytest.raises(ApiError) as caught:
        holdfast.call("DELETE", "/v1/credentials/store")
    assert caught.value.reason == "in-use", caught.value


def test_caps_of_a_repository_in_an_object_store(holdfast_without_repository, store):
    holdfast = holdfast_without_repository
    holdfast.post(
        "/v1/credentials",
        {"name": "store", "username": store["access_key_id"], "password": store["secret_key"]},
    )
    body = repository_body(holdfast, store)
    body["repository"]["location"] = f"s3://{store['bucket']}/e2e/capped"
    cap = 8 << 20
    body["repository"]["limits"] = {"upload_bytes_per_second": cap, "download_bytes_per_second": cap}
    holdfast.post("/v1/repositories", body)
    source = holdfast.source("postgresql", noise_mib=40)
    holdfast.create_database("shop", "postgresql", [source])
    backup = holdfast.backup("shop")
    phases = {phase["phase"]: phase for phase in holdfast.shards_of(backup["id"])[0]["attempts"][0]["phases"]}
    begun, ended = (datetime.fromisoformat(phases["publish"][key][:19]) for key in ("started_at", "ended_at"))
    # Whatever the machine: that many bytes take so long. Times are cut to seconds.
    least = backup["stored_bytes"] / cap
    assert least > 4, backup
    assert (ended - begun).total_seconds() > 0.9 * least - 2, phases
    done = holdfast.restore(mode="directory", backup=backup["id"])
    assert float(done["shards"][0]["restore_time"].rstrip("s")) > 0.9 * least, done
    run = offline_runner(holdfast, store, "capped")
    target = os.path.join(holdfast.home, "offline")
    servers.make_directory(target)
    begun = time.monotonic()
    done = run("restore", "--offline", "--bandwidth", "8MiB", "--target", os.path.join(target, "shop"))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert time.monotonic() - begun > 0.9 * least


def test_the_loop_in_an_object_store(holdfast_without_repository, store):
    holdfast = holdfast_without_repository
    create(holdfast, store)
    source = holdfast.source("postgresql")
    holdfast.create_database("shop", "postgresql", [source])
    first = holdfast.backup("shop")
    second = holdfast.backup("shop")
    assert holdfast.shards_of(second["id"])[0]["generation"] == 1
    holdfast.verify_backup(second["id"], [source])
    holdfast.call("DELETE", f"/v1/backups/{first['id']}")
    holdfast.wait(f"/v1/backups/{first['id']}", lambda value: value["state"] == "deleted", 90)
    offline(holdfast, store, second)


def offline_runner(holdfast, store, prefix, **changes):
    """Runs commands without the server, with the key file and the environment's credential only."""
    place = ["--repository", f"s3://{store['bucket']}/e2e/{prefix}", "--key-file", holdfast.key_file]
    place += ["--endpoint", store["endpoint"], "--path-style"]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": store["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": store["secret_key"],
        "AWS_REGION": store["region"],
        **changes,
    }

    def run(*arguments):
        return subprocess.run(
            [HOLDFAST, *arguments, *place, "--output", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def offline(holdfast, store, backup):
    """Checked and restored."""
    run = offline_runner(holdfast, store, "shop")
    done = run("repository", "check")
    assert done.returncode == 0 and json.loads(done.stdout)["backups"] == 1, (done.stdout, done.stderr)
    target = os.path.join(holdfast.home, "offline")
    servers.make_directory(target)
    done = run("restore", "--offline", "--backup", backup["id"], "--target", os.path.join(target, "shop"))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert os.path.exists(os.path.join(target, "shop", "0", "PG_VERSION"))
    done = offline_runner(holdfast, store, "shop", AWS_SECRET_ACCESS_KEY="wrong-secret")("repository", "check")
    assert done.returncode != 0 and "secret key" in done.stderr and "wrong-secret" not in done.stderr, done.stderr
    assert cli(holdfast, "repository", "list").returncode == 0
