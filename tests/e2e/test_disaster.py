# SPDX-License-Identifier: Apache-2.0
"""Red: a new server cannot go on from a repository when the old one's PostgreSQL is gone, or a key cannot be changed
or destroyed while a real server uses it."""

import os
import shutil

import pytest
from holdfast_harness import ApiError, cli


def test_a_new_server_goes_on_from_the_repository(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    old = holdfast.backup("shop")
    new_key = os.path.join(os.path.dirname(holdfast.key_file), "new.key")
    result = cli(holdfast, "repository", "rotate-key", "main", "--new-key-file", new_key, "--create-key-file")
    assert result.returncode == 0, result.stderr
    holdfast.wait_clean()

    # Everything that the server knew is gone; the old key too.
    holdfast.server.stop()
    shutil.rmtree(holdfast.server.data)
    os.remove(holdfast.key_file)
    holdfast.key_file = new_key
    holdfast.start()
    holdfast.ensure_basics()
    result = cli(holdfast, "repository", "rebuild-catalogue", "main")
    assert result.returncode == 0, result.stderr
    found = holdfast.get(f"/v1/backups/{old['id']}")
    assert (found["database"], found["state"], found["size_bytes"]) == ("shop", "succeeded", old["size_bytes"])
    with pytest.raises(ApiError) as caught:
        holdfast.start_backup("shop")
    assert caught.value.reason == "failed-precondition" and "source" in caught.value.problem["hint"]
    result = cli(holdfast, "shard", "update", "shop", "0", "--host", "127.0.0.1", "--port", str(source.port),
                 "--credential", "source")
    assert result.returncode == 0, result.stderr

    backup = holdfast.backup("shop")
    shard = holdfast.shards_of(backup["id"])[0]
    assert shard["generation"] == 1 and shard["new_bytes"] < shard["size_bytes"]
    holdfast.verify_backup(backup["id"], [source])

    # Shredded: nobody reads them any more, and the next backup is a seed under another key.
    result = cli(holdfast, "database", "destroy-data-keys", "shop", "--repository", "main")
    assert result.returncode != 0 and "2 backups" in result.stderr
    result = cli(holdfast, "database", "destroy-data-keys", "shop", "--repository", "main", "--confirm", "shop")
    assert result.returncode == 0, result.stderr
    result = cli(holdfast, "repository", "keys", "--repository", holdfast.repository, "--key-file", new_key)
    assert result.returncode == 0 and "destroyed" in result.stdout, result.stdout + result.stderr
    holdfast.wait(f"/v1/backups/{backup['id']}", lambda value: value["state"] == "deleted", 120)
    seed = holdfast.backup("shop")
    assert holdfast.shards_of(seed["id"])[0]["generation"] == 0
    holdfast.verify_backup(seed["id"], [source])
    holdfast.wait_clean()
