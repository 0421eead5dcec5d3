# SPDX-License-Identifier: Apache-2.0
"""Red: a repository in Google Cloud Storage cannot be made through the API, written, or read without the server."""

import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.parse

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from holdfast_harness import HOLDFAST, ROOT, ApiError, free_port, servers

ACCOUNT = "holdfast@project.iam.gserviceaccount.com"
TOOLS = os.environ.get("HOLDFAST_TOOLS_DIR") or os.path.join(ROOT, ".dev", "tools")
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class TokenServer:
    """Google's token endpoint: takes what another JWT library takes."""

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                claims = jwt.decode(form["assertion"][0], outer.key.public_key(), ["RS256"], audience=outer.uri)
                good = claims["iss"] == ACCOUNT and claims["scope"] == SCOPE and claims["exp"] - claims["iat"] <= 3600
                answer = {"access_token": "ya29.e2e", "expires_in": 3599} if good else {"error": "bad"}
                body = json.dumps(answer).encode()
                self.send_response(200 if good else 400)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def account_key(self):
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return json.dumps({"type": "service_account", "client_email": ACCOUNT, "private_key_id": "1",
                           "private_key": pem.decode(), "token_uri": self.uri})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(name="tokens")
def fixture_tokens():
    tokens = TokenServer()
    yield tokens
    tokens.close()


@pytest.fixture(name="store")
def fixture_store():
    port = free_port()
    program = [os.path.join(TOOLS, "fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
               "-backend", "memory", "-log-level", "error", "-external-url", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(program) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, "no fake-gcs-server: run ./dev setup"
                time.sleep(0.02)
        url = f"http://127.0.0.1:{port}"
        requests.post(f"{url}/storage/v1/b?project=p", json={"name": "e2e"}, timeout=60).raise_for_status()
        yield url
        process.terminate()


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
