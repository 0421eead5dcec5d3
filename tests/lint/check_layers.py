#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: the direction of our own includes, and foreign headers that live in one place only."""

import fnmatch
import re
import sys

import lint_tree

# A file belongs to the longest folder that holds it. "anything": tests and the programs' composition.
MAY_INCLUDE = {
    "api": [],
    "common": [],
    "common/rpc": ["common", "api"],
    "storage": ["common"],
    "repository": ["storage", "common"],
    "provisioner": ["common"],
    "recorder": ["common"],
    "recorder/preload": ["recorder"],
    "agent/engine": ["recorder", "common"],
    "agent": ["agent/engine", "recorder", "repository", "storage", "common", "common/rpc", "api"],
    "server/store": ["common", "api"],
    "server/service": ["server/store", "repository", "storage", "provisioner", "api", "common"],
    "server/worker": ["server/service", "server/store", "provisioner", "api", "common"],
    "web": [],
    "server/http": ["server/service", "web", "api", "common"],
    "server/rpc": ["server/service", "api", "common", "common/rpc"],
    "server": ["server/http", "server/rpc", "server/service", "server/store", "server/worker", "provisioner",
               "repository", "storage", "api", "common", "common/rpc"],
    "cli": ["repository", "storage", "api", "common"],
    "tests": "anything",
}

# Header pattern: (where it may be included, why). Tests may include all of them.
QUARANTINED = {
    "microhttpd.h": (["server/http/*"], "foreign callbacks and threads stay in one folder"),
    "grpc/*": (["common/rpc/*"], "gRPC core's API may break between releases"),
    "libpq-fe.h": (["server/store/*", "agent/engine/engine_postgres*"], "one thread at a time per connection"),
    "mysql.h": (["agent/engine/engine_mysql*", "agent/engine/engine_mariadb*"], "only those engines speak it"),
    "mysql/*": (["agent/engine/engine_mysql*", "agent/engine/engine_mariadb*"], "only those engines speak it"),
    "mariadb/*": (["agent/engine/engine_mysql*", "agent/engine/engine_mariadb*"], "only those engines speak it"),
    "curl/*": (["common/http_client.c"], "timeouts, TLS and redaction in one place"),
    "cjson/*": (["common/json.c"], "limits are enforced once"),
    "cJSON.h": (["common/json.c"], "limits are enforced once"),
    "expat.h": (["common/xml.c"], "limits are enforced once"),
    "storage/storage_driver.h": (["storage/*"], "callers use storage/storage.h"),
    "storage/storage_http.h": (["storage/*"], "callers use storage/storage.h"),
    "storage/storage_limiter.h": (["storage/*"], "inside of the transport"),
    "storage/storage_tasks.h": (["storage/*"], "callers use storage/storage.h"),
    "common/aws_credential_source.h": (["common/aws_credential*"], "inside of the credentials"),
    "provisioner/compute_driver.h": (["provisioner/*"], "callers use provisioner/provisioner.h"),
    "agent/engine/engine_driver.h": (["agent/engine/*"], "callers use agent/engine/engine.h"),
    "common/json_scan.h": (["common/json*.c"], "inside of the JSON module"),
    "common/message_field.h": (["common/message_*"], "inside of the message mapper"),
    "common/options_text.h": (["common/options*"], "inside of the options module"),
    "common/process_spawn.h": (["common/process*"], "inside of the process module"),
    "*_internal.h": (["{folder}/*"], "inside of its own folder"),
}

INCLUDE = re.compile(r"^\s*#\s*include\s*([<\"])([^>\"]+)[>\"]")
GENERATED = re.compile(r"^(holdfast/v1|google/protobuf|grpc/health|grpc/reflection)/.*\.pb-c\.h$|\.pb-c\.h$")


def folder_of(name):
    """The folder of the table that a path belongs to, or None."""
    holders = [folder for folder in MAY_INCLUDE if name.startswith(folder + "/")]
    return max(holders, key=len, default=None)


def check_own(name, line, header):
    folder = folder_of(name)
    allowed = MAY_INCLUDE.get(folder, [])
    if re.match(r"(holdfast/v1|google/protobuf)/.*\.pb-c\.h$", header):
        target = "api"
    elif GENERATED.search(header):
        return None  # a generated header of the folder's own
    elif "/" not in header:
        return lint_tree.Finding(name, line, f"'{header}' is included without its folder: "
                                             "write the path from the root of the tree")
    else:
        target = folder_of(header)
    if target is None:
        return lint_tree.Finding(name, line, f"'{header}' is in no folder that check_layers.py knows: "
                                             "include foreign headers with <>, or add the folder to MAY_INCLUDE")
    if allowed == "anything" or target == folder or target in allowed:
        return None
    can = ", ".join(allowed) if allowed else "nothing of ours"
    return lint_tree.Finding(name, line, f"{folder} may not include {target} ('{header}'); it may include {can}: "
                                         "move the code, or ask for what it needs through a parameter")


def check_quarantine(name, line, header):
    if name.startswith("tests/"):
        return None
    for pattern, (places, why) in QUARANTINED.items():
        if not fnmatch.fnmatch(header, pattern):
            continue
        header_folder = header.rsplit("/", 1)[0]
        places = [place.replace("{folder}", header_folder) for place in places]
        if not any(fnmatch.fnmatch(name, place) for place in places):
            return lint_tree.Finding(name, line, f"'{header}' may only be included by {', '.join(places)} ({why}): "
                                                 "use the header made for callers")
    return None


def check(root):
    findings = []
    for name in lint_tree.tree_files(root):
        if not name.endswith((".c", ".h")) or folder_of(name) is None:
            continue
        text = lint_tree.read_text(root, name)
        if text is None:
            findings.append(lint_tree.Finding(name, 1, "not UTF-8: save it as UTF-8"))
            continue
        for number, line in enumerate(lint_tree.c_code_only(text).split("\n"), 1):
            match = INCLUDE.match(line)
            if match is None:
                continue
            finding = check_quarantine(name, number, match.group(2))
            if finding is None and match.group(1) == '"':
                finding = check_own(name, number, match.group(2))
            if finding is not None:
                findings.append(finding)
    return findings


def one(name, include):
    return {name: f"// a comment\n#include {include}\n"}


PLANTED = [
    (one("common/error.c", '"storage/storage.h"'), "common/error.c:2: common may not include storage"),
    (one("common/json.c", '"common/rpc/rpc_client.h"'), "common may not include common/rpc"),
    (one("storage/storage.c", '"holdfast/v1/types.pb-c.h"'), "storage may not include api"),
    (one("server/http/http_server.c", '"server/store/store.h"'), "server/http may not include server/store"),
    (one("server/store/store.c", '"server/service/service.h"'), "server/store may not include server/service"),
    (one("agent/engine/engine.c", '"agent/job.h"'), "agent/engine may not include agent"),
    (one("agent/job.c", '"server/store/store.h"'), "agent may not include server/store"),
    (one("cli/main.c", '"provisioner/provisioner.h"'), "cli may not include provisioner"),
    (one("storage/storage.c", '"storage.h"'), "without its folder"),
    (one("storage/storage.c", '"strange/thing.h"'), "in no folder"),
    (one("server/service/service.c", "<libpq-fe.h>"), "'libpq-fe.h' may only be included by"),
    (one("agent/engine/engine_postgres.c", "<mysql.h>"), "'mysql.h' may only be included by"),
    (one("server/rpc/rpc_face.c", "<grpc/grpc.h>"), "'grpc/grpc.h' may only be included by"),
    (one("server/http/http_server.c", "<curl/curl.h>"), "'curl/curl.h' may only be included by"),
    (one("common/log.c", "<cjson/cJSON.h>"), "'cjson/cJSON.h' may only be included by"),
    (one("agent/main.c", "<microhttpd.h>"), "'microhttpd.h' may only be included by"),
    (one("repository/pack.c", '"storage/storage_driver.h"'), "callers use storage/storage.h"),
    (one("server/worker/worker.c", '"server/store/store_internal.h"'), "inside of its own folder"),
]
CLEAN = {
    "agent/engine/engine_postgres.c": "#include <libpq-fe.h>\n#include \"common/error.h\"\n",
    "agent/main.c": "#include \"agent/engine/engine.h\"\n#include \"common/rpc/rpc_client.h\"\n",
    "server/main.c": "#include \"server/store/store.h\"\n",
    "server/store/store.c": "#include \"server/store/store_internal.h\"\n#include \"holdfast/v1/types.pb-c.h\"\n",
    "tests/unit/storage/test_storage.c": "#include \"storage/storage_driver.h\"\n#include <libpq-fe.h>\n",
    "common/error.c": "// #include \"storage/storage.h\"\n/*\n#include <grpc/grpc.h>\n*/\n",
}

if __name__ == "__main__":
    sys.exit(lint_tree.main(__doc__, check, PLANTED, CLEAN))
