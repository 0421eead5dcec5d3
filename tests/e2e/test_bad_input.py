# SPDX-License-Identifier: Apache-2.0
"""Red: bad input gets an unclear answer, or changes something. Every error names its cure."""

import os

import pytest
import requests
from holdfast_harness import ApiError, cli, free_port

from demo import servers


def probe(holdfast, database):
    results = holdfast.post(f"/v1/databases/{database}/probe")["results"]
    return results[0]


def assert_problem(found, reason, *words):
    problems = {problem["reason"]: problem for problem in found["problems"]}
    assert reason in problems, found
    assert not found["is_ready"]
    text = problems[reason]["message"] + " " + problems[reason]["cure"]
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_sources_that_cannot_be_backed_up(holdfast, engine):
    source = holdfast.source(engine, start_writer=False)
    holdfast.create_database("good", engine, [source])
    assert probe(holdfast, "good")["is_ready"], probe(holdfast, "good")

    holdfast.post("/v1/credentials", {"name": "wrong", "username": "holdfast", "password": "not-the-password"})
    shard = {"name": "0", "source": {"host": "127.0.0.1", "port": source.port, "credential": "wrong"}}
    holdfast.post("/v1/databases", {"database": {"name": "wrong-password", "engine": engine}, "shards": [shard]})
    assert_problem(probe(holdfast, "wrong-password"), "source-authentication")
    failed = holdfast.wait_backup(holdfast.start_backup("wrong-password"), state="failed")
    assert failed["reason"] == "source-authentication" and failed["message"], failed
    assert "not-the-password" not in holdfast.server.log_tail(1 << 20)

    shard["source"] = {"host": "127.0.0.1", "port": free_port(), "credential": "source"}
    holdfast.post("/v1/databases", {"database": {"name": "nobody-there", "engine": engine}, "shards": [shard]})
    assert_problem(probe(holdfast, "nobody-there"), "source-unreachable")

    if engine == "postgresql":
        source.query("CREATE ROLE nobody LOGIN PASSWORD 'x'")
    else:
        source.query("CREATE USER nobody@'127.0.0.1' IDENTIFIED BY 'x'")
    holdfast.post("/v1/credentials", {"name": "nobody", "username": "nobody", "password": "x"})
    shard["source"] = {"host": "127.0.0.1", "port": source.port, "credential": "nobody"}
    holdfast.post("/v1/databases", {"database": {"name": "no-rights", "engine": engine}, "shards": [shard]})
    found = probe(holdfast, "no-rights")
    assert not found["is_ready"], found
    cures = " ".join(problem["cure"] for problem in found["problems"])
    assert "REPLICATION" in cures.upper(), found
    holdfast.wait_clean()


def test_binary_log_off(holdfast):
    source = servers.MariadbServer(os.path.join(holdfast.home, "nolog"), free_port())
    holdfast.sources.append(source)
    source.start("--skip-log-bin", "--gtid-strict-mode=OFF")
    holdfast.create_database("nolog", "mariadb", [source])
    assert_problem(probe(holdfast, "nolog"), "source-configuration", "log_bin")


def test_wal_level_minimal(holdfast):
    source = servers.PostgresServer(os.path.join(holdfast.home, "minimal"), free_port())
    holdfast.sources.append(source)
    source.start("-c", "wal_level=minimal", "-c", "max_wal_senders=0")
    holdfast.create_database("minimal", "postgresql", [source])
    found = probe(holdfast, "minimal")
    assert not found["is_ready"]
    assert any("wal_level" in problem["message"] + problem["cure"] for problem in found["problems"]), found


def refused(holdfast, status, reason, method, path, body=None, **options):
    with pytest.raises(ApiError) as caught:
        holdfast.call(method, path, body, **options)
    assert caught.value.status == status, caught.value
    assert caught.value.reason == reason, caught.value
    assert caught.value.problem["detail"] and caught.value.problem["title"], caught.value
    return caught.value.problem


POLICY = {"name": "p", "repository": "main", "schedule": "0 3 * * *"}
POLICIES = "/v1/databases/shop/policies"
# method, path, body -> status, reason, field
WRONG = [
    ("POST", POLICIES, {**POLICY, "schedule": "0 0 30 2 *"}, 400, "schedule-never-fires", "schedule"),
    ("POST", POLICIES, {**POLICY, "schedule": "61 * * * *"}, 400, "invalid-argument", "schedule"),
    ("POST", POLICIES, {**POLICY, "time_zone": "Mars/Olympus"}, 400, "invalid-argument", "time_zone"),
    ("POST", "/v1/databases", {"database": {"name": "UPPER", "engine": "mariadb"}}, 400, "invalid-argument", None),
    ("POST", "/v1/databases", {"database": {"name": "x", "engine": "oracle"}}, 400, "invalid-argument", None),
    ("POST", "/v1/databases", {"database": {"name": "x", "engin": "mariadb"}}, 400, "invalid-argument", None),
    ("POST", "/v1/databases", {"database": {"name": "shop", "engine": "mariadb"}}, 409, "already-exists", None),
    ("GET", "/v1/databases/nothing", None, 404, "not-found", None),
    ("GET", "/v1/nothing", None, 404, "not-found", None),
    ("GET", "/v1/databases?page_size=5000", None, 400, "invalid-argument", "page_size"),
    ("GET", "/v1/databases?page_token=garbage", None, 400, "invalid-argument", "page_token"),
]


def test_requests_that_are_wrong(holdfast):
    source = holdfast.source("mariadb", start_writer=False)
    holdfast.create_database("shop", "mariadb", [source])
    before = holdfast.get("/v1/databases?page_size=1000")
    for method, path, body, status, reason, field in WRONG:
        problem = refused(holdfast, status, reason, method, path, body)
        assert field is None or problem["field"] == field, problem
    old = {"If-Match": '"old"'}
    refused(holdfast, 412, "etag-mismatch", "PATCH", "/v1/databases/shop", {"description": "x"}, headers=old)
    assert holdfast.session.put(holdfast.server.url + "/v1/databases", json={}, timeout=10).status_code == 405
    for token in ("", "Bearer nonsense"):
        response = requests.get(holdfast.server.url + "/v1/databases", headers={"Authorization": token}, timeout=10)
        assert response.status_code == 401 and response.json()["type"].endswith(":unauthenticated")
    assert holdfast.get("/v1/databases?page_size=1000") == before


def test_bodies_that_are_wrong(holdfast):
    url = holdfast.server.url
    as_json = {"Content-Type": "application/json"}
    response = holdfast.session.post(url + "/v1/databases", data=b'{"database": {', timeout=10, headers=as_json)
    assert response.status_code == 400 and response.json()["type"].endswith(":malformed-json")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["request_id"]
    response = holdfast.session.post(url + "/v1/databases", data=b"x" * (100 << 20), timeout=60, headers=as_json)
    assert response.status_code == 413 and response.json()["type"].endswith(":body-too-large")
    assert requests.get(url + "/healthz", timeout=5).status_code == 200
    assert holdfast.get("/v1/databases")["databases"] == []


def test_idempotency_and_secrets(holdfast):
    keyed = {"Idempotency-Key": "k1"}
    body = {"name": "twice", "username": "u", "password": "never-shown"}
    first = holdfast.post("/v1/credentials", body, headers=keyed)
    assert holdfast.post("/v1/credentials", body, headers=keyed) == first
    other = {**body, "name": "thrice"}
    refused(holdfast, 409, "idempotency-key-reused", "POST", "/v1/credentials", other, headers=keyed)
    shown = holdfast.session.get(holdfast.server.url + "/v1/credentials", timeout=10).text
    assert "twice" in shown and "thrice" not in shown
    assert "never-shown" not in shown + holdfast.server.log_tail(1 << 20)


def test_repository_that_cannot_be_written(holdfast):
    place = os.path.join(holdfast.home, "locked")
    os.makedirs(place)
    if os.geteuid() != 0:
        os.chmod(place, 0o500)
    problem = refused(
        holdfast,
        409,
        "repository-unwritable",
        "POST",
        "/v1/repositories",
        {
            "repository": {
                "name": "locked",
                "location": f"file://{place}/inside",
                "key_file": holdfast.key_file + "2",
            },
            "create_key_file": True,
        },
    )
    assert place in problem["detail"] and problem["hint"], problem
    assert [repository["name"] for repository in holdfast.get("/v1/repositories")["repositories"]] == ["main"]
    refused(
        holdfast,
        409,
        "key-missing",
        "POST",
        "/v1/repositories",
        {
            "repository": {
                "name": "other",
                "location": f"file://{holdfast.repository}/other",
                "key_file": "/nonexistent/key",
            }
        },
    )


def test_server_options_that_are_wrong(holdfast):
    import subprocess
    from holdfast_harness import HOLDFASTD

    for options, word in (
        [["--no-such-option", "1"], "no-such-option"],
        [["--http-address", "nonsense"], "http-address"],
        [["--worker-threads", "many"], "worker-threads"],
    ):
        result = subprocess.run(
            [HOLDFASTD, "--data-dir", os.path.join(holdfast.home, "other"), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert result.returncode == 2, result
        assert word in result.stderr, result.stderr
        assert not os.path.exists(os.path.join(holdfast.home, "other")), "a bad option changed something"
    result = subprocess.run(
        [HOLDFASTD, "--data-dir", holdfast.server.data],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode != 0 and "already" in result.stderr, result.stderr
    result = subprocess.run(
        [HOLDFASTD, "--data-dir", os.path.join(holdfast.home, "third")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, "HOLDFAST_DATABASE_URL": f"postgresql://x:secret-word@127.0.0.1:{free_port()}/x"},
    )
    assert result.returncode == 8, result
    assert "secret-word" not in result.stderr + result.stdout


def test_command_line(holdfast):
    result = cli(holdfast, "databse", "list")
    assert result.returncode == 2 and "database" in result.stderr
    result = cli(holdfast, "database", "show", "nothing")
    assert result.returncode == 3 and "nothing" in result.stderr
    result = cli(holdfast, "backup", "start", "nothing", "--wait")
    assert result.returncode == 3
