# SPDX-License-Identifier: Apache-2.0
"""One local S3 server for everybody who is measured: versitygw on a directory, with TLS, since pgBackRest insists."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

from bench_tools import ROOT, STATE, say
from tests.harness.free_port import free_port

MODULE, VERSION = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
ACCESS_KEY, SECRET_KEY, REGION = "bench-access-key", "bench-secret-key", "us-east-1"


def fetch():
    tools = os.path.join(STATE, "tools")
    script = os.path.join(ROOT, "tests", "tools", "fetch_go_tool.sh")
    program = os.path.join(tools, "versitygw")
    if not os.path.exists(program):
        say("building the local S3 server (once)")
    subprocess.run(["bash", script, tools, MODULE, VERSION], check=True)
    return program


class S3Store:
    """A bucket `bench` at https://127.0.0.1:PORT; what is in it lies as files below `directory`."""

    bucket = "bench"

    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self.process = None
        self.certificate, self.key = (os.path.join(directory, name) for name in ("certificate.pem", "key.pem"))

    @property
    def endpoint(self):
        return f"https://localhost:{self.port}"

    def start(self):
        program = fetch()
        os.makedirs(os.path.join(self.directory, "objects"), exist_ok=True)
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-keyout",
                self.key,
                "-out",
                self.certificate,
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    "--port",
                    f"127.0.0.1:{self.port}",
                    "--region",
                    REGION,
                    "--cert",
                    self.certificate,
                    "--key",
                    self.key,
                    "--quiet",
                    "--keep-alive",  # as S3 does
                    "posix",
                    os.path.join(self.directory, "objects"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY},
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the local S3 server does not start; see {self.directory}/server.log") from None
                time.sleep(0.05)

    def new_bucket(self):
        """Empties the bucket: a round of measurements starts with nothing."""
        shutil.rmtree(os.path.join(self.directory, "objects", self.bucket), ignore_errors=True)
        os.makedirs(os.path.join(self.directory, "objects", self.bucket))

    def processor_seconds(self):
        """Of the server until now."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def prefix_bytes(self, prefix):
        total = 0
        for directory, _, names in os.walk(os.path.join(self.directory, "objects", self.bucket, prefix)):
            total += sum(os.path.getsize(os.path.join(directory, name)) for name in names)
        return total

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running(scratch):
    """The store, started; at the end it is stopped, and its objects and `scratch` are gone."""
    store = S3Store(os.path.join(STATE, "store"))
    os.makedirs(store.directory, exist_ok=True)
    try:
        store.start()
        yield store
    finally:
        store.stop()
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(os.path.join(store.directory, "objects"), ignore_errors=True)
