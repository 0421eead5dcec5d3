# SPDX-License-Identifier: Apache-2.0
"""The agent with real databases, a real repository, and a server of another make.

When this goes red: a backup does not survive a lost connection, an agent that was killed or left alone keeps an engine
running, or what is restored is not what was backed up.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import pymysql
import psycopg2
import pytest
from test_agent_server import AgentServer, types_pb2

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))
from demo import servers  # noqa: E402
from tests.harness.free_port import free_port  # noqa: E402

AGENT = os.environ["HOLDFAST_AGENT"]
PREPARE = os.environ["HOLDFAST_AGENT_PREPARE"]
MARK = ".holdfast-restore"  # in a restore's target while it is not the person's yet
ENGINES = {
    "mariadb": (servers.MariadbServer, types_pb2.ENGINE_MARIADB),
    "mysql": (servers.MysqlServer, types_pb2.ENGINE_MYSQL),
    "postgresql": (servers.PostgresServer, types_pb2.ENGINE_POSTGRESQL),
}
SEED_ORDER = ["seed", "start", "replay", "ready", "checkpoint", "stop", "publish", "commit"]


def owned_directory(*parts):
    path = os.path.join(*parts)
    servers.make_directory(path)
    return path


@pytest.fixture(scope="module")
def home():
    path = tempfile.mkdtemp(prefix="hf-agent-", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def sources(home):
    """Real servers with a table, started when first asked for."""
    running = {}

    def get(engine):
        if engine not in running:
            source = ENGINES[engine][0](os.path.join(home, engine), free_port())
            try:
                source.start()
            except servers.ServerError as error:
                if "not installed" in str(error):
                    pytest.skip(str(error))
                raise
            running[engine] = source
            if engine == "postgresql":
                source.query("CREATE TABLE t (id int PRIMARY KEY, v text)")
            else:
                source.query("CREATE DATABASE app")
                source.query("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
            insert(source, 0, 1000)
        return running[engine]

    yield get
    for source in running.values():
        source.remove()


def table(source):
    return "t" if source.engine == "postgresql" else "app.t"


def insert(source, first, count):
    rows = ",".join(f"({number}, repeat('x{number}', 50))" for number in range(first, first + count))
    source.query(f"INSERT INTO {table(source)} VALUES {rows}")


def rows_at(engine, port, **how):
    if engine == "postgresql":
        connection = psycopg2.connect(
            host="127.0.0.1", port=port, user="checker", password="checker-password", dbname="postgres", **how
        )
    else:
        connection = pymysql.connect(host="127.0.0.1", port=port, user="checker", password="checker-password", **how)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), sum(id), max(id) FROM " + ("t" if engine == "postgresql" else "app.t"))
        return [int(value) for value in cursor.fetchone()]


def expected_rows(count):
    return [count, count * (count - 1) // 2, count - 1]


def wait_unmarked(target):
    deadline = time.monotonic() + 30
    while MARK in os.listdir(target):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Lineage:
    """A shard of a database in a repository: what a server would know of it."""

    def __init__(self, home, source):
        self.source, self.database_id, self.shard_id = source, str(uuid.uuid4()), str(uuid.uuid4())
        self.location = owned_directory(home, "repository-" + self.shard_id[:8])
        result = subprocess.run(
            [*servers.unprivileged(), PREPARE, self.location, self.database_id],
            check=True,
            capture_output=True,
            text=True,
        )
        self.key = json.loads(result.stdout)
        self.parent = None
        self.epoch = 0

    def access(self):
        return {
            "location": "file://" + self.location,
            "key_id": self.key["key_id"],
            "data_key": bytes.fromhex(self.key["data_key"]),
        }

    def backup(self, **changes):
        self.epoch += 1
        source = {
            "engine": ENGINES[self.source.engine][1],
            "username": self.source.user,
            "password": self.source.password,
            "source": {"host": "127.0.0.1", "port": self.source.port, "credential": "c", "tls_mode": "prefer"},
        }
        source.update(changes.pop("source", {}))
        assignment = {
            "attempt_id": str(uuid.uuid4()),
            "backup_id": str(uuid.uuid4()),
            "shard_backup_id": str(uuid.uuid4()),
            "database_id": self.database_id,
            "database_name": "shop",
            "shard_id": self.shard_id,
            "shard_name": "0",
            "epoch": self.epoch,
            "source": source,
            "repository": self.access(),
            "memory_bytes": 128 << 20,
        }
        if self.parent is not None:
            assignment.update(
                parent_manifest_id=self.parent.manifest_id,
                parent_manifest_digest=self.parent.manifest_digest,
                generation=self.epoch - 1,
            )
        assignment.update(changes)
        return assignment


class Agent:
    """One instance: its directory, its process, its server."""

    def __init__(
        self, home, deadman_ms=30000, lifetime_ms=600000, server=None, program=AGENT, is_deep=False
    ):
        self.id = str(uuid.uuid4())
        place = owned_directory(home, "far-down-" + "x" * 150) if is_deep else home  # no room for a socket's name
        self.directory = owned_directory(place, "i-" + self.id[:8])
        self.server = server or AgentServer(home, deadman_ms=deadman_ms)
        join = {
            "instance_id": self.id,
            "server_addresses": [f"127.0.0.1:{self.server.port}"],
            "certificate_pem": self.server.certificate.decode(),
            "join_secret": self.server.secret,
            "deadman_ms": deadman_ms,
            "lifetime_ms": lifetime_ms,
        }
        path = os.path.join(self.directory, "join.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            json.dump(join, file)
        servers.give(path)
        self.process = self.spawn(program)

    def spawn(self, program=AGENT):
        with open(os.path.join(self.directory, "agent.log"), "ab") as log:
            return subprocess.Popen(
                [*servers.unprivileged(), program, "--instance-directory", self.directory],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self):
        with open(os.path.join(self.directory, "agent.log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait(self, timeout=40):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("the agent does not end; its log:\n" + self.log()[-3000:]) from None

    def engines(self):
        """Processes that live in the directory, but for the agent."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                place = os.readlink(f"/proc/{entry}/cwd")
                words = open(f"/proc/{entry}/cmdline", "rb").read().decode(errors="replace")
            except OSError:
                continue
            if (place.startswith(self.directory) or self.directory in words) and int(entry) != self.process.pid:
                found.append((int(entry), words.replace("\0", " ")))
        return found

    def wait_no_engines(self, timeout=10):
        deadline = time.monotonic() + timeout
        while self.engines():
            assert time.monotonic() < deadline, self.engines()
            time.sleep(0.05)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.wait_no_engines()
        self.server.stop()


@pytest.fixture
def agents(home):
    made = []

    def make(**options):
        made.append(Agent(home, **options))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


def run_backup(agents, lineage, program=AGENT, is_deep=False, **changes):
    """A whole backup; the commit request."""
    agent = agents(program=program, is_deep=is_deep)
    agent.server.say(backup=lineage.backup(**changes))
    agent.server.wait_phase("ready")
    agent.server.say(take_checkpoint={"name": "holdfast_" + uuid.uuid4().hex[:12]})
    agent.server.wait_for("checkpoint_taken")
    commit = agent.server.wait_for("commit_request", 120)
    agent.server.say(commit_reply={"is_accepted": True})
    agent.server.say(stop={"why": "done"})
    assert agent.wait() == 0, agent.log()
    agent.wait_no_engines()
    assert all(0 < message.progress.memory_bytes < 256 << 20 for message in agent.server.progress)
    lineage.parent = commit
    return agent, commit


@pytest.mark.parametrize("engine", ["mariadb", "postgresql", "mysql"])
def test_seed_then_increment_then_restore(agents, home, sources, engine):
    source = sources(engine)
    count = rows_at(engine, source.port)[0]
    lineage = Lineage(home, source)
    agent, seed = run_backup(agents, lineage)
    assert agent.server.phases() == SEED_ORDER
    assert seed.size_bytes > 1 << 20 and seed.new_bytes > 0 and seed.stored_bytes > 0 and seed.received_bytes > 0
    assert seed.pages_checked > 100 and seed.checkpoint and seed.parent_restore_ms == 0
    assert seed.engine_version[0].isdigit()
    # Holes are not read.
    assert seed.new_bytes <= seed.read_bytes <= seed.size_bytes and seed.unrecorded_bytes == 0

    insert(source, count, 100)
    agent, commit = run_backup(agents, lineage, is_deep=True)
    assert agent.server.phases() == ["restore", *SEED_ORDER[1:]]
    assert commit.new_bytes < seed.new_bytes and commit.parent_restore_ms > 0 and commit.parent_start_ms > 0
    assert 0 < commit.read_bytes < commit.size_bytes * 0.7 and 0 < commit.pages_checked < seed.pages_checked
    insert(source, count + 100, 1)  # after the checkpoint: must not be in it

    server = agents(is_deep=True)
    target = os.path.join(owned_directory(home, "restored-" + lineage.shard_id[:8]), "0")
    port = free_port()
    assignment = {
        "restore_id": str(uuid.uuid4()),
        "shard_name": "0",
        "shard_id": lineage.shard_id,
        "engine": ENGINES[engine][1],
        "repository": lineage.access(),
        "manifest_id": commit.manifest_id,
        "manifest_digest": commit.manifest_digest,
        "directory": target,
        "port": port,
        "memory_bytes": 128 << 20,
    }
    server.server.say(restore=assignment)
    done = server.server.wait_for("restore_done")
    assert MARK in os.listdir(target), "until the server has taken it, it is ours"
    server.server.say(restore_reply={"is_accepted": True})
    wait_unmarked(target)
    assert done.port == port and done.size_bytes == commit.size_bytes and done.start_ms > 0
    assert rows_at(engine, port) == expected_rows(count + 100)
    server.server.say(stop={"why": "enough"})
    assert server.wait() == 0, server.log()
    with pytest.raises((pymysql.Error, psycopg2.Error)):
        rows_at(engine, port, connect_timeout=2)

    again = agents()
    again.server.say(restore={**assignment, "restore_id": str(uuid.uuid4())})
    failed = again.server.wait_for("failed")
    assert failed.reason == "target-not-empty" and failed.hint
    assert os.listdir(target), "a refusal must not touch what is there"
    again.server.say(stop={"why": "enough"})
    assert again.wait() == 5

    own = agents()  # a server without a place of its own: everything goes with the instance
    own.server.say(restore={**assignment, "restore_id": str(uuid.uuid4()), "directory": "", "port": port})
    own.server.wait_for("restore_done")
    own.server.say(restore_reply={"is_accepted": True})
    assert rows_at(engine, port) == expected_rows(count + 100)
    assert os.listdir(os.path.join(own.directory, "data"))
    own.server.say(stop={"why": "enough"})
    assert own.wait() == 0, own.log()

    target = os.path.join(os.path.dirname(target), "plain")
    restore_after_kills(agents, {**assignment, "directory": target, "port": port}, port)
    assert os.listdir(target) and not [name for name in os.listdir(os.path.dirname(target)) if "partial" in name]


def restore_after_kills(agents, assignment, port):
    """One restore that loses its agents: while it serves to nobody yet, and when all is done but not yet said."""
    target = assignment["directory"]
    killed = agents()
    killed.server.say(restore=assignment)
    killed.server.wait_for("restore_done")
    killed.process.kill()
    killed.process.wait()
    killed.wait_no_engines()
    assert MARK in os.listdir(target)

    stranger = agents()  # another restore into the same place: what is there is not its own
    stranger.server.say(restore={**assignment, "restore_id": str(uuid.uuid4())})
    assert stranger.server.wait_for("failed").reason == "target-not-empty"
    assert MARK in os.listdir(target)

    again = agents()
    again.server.say(restore={**assignment, "port": 0})
    again.server.wait_for("restore_done")
    assert again.engines() == []
    again.server.say(restore_reply={"is_accepted": True})
    again.server.say(stop={"why": "enough"})
    assert again.wait() == 0, again.log()
    assert MARK not in os.listdir(target)


def test_a_full_read_agrees_with_the_recorder_and_finds_out_one_that_lies(agents, home, sources):
    source = sources("mariadb")
    count = rows_at("mariadb", source.port)[0]
    lineage = Lineage(home, source)
    _, seed = run_backup(agents, lineage)
    everything = seed.new_bytes * 0.9  # all but holes; some of it may have become zeros since
    insert(source, count, 1000)
    _, honest = run_backup(agents, lineage, reads_everything=True)
    assert honest.read_bytes > everything and honest.unrecorded_bytes == 0 and honest.reads_everything

    liar = os.path.join(owned_directory(home, "liar"), "holdfast-agent")
    shutil.copy(AGENT, liar)
    shutil.copy(os.environ["HOLDFAST_RECORDER_LIAR"], os.path.join(home, "liar", "libholdfast-recorder.so"))
    insert(source, count + 1000, 1000)
    agent, found = run_backup(agents, lineage, program=liar, reads_everything=True)
    assert found.read_bytes > everything and found.unrecorded_bytes > 0
    assert "the recorder missed writes that a full read found" in agent.log()

    # Without the library it is the files' times that tell, and what changed is read whole.
    os.remove(os.path.join(home, "liar", "libholdfast-recorder.so"))
    insert(source, count + 2000, 10)
    agent, absent = run_backup(agents, lineage, program=liar)
    assert 0 < absent.read_bytes < absent.size_bytes and absent.unrecorded_bytes == 0 and not absent.reads_everything
    assert "recorder's library is not installed" in agent.log()


def test_a_killed_restore_leaves_nothing_outside_its_instance(agents, home, sources):
    source = sources("mariadb")
    lineage = Lineage(home, source)
    _, commit = run_backup(agents, lineage)
    parent = owned_directory(home, "killed-restore")
    agent = agents()
    agent.server.say(
        restore={
            "restore_id": str(uuid.uuid4()),
            "shard_name": "0",
            "shard_id": lineage.shard_id,
            "engine": ENGINES["mariadb"][1],
            "repository": lineage.access(),
            "manifest_id": commit.manifest_id,
            "manifest_digest": commit.manifest_digest,
            "directory": os.path.join(parent, "0"),
            "port": 0,
        }
    )
    data = os.path.join(agent.directory, "data")
    deadline = time.monotonic() + 30
    while not os.path.isdir(data):
        assert time.monotonic() < deadline, agent.log()
        time.sleep(0.001)
    agent.process.kill()
    agent.process.wait()
    agent.wait_no_engines()
    assert os.listdir(parent) == []


def test_a_lost_server_is_found_again_and_nothing_is_lost(agents, home, sources):
    lineage = Lineage(home, sources("mariadb"))
    agent = agents()
    assignment = lineage.backup()
    agent.server.say(backup=assignment)
    agent.server.wait_phase("ready")
    assert "join-secret" not in open(os.path.join(agent.directory, "join.json"), encoding="ascii").read()
    agent.server.stop()
    time.sleep(1)
    agent.server.forget()
    agent.server.start()
    agent.server.wait_phase("ready")  # said again
    join = agent.server.joins[0]
    assert (join.secret, join.attempt_id, join.instance_id) == (agent.server.token, assignment["attempt_id"], agent.id)
    assert agent.server.phases() == ["ready"]
    agent.server.say(backup=assignment)  # said again by the server: no second job
    agent.server.say(take_checkpoint={"name": "holdfast_again"})
    taken = agent.server.wait_for("checkpoint_taken")
    agent.server.wait_for("commit_request")
    agent.server.stop()  # the request is lost with the server
    agent.server.forget()
    agent.server.start()
    assert agent.server.wait_for("commit_request").checkpoint == taken.position
    assert agent.server.wait_for("checkpoint_taken").position == taken.position
    agent.server.say(take_checkpoint={"name": "holdfast_again"})
    agent.server.say(commit_reply={"is_accepted": True})
    agent.server.say(stop={"why": "done"})
    assert agent.wait() == 0, agent.log()


def test_killed_agents_leave_no_engine(agents, home, sources):
    for engine in ("mariadb", "postgresql"):
        agent = agents()
        agent.server.say(backup=Lineage(home, sources(engine)).backup())
        agent.server.wait_phase("ready")
        assert agent.engines()
        agent.process.kill()
        agent.process.wait()
        agent.wait_no_engines()


def slots(source):
    return [name for name, in source.query("SELECT slot_name FROM pg_replication_slots")]


def test_the_next_backup_clears_what_a_killed_one_left_on_the_source(agents, home, sources):
    source = sources("postgresql")
    lineage = Lineage(home, source)
    before = set(slots(source))
    killed = agents()
    killed.server.say(backup=lineage.backup())
    killed.server.wait_phase("ready")
    left = set(slots(source)) - before
    assert len(left) == 1
    killed.process.kill()
    killed.process.wait()
    killed.wait_no_engines()
    run_backup(agents, lineage)
    after = set(slots(source)) - before
    assert not left & after
    assert len(after) == 1, "the logs since the new backup are kept for the next one"
    request = {
        "engine": "postgresql",
        "host": "127.0.0.1",
        "port": source.port,
        "username": source.user,
        "password": source.password,
        "shard_id": lineage.shard_id,
    }
    subprocess.run([AGENT, "--forget-source"], input=json.dumps(request), text=True, timeout=30, check=True)
    assert set(slots(source)) == before


@pytest.mark.parametrize("engine", ["mariadb", "postgresql"])
@pytest.mark.parametrize("how, code", [("stop", 0), ("sigterm", 9)])
def test_stopping_is_prompt_and_clean(agents, home, sources, engine, how, code):
    source = sources(engine)
    before = slots(source) if engine == "postgresql" else []
    agent = agents()
    agent.server.say(backup=Lineage(home, source).backup())
    agent.server.wait_phase("ready")
    begun = time.monotonic()
    if how == "stop":
        agent.server.say(stop={"why": "canceled"})
    else:
        agent.process.send_signal(signal.SIGTERM)
    assert agent.wait() == code, agent.log()
    assert time.monotonic() - begun < 10
    assert agent.engines() == []
    assert not [message for message in agent.server.heard if message.HasField("failed")]
    if engine == "postgresql":
        assert slots(source) == before


def test_the_deadman_ends_an_agent_that_nobody_speaks_to(agents, home, sources):
    agent = agents(deadman_ms=4000)
    agent.server.say(backup=Lineage(home, sources("mariadb")).backup())
    agent.server.wait_phase("ready")
    agent.server.is_silent = True
    begun = time.monotonic()
    assert agent.wait() == 8, agent.log()
    assert 2 < time.monotonic() - begun < 15
    assert agent.engines() == []


def test_a_lifetime_ends(agents):
    agent = agents(lifetime_ms=2000)
    assert agent.wait() == 8
    assert "lifetime" in agent.log()


def test_a_refused_commit_is_a_lost_lease(agents, home, sources):
    agent = agents()
    agent.server.say(backup=Lineage(home, sources("mariadb")).backup())
    agent.server.wait_phase("ready")
    agent.server.say(take_checkpoint={"name": "holdfast_x"})
    agent.server.wait_for("commit_request")
    agent.server.say(commit_reply={"is_accepted": False, "message": "another attempt is the current one"})
    assert agent.wait() == 5, agent.log()
    assert agent.engines() == []


def test_an_unknown_instance_gives_up(agents, home):
    server = AgentServer(home, secret="another-secret")
    agent = agents(server=server)
    server.secret = "changed"
    assert agent.wait() in (6, 9), agent.log()
    assert "join-secret" not in agent.log() and "another-secret" not in agent.log()


def test_a_wrong_password_is_named_with_its_cure(agents, home, sources):
    for engine in ("mariadb", "postgresql"):
        agent = agents()
        agent.server.say(backup=Lineage(home, sources(engine)).backup(source={"password": "wrong-secret"}))
        failed = agent.server.wait_for("failed")
        assert failed.reason == "source-authentication", failed
        assert types_pb2.Phase.Name(failed.phase) == "PHASE_SEED"
        assert "wrong-secret" not in failed.message + failed.hint + agent.log()
        agent.server.say(stop={"why": "failed"})
        assert agent.wait() == 5


def test_a_damaged_parent_is_unrestorable(agents, home, sources):
    lineage = Lineage(home, sources("mariadb"))
    run_backup(agents, lineage)
    packs = os.path.join(lineage.location, "shards", lineage.shard_id, "packs")
    pack = os.path.join(packs, max(os.listdir(packs), key=lambda name: os.path.getsize(os.path.join(packs, name))))
    with open(pack, "r+b") as file:
        file.seek(os.path.getsize(pack) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    agent = agents()
    agent.server.say(backup=lineage.backup())
    failed = agent.server.wait_for("failed")
    assert failed.reason == "parent-unrestorable" and "object-corrupt" in failed.message, failed
    agent.server.say(stop={"why": "failed"})
    assert agent.wait() == 10


def test_two_agents_cannot_share_a_directory(agents):
    agent = agents()
    agent.server.wait(lambda: agent.server.joins)
    second = agent.spawn()
    assert second.wait(10) == 4


def test_probe_answers_without_an_instance(sources):
    source = sources("mariadb")
    request = {
        "engine": "mariadb",
        "host": "127.0.0.1",
        "port": source.port,
        "username": source.user,
        "password": source.password,
        "tls_mode": "prefer",
        "shard": "0",
    }

    def ask(flag, **changes):
        return subprocess.run(
            [AGENT, flag],
            input=json.dumps({**request, **changes}),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    result = ask("--probe")
    answer = json.loads(result.stdout)
    assert result.returncode == 0 and answer["is_ready"] is True and answer["shard"] == "0" and answer["problems"] == []
    source.query("CREATE USER IF NOT EXISTS 'weak'@'127.0.0.1' IDENTIFIED BY 'weak-password'")
    answer = json.loads(ask("--probe", username="weak", password="weak-password").stdout)
    assert answer["is_ready"] is False and any("GRANT" in problem["cure"] for problem in answer["problems"])
    result = ask("--probe", password="wrong")
    assert result.returncode == 5 and json.loads(result.stdout)["reason"] == "source-authentication"
    result = ask("--probe", port=free_port())
    assert result.returncode == 8 and json.loads(result.stdout)["reason"] == "source-unreachable"
    assert json.loads(ask("--clean-source", shard_id=str(uuid.uuid4()), alive=[]).stdout) == {"removed": 0}
    assert ask("--forget-source", shard_id=str(uuid.uuid4())).returncode == 0
    assert ask("--clean-source").returncode == 2


@pytest.fixture(scope="module", autouse=True)
def runs_unprivileged():
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(servers.RUN_AS)
        except KeyError:
            pytest.skip(f"there is no user {servers.RUN_AS}")
