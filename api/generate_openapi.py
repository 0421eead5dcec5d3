#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes api/openapi.json from the contract: the .proto files, the routes, the methods' roles and the reasons.

generate_openapi.py           writes it
generate_openapi.py --check   exits 1 when the file that is there differs

The JSON of a message is what common/message_json.h says. Messages that are sent to the server have a second schema,
<Name>Input: nothing in it is required and nothing else is allowed, while every scalar and list of an answer is there.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "api" / "openapi.json"
PROTOS = ["holdfast/v1/types.proto", "holdfast/v1/holdfast.proto"]
SERVICE = "Holdfast"
PACKAGE = ".holdfast.v1."
SUCCESS_TEXTS = {200: "Done.", 201: "Created.", 204: "Done; there is nothing to say."}

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    Field.TYPE_INT64: {"type": "integer", "format": "int64"},
    Field.TYPE_UINT64: {"type": "integer", "format": "uint64", "minimum": 0},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64url"},
}
WELL_KNOWN = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["90s"]},
    ".google.protobuf.FieldMask": {"type": "string"},
}


COLUMN = re.compile(r'\s*(?:(")((?:[^"\\]|\\.)*)"|([^,"]+))\s*(?:,|$)')  # a text in quotes, or a word


class Contract:
    """Messages, enums and methods by name, with their comments."""

    def __init__(self, descriptor_set):
        self.messages, self.enums, self.methods, self.comments = {}, {}, {}, {}
        for file in descriptor_set.file:
            if not file.package.startswith("holdfast"):
                continue
            comments = {tuple(location.path): clean(location.leading_comments)
                        for location in file.source_code_info.location}
            for i, message in enumerate(file.message_type):
                self.messages[f".{file.package}.{message.name}"] = message
                self.comments[message.name] = comments.get((4, i), "")
                for k, field in enumerate(message.field):
                    self.comments[f"{message.name}.{field.name}"] = comments.get((4, i, 2, k), "")
            for i, enum in enumerate(file.enum_type):
                self.enums[f".{file.package}.{enum.name}"] = enum
                self.comments[enum.name] = comments.get((5, i), "")
                for k, value in enumerate(enum.value):
                    self.comments[f"{enum.name}.{value.name}"] = comments.get((5, i, 2, k), "")
            for i, service in enumerate(file.service):
                if service.name != SERVICE:
                    continue
                for k, method in enumerate(service.method):
                    self.methods[method.name] = method
                    self.comments[f"rpc {method.name}"] = comments.get((6, i, 2, k), "")


def clean(comment):
    return " ".join(line.strip() for line in comment.strip().splitlines())


def read_contract():
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "api.bin"
        subprocess.run(["protoc", "--include_imports", "--include_source_info", f"--descriptor_set_out={path}",
                        f"-I{ROOT / 'api'}", *PROTOS], check=True)
        return Contract(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()))


def read_table(path, macro):
    """The rows of an X-macro file: lists of texts and words."""
    lines = (ROOT / path).read_text().splitlines()
    text = " ".join(line for line in lines if not line.startswith("//"))  # a row may go over several lines
    rows = [[quoted_text if quoted else word.strip() for quoted, quoted_text, word in COLUMN.findall(row)]
            for row in re.findall(rf'{macro}\(((?:[^()"]|"(?:[^"\\]|\\.)*")*)\)', text)]
    if not rows:
        raise SystemExit(f"{path} has no {macro}(...) rows")
    return rows


def snake_upper(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def enum_words(enum):
    prefix = snake_upper(enum.name) + "_"
    return [(value.name[len(prefix):].lower(), value.name) for value in enum.value if value.number != 0]


class Schemas:
    """The component schemas that something refers to, made when they are first asked for."""

    def __init__(self, contract):
        self.contract = contract
        self.made = {}

    def message(self, type_name, is_input):
        message = self.contract.messages[type_name]
        name = message.name + ("Input" if is_input and not message.name.endswith("Request") else "")
        if name not in self.made:
            self.made[name] = None  # a message may hold itself
            self.made[name] = self.object(message, is_input, set())
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message, is_input, left_out):
        properties, required = {}, []
        for field in message.field:
            if field.name in left_out:
                continue
            properties[field.name] = self.field(message, field, is_input)
            is_list = field.label == Field.LABEL_REPEATED
            is_optional = field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM) or field.HasField("oneof_index")
            if is_list or not is_optional:
                required.append(field.name)
        schema = {"type": "object"}
        if self.contract.comments[message.name]:
            schema["description"] = self.contract.comments[message.name]
        schema["properties"] = properties
        if is_input:
            schema["additionalProperties"] = False
        elif required:
            schema["required"] = required
        return schema

    def field(self, message, field, is_input):
        schema = self.type(field, is_input)
        if field.label == Field.LABEL_REPEATED:
            schema = {"type": "array", "items": schema}
        comment = self.contract.comments[f"{message.name}.{field.name}"]
        if comment:
            schema = {**schema, "description": comment}
        return schema

    def type(self, field, is_input):
        if field.type == Field.TYPE_ENUM:
            return self.enum(field.type_name)
        if field.type == Field.TYPE_MESSAGE:
            if field.type_name in WELL_KNOWN:
                return dict(WELL_KNOWN[field.type_name])
            return self.message(field.type_name, is_input)
        return dict(SCALARS[field.type])

    def enum(self, type_name):
        enum = self.contract.enums[type_name]
        if enum.name not in self.made:
            words = enum_words(enum)
            lines = [self.contract.comments[enum.name]]
            lines += [f"- `{word}`: {self.contract.comments[f'{enum.name}.{name}']}"
                      for word, name in words if self.contract.comments[f"{enum.name}.{name}"]]
            text = "\n".join(line for line in lines if line)
            self.made[enum.name] = {"type": "string", "enum": [word for word, _ in words]}
            if text:
                self.made[enum.name]["description"] = text
        return {"$ref": f"#/components/schemas/{enum.name}"}


class Operation:
    """One route as an OpenAPI operation."""

    def __init__(self, contract, schemas, route, roles):
        self.contract, self.schemas = contract, schemas
        self.verb, self.path, self.rpc, status, self.body = route
        self.status = int(status)
        self.method = contract.methods[self.rpc]
        self.request = contract.messages[self.method.input_type]
        self.response = contract.messages[self.method.output_type]
        self.role, self.is_mutation = roles.get(self.rpc, ("VIEWER", False))
        self.path_fields = re.findall(r"{([a-z_.]+)}", self.path)

    def plain_path(self):
        """{database.name} is {database} to clients; {shard.database} too: the last path segment before it says what."""
        segments = self.path.split("/")
        for i, segment in enumerate(segments):
            if segment.startswith("{"):
                segments[i] = "{" + singular(segments[i - 1]) + "}"
        return "/".join(segments)

    def parameters(self):
        names = re.findall(r"{([a-z_]+)}", self.plain_path())
        parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        if self.verb in ("GET", "DELETE"):
            for field in self.request.field:
                if field.name in self.path_fields:
                    continue
                schema = self.schemas.type(field, True)
                parameter = {"name": field.name, "in": "query", "schema": schema}
                comment = self.contract.comments[f"{self.request.name}.{field.name}"]
                if comment:
                    parameter["description"] = comment
                parameters.append(parameter)
        if self.method.server_streaming:
            parameters.append({"$ref": "#/components/parameters/LastEventId"})
        if self.verb == "POST" and self.is_mutation:
            parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
        if self.verb in ("PATCH", "DELETE") and self.has_etag():
            parameters.append({"$ref": "#/components/parameters/IfMatch"})
        return parameters

    def has_etag(self):
        resource = self.contract.messages.get(PACKAGE + re.sub("^(Update|Delete)", "", self.rpc))
        return resource is not None and any(field.name == "etag" for field in resource.field)

    def request_body(self):
        if not self.body:
            return None
        if self.body == "*":
            left_out = {name.split(".")[0] for name in self.path_fields}
            name = self.request.name
            self.schemas.made[name] = self.schemas.object(self.request, True, left_out)
            schema = {"$ref": f"#/components/schemas/{name}"}
        else:
            field = next(field for field in self.request.field if field.name == self.body)
            schema = self.schemas.message(field.type_name, True)
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    def success(self):
        headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if any(field.name == "etag" for field in self.response.field):
            headers["ETag"] = {"$ref": "#/components/headers/ETag"}
        response = {"description": SUCCESS_TEXTS[self.status], "headers": headers}
        schema = self.schemas.message(self.method.output_type, False) if self.status != 204 else None
        if self.method.server_streaming:
            response["description"] = ("Server-sent events for as long as the client stays: `id` is the event's id, "
                                       f"`data` is the JSON of {self.response.name}. Comment lines keep the "
                                       "connection alive.")
            response["content"] = {"text/event-stream": {"schema": {"type": "string"}, "x-data-schema": schema}}
        elif schema is not None:
            response["content"] = {"application/json": {"schema": schema}}
        return response

    def problems(self):
        codes = [400, 401, 403]
        if self.path_fields:
            codes.append(404)
        if self.verb != "GET":
            codes.append(409)
        if self.verb in ("PATCH", "DELETE") and self.has_etag():
            codes.append(412)
        if self.body:
            codes.append(413)
        return {**{str(code): {"$ref": "#/components/responses/Problem"} for code in codes},
                "default": {"$ref": "#/components/responses/Problem"}}

    def document(self):
        comment = self.contract.comments[f"rpc {self.rpc}"]
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.rpc)
        operation = {"operationId": self.rpc, "summary": words[0] + words[1:].lower()}
        if comment:
            operation["description"] = comment
        operation["tags"] = [self.path.split("/")[2]]
        operation["x-required-role"] = self.role.lower()
        parameters = self.parameters()
        if parameters:
            operation["parameters"] = parameters
        body = self.request_body()
        if body:
            operation["requestBody"] = body
        operation["responses"] = {str(self.status): self.success(), **self.problems()}
        return operation


def singular(word):
    return word[:-3] + "y" if word.endswith("ies") else word[:-1]


def plain_operation(operation_id, summary, content_type, codes):
    responses = {code: {"description": text, "content": {content_type: {"schema": {"type": "string"}}}}
                 for code, text in codes.items()}
    return {"get": {"operationId": operation_id, "summary": summary, "tags": ["server"], "security": [],
                    "responses": responses}}


def add_plain_paths(paths):
    paths["/healthz"] = plain_operation("Healthz", "The process lives", "text/plain", {"200": "It does."})
    paths["/readyz"] = plain_operation("Readyz", "The server can work: its database answers", "text/plain",
                                       {"200": "Ready.", "503": "Not ready, and why."})
    paths["/metrics"] = plain_operation("Metrics", "Metrics in Prometheus' text format", "text/plain",
                                        {"200": "Metrics."})


def problem_schema(reasons):
    return {
        "type": "object",
        "description": "RFC 9457: why a request failed.",
        "properties": {
            "type": {"type": "string", "description": "Stable; never changes its meaning.",
                     "enum": [f"urn:holdfast:problem:{slug}" for _, slug, _, _ in reasons if slug != "ok"]},
            "title": {"type": "string", "description": "The same for every problem of the type."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What happened, for a person."},
            "hint": {"type": "string", "description": "What to do about it."},
            "field": {"type": "string", "description": "The request's field at fault, as a path."},
            "request_id": {"type": "string", "description": "As in the X-Request-Id header and the server's log."},
        },
        "required": ["type", "title", "status", "detail", "request_id"],
    }


def components(schemas, reasons):
    return {
        "schemas": {**dict(sorted(schemas.made.items())), "Problem": problem_schema(reasons)},
        "responses": {"Problem": {
            "description": "It failed; nothing was changed.",
            "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}},
        "parameters": {
            "IdempotencyKey": {"name": "Idempotency-Key", "in": "header",
                               "schema": {"type": "string", "maxLength": 255},
                               "description": "Makes it safe to send the request again: the same key gives the first "
                                              "answer; with another body it is an error. Kept for at least 24 hours."},
            "IfMatch": {"name": "If-Match", "in": "header", "schema": {"type": "string"},
                        "description": "The ETag that was read: the change is refused when it is no longer that."},
            "LastEventId": {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "format": "int64"},
                            "description": "Goes on after this event; browsers send it when they connect again."}},
        "headers": {
            "RequestId": {"schema": {"type": "string"}, "description": "Names the request in the server's log."},
            "ETag": {"schema": {"type": "string"}, "description": "The version of the resource, for If-Match."}},
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    }


def make_document():
    contract = read_contract()
    schemas = Schemas(contract)
    reasons = read_table("common/reasons.def", "REASON")
    roles = {row[0]: (row[4], row[5] == "true") for row in read_table("server/service/methods.def", "METHOD")}
    paths = {}
    seen = set()
    for route in read_table("server/http/routes.def", "ROUTE"):
        operation = Operation(contract, schemas, route, roles)
        document = operation.document()
        if operation.rpc in seen:  # an RPC may have several paths; operation ids are unique
            document["operationId"] += "".join(word.capitalize() for word in operation.plain_path().split("/")[2:]
                                               if not word.startswith("{"))
        seen.add(operation.rpc)
        paths.setdefault(operation.plain_path(), {})[operation.verb.lower()] = document
    missing = sorted(set(contract.methods) - seen)
    if missing:
        raise SystemExit(f"RPCs without a route: {', '.join(missing)}")
    add_plain_paths(paths)
    version = re.search(r"project\(holdfast VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "Backups of sharded databases. Generated from api/holdfast/v1 and "
                                "server/http/routes.def."},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": components(schemas, reasons),
    }


def main():
    parser = argparse.ArgumentParser(description="Generates api/openapi.json.")
    parser.add_argument("--check", action="store_true", help="exit 1 when the file differs instead of writing it")
    is_check = parser.parse_args().check
    text = json.dumps(make_document(), indent=2, ensure_ascii=False) + "\n"
    if not is_check:
        OUTPUT.write_text(text)
        return 0
    if not OUTPUT.exists() or OUTPUT.read_text() != text:
        print("api/openapi.json is not what the contract says: run api/generate_openapi.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
