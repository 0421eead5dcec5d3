# SPDX-License-Identifier: Apache-2.0
"""Runs a whole Holdfast in a scratch directory, for the end-to-end tests: server, agents, sources, and a client.

Everything is real: holdfastd with its embedded PostgreSQL, holdfast-agent, real database servers. The client talks to
the REST interface as any outside program would.
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

import psycopg2
import pymysql
import requests

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from demo import ledger, servers  # noqa: E402
from tests.harness.free_port import free_port, free_port_run  # noqa: E402

BUILD = os.environ.get("HOLDFAST_BUILD") or os.path.join(ROOT, ".dev", "build")
HOLDFASTD = os.path.join(BUILD, "server", "holdfastd")
HOLDFAST = os.path.join(BUILD, "cli", "holdfast")
MYSQL_PROGRAMS = os.environ.get("HOLDFAST_MYSQL_DIR") or os.path.join(ROOT, ".dev", "mysql")
ENGINES = {"mariadb": servers.MariadbServer, "mysql": servers.MysqlServer, "postgresql": servers.PostgresServer}


def processes_below(directory):
    """Pids and command lines of processes whose working directory is inside."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            place = os.readlink(f"/proc/{entry}/cwd")
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z" and (place == directory or place.startswith(directory + "/")):
            found[int(entry)] = command
    return found


def resident_mib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class ApiError(Exception):
    def __init__(self, response):
        self.status = response.status_code
        try:
            self.problem = response.json()
        except ValueError:
            self.problem = {"detail": response.text}
        super().__init__(f"{response.request.method} {response.request.url}: {self.status} {self.problem}")

    @property
    def reason(self):
        return self.problem.get("type", "").rsplit(":", 1)[-1]


class Server:
    """One holdfastd."""

    def __init__(self, home, name="holdfast", database_url=None, options=()):
        self.home = home
        self.data = os.path.join(home, name)
        self.log = os.path.join(home, f"{name}.log")
        self.http_port, self.grpc_port, self.agent_port = free_port(), free_port(), free_port()
        self.database_url = database_url
        self.options = list(options)
        self.process = None
        self.peak_mib = 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def instances(self):
        return os.path.join(self.data, "instances")

    def start(self, wait=True):
        environment = dict(os.environ)
        environment["HOLDFAST_MYSQL_DIR"] = MYSQL_PROGRAMS  # not installed on the system
        if self.database_url:
            environment["HOLDFAST_DATABASE_URL"] = self.database_url
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    HOLDFASTD,
                    "--data-dir",
                    self.data,
                    "--http-address",
                    f"127.0.0.1:{self.http_port}",
                    "--grpc-address",
                    f"127.0.0.1:{self.grpc_port}",
                    "--agent-address",
                    f"127.0.0.1:{self.agent_port}",
                    "--orphan-grace",
                    "0s",
                    "--log-level",
                    "debug",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"holdfastd ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                if requests.get(self.url + "/readyz", timeout=2).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise AssertionError(f"holdfastd was not ready in {timeout} s:\n{self.log_tail()}")

    def log_tail(self, size=4000):
        with open(self.log, errors="replace", encoding="utf-8") as file:
            return file.read()[-size:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=40):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"holdfastd did not stop in {timeout} s:\n{self.log_tail()}")
        return self.process.returncode if self.process else 0

    def token(self):
        with open(os.path.join(self.data, "admin-token"), encoding="ascii") as file:
            return file.read().strip()


class Holdfast:
    """A server, its sources, and a client of its REST interface."""

    def __init__(self, options=()):
        self.home = tempfile.mkdtemp(prefix="hf-", dir="/tmp")
        os.chmod(self.home, 0o755)
        self.server = Server(self.home, options=options)
        self.repository = os.path.join(self.home, "repository")
        self.key_file = os.path.join(self.home, "keys", "test.key")
        for directory in (self.repository, os.path.dirname(self.key_file)):
            servers.make_directory(directory)
            os.chmod(directory, 0o700)
        self.sources = []
        self.writers = []
        self.session = requests.Session()

    # --- life ---

    def start(self):
        self.server.start()
        self.use(self.server)

    def use(self, server):
        """Sends the client's requests to this server from now on."""
        self.current = server
        self.session.headers["Authorization"] = f"Bearer {self.server.token()}"

    def close(self):
        for writer in self.writers:
            writer.stop()
        try:
            self.server.stop()
        finally:
            subprocess.run(
                [servers.program("python3"), os.path.join(ROOT, "demo", "stop_instances.py"), self.home], check=False
            )
            for source in self.sources:
                source.stop()
            subprocess.run(
                [servers.program("python3"), os.path.join(ROOT, "demo", "stop_instances.py"), self.home], check=False
            )
            results = os.environ.get("HOLDFAST_TEST_RESULTS")
            if results and os.path.exists(self.server.log):
                shutil.copy(self.server.log, os.path.join(results, f"{os.path.basename(self.home)}.log"))
            shutil.rmtree(self.home, ignore_errors=True)

    # --- sources ---

    def source(self, engine, filler_mib=8, writes_per_second=40, start_writer=True, noise_mib=0):
        """A fresh primary with the ledger workload, and so much noise, which nothing makes smaller."""
        server = ENGINES[engine](os.path.join(self.home, f"s{len(self.sources)}"), free_port())
        self.sources.append(server)
        server.start()
        ledger.create(server, filler_mib << 20)
        if noise_mib:
            make_noise(server, noise_mib)
        server.writer = None
        if start_writer:
            server.writer = ledger.Writer(server, ledger.journal_of(server.directory), writes_per_second, seed=7)
            server.writer.start()
            self.writers.append(server.writer)
            ledger.wait_for_links(server, 5)
        return server

    def stop_writers(self):
        for writer in self.writers:
            writer.stop()
        self.writers = []

    # --- REST ---

    def call(self, method, path, body=None, **options):
        headers = options.pop("headers", {})
        response = self.session.request(
            method, self.current.url + path, json=body, timeout=60, headers=headers, **options
        )
        if response.status_code >= 400:
            raise ApiError(response)
        return response.json() if response.content else {}

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.call("POST", path, body if body is not None else {}, **options)

    def ensure_credential(self, password="demo-password"):
        self.post("/v1/credentials", {"name": "source", "username": "holdfast", "password": password})

    def ensure_basics(self, password="demo-password"):
        self.ensure_credential(password)
        self.post(
            "/v1/repositories",
            {
                "repository": {"name": "main", "location": f"file://{self.repository}", "key_file": self.key_file},
                "create_key_file": True,
            },
        )

    def create_database(self, name, engine, sources):
        shards = [
            {"name": str(number), "source": {"host": "127.0.0.1", "port": source.port, "credential": "source"}}
            for number, source in enumerate(sources)
        ]
        return self.post("/v1/databases", {"database": {"name": name, "engine": engine}, "shards": shards})

    def start_backup(self, database, **body):
        return self.post(f"/v1/databases/{database}/backups", {"repository": "main", **body})["id"]

    def backup(self, database, timeout=180, **body):
        """Runs one backup to its end and returns it."""
        return self.wait_backup(self.start_backup(database, **body), timeout)

    def wait_backup(self, backup, timeout=180, state="succeeded"):
        found = self.wait(
            f"/v1/backups/{backup}", lambda value: value["state"] not in ("pending", "running"), timeout
        )
        assert found["state"] == state, self.explain(found)
        return found

    def explain(self, backup):
        shards = self.get(f"/v1/backups/{backup['id']}/shards")["shards"]
        events = self.get(f"/v1/events?backup={backup['id']}&page_size=50")["events"]
        story = "\n".join(
            f"  {event['time']} {event['kind']} {event['shard']} {event['message']}" for event in reversed(events)
        )
        return (
            f"{json.dumps(backup, indent=1)}\n{json.dumps(shards, indent=1)}\n{story}\n{self.server.log_tail(3000)}"
        )

    def wait(self, path, is_done, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            value = None
            try:
                value = self.get(path)
                if is_done(value):
                    return value
            except requests.ConnectionError:
                assert self.current.process.poll() is None, f"holdfastd is gone:\n{self.current.log_tail()}"
            self.note_memory()
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{path} did not get there in {timeout} s: {json.dumps(value, indent=1)}\n{self.server.log_tail()}"
                )
            time.sleep(0.1)

    def shards_of(self, backup):
        return self.get(f"/v1/backups/{backup}/shards")["shards"]

    def note_memory(self):
        if self.server.process and self.server.process.poll() is None:
            self.server.peak_mib = max(self.server.peak_mib, resident_mib(self.server.process.pid))

    # --- restores ---

    def restore(self, mode="server", timeout=120, **body):
        """Creates a restore and waits until it serves or is done."""
        body = {"mode": mode, "directory": os.path.join(self.home, f"restored-{uuid.uuid4().hex[:6]}"), **body}
        servers.make_directory(body["directory"])
        created = self.post("/v1/restores", body)
        done = self.wait(
            f"/v1/restores/{created['id']}", lambda value: value["state"] not in ("pending", "running"), timeout
        )
        assert done["state"] == (
            "serving" if mode == "server" else "succeeded"
        ), f"{json.dumps(done, indent=1)}\n{self.server.log_tail()}"
        return done

    def stop_restore(self, restore):
        self.post(f"/v1/restores/{restore['id']}/stop")
        return self.wait(f"/v1/restores/{restore['id']}", lambda value: value["state"] not in ("running", "serving"))

    def verify_backup(self, backup, sources):
        """Restores a backup as servers and proves each shard to be exactly the state at its checkpoint."""
        done = self.restore(backup=backup, first_port=free_port_run(len(sources)))
        try:
            assert len(done["shards"]) == len(sources)
            for shard in done["shards"]:
                source = sources[int(shard["shard"])]
                connection = connect(source.engine, shard["port"])
                try:
                    ledger.verify_at(
                        connection, source.engine, shard["checkpoint"], ledger.journal_of(source.directory)
                    )
                finally:
                    connection.close()
        finally:
            self.stop_restore(done)

    # --- what must not be left behind ---

    def wait_clean(self, timeout=90):
        """Waits until no instance, process, directory or slot of a run is left."""
        deadline = time.monotonic() + timeout
        while True:
            left = self.leftovers()
            if not left:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"left behind after {timeout} s: {left}\n{self.server.log_tail()}")
            time.sleep(0.3)

    def leftovers(self):
        left = [
            f"instance {instance['id']} {instance['state']}" for instance in self.get("/v1/instances")["instances"]
        ]
        instances = self.server.instances
        if os.path.isdir(instances):
            left += [f"directory {name}" for name in os.listdir(instances)]
        left += [f"process {pid} {command}" for pid, command in processes_below(instances).items()]
        for source in self.sources:
            if source.engine == "postgresql" and source.process is not None:
                slots = source.query("SELECT slot_name FROM pg_replication_slots")
                left += [f"slot {slot}" for (slot,) in slots if not slot.startswith("holdfast_keep")]
        return left

    def repository_bytes(self):
        total = 0
        for directory, _, files in os.walk(self.repository):
            total += sum(os.path.getsize(os.path.join(directory, name)) for name in files)
        return total


def make_noise(server, mib):
    connection = server.connect_admin(ledger.DATABASE)
    kind = "bytea" if server.engine == "postgresql" else "longblob"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE noise (id int PRIMARY KEY, bytes {kind} NOT NULL)")
        for number in range(mib * 2):
            cursor.execute("INSERT INTO noise VALUES (%s, %s)", (number, os.urandom(1 << 19)))
    connection.close()


def connect(engine, port, user="checker", password="checker-password"):
    """To a restored server, with an account that came with the backup."""
    if engine == "postgresql":
        return psycopg2.connect(host="127.0.0.1", port=port, user=user, password=password, dbname=ledger.DATABASE)
    return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=ledger.DATABASE)


def runner_user():
    return pwd.getpwnam(servers.RUN_AS) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def cli(holdfast, *arguments, **options):
    """Runs the command line client; returns the finished process."""
    token = os.path.join(holdfast.home, "token")
    with open(token, "w", encoding="ascii") as file:
        file.write(holdfast.server.token())
    os.chmod(token, 0o600)
    environment = {**os.environ, "HOLDFAST_SERVER": holdfast.server.url, "HOLDFAST_TOKEN_FILE": token}
    return subprocess.run(
        [HOLDFAST, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=options.pop("timeout", 180),
        check=False,
        **options,
    )
