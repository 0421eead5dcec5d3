# SPDX-License-Identifier: Apache-2.0
"""Object stores for tests: S3 servers, fake-gcs-server, and the endpoint where Google's tokens come from."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import jwt
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from holdfast_harness import ROOT, free_port

ACCOUNT = "holdfast@project.iam.gserviceaccount.com"
TOOLS = os.environ.get("HOLDFAST_TOOLS_DIR") or os.path.join(ROOT, ".dev", "tools")
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
S3_SERVER = os.path.join(ROOT, "tests", "tools", "s3_server.py")


@contextlib.contextmanager
def s3_server(kind, directory):
    """swift or moto: endpoint, bucket, region, access_key_id, secret_key. Ends with standard input."""
    with subprocess.Popen(
        [sys.executable, S3_SERVER, kind, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        assert line, "the S3 server did not start: run ./dev setup"
        yield json.loads(line)


@contextlib.contextmanager
def gcs_server():
    """The URL of a fake-gcs-server with the bucket "e2e"."""
    port = free_port()
    program = [os.path.join(TOOLS, "fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
               "-backend", "memory", "-log-level", "error", "-external-url", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(program) as process:
        try:
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
        finally:
            process.terminate()


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
