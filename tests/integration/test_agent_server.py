# SPDX-License-Identifier: Apache-2.0
"""A server for agents, made with Python's gRPC from the contract.

It says what a test tells it to, and remembers what it heard.
"""

import atexit
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc
from grpc_tools import protoc

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def load_contract():
    """The contract's messages, generated now from api/."""
    directory = tempfile.mkdtemp(prefix="holdfast-contract-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    files = [f"holdfast/v1/{name}.proto" for name in ("types", "agent")]
    if protoc.main(["protoc", f"-I{SOURCE}/api", "-I/usr/include", f"--python_out={directory}", *files]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, directory)
    from holdfast.v1 import agent_pb2, types_pb2

    return agent_pb2, types_pb2


agent_pb2, types_pb2 = load_contract()


def make_certificate(directory):
    key, certificate = os.path.join(directory, "key.pem"), os.path.join(directory, "certificate.pem")
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
            key,
            "-out",
            certificate,
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    return open(key, "rb").read(), open(certificate, "rb").read()


class AgentServer:
    def __init__(self, directory, secret="join-secret", deadman_ms=30000):
        self.key, self.certificate = make_certificate(directory)
        self.secret, self.token, self.deadman_ms = secret, "session-token", deadman_ms
        self.changed = threading.Condition()
        self.heard = []  # every AgentMessage but Progress, in order
        self.progress = []
        self.joins = []
        self.session = None  # the queue of the newest stream
        self.is_silent = False  # no heartbeats, no answers
        self.server = None
        self.port = 0
        self.start()

    def start(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(
            self.serve, agent_pb2.AgentMessage.FromString, agent_pb2.ServerMessage.SerializeToString
        )
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("holdfast.v1.Agents", {"Session": handler})]
        )
        credentials = grpc.ssl_server_credentials([(self.key, self.certificate)])
        port = self.server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        assert port != 0
        self.port = port
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()
        self.session = None

    def serve(self, requests, context):
        context.send_initial_metadata(
            (("holdfast-stream", "open"),)
        )  # as holdfastd does: the client knows that it was accepted
        try:
            join = next(requests).join
        except (StopIteration, grpc.RpcError):
            return
        with self.changed:
            self.joins.append(join)
            expected = self.token if len(self.joins) > 1 and any(j.secret == self.token for j in self.joins) else None
            if join.secret not in (self.secret, self.token) or (expected and join.secret != expected):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
            self.session = session = queue.Queue()
            self.changed.notify_all()
        threading.Thread(target=self.listen, args=(requests,), daemon=True).start()
        yield agent_pb2.ServerMessage(joined={"session_token": self.token, "deadman_ms": self.deadman_ms})
        while context.is_active():
            try:
                message = session.get(timeout=0.3)
            except queue.Empty:
                message = agent_pb2.ServerMessage(idle={})
            if message is None:
                return
            if not self.is_silent:
                yield message

    def listen(self, requests):
        try:
            for message in requests:
                with self.changed:
                    (self.progress if message.HasField("progress") else self.heard).append(message)
                    self.changed.notify_all()
        except grpc.RpcError:
            pass

    def say(self, **message):
        self.wait(lambda: self.session is not None)
        self.session.put(agent_pb2.ServerMessage(**message))

    def wait(self, condition, timeout=60):
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                result = condition()
                if result:
                    return result
                failed = [message.failed for message in self.heard if message.HasField("failed")]
                assert time.monotonic() < deadline, f"waited in vain; phases {self.phases()}, failures {failed}"
                self.changed.wait(0.1)

    def wait_for(self, field, timeout=60):
        """The newest message of a kind; a failure that is not waited for ends the test."""

        def look():
            for message in reversed(self.heard):
                assert field == "failed" or not message.HasField("failed"), message.failed
                if message.HasField(field):
                    return getattr(message, field)
            return None

        return self.wait(look, timeout)

    def wait_phase(self, phase, timeout=60):
        def look():
            failed = [message.failed for message in self.heard if message.HasField("failed")]
            assert not failed, failed
            return phase in self.phases()

        return self.wait(look, timeout)

    def phases(self):
        names = [
            types_pb2.Phase.Name(message.phase_started.phase)
            for message in self.heard
            if message.HasField("phase_started")
        ]
        return [name.removeprefix("PHASE_").lower() for name in names]

    def forget(self):
        self.heard, self.progress, self.joins, self.session = [], [], [], None
