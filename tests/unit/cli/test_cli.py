# SPDX-License-Identifier: Apache-2.0
"""The command line client as people and scripts meet it.

When this goes red, a command sends the wrong thing, hides a problem, or ends with the wrong exit code.
"""

import json
import os
import pty
import re
import select
import socket
import subprocess
import time

import pytest
from fake_server import FakeServer, problem

PROGRAM = os.environ["HOLDFAST_PROGRAM"]
SOURCE = os.environ["HOLDFAST_SOURCE"]


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.close()


def run(server, *arguments, stdin="", environment=None, timeout=30):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
    clean.update({"TZ": "UTC", "LC_ALL": "C.UTF-8"})
    if server is not None:
        clean["HOLDFAST_SERVER"] = server.url
    clean.update(environment or {})
    return subprocess.run(
        [PROGRAM, *arguments], env=clean, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )


# --- what is sent ---------------------------------------------------------------------------------

REQUESTS = [
    (
        ["database", "create", "shop", "--engine", "mariadb", "--rpo", "1h"],
        "POST",
        "/v1/databases",
        "",
        {"database": {"name": "shop", "engine": "mariadb", "recovery_point_objective": "3600s"}},
    ),
    (
        ["database", "create", "shop", "--engine=mysql", "--validate-only"],
        "POST",
        "/v1/databases",
        "",
        {"database": {"name": "shop", "engine": "mysql"}, "validate_only": True},
    ),
    (["database", "show", "shop"], "GET", "/v1/databases/shop", "", None),
    (
        ["database", "update", "shop", "--rpo", "250ms", "--if-match", "abc"],
        "PATCH",
        "/v1/databases/shop",
        "",
        {"recovery_point_objective": "0.250s"},
    ),
    (["database", "delete", "shop", "--force"], "DELETE", "/v1/databases/shop", "force=true", None),
    (
        ["shard", "create", "shop", "0", "--host", "db", "--port", "3306", "--credential", "c"],
        "POST",
        "/v1/databases/shop/shards",
        "",
        {"name": "0", "source": {"host": "db", "port": 3306, "credential": "c"}},
    ),
    (
        ["shard", "create", "shop", "--host", "db", "--port", "3306", "--credential", "c", "--zone", "a", "--", "-80"],
        "POST",
        "/v1/databases/shop/shards",
        "",
        {"name": "-80", "source": {"host": "db", "port": 3306, "credential": "c"}, "placement": {"zone": "a"}},
    ),
    (["shard", "show", "shop", "-80"], "GET", "/v1/databases/shop/shards/-80", "", None),
    (
        ["shard", "update", "shop", "80-", "--port", "5"],
        "PATCH",
        "/v1/databases/shop/shards/80-",
        "",
        {"source": {"port": 5}},
    ),
    (["shard", "delete", "shop", "a/b c"], "DELETE", "/v1/databases/shop/shards/a%2Fb%20c", "", None),
    (
        ["credential", "create", "c", "--username", "u", "--password-file", "-"],
        "POST",
        "/v1/credentials",
        "",
        {"name": "c", "username": "u", "password": "pa ss"},
    ),
    (["credential", "show", "c"], "GET", "/v1/credentials/c", "", None),
    (
        ["repository", "create", "r", "--location", "file:///b", "--key-file", "/k", "--create-key-file"],
        "POST",
        "/v1/repositories",
        "",
        {"repository": {"name": "r", "location": "file:///b", "key_file": "/k"}, "create_key_file": True},
    ),
    (
        ["repository", "rotate-key", "r", "--new-key-file", "/n", "--create-key-file"],
        "POST",
        "/v1/repositories/r/rotate-key",
        "",
        {"key_file": "/n", "create_key_file": True},
    ),
    (
        ["database", "rotate-data-key", "shop", "--repository", "r"],
        "POST",
        "/v1/databases/shop/rotate-data-key",
        "",
        {"repository": "r"},
    ),
    (
        ["database", "destroy-data-keys", "shop", "--repository", "r", "--confirm", "shop"],
        "POST",
        "/v1/databases/shop/destroy-data-keys",
        "",
        {"repository": "r", "confirm": "shop"},
    ),
    (
        [
            "policy",
            "create",
            "shop",
            "p",
            "--schedule",
            "*/5 * * * *",
            "--repository",
            "r",
            "--keep-last",
            "7",
            "--keep-for",
            "7d",
            "--time-zone",
            "Europe/Berlin",
        ],
        "POST",
        "/v1/databases/shop/policies",
        "",
        {
            "name": "p",
            "schedule": "*/5 * * * *",
            "repository": "r",
            "time_zone": "Europe/Berlin",
            "retention": {"keep_last": 7, "keep_for": "604800s"},
        },
    ),
    (["policy", "pause", "shop", "p"], "POST", "/v1/databases/shop/policies/p/pause", "", None),
    (["policy", "resume", "shop", "p"], "POST", "/v1/databases/shop/policies/p/resume", "", None),
    (
        ["policy", "preview", "--schedule", "@daily", "--count", "3"],
        "POST",
        "/v1/schedules/preview",
        "",
        {"schedule": "@daily", "count": 3},
    ),
    (
        ["backup", "start", "shop", "--seed", "--note", "why"],
        "POST",
        "/v1/databases/shop/backups",
        "",
        {"seed": True, "note": "why"},
    ),
    (["backup", "cancel", "b1"], "POST", "/v1/backups/b1/cancel", "", None),
    (["backup", "delete", "b1"], "DELETE", "/v1/backups/b1", "", None),
    (
        ["restore", "create", "--database", "shop", "--first-port", "5000", "--shard", "-80", "--shard", "80-"],
        "POST",
        "/v1/restores",
        "",
        {"database": "shop", "first_port": 5000, "shards": ["-80", "80-"], "mode": "server"},
    ),
    (
        ["restore", "create", "--backup", "b1", "--directory", "/r"],
        "POST",
        "/v1/restores",
        "",
        {"backup": "b1", "directory": "/r", "mode": "directory"},
    ),
    (["restore", "stop", "r1"], "POST", "/v1/restores/r1/stop", "", None),
    (["instance", "show", "i1"], "GET", "/v1/instances/i1", "", None),
    (["database", "probe", "shop"], "POST", "/v1/databases/shop/probe", "", None),
]


@pytest.mark.parametrize(
    "arguments, method, path, query, body",
    REQUESTS,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_sends(server, arguments, method, path, query, body):
    server.on(method, path, {"id": "x", "results": [], "runs": []})
    result = run(server, *arguments, stdin="pa ss\n")
    assert result.returncode == 0, result.stderr
    request = server.last()
    assert (request["method"], request["path"], request["query"], request["body"]) == (method, path, query, body)
    assert ("Idempotency-Key" in request["headers"]) == (method == "POST")
    assert "Authorization" not in request["headers"]
    if "--if-match" in arguments:
        assert request["headers"]["If-Match"] == "abc"


def test_every_request_carries_the_token(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    server.on("GET", "/v1/databases/shop", {})
    for arguments, environment in (
        [["--token-file", str(token)], {}],
        [[], {"HOLDFAST_TOKEN_FILE": str(token)}],
        [[], {"HOLDFAST_TOKEN": "secret-token"}],
    ):
        assert run(server, *arguments, "database", "show", "shop", environment=environment).returncode == 0
        assert server.last()["headers"]["Authorization"] == "Bearer secret-token"


def test_a_token_on_the_command_line_is_refused(server):
    for arguments in (["--token", "abc"], ["--token=abc"]):
        result = run(server, "database", "list", *arguments)
        assert result.returncode == 2
        assert "--token-file" in result.stderr and "abc" not in result.stderr
    assert server.requests == []


# --- what is refused before anything is sent --------------------------------------------------------

MISTAKES = [
    (["databse", "list"], "database"),
    (["database", "lst"], "list"),
    (["database", "create", "shop", "--engin", "mariadb"], "--engine"),
    (["database", "create", "shop"], "--engine"),
    (["database", "create", "--engine", "mariadb"], "DATABASE"),
    (["database", "create", "shop", "--engine"], "needs a value"),
    (["database", "create", "shop", "--engine", "mariadb", "--rpo", "soon"], "12h"),
    (["database", "create", "shop", "more", "--engine", "mariadb"], "too many"),
    (["database", "create", "shop", "--engine", "mariadb", "--engine", "mysql"], "twice"),
    (["database", "delete", "shop", "--force=yes"], "no value"),
    (["database", "update", "shop"], "nothing to change"),
    (["shard", "create", "shop", "0", "--host", "h", "--port", "many", "--credential", "c"], "whole number"),
    (["restore", "create", "--directory", "/r"], "--database"),
    (["restore", "create", "--database", "shop"], "--first-port"),
    (["policy", "preview"], "--schedule"),
    (["credential", "create", "c", "--username", "u", "--password-file", "/nowhere/at/all"], "/nowhere/at/all"),
    (["completion", "tcsh"], "bash, zsh and fish"),
    (["database", "list", "--output", "yaml"], "json"),
    (["database", "list", "--server", "somewhere"], "http"),
    (["backup", "list", "--limit", "0"], "--limit"),
    (["repository", "check"], "--repository"),
    (["--output", "json", "repository", "check", "--repository", "/r", "--key-file", "/k"], "after the command"),
    (["restore", "--offline", "--repository", "/r"], "--target"),
]


@pytest.mark.parametrize(
    "arguments, words", MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_named_and_sends_nothing(server, arguments, words):
    result = run(server, *arguments)
    assert result.returncode in (2, 3), result.stderr
    assert words in result.stderr
    assert result.stdout == ""
    assert server.requests == []


def test_no_command_is_a_mistake_and_help_is_not(server):
    result = run(server)
    assert result.returncode == 2 and "database create" in result.stderr
    result = run(server, "database")
    assert result.returncode == 2 and "create" in result.stderr
    for arguments in (
        ["--help"],
        ["help"],
        ["database", "--help"],
        ["help", "database"],
        ["database", "create", "-h"],
        ["help", "database", "create"],
        ["help", "events"],
    ):
        result = run(server, *arguments)
        assert result.returncode == 0 and "usage: holdfast" in result.stdout and result.stderr == ""
    assert server.requests == []


# --- answers ----------------------------------------------------------------------------------------


def test_lists_are_tables_for_people_and_whole_answers_for_scripts(server):
    shop = {
        "name": "shop",
        "engine": "mariadb",
        "shard_count": 4,
        "protection": "protected",
        "size_bytes": 3 << 30,
        "proven_recovery_time": "62s",
    }
    server.on(
        "GET",
        "/v1/databases",
        {"databases": [shop], "next_page_token": "p2"},
        {"databases": [{"name": "evil\x1b[31m", "engine": "mysql"}], "next_page_token": ""},
    )
    result = run(server, "database", "list")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "DATABASE",
        "ENGINE",
        "SHARDS",
        "PROTECTION",
        "RESTORABLE",
        "NEXT",
        "RUN",
        "PROVEN",
        "RTO",
        "SIZE",
    ]
    assert lines[1].split() == ["shop", "mariadb", "4", "protected", "-", "-", "1m", "2s", "3.0", "GiB"]
    assert lines[2].startswith("evil?[31m  ") and "\x1b" not in result.stdout
    assert "page_token=p2" in server.last()["query"]
    server.on("GET", "/v1/databases", {"databases": [shop], "next_page_token": ""})
    assert json.loads(run(server, "database", "list", "--output", "json").stdout) == {"databases": [shop]}
    server.on("GET", "/v1/databases", {"databases": []})
    assert run(server, "database", "list").stdout == "none\n"


def test_a_limit_stops_paging_and_says_so(server):
    server.on(
        "GET", "/v1/backups", {"backups": [{"id": str(number)} for number in range(2)], "next_page_token": "more"}
    )
    result = run(server, "backup", "list", "--limit", "2", "--database", "a b", "--output", "json")
    assert len(json.loads(result.stdout)["backups"]) == 2
    assert "--limit" in result.stderr
    assert len(server.requests) == 1
    assert server.last()["query"] == "database=a%20b&page_size=2"


def test_details_show_sizes_times_and_lists(server):
    server.on(
        "GET",
        "/v1/restores/r1",
        {
            "id": "r1",
            "state": "serving",
            "created_at": "2026-01-02T03:04:05Z",
            "message": "",
            "shards": [{"shard": "0", "port": 5000, "restore_time": "1.5s", "total_bytes": 2048}],
        },
    )
    result = run(server, "restore", "show", "r1")
    assert re.search(r"created_at: +2026-01-02 03:04:05 \(", result.stdout)
    assert "restore_time:          1.5s" in result.stdout
    assert "total_bytes:           2.0 KiB" in result.stdout
    assert "message" not in result.stdout


def test_a_list_without_pages_is_asked_for_plainly(server):
    server.on(
        "GET",
        "/v1/databases/shop/policies/p/retention",
        {"verdicts": [{"backup_id": "b1", "is_kept": False, "why": "older than keep_for 7d", "stored_bytes": 1024}]},
    )
    result = run(server, "policy", "retention", "shop", "p")
    assert result.stdout.splitlines()[1].split(None, 5) == ["b1", "-", "no", "1.0", "KiB", "older than keep_for 7d"]
    assert server.last()["query"] == ""


@pytest.mark.parametrize(
    "seconds, text",
    [
        ("0.012s", "12ms"),
        ("9.94s", "9.9s"),
        ("60s", "1m"),
        ("61s", "1m 1s"),
        ("3600s", "1h"),
        ("604800s", "7d"),
        ("90000s", "1d 1h"),
    ],
)
def test_durations_are_short(server, seconds, text):
    server.on("GET", "/v1/backups/b1", {"checkpoint_skew": seconds})
    server.on("GET", "/v1/backups/b1/shards", {"shards": []})
    assert f"checkpoint_skew:       {text}\n" in run(server, "backup", "show", "b1").stdout


PROBLEMS = [
    ("not-found", 404, 3),
    ("already-exists", 409, 4),
    ("invalid-argument", 400, 2),
    ("backup-running", 409, 5),
    ("etag-mismatch", 412, 5),
    ("permission-denied", 403, 6),
    ("unauthenticated", 401, 6),
    ("resource-exhausted", 429, 7),
    ("deadline-exceeded", 504, 8),
    ("internal", 500, 1),
    ("a-newer-one", 409, 5),
]


@pytest.mark.parametrize("slug, status, code", PROBLEMS)
def test_a_problem_becomes_a_message_and_an_exit_code(server, slug, status, code):
    server.on(
        "GET",
        "/v1/databases/shop",
        (status, problem(slug, status, "what happened", hint="do this", field="database.name")),
    )
    result = run(server, "database", "show", "shop")
    assert result.returncode == code
    assert "what happened" in result.stderr and "do this" in result.stderr and "database.name" in result.stderr
    assert result.stdout == ""


def test_an_answer_that_is_not_ours_is_an_error_too(server):
    server.on("GET", "/v1/databases/shop", (200, b"<html>"))
    result = run(server, "database", "show", "shop")
    assert result.returncode == 2 and "Holdfast server" in result.stderr
    server.on("GET", "/v1/databases/shop", (404, b"<html>"))
    assert run(server, "database", "show", "shop").returncode == 3


def test_unavailable_is_tried_again_with_the_same_key(server):
    server.on(
        "POST",
        "/v1/databases/shop/backups",
        (503, problem("unavailable", 503, "starting")),
        (201, {"id": "b1", "database": "shop"}),
    )
    result = run(server, "backup", "start", "shop")
    assert result.returncode == 0, result.stderr
    keys = [request["headers"]["Idempotency-Key"] for request in server.requests]
    assert len(keys) == 2 and keys[0] == keys[1] and len(keys[0]) >= 32


def test_no_server_is_named_soon():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    begun = time.monotonic()
    result = run(None, "--server", address, "database", "list")
    assert result.returncode == 8 and address in result.stderr
    assert time.monotonic() - begun < 10


def test_probe_names_each_problem_with_its_cure(server):
    server.on(
        "POST",
        "/v1/databases/shop/probe",
        {
            "results": [
                {"shard": "-80", "is_ready": True, "version": "10.11", "problems": []},
                {
                    "shard": "80-",
                    "is_ready": False,
                    "problems": [
                        {
                            "reason": "source-privileges",
                            "message": "the user lacks REPLICATION SLAVE",
                            "cure": "GRANT REPLICATION SLAVE",
                        }
                    ],
                },
            ]
        },
    )
    result = run(server, "database", "probe", "shop")
    assert result.returncode == 5
    assert "shard 80-: the user lacks REPLICATION SLAVE" in result.stdout and "cure: GRANT" in result.stdout


# --- waiting ----------------------------------------------------------------------------------------


def backup(state, **more):
    return {"id": "b1", "database": "shop", "state": state, **more}


def shards(*states):
    return {"shards": [{"shard": str(number), **state} for number, state in enumerate(states)], "next_page_token": ""}


def prepare_backup(server, *final):
    server.on("POST", "/v1/databases/shop/backups", (201, backup("pending")))
    server.on("GET", "/v1/backups/b1", backup("running"), backup("running"), *final)
    running = {"state": "running", "phase": "restore", "done_bytes": 512, "total_bytes": 1024, "progress": 0.5}
    replaying = {"state": "running", "phase": "replay", "progress": 0.6}
    done = {"state": "committed", "size_bytes": 2048, "new_bytes": 10, "stored_bytes": 5}
    server.on(
        "GET",
        "/v1/backups/b1/shards",
        shards(running, {"state": "pending"}),
        shards(replaying, running),
        shards(done, done),
    )


def test_wait_prints_a_line_for_every_change(server):
    prepare_backup(
        server, backup("succeeded", size_bytes=4096, new_bytes=20, stored_bytes=10, checkpoint_skew="0.012s")
    )
    result = run(server, "backup", "start", "shop", "--wait")
    assert result.returncode == 0, result.stderr
    lines = [line.split(" ", 1)[1] for line in result.stdout.splitlines()[:-1]]
    assert lines == [
        "backup b1: running",
        "shard 0: restore",
        "shard 1: pending",
        "shard 0: replay",
        "shard 1: restore",
        "backup b1: succeeded",
        "shard 0: committed: 2.0 KiB, new 10 B, stored 5 B",
        "shard 1: committed: 2.0 KiB, new 10 B, stored 5 B",
    ]
    assert result.stdout.splitlines()[-1] == "4.0 KiB, new 20 B, stored 10 B, received 0 B, checkpoint skew 12 ms"


OUTCOMES = [
    ("succeeded", "", 0),
    ("canceled", "", 9),
    ("failed", "disk-full", 7),
    ("failed", "page-corrupt", 10),
    ("failed", "source-unreachable", 8),
    ("failed", "", 1),
]


@pytest.mark.parametrize("state, reason, code", OUTCOMES)
def test_wait_ends_with_the_code_of_the_outcome(server, state, reason, code):
    server.on("GET", "/v1/backups/b1", backup(state, reason=reason, message="what went wrong"))
    server.on("GET", "/v1/backups/b1/shards", shards())
    result = run(server, "backup", "watch", "b1")
    assert result.returncode == code
    assert state != "failed" or "what went wrong" in result.stderr


def test_wait_with_json_keeps_the_output_clean(server):
    prepare_backup(server, backup("succeeded"))
    result = run(server, "backup", "start", "shop", "--wait", "--output", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["state"] == "succeeded"
    assert "shard 0: restore" in result.stderr


def test_a_restore_is_over_when_it_serves(server):
    server.on("POST", "/v1/restores", (201, {"id": "r1", "database": "shop", "state": "pending"}))
    server.on(
        "GET",
        "/v1/restores/r1",
        {"id": "r1", "state": "running", "shards": [{"shard": "0", "state": "running"}]},
        {"id": "r1", "state": "serving", "shards": [{"shard": "0", "state": "serving", "port": 5000}]},
    )
    result = run(server, "restore", "create", "--database", "shop", "--first-port", "5000", "--wait")
    assert result.returncode == 0 and "shard 0: serving: 127.0.0.1:5000" in result.stdout


def test_a_watch_outlives_a_restart_of_the_server(server):
    down = (503, problem("unavailable", 503, "starting"))
    server.on("GET", "/v1/backups/b1", backup("running"), down, down, down, down, down, backup("succeeded"))
    server.on("GET", "/v1/backups/b1/shards", shards({"state": "running", "phase": "seed"}))
    result = run(server, "backup", "watch", "b1")
    assert result.returncode == 0, result.stderr
    assert "cannot be reached" in result.stdout


def test_a_terminal_gets_bars_in_place(server):
    prepare_backup(server, backup("succeeded", size_bytes=4096))
    master, slave = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOLDFAST_SERVER": server.url, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [PROGRAM, "backup", "start", "shop", "--wait"], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        output = b""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and select.select([master], [], [], 1)[0] or process.poll() is None:
            try:
                output += os.read(master, 65536)
            except OSError:
                break
        assert process.wait(timeout=10) == 0
    os.close(master)
    text = output.decode()
    assert "\x1b[3A" in text  # one head and two shards are drawn again
    assert "\u2588" * 12 + "\u2591" * 12 + "  50%  512 B of 1.0 KiB" in text
    assert "\x1b[32mcommitted" in text


# --- events -----------------------------------------------------------------------------------------


def test_events_are_listed_oldest_first_and_followed(server):
    event = {
        "id": 7,
        "time": "2026-01-02T03:04:05Z",
        "severity": "info",
        "kind": "backup.started",
        "database": "shop",
        "message": "seven",
    }
    server.on("GET", "/v1/events", {"events": [event, {**event, "id": 6, "message": "six"}]})
    result = run(server, "events")
    assert result.stdout == (
        "2026-01-02 03:04:05  backup.started  shop  six\n" "2026-01-02 03:04:05  backup.started  shop  seven\n"
    )
    new = {**event, "id": 8, "message": "eight", "shard": "0"}
    lines = f"retry: 2000\n\nid: 7\ndata: {json.dumps(event)}\n\n:\n\nid: 8\ndata: {json.dumps(new)}\n\n".encode()
    server.streams["/v1/events/stream"] = [lines, lines.replace(b"eight", b"nine").replace(b'"id": 8', b'"id": 9')]
    clean = {"PATH": os.environ["PATH"], "HOLDFAST_SERVER": server.url, "TZ": "UTC"}
    with subprocess.Popen(
        [PROGRAM, "events", "--follow", "--database", "shop"], env=clean, stdout=subprocess.PIPE, text=True
    ) as process:
        seen = [process.stdout.readline() for _ in range(4)]
        process.terminate()
    assert [line.rsplit(None, 1)[1] for line in seen] == ["six", "seven", "eight", "nine"]
    assert "shop/0" in seen[2]
    streams = [request["query"] for request in server.requests if request["path"] == "/v1/events/stream"]
    assert streams[:2] == ["database=shop&after_id=7", "database=shop&after_id=8"]


def test_every_program_says_its_version():
    for program in os.environ["HOLDFAST_VERSIONED"].split(":"):
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
        assert result.stdout == f"{os.path.basename(program)} {os.environ['HOLDFAST_VERSION']}\n"


# --- one table --------------------------------------------------------------------------------------


def test_the_reference_is_what_the_program_says(server):
    with open(os.path.join(SOURCE, "docs", "cli.md"), encoding="utf-8") as file:
        assert (
            file.read() == run(server, "help", "--markdown").stdout
        ), "regenerate it: holdfast help --markdown > docs/cli.md"


def test_bash_completes_groups_commands_options_and_words(server, tmp_path):
    script = tmp_path / "completion"
    script.write_text(run(server, "completion", "bash").stdout)

    def complete(*words):
        line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        probe = f'. {script}; {line}; _holdfast; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(
            ["bash", "-c", probe], capture_output=True, text=True, check=True, timeout=10
        ).stdout.split()

    assert "database" in complete("holdfast", "''") and complete("holdfast", "dat") == ["database"]
    assert complete("holdfast", "policy", "re") == ["resume", "retention"]
    assert "--keep-last" in complete("holdfast", "policy", "create", "--")
    assert "--server" in complete("holdfast", "policy", "create", "--")
    assert complete("holdfast", "database", "create", "shop", "--engine", "m") == ["mariadb", "mysql"]
    assert complete("holdfast", "completion", "z") == ["zsh"]


@pytest.mark.parametrize("shell, words", [("zsh", "#compdef holdfast"), ("fish", "complete -c holdfast")])
def test_the_other_shells_have_scripts_too(server, shell, words):
    result = run(server, "completion", shell)
    assert result.returncode == 0 and words in result.stdout and "'keep-last" not in result.stderr
    for line in result.stdout.splitlines():
        assert line.count("'") % 2 == 0, line


def test_a_catalogue_is_imported_in_as_many_calls_as_it_takes(server):
    answer = {"database_count": 1, "shard_count": 2, "backup_count": 200, "skipped_count": 0, "skipped": []}
    last = {**answer, "database_count": 0, "skipped_count": 1, "skipped": ["backup b: it is damaged"]}
    last["is_complete"] = True
    server.on("POST", "/v1/repositories/r/import-catalogue", {**answer, "is_complete": False}, last)
    result = run(server, "repository", "rebuild-catalogue", "r", "--output", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"database_count": 1, "shard_count": 4, "backup_count": 400, "skipped_count": 1}
    assert "backup b: it is damaged" in result.stderr


def test_offline_commands_need_no_server(tmp_path):
    key, location = str(tmp_path / "key"), str(tmp_path / "repository")
    where = ["--repository", location, "--key-file", key]
    assert run(None, "repository", "create-key", "--key-file", key).returncode == 0
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert run(None, "repository", "create-key", "--key-file", key).returncode == 4
    assert run(None, "repository", "init", *where).returncode == 0
    result = run(None, "repository", "check", *where, "--output", "json")
    assert result.returncode == 0 and json.loads(result.stdout)["problem_count"] == 0
    assert run(None, "repository", "list", *where).returncode == 0
    assert run(None, "restore", "--offline", *where, "--target", str(tmp_path / "target")).returncode != 0
    for arguments in (["repository", "check", "--help"], ["restore", "--offline", "--help"]):
        result = run(None, *arguments)
        assert result.returncode == 0 and "--repository" in result.stdout


def test_version_works_with_and_without_a_server(server):
    server.on("GET", "/v1/server", {"version": "9.9.9"})
    result = run(server, "version")
    assert result.returncode == 0 and result.stdout.startswith("holdfast ") and "9.9.9" in result.stdout
    server.answers.clear()
    result = run(server, "version", "--output", "json")
    assert result.returncode == 0 and json.loads(result.stdout)["server"] is None
