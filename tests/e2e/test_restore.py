# SPDX-License-Identifier: Apache-2.0
"""Red: a backup cannot be brought back in every way that is promised, above all without the server."""

import json
import os
import shutil
import signal
import socket

import pytest
from holdfast_harness import ApiError, cli, free_port, free_port_run, ledger, processes_below, servers


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_offline_with_only_the_repository_and_the_key(holdfast, engine):
    sources = [holdfast.source(engine), holdfast.source(engine)]
    holdfast.create_database("shop", engine, sources)
    holdfast.backup("shop")
    backup = holdfast.backup("shop")
    shards = {shard["shard"]: shard for shard in holdfast.shards_of(backup["id"])}
    holdfast.wait_clean()
    holdfast.server.stop()
    shutil.rmtree(holdfast.server.data)
    target = os.path.join(holdfast.home, "offline")
    result = cli_offline(holdfast, "repository", "list")
    assert result.returncode == 0 and "shop" in result.stdout, result.stdout + result.stderr
    result = cli_offline(holdfast, "restore", "--offline", "--database", "shop", "--target", target)
    assert result.returncode == 0, result.stdout + result.stderr
    for number, source in enumerate(sources):
        assert os.path.isdir(os.path.join(target, str(number)))
        holdfast.stop_writers()
        start_by_hand(
            holdfast,
            engine,
            os.path.join(target, str(number)),
            shards[str(number)]["checkpoint"],
            ledger.journal_of(source.directory),
        )


def cli_offline(holdfast, *arguments):
    import subprocess
    from holdfast_harness import HOLDFAST

    return subprocess.run(
        [HOLDFAST, *arguments, "--repository", f"file://{holdfast.repository}", "--key-file", holdfast.key_file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start_by_hand(holdfast, engine, directory, checkpoint, journal):
    """Starts a data directory that was restored offline as the documentation says, and proves it."""
    import subprocess

    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", servers.RUN_AS, directory], check=True)
    home = os.path.join(holdfast.home, "byhand-" + os.path.basename(directory))
    server = {"mariadb": servers.MariadbServer, "mysql": servers.MysqlServer, "postgresql": servers.PostgresServer}[
        engine
    ](home, free_port())
    servers.make_directory(home)
    os.rename(directory, server.data)
    open(os.path.join(home, "initialised"), "w", encoding="ascii").close()
    server.start()  # a plain start ends at the checkpoint: nothing behind it is in the files
    holdfast.sources.append(server)
    connection = server.connect_admin(ledger.DATABASE)
    ledger.verify_at(connection, engine, checkpoint, journal)
    connection.close()


def test_directories_and_chosen_shards(holdfast):
    sources = [holdfast.source("mariadb"), holdfast.source("mariadb")]
    holdfast.create_database("shop", "mariadb", sources)
    backup = holdfast.backup("shop")
    done = holdfast.restore(mode="directory", backup=backup["id"], shards=["1"])
    assert [shard["shard"] for shard in done["shards"]] == ["1"]
    directory = os.path.join(done["directory"], "1")
    assert os.path.exists(os.path.join(directory, "ibdata1"))
    assert done["shards"][0]["restore_time"]
    holdfast.stop_writers()
    start_by_hand(
        holdfast, "mariadb", directory, done["shards"][0]["checkpoint"], ledger.journal_of(sources[1].directory)
    )
    holdfast.wait_clean()


def test_what_cannot_be_restored_is_refused_and_changes_nothing(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    with pytest.raises(ApiError) as caught:
        holdfast.post(
            "/v1/restores", {"database": "shop", "mode": "directory", "directory": os.path.join(holdfast.home, "x")}
        )
    assert caught.value.status in (404, 409)
    backup = holdfast.backup("shop")
    full = os.path.join(holdfast.home, "full")
    servers.make_directory(os.path.join(full, "0"))
    precious = os.path.join(full, "0", "precious")
    with open(precious, "w", encoding="ascii") as file:
        file.write("do not touch")
    servers.give(full)
    servers.give(os.path.join(full, "0"))
    with pytest.raises(ApiError) as caught:
        holdfast.post("/v1/restores", {"backup": backup["id"], "mode": "directory", "directory": full})
    assert caught.value.reason == "target-not-empty" and caught.value.problem["hint"], caught.value
    assert os.listdir(os.path.join(full, "0")) == ["precious"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        place = os.path.join(holdfast.home, "busy")
        servers.make_directory(place)
        body = {"backup": backup["id"], "mode": "server", "directory": place, "first_port": listener.getsockname()[1]}
        with pytest.raises(ApiError) as caught:
            holdfast.post("/v1/restores", body)
        assert caught.value.reason == "port-in-use" and caught.value.problem["hint"], caught.value
    holdfast.wait_clean()


def test_a_damaged_parent_is_found_and_protection_goes_on(holdfast):
    source = holdfast.source("mariadb")
    holdfast.create_database("shop", "mariadb", [source])
    holdfast.backup("shop")
    packs = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(holdfast.repository)
        for name in names
        if "/packs" in folder
    ]
    with open(max(packs, key=os.path.getsize), "r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    backup = holdfast.backup("shop")
    shard = holdfast.shards_of(backup["id"])[0]
    assert shard["generation"] == 0 and shard["seed_reason"], shard
    events = holdfast.get(f"/v1/events?database=shop&minimum_severity=warning")["events"]
    assert any("does not restore" in event["message"] or "damaged" in event["message"] for event in events), events
    holdfast.verify_backup(backup["id"], [source])
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
    assert json.loads(result.stdout)["problem_count"] >= 1


def test_restores_several_shards_on_given_ports(holdfast):
    sources = [holdfast.source("postgresql"), holdfast.source("postgresql")]
    holdfast.create_database("shop", "postgresql", sources)
    holdfast.backup("shop")
    first = free_port_run(2)
    done = holdfast.restore(database="shop", first_port=first)
    assert [shard["port"] for shard in done["shards"]] == [first, first + 1]
    holdfast.stop_restore(done)
    holdfast.wait_clean()
    lose_agents_of_restores(holdfast)


def lose_agents_of_restores(holdfast):
    """kill -9 of an agent that restores: another one does it. Of one that serves: its server ends with it."""
    place = os.path.join(holdfast.home, "again")
    servers.make_directory(place)
    created = holdfast.post("/v1/restores", {"database": "shop", "mode": "directory", "directory": place})
    holdfast.wait("/v1/instances", lambda _: kill_agents(holdfast, 1), 30)
    done = holdfast.wait(f"/v1/restores/{created['id']}", lambda value: value["state"] not in ("pending", "running"))
    assert done["state"] == "succeeded", f"{json.dumps(done, indent=1)}\n{holdfast.server.log_tail()}"
    assert sorted(shard["attempt_count"] for shard in done["shards"]) == [1, 2], done
    for shard in done["shards"]:
        assert "PG_VERSION" in os.listdir(shard["directory"])
        assert ".holdfast-restore" not in os.listdir(shard["directory"])
    events = holdfast.get("/v1/events?database=shop&minimum_severity=warning")["events"]
    assert [event["kind"] for event in events].count("restore.attempt_lost") == 1, events
    holdfast.wait_clean()
    served = holdfast.restore(database="shop", first_port=free_port_run(2))
    assert processes_below(served["directory"])
    assert kill_agents(holdfast, 2) == 2
    failed = holdfast.wait(f"/v1/restores/{served['id']}", lambda value: value["state"] != "serving")
    assert (failed["state"], failed["reason"]) == ("failed", "instance-lost"), failed
    holdfast.wait_clean()
    assert not processes_below(served["directory"])


def kill_agents(holdfast, count):
    """Kills up to so many; how many it were."""
    killed = 0
    for pid, command in processes_below(holdfast.server.instances).items():
        if "holdfast-agent" in command.split(" ")[0] and "--child" not in command and killed < count:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
