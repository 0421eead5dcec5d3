# SPDX-License-Identifier: Apache-2.0
"""Red: the OpenAPI document, the REST face and the gRPC face do not say the same.

Every route of the document is called on a server with real content; every answer, good or bad, is checked against the
schema that the document gives for it. Then both faces are asked the same and compared field by field.
"""

import json
import os
import re
import subprocess
import sys

import grpc
import jsonschema
import pytest
import requests
from google.protobuf import json_format
from holdfast_harness import ROOT, Holdfast, free_port

DOCUMENT = json.load(open(os.path.join(ROOT, "api", "openapi.json"), encoding="utf-8"))
NOT_JSON = {"/healthz", "/readyz", "/metrics", "/v1/events/stream"}


@pytest.fixture(scope="module")
def filled():
    """A server with one of everything."""
    instance = Holdfast()
    try:
        instance.start()
        instance.ensure_basics()
        source = instance.source("mariadb")
        instance.create_database("shop", "mariadb", [source])
        instance.post(
            "/v1/databases/shop/policies",
            {
                "name": "nightly",
                "schedule": "0 3 * * *",
                "repository": "main",
                "retention": {"keep_last": 7, "keep_for": "604800s"},
            },
        )
        instance.backup("shop")
        backup = instance.backup("shop")
        restore = instance.restore(backup=backup["id"], first_port=free_port())
        instance.names = {
            "database": "shop",
            "database.name": "shop",
            "shard": "0",
            "shard.database": "shop",
            "shard.name": "0",
            "policy": "nightly",
            "policy.database": "shop",
            "policy.name": "nightly",
            "repository": "main",
            "credential": "source",
            "credential.name": "source",
            "backup": backup["id"],
            "restore": restore["id"],
            "instance": restore["shards"][0]["instance_id"],
        }
        yield instance
        instance.stop_restore(restore)
    finally:
        instance.close()


def resolve(schema):
    """The document's schemas with references made local to it."""
    return {**schema, "components": DOCUMENT["components"]}


def check_answer(operation, response):
    answers = operation["responses"]
    answer = answers.get(str(response.status_code)) or answers.get("default")
    assert (
        answer
    ), f"{response.request.method} {response.request.url} answered {response.status_code}, which is not documented"
    while "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    content = answer.get("content")
    if not content:
        assert response.content == b"", response.text
        return
    kind = response.headers["Content-Type"].split(";")[0]
    assert kind in content, (kind, list(content))
    if kind.endswith("json"):
        validator = (
            jsonschema.validators.validator_for(DOCUMENT, default=jsonschema.Draft202012Validator)
            if hasattr(jsonschema, "Draft202012Validator")
            else jsonschema.Draft7Validator
        )
        validator(resolve(content[kind]["schema"])).validate(response.json())


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "patch", "delete", "put"):
                yield path, method, operation


def fill(path, names):
    return re.sub(r"\{([^}]+)\}", lambda match: names[match.group(1)], path)


def parameter_names(path):
    return re.findall(r"\{([^}]+)\}", path)


BODIES = {
    ("post", "/v1/schedules/preview"): {"schedule": "*/15 * * * *"},
    ("patch", "/v1/databases/"): {"description": "changed"},
    ("patch", "shards"): {"source": {"tls_mode": "prefer"}},
    ("patch", "policies"): {"retention": {"keep_last": 9}},
    ("patch", "credentials"): {"username": "holdfast"},
    ("patch", "/v1/limits"): {"upload_bytes_per_second": 1 << 30},
    ("patch", "repositories"): {"limits": {"upload_bytes_per_second": 1 << 30}},
}


def test_every_read_and_harmless_route_answers_as_documented(filled):
    called = 0
    for path, method, operation in operations():
        if path in NOT_JSON or method == "delete":
            continue
        if method == "post" and not path.endswith(("/probe", "/pause", "/resume", "/preview")):
            continue
        body = None
        if method == "post":
            body = BODIES.get((method, path), {})
        if method == "patch":
            body = next(
                value
                for (kind, word), value in BODIES.items()
                if kind == "patch" and word in path and (word != "/v1/databases/" or path.count("/") == 3)
            )
        names = parameter_names(path)
        response = filled.session.request(
            method, filled.server.url + fill(path, {**filled.names}), json=body, timeout=60
        )
        assert response.status_code < 400, f"{method} {path}: {response.status_code} {response.text}"
        check_answer(operation, response)
        called += 1
        if names:  # the same for something that does not exist
            wrong = {
                name: (
                    "00000000-0000-7000-8000-000000000000" if name in ("backup", "restore", "instance") else "nothing"
                )
                for name in names
            }
            response = filled.session.request(method, filled.server.url + fill(path, wrong), json=body, timeout=60)
            assert response.status_code == 404, f"{method} {path}: {response.status_code} {response.text}"
            check_answer(operation, response)
        response = requests.request(method, filled.server.url + fill(path, filled.names), json=body, timeout=60)
        assert response.status_code == 401, path
        check_answer(operation, response)
    assert called >= 30


def test_creating_and_deleting_answer_as_documented(filled):
    url = filled.server.url
    steps = [
        ("post", "/v1/credentials", {"name": "c2", "username": "u", "password": "p"}, 201),
        (
            "post",
            "/v1/repositories",
            {
                "repository": {
                    "name": "r2",
                    "location": f"file://{filled.home}/repository/r2",
                    "key_file": filled.key_file,
                }
            },
            201,
        ),
        ("post", "/v1/databases", {"database": {"name": "d2", "engine": "postgresql"}}, 201),
        (
            "post",
            "/v1/databases/{database}/shards",
            {"name": "s2", "source": {"host": "127.0.0.1", "port": 1, "credential": "c2"}},
            201,
        ),
        ("post", "/v1/databases/{database}/policies", {"name": "p2", "schedule": "@daily", "repository": "r2"}, 201),
        ("post", "/v1/databases/{database}/backups", {"repository": "r2"}, 201),
        ("post", "/v1/backups/{backup}/limit", {"limits": {"cpu_count": 1}}, 200),
    ]
    names = {"database": "d2", "shard": "s2", "policy": "p2", "repository": "r2", "credential": "c2"}
    for method, path, body, status in steps:
        response = filled.session.request(method, url + fill(path, names), json=body, timeout=60)
        assert response.status_code == status, response.text
        check_answer(DOCUMENT["paths"][path][method], response)
        if path.endswith("/backups"):
            names["backup"] = response.json()["id"]
        response = filled.session.request(method, url + fill(path, names), json={"no_such_field": 1}, timeout=60)
        assert response.status_code == 400, (path, response.text)
        check_answer(DOCUMENT["paths"][path][method], response)
    response = filled.session.post(url + f"/v1/backups/{names['backup']}/cancel", json={}, timeout=60)
    check_answer(DOCUMENT["paths"]["/v1/backups/{backup}/cancel"]["post"], response)
    filled.wait(f"/v1/backups/{names['backup']}", lambda value: value["state"] not in ("pending", "running"), 60)
    for path in (
        "/v1/backups/{backup}",
        "/v1/databases/{database}/policies/{policy}",
        "/v1/databases/{database}/shards/{shard}",
        "/v1/databases/{database}",
    ):
        query = "?force=true" if path == "/v1/databases/{database}" else ""
        response = filled.session.delete(url + fill(path, names) + query, timeout=60)
        assert response.status_code == 204, (path, response.text)
        check_answer(DOCUMENT["paths"][path]["delete"], response)
        response = filled.session.delete(url + fill(path, names), timeout=60)
        check_answer(DOCUMENT["paths"][path]["delete"], response)


def test_health_and_metrics(filled):
    for path in ("/healthz", "/readyz", "/metrics"):
        response = requests.get(filled.server.url + path, timeout=10)
        assert response.status_code == 200
        assert path in DOCUMENT["paths"]
    text = requests.get(filled.server.url + "/metrics", timeout=10).text
    printed = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        described = re.findall(r"^\| `(\w+)` \| (\w+) \| (?:`(\w+)`|–) \| (.*) \|$", file.read(), re.M)
    assert {name: said for name, _, _, said in described} == printed
    for name, kind, label, _ in described:
        assert f"# TYPE {name} {kind}\n" in text
        labels = set(re.findall(rf"^{name}(?:{{(\w+)=| )", text, re.M))
        assert labels <= {label}, (name, labels)
    assert 'holdfast_backup_last_success_timestamp_seconds{database="shop"}' in text
    for line in text.splitlines():
        assert line.startswith("#") or re.match(r"^[a-z_]+(\{[^}]*\})? [-+0-9.eE]+(NaN|Inf)?$", line), line


def test_events_are_streamed_and_resumed(filled):
    events = filled.get("/v1/events?page_size=1000")["events"]
    middle = sorted(int(event["id"]) for event in events)[len(events) // 2]
    response = filled.session.get(
        filled.server.url + "/v1/events/stream", headers={"Last-Event-ID": str(middle)}, stream=True, timeout=20
    )
    assert response.headers["Content-Type"].startswith("text/event-stream")
    expected = sorted(int(event["id"]) for event in events if int(event["id"]) > middle)
    got = []
    for line in response.iter_lines():
        if line.startswith(b"id: "):
            got.append(int(line[4:]))
        if len(got) >= len(expected):
            break
    assert got[: len(expected)] == expected
    response.close()


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Python's own gRPC code for the contract."""
    place = str(tmp_path_factory.mktemp("stubs"))
    files = [os.path.join("holdfast", "v1", name) for name in ("types.proto", "holdfast.proto")]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            os.path.join(ROOT, "api"),
            "-I",
            "/usr/include",
            f"--python_out={place}",
            f"--grpc_python_out={place}",
            *files,
        ],
        check=True,
    )
    sys.path.insert(0, place)
    from holdfast.v1 import holdfast_pb2, holdfast_pb2_grpc

    return holdfast_pb2, holdfast_pb2_grpc


def normal(message):
    """A message as our JSON: words for enums, numbers for 64-bit integers, nothing for the unset."""

    def walk(value, descriptor):
        result = {}
        for field in descriptor.fields:
            if field.name not in value:
                continue
            item = value[field.name]
            if field.message_type and field.message_type.full_name.startswith("holdfast."):
                item = (
                    [walk(one, field.message_type) for one in item]
                    if isinstance(item, list)
                    else walk(item, field.message_type)
                )
            elif field.enum_type:
                prefix = re.sub(r"(?<!^)([A-Z])", r"_\1", field.enum_type.name).upper() + "_"
                word = item[len(prefix) :].lower()
                if word == "unspecified":
                    continue
                item = word
            elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
                item = [int(one) for one in item] if isinstance(item, list) else int(item)
            result[field.name] = item
        return result

    return walk(
        json_format.MessageToDict(message, preserving_proto_field_name=True, including_default_value_fields=True),
        message.DESCRIPTOR,
    )


VOLATILE = {
    "progress",
    "eta",
    "rate_bytes_per_second",
    "last_seen_at",
    "memory_bytes",
    "next_run_at",
    "protection_reason",
}


def without_volatile(value):
    if isinstance(value, dict):
        return {key: without_volatile(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [without_volatile(item) for item in value]
    if isinstance(value, str) and re.match(r"^\d+(\.\d+)?s$", value):
        return float(value[:-1])
    if isinstance(value, str) and re.match(r"^\d{4}-\d\d-\d\dT.*Z$", value):
        return value.rstrip("Z").rstrip("0").rstrip(".")
    return value


def test_rest_and_grpc_answer_alike(filled, stubs):
    messages, services = stubs
    channel = grpc.insecure_channel(f"127.0.0.1:{filled.server.grpc_port}")
    stub = services.HoldfastStub(channel)
    token = [("authorization", filled.session.headers["Authorization"])]
    names = filled.names
    pairs = [
        ("/v1/server", stub.GetServerInfo, messages.GetServerInfoRequest()),
        ("/v1/limits", stub.GetFleetLimits, messages.GetFleetLimitsRequest()),
        ("/v1/databases/shop", stub.GetDatabase, messages.GetDatabaseRequest(database="shop")),
        ("/v1/databases", stub.ListDatabases, messages.ListDatabasesRequest()),
        ("/v1/databases/shop/shards", stub.ListShards, messages.ListShardsRequest(database="shop")),
        ("/v1/databases/shop/shards/0", stub.GetShard, messages.GetShardRequest(database="shop", shard="0")),
        ("/v1/credentials", stub.ListCredentials, messages.ListCredentialsRequest()),
        ("/v1/repositories", stub.ListRepositories, messages.ListRepositoriesRequest()),
        ("/v1/databases/shop/policies", stub.ListPolicies, messages.ListPoliciesRequest(database="shop")),
        (
            "/v1/databases/shop/policies/nightly/retention",
            stub.PreviewRetention,
            messages.PreviewRetentionRequest(database="shop", policy="nightly"),
        ),
        ("/v1/backups", stub.ListBackups, messages.ListBackupsRequest()),
        (f"/v1/backups/{names['backup']}", stub.GetBackup, messages.GetBackupRequest(backup=names["backup"])),
        (
            f"/v1/backups/{names['backup']}/shards",
            stub.ListShardBackups,
            messages.ListShardBackupsRequest(backup=names["backup"]),
        ),
        ("/v1/restores", stub.ListRestores, messages.ListRestoresRequest()),
        (
            "/v1/instances?include_destroyed=true",
            stub.ListInstances,
            messages.ListInstancesRequest(include_destroyed=True),
        ),
        ("/v1/events", stub.ListEvents, messages.ListEventsRequest()),
    ]
    for path, method, request in pairs:
        ours, theirs = filled.get(path), normal(method(request, metadata=token))
        assert without_volatile(ours) == without_volatile(theirs), path
    failures = [
        (
            "/v1/databases/nothing",
            stub.GetDatabase,
            messages.GetDatabaseRequest(database="nothing"),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            "/v1/databases?page_size=5000",
            stub.ListDatabases,
            messages.ListDatabasesRequest(page_size=5000),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ]
    for path, method, request, code in failures:
        problem = filled.session.get(filled.server.url + path, timeout=10).json()
        with pytest.raises(grpc.RpcError) as caught:
            method(request, metadata=token)
        trailing = dict(caught.value.trailing_metadata())
        assert caught.value.code() == code
        assert problem["type"].rsplit(":", 1)[1] == trailing["holdfast-reason"]
        assert problem["detail"] == caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetDatabase(messages.GetDatabaseRequest(database="shop"))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    stream = stub.StreamEvents(messages.StreamEventsRequest(after_id=0), metadata=token, timeout=20)
    first = next(stream)
    assert first.id == min(int(event["id"]) for event in filled.get("/v1/events?page_size=1000")["events"])
    stream.cancel()
    channel.close()


def test_every_method_of_the_contract_is_served(filled, stubs):
    messages, _ = stubs
    service = messages.DESCRIPTOR.services_by_name["Holdfast"]
    channel = grpc.insecure_channel(f"127.0.0.1:{filled.server.grpc_port}")
    for method in service.methods:
        call = channel.unary_unary(f"/{service.full_name}/{method.name}") if not method.server_streaming else None
        if call is None:
            continue
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, method.name
    documented = {operation["operationId"] for _, _, operation in operations() if "operationId" in operation}
    for method in service.methods:
        assert any(name == method.name or name.startswith(method.name) for name in documented), method.name
