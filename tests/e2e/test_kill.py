# SPDX-License-Identifier: Apache-2.0
"""Red: a crash loses a backup, leaves something behind, or skips or doubles a slot.

kill -9 of the server, an agent or an engine, in every phase and at random moments. Afterwards every committed backup
restores to exactly its checkpoint, and no process, directory, slot or temporary object is left.
"""

import os
import random
import signal
import time

import pytest
import requests
from holdfast_harness import ApiError, processes_below

PHASES = ["launch", "restore", "start", "replay", "ready", "checkpoint", "stop", "publish", "commit", "destroy"]
ENGINE_PROGRAMS = ("mariadbd", "mysqld", "postgres")


def agents_and_engines(holdfast):
    """Pids of agents, and of engines (the topmost process of each)."""
    agents, engines = [], []
    for pid, command in processes_below(holdfast.server.instances).items():
        program = os.path.basename(command.split(" ")[0])
        if program == "holdfast-agent":
            agents.append(pid)
        elif any(name in command for name in ENGINE_PROGRAMS):
            engines.append(pid)
    return agents, engines


def kill(holdfast, victim):
    """Ends one of them without warning; a killed server is started again. False when there is none just now."""
    agents, engines = agents_and_engines(holdfast)
    if victim == "server":
        holdfast.server.kill()
        holdfast.server.start()
        return True
    pids = agents if victim == "agent" else engines
    if not pids:
        return False
    try:
        os.kill(random.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def phase_of(holdfast, backup):
    try:
        return [shard["phase"] for shard in holdfast.shards_of(backup) if "phase" in shard]
    except (ApiError, requests.RequestException):
        return []


def finish(holdfast, backup):
    return holdfast.wait(f"/v1/backups/{backup}", lambda value: value["state"] not in ("pending", "running"), 240)


@pytest.mark.parametrize(
    "engine, victim",
    [("mariadb", "server"), ("postgresql", "agent"), ("mariadb", "engine"), ("postgresql", "engine")],
)
def test_killed_in_each_phase(holdfast, engine, victim):
    source = holdfast.source(engine)
    holdfast.create_database("shop", engine, [source])
    holdfast.backup("shop")
    reached = set()
    for phase in PHASES:
        backup = holdfast.start_backup("shop")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            phases = phase_of(holdfast, backup)
            if phase in phases:
                if kill(holdfast, victim):
                    reached.add(phase)
                break
            if holdfast.get(f"/v1/backups/{backup}")["state"] not in ("pending", "running"):
                break  # too quick to be caught there; the random test passes here too
            time.sleep(0.02)
        done = finish(holdfast, backup)
        assert done["state"] == "succeeded", holdfast.explain(done)
    assert {"restore", "replay", "publish"} & reached or victim == "engine", reached
    assert reached, "no phase was caught"
    last = holdfast.backup("shop")
    holdfast.verify_backup(last["id"], [source])
    holdfast.wait_clean()
    assert_no_unexplained_object(holdfast)


def test_twenty_random_kills(holdfast):
    seed = int(os.environ.get("HOLDFAST_TEST_SEED") or random.randrange(1 << 30))
    print(f"HOLDFAST_TEST_SEED={seed}")
    chance = random.Random(seed)
    sources = {engine: [holdfast.source(engine), holdfast.source(engine)] for engine in ("mariadb", "postgresql")}
    for engine, pair in sources.items():
        holdfast.create_database(engine, engine, pair)
        holdfast.backup(engine)  # on a busy machine none may come through between the kills
        holdfast.post(
            f"/v1/databases/{engine}/policies",
            {"name": "minutely", "schedule": "* * * * *", "repository": "main", "retention": {"keep_last": 50}},
        )
    started = time.time()
    kills = 0
    running = {}
    while kills < 20:
        assert time.time() - started < 420, f"only {kills} kills"
        for engine in sources:
            if engine in running:
                state = holdfast.get(f"/v1/backups/{running[engine]}")["state"]
                if state in ("pending", "running"):
                    continue
            try:
                running[engine] = holdfast.start_backup(engine)
            except ApiError as error:
                assert error.reason == "backup-running", error  # the policy was first
                running[engine] = holdfast.get(f"/v1/databases/{engine}")["running_backup_id"] or running.get(engine)
        time.sleep(chance.uniform(0.1, 3.0))
        kills += kill(holdfast, chance.choice(["server", "agent", "agent", "engine"]))
    for engine in sources:
        holdfast.post(f"/v1/databases/{engine}/policies/minutely/pause")
    for engine in sources:
        holdfast.wait(f"/v1/databases/{engine}", lambda value: not value.get("running_backup_id"), 240)
    for engine, pair in sources.items():
        succeeded = [
            backup
            for backup in holdfast.get(f"/v1/backups?database={engine}&page_size=1000")["backups"]
            if backup["state"] == "succeeded"
        ]
        assert succeeded, engine
        for backup in succeeded[:3] + succeeded[-1:]:
            holdfast.verify_backup(backup["id"], pair)
        assert_slots_fired_once(holdfast, engine, started)
    holdfast.wait_clean()
    assert_no_unexplained_object(holdfast)


def assert_slots_fired_once(holdfast, database, started):
    """Every minute has fired, collapsed into a later one, or was refused because a backup ran; none twice."""
    backups = [
        backup
        for backup in holdfast.get(f"/v1/backups?database={database}&page_size=1000")["backups"]
        if backup["trigger"] == "policy"
    ]
    slots = [backup["slot_at"] for backup in backups]
    assert len(slots) == len(set(slots)), slots
    said = holdfast.get(f"/v1/events?database={database}&page_size=1000")["events"]
    recorded = [event for event in said if event["kind"].startswith("policy.")]
    minutes = int((time.time() - started) // 60)
    accounted = len(slots) + sum(1 for event in recorded if event["kind"] in ("policy.refused", "policy.collapsed"))
    assert accounted >= minutes - 1, (minutes, slots, recorded)


def assert_no_unexplained_object(holdfast):
    """After the sweep the repository holds what the sets reach and nothing else."""
    from holdfast_harness import cli

    deadline = time.monotonic() + 90
    while True:
        result = cli(
            holdfast,
            "repository",
            "check",
            "--repository",
            f"file://{holdfast.repository}",
            "--key-file",
            holdfast.key_file,
            "--output",
            "json",
        )
        assert result.returncode == 0, result.stdout + result.stderr
        import json

        report = json.loads(result.stdout)
        assert report["problem_count"] == 0, report
        if report["orphans"] == 0 or time.monotonic() > deadline:
            assert report["orphans"] == 0, report
            return
        time.sleep(1)
