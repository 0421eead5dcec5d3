# SPDX-License-Identifier: Apache-2.0
"""An independent client against the test service: what it says must be standard gRPC, not only our own dialect.

Usage: rpc_client_check.py <rpc_echo_server>; PYTHONPATH holds the generated modules.
"""
import os
import subprocess
import sys

import grpc
from google.protobuf import descriptor_pb2

import rpc_test_pb2

# The generated grpc/health and grpc/reflection are beside rpc_test_pb2, not where the grpc package is.
grpc.__path__.append(os.path.join(os.path.dirname(rpc_test_pb2.__file__), "grpc"))
from grpc.health.v1 import health_pb2  # noqa: E402
from grpc.reflection.v1alpha import reflection_pb2  # noqa: E402

SAY = "/holdfast.test.Echo/Say"
CHAT = "/holdfast.test.Echo/Chat"
COUNT = "/holdfast.test.Echo/Count"
TIMEOUT = 20


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def expect_error(call, code):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code() == code, f"expected {code}, got {error.code()}: {error.details()}")
        return error
    raise AssertionError(f"expected {code}, got an answer")


def method(channel, kind, name, request, response):
    return getattr(channel, kind)(
        name, request_serializer=request.SerializeToString, response_deserializer=response.FromString)


def check_unary(channel):
    say = method(channel, "unary_unary", SAY, rpc_test_pb2.EchoRequest, rpc_test_pb2.EchoReply)
    metadata = [("authorization", "Bearer t"), ("idempotency-key", "k1"), ("if-match", '"e"'), ("x-request-id", "r-1")]
    reply = say(rpc_test_pb2.EchoRequest(text="grüße", count=7), timeout=TIMEOUT, metadata=metadata)
    expect(reply.text == "grüße" and reply.count == 7, "echo")
    expect((reply.authorization, reply.idempotency_key, reply.if_match, reply.request_id)
           == ("Bearer t", "k1", '"e"', "r-1"), "metadata")
    expect(reply.method == SAY and reply.peer.startswith("ipv4:127.0.0.1:"), "method and peer")
    made = say(rpc_test_pb2.EchoRequest(), timeout=TIMEOUT, metadata=[("x-request-id", "a b")])
    expect(len(made.request_id) == 36, "a request id that is not plain is replaced")
    big = say(rpc_test_pb2.EchoRequest(payload=b"x" * 3_000_000), timeout=TIMEOUT)
    expect(len(big.payload) == 3_000_000, "3 MB message")


def check_errors(channel):
    say = method(channel, "unary_unary", SAY, rpc_test_pb2.EchoRequest, rpc_test_pb2.EchoReply)
    error = expect_error(lambda: say(rpc_test_pb2.EchoRequest(text="fail"), timeout=TIMEOUT,
                                     metadata=[("x-request-id", "r-2")]), grpc.StatusCode.FAILED_PRECONDITION)
    trailing = dict(error.trailing_metadata())
    expect(error.details() == "the key of 'shop' is müßig\n", f"message: {error.details()!r}")
    expect(trailing["holdfast-reason"] == "key-missing", "reason")
    expect(trailing["holdfast-field"] == "policy.schedule", "field")
    hint = trailing["holdfast-hint"]
    expect(hint == "try 100%25 of %E2%80%9Cthese%E2%80%9D%0Alines", f"hint: {hint}")
    expect(trailing["holdfast-request-id"] == "r-2", "request id")
    unknown = channel.unary_unary("/holdfast.test.Echo/Nothing")
    expect_error(lambda: unknown(b"", timeout=TIMEOUT), grpc.StatusCode.UNIMPLEMENTED)
    raw = channel.unary_unary(SAY)
    expect_error(lambda: raw(b"\xff\xff\xff", timeout=TIMEOUT), grpc.StatusCode.INVALID_ARGUMENT)
    expect_error(lambda: raw(b"\x0a\x02\xff\xfe", timeout=TIMEOUT), grpc.StatusCode.INVALID_ARGUMENT)  # not UTF-8
    big = rpc_test_pb2.EchoRequest(payload=b"x" * 5_000_000)
    expect_error(lambda: say(big, timeout=TIMEOUT), grpc.StatusCode.RESOURCE_EXHAUSTED)
    expect_error(lambda: say(rpc_test_pb2.EchoRequest(text="sleep", count=500), timeout=0.1),
                 grpc.StatusCode.DEADLINE_EXCEEDED)
    expect_error(lambda: say(rpc_test_pb2.EchoRequest(text="x" * 1000), timeout=TIMEOUT,
                             compression=grpc.Compression.Gzip), grpc.StatusCode.UNIMPLEMENTED)
    expect(say(rpc_test_pb2.EchoRequest(text="still there"), timeout=TIMEOUT).text == "still there", "after errors")


def check_streams(channel):
    chat = method(channel, "stream_stream", CHAT, rpc_test_pb2.EchoRequest, rpc_test_pb2.EchoReply)
    replies = chat(iter([rpc_test_pb2.EchoRequest(count=i) for i in range(100)]), timeout=TIMEOUT)
    expect([r.count for r in replies] == list(range(100)), "half-closed chat ends well after every echo")
    error = expect_error(lambda: list(chat(iter([rpc_test_pb2.EchoRequest(text="fail")]), timeout=TIMEOUT)),
                         grpc.StatusCode.ABORTED)
    expect(dict(error.trailing_metadata())["holdfast-reason"] == "lease-lost", "reason of a stream")
    expect_error(lambda: list(chat(iter([]), timeout=TIMEOUT, metadata=[("authorization", "Bearer wrong")])),
                 grpc.StatusCode.UNAUTHENTICATED)
    count = method(channel, "unary_stream", COUNT, rpc_test_pb2.EchoRequest, rpc_test_pb2.EchoReply)
    expect([r.count for r in count(rpc_test_pb2.EchoRequest(count=1000), timeout=TIMEOUT)] == list(range(1000)),
           "1000 messages of a server stream, in order")


def check_health(channel, server):
    check = method(channel, "unary_unary", "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest,
                   health_pb2.HealthCheckResponse)
    watch = method(channel, "unary_stream", "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest,
                   health_pb2.HealthCheckResponse)
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", "holdfast.test.Echo", "grpc.health.v1.Health"):
        expect(check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT).status == serving, service)
    expect_error(lambda: check(health_pb2.HealthCheckRequest(service="holdfast.test"), timeout=TIMEOUT),
                 grpc.StatusCode.NOT_FOUND)
    states = watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    expect(next(states).status == serving, "watch: first state")
    server.stdin.write("down\n")
    server.stdin.flush()
    expect(next(states).status == not_serving, "watch: change")
    server.stdin.write("up\n")
    server.stdin.flush()
    expect(next(states).status == serving, "watch: change back")
    states.cancel()
    unknown = watch(health_pb2.HealthCheckRequest(service="nothing"), timeout=TIMEOUT)
    expect(next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, "watch of an unknown service")
    unknown.cancel()


def check_reflection(channel, version):
    reflect = method(channel, "stream_stream", f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                     reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse)

    def ask(**question):
        replies = list(reflect(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=TIMEOUT))
        expect(len(replies) == 1, "one answer to a question")
        return replies[0]

    names = {s.name for s in ask(list_services="").list_services_response.service}
    expect(names == {"holdfast.test.Echo", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                     "grpc.reflection.v1alpha.ServerReflection"}, f"services: {names}")
    for symbol, file_name in (
            ("holdfast.test.Echo", "rpc_test.proto"),
            ("holdfast.test.Echo.Say", "rpc_test.proto"),
            ("holdfast.test.EchoReply.peer", "rpc_test.proto"),
            ("grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto"),
            (f"grpc.reflection.{version}.ServerReflection", f"grpc/reflection/{version}/reflection.proto")):
        answer = ask(file_containing_symbol=symbol).file_descriptor_response.file_descriptor_proto
        expect(len(answer) == 1, symbol)
        file = descriptor_pb2.FileDescriptorProto.FromString(answer[0])
        expect(file.name == file_name, f"{symbol}: {file.name}")
        by_name = ask(file_by_filename=file_name).file_descriptor_response.file_descriptor_proto
        expect(list(by_name) == list(answer), file_name)
    for symbol in ("holdfast.test.Nothing", "holdfast.test.Echo.Nothing", "holdfast.test.EchoReply.nothing", "x"):
        expect(ask(file_containing_symbol=symbol).error_response.error_code == 5, symbol)


def main():
    server = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            check_unary(channel)
            check_errors(channel)
            check_streams(channel)
            check_health(channel, server)
            check_reflection(channel, "v1alpha")
            check_reflection(channel, "v1")
        server.stdin.close()
        expect(server.wait(TIMEOUT) == 0, "the server ends well and every stream was closed")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    print("ok")


main()
