#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for tests: s3_server.py swift|moto DIRECTORY

Both verify signatures, and neither knows the other: OpenStack Swift's s3api, and moto with authentication switched on.
They come from .dev/s3 (tests/tools/fetch_s3.sh). Everything lives below DIRECTORY. When the server is ready and has a
bucket, one line of JSON says how to reach it: endpoint, bucket, region, access_key_id, secret_key. It ends, with all
its processes, when standard input is closed: so it cannot outlive the test that started it.
"""

import ctypes
import getpass
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

READY_SECONDS = 120
REGION = "us-east-1"
BUCKET = "holdfast-test"

SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = holdfast
swift_hash_path_prefix = test
[storage-policy:0]
name = only
default = yes
"""

PROXY_CONF = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 1
user = {user}
swift_dir = {directory}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
allow_multipart_uploads = true
min_segment_size = 1
check_bucket_owner = false
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:copy]
use = egg:swift#copy
"""

STORE_CONF = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
disable_fallocate = true
log_level = WARNING
recon_cache_path = {directory}/cache
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


def free_port():
    """A port below those of outgoing connections, that nobody listens on."""
    while True:
        port = random.randint(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    def __init__(self, tools, directory):
        self.bin = tools / "bin"
        self.directory = directory
        self.processes = []
        self.port = free_port()
        self.access_key_id = ""
        self.secret_key = ""

    def run(self, name, *arguments, environment=None):
        log = open(self.directory / f"{name}.log", "ab")
        self.processes.append(subprocess.Popen(
            [self.bin / "python3", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **(environment or {})}, preexec_fn=die_with_parent))

    def call(self, method, path, body=b"", headers=None):
        """One unsigned request; (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def sign(self, method, path):
        """Headers for a request without query and body."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        empty = hashlib.sha256(b"").hexdigest()
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": empty, "x-amz-date": stamp}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{empty}"
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{scope}, "
                                    f"SignedHeaders={names}, Signature={signature}")
        return headers

    def make_bucket(self):
        status, body = self.call("PUT", f"/{BUCKET}", headers=self.sign("PUT", f"/{BUCKET}"))
        if status not in (200, 409):
            raise RuntimeError(f"the bucket cannot be made: {status} {body!r}")

    def wait(self, is_ready):
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[1]} ended, see the logs in {self.directory}")
            try:
                if is_ready():
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"it does not get ready, see the logs in {self.directory}")

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Swift(Server):
    def start(self):
        self.access_key_id, self.secret_key = "test:tester", "testing-the-swift-secret"
        facts = {"user": getpass.getuser(), "directory": self.directory, "secret": self.secret_key}
        (self.directory / "swift.conf").write_text(SWIFT_CONF)
        (self.directory / "cache").mkdir(exist_ok=True)
        for kind in ("account", "container", "object"):
            port = free_port()
            (self.directory / "devices" / "d1").mkdir(parents=True, exist_ok=True)
            conf = self.directory / f"{kind}.conf"
            conf.write_text(STORE_CONF.format(kind=kind, port=port, **facts))
            self.make_ring(kind, port)
            self.run(kind, self.bin / f"swift-{kind}-server", conf, environment={"SWIFT_DIR": str(self.directory)})
        conf = self.directory / "proxy.conf"
        conf.write_text(PROXY_CONF.format(port=self.port, **facts))
        self.run("proxy", self.bin / "swift-proxy-server", conf, environment={"SWIFT_DIR": str(self.directory)})
        self.wait(lambda: self.call("GET", f"/{BUCKET}", headers=self.sign("GET", f"/{BUCKET}"))[0] == 404)
        self.make_bucket()

    def make_ring(self, kind, port):
        from_swift = ("from swift.common.ring import RingBuilder\n"
                      f"b = RingBuilder(4, 1, 1)\n"
                      f"b.add_dev({{'id': 0, 'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': {port}, "
                      "'device': 'd1', 'weight': 1, 'meta': ''})\n"
                      f"b.rebalance()\nb.get_ring().save('{self.directory}/{kind}.ring.gz')\n")
        subprocess.run([self.bin / "python3", "-c", from_swift], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "SWIFT_DIR": str(self.directory)})


class Moto(Server):
    def start(self):
        # The calls before authentication begins make the user, its key and its policy.
        self.run("moto", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port),
                 environment={"INITIAL_NO_AUTH_ACTION_COUNT": "3"})
        self.wait(lambda: self.call("GET", "/moto-api/data.json")[0] == 200)
        self.iam({"Action": "CreateUser", "UserName": "holdfast"})
        policy = {"Version": "2012-10-17",
                  "Statement": [{"Effect": "Allow", "Action": ["s3:*", "kms:*"], "Resource": "*"}]}
        self.iam({"Action": "PutUserPolicy", "UserName": "holdfast", "PolicyName": "s3",
                  "PolicyDocument": json.dumps(policy)})
        text = self.iam({"Action": "CreateAccessKey", "UserName": "holdfast"}).decode()
        self.access_key_id = text.split("<AccessKeyId>")[1].split("<")[0]
        self.secret_key = text.split("<SecretAccessKey>")[1].split("<")[0]
        self.make_bucket()

    def iam(self, fields):
        from urllib.parse import urlencode
        body = urlencode({**fields, "Version": "2010-05-08"}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded",
                   "Authorization": "AWS4-HMAC-SHA256 Credential=none/20130524/us-east-1/iam/aws4_request, "
                                    "SignedHeaders=host, Signature=none"}
        status, answer = self.call("POST", "/", body, headers)
        if status != 200:
            raise RuntimeError(f"moto: {fields['Action']} answered {status} {answer!r}")
        return answer


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("swift", "moto"):
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(__file__).resolve().parents[2]
    tools = pathlib.Path(os.environ.get("HOLDFAST_S3_TOOLS") or root / ".dev" / "s3")
    if not (tools / "bin" / "python3").exists():
        print(f"s3_server: {tools} is not there: run ./dev setup", file=sys.stderr)
        return 1
    directory = pathlib.Path(sys.argv[2]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    server = {"swift": Swift, "moto": Moto}[sys.argv[1]](tools, directory)
    try:
        server.start()
        print(json.dumps({"endpoint": f"http://127.0.0.1:{server.port}", "bucket": BUCKET, "region": REGION,
                          "access_key_id": server.access_key_id, "secret_key": server.secret_key}), flush=True)
        sys.stdin.buffer.read()
        return 0
    except RuntimeError as problem:
        print(f"s3_server: {problem}", file=sys.stderr)
        return 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
