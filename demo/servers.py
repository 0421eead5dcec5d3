# SPDX-License-Identifier: Apache-2.0
"""Real database servers for the demo fleet and the end-to-end tests: MariaDB, MySQL, PostgreSQL.

Each server has a directory of its own, listens on 127.0.0.1 and a unix socket, and is set up the way
docs/engines/*.md asks a source to be. Started by root, it runs as the user `holdfast`.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import time

import psycopg2
import pymysql

RUN_AS = "holdfast"
HERE = os.path.dirname(os.path.abspath(__file__))

# What docs/engines/*.md tells people to grant: kept equal to them by tests/e2e/test_privileges.py.
MARIADB_PRIVILEGES = (
    "SELECT, RELOAD, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, PROCESS, BINLOG MONITOR, REPLICATION SLAVE"
)
MYSQL_PRIVILEGES = "BACKUP_ADMIN, REPLICATION SLAVE, REPLICATION CLIENT, PROCESS"


class ServerError(Exception):
    """A server could not be set up or started; the text says why."""


def program(name, *directories):
    """The path of a program, or a ServerError that names the package."""
    for directory in directories:
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK):
            return path
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path:
        return path
    raise ServerError(f"the program '{name}' is not installed; run ./dev setup")


def unprivileged():
    """Arguments in front of a command so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(RUN_AS)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def make_directory(path):
    os.makedirs(path, exist_ok=True)
    if os.geteuid() == 0:
        entry = pwd.getpwnam(RUN_AS)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def give(path):
    """Hands a file to the user the servers run as."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(RUN_AS)
        os.chown(path, entry.pw_uid, entry.pw_gid)


class Server:
    """What all engines share: one process, one directory, one port."""

    engine = ""

    def __init__(self, directory, port, user="holdfast", password="demo-password"):
        self.directory = os.path.abspath(directory)
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "server.log")
        self.port = port
        self.user = user
        self.password = password
        self.process = None

    def run(self, command, environment=None, timeout=120):
        result = subprocess.run(
            unprivileged() + command,
            cwd=self.directory,
            timeout=timeout,
            check=False,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode != 0:
            raise ServerError(f"{os.path.basename(command[0])} failed: {result.stdout.strip()[-800:]}")
        return result.stdout

    def spawn(self, command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                unprivileged() + command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_initialised(self):
        return os.path.exists(os.path.join(self.directory, "initialised"))

    def initialise(self):
        raise NotImplementedError

    def start(self, *extra):
        """Starts the server, initialising it first when it is new; returns when it answers."""
        make_directory(self.directory)
        fresh = not self.is_initialised()
        if fresh:
            shutil.rmtree(self.data, ignore_errors=True)
            self.initialise()
        self.spawn(self.command(*extra))
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect_admin().close()
                break
            except (psycopg2.Error, pymysql.Error):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = open(self.log, errors="replace").read()[-1500:]
                    self.stop()
                    raise ServerError(f"the {self.engine} server in {self.directory} does not start:\n{tail}")
                time.sleep(0.05)
        if fresh:
            self.create_user()
            open(os.path.join(self.directory, "initialised"), "w", encoding="ascii").close()

    def stop(self, how=signal.SIGTERM, timeout=60):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def kill(self):
        """Ends it without warning, as a crash does."""
        self.stop(signal.SIGKILL)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def query(self, sql, *parameters, database=None):
        connection = self.connect_admin(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class MysqlFamily(Server):
    @property
    def socket(self):
        return os.path.join(self.directory, "s.sock")

    def temporary(self):
        """A tmpdir of its own: a server that starts removes the temporary tables of all that share its tmpdir."""
        path = os.path.join(self.directory, "tmp")
        make_directory(path)
        return path

    def options(self):
        return [
            f"--datadir={self.data}",
            f"--tmpdir={self.temporary()}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.socket}",
            f"--server-id={self.port}",
            f"--pid-file={self.directory}/server.pid",
            "--log-bin=binlog",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
        ]

    def connect_admin(self, database=None):
        return pymysql.connect(
            unix_socket=self.socket, user="root", database=database, autocommit=True, connect_timeout=5
        )

    def create_checker(self):
        """An account that only reads, to look at restored copies with."""
        self.query("CREATE USER 'checker'@'127.0.0.1' IDENTIFIED BY 'checker-password'")
        self.query("GRANT SELECT ON *.* TO 'checker'@'127.0.0.1'")

    def position(self, cursor):
        raise NotImplementedError


class MariadbServer(MysqlFamily):
    engine = "mariadb"

    def initialise(self):
        self.run(
            [
                program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={self.data}",
                f"--tmpdir={self.temporary()}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=32M",
            ]
        )

    def command(self, *extra):
        return [
            program("mariadbd"),
            "--no-defaults",
            *self.options(),
            "--binlog-format=ROW",
            "--gtid-strict-mode=ON",
            "--innodb-log-file-size=32M",
            "--skip-name-resolve",
            "--max-binlog-size=64M",
            "--binlog-expire-logs-seconds=86400",
            *extra,
        ]

    def create_user(self):
        self.query(f"CREATE USER '{self.user}'@'127.0.0.1' IDENTIFIED BY %s", self.password)
        self.query(f"GRANT {MARIADB_PRIVILEGES} ON *.* TO '{self.user}'@'127.0.0.1'")
        self.create_checker()

    def position(self, cursor):
        cursor.execute("SELECT @@gtid_binlog_pos")
        return cursor.fetchone()[0]


class MysqlServer(MysqlFamily):
    engine = "mysql"

    def __init__(self, directory, port, programs=None, **rest):
        super().__init__(directory, port, **rest)
        self.programs = programs or os.environ.get("HOLDFAST_MYSQL_DIR") or os.path.join(HERE, "..", ".dev", "mysql")

    def initialise(self):
        self.run(
            [
                program("mysqld", self.programs),
                "--initialize-insecure",
                f"--datadir={self.data}",
                f"--tmpdir={self.temporary()}",
                "--innodb-redo-log-capacity=32M",
            ]
        )

    def command(self, *extra):
        return [
            program("mysqld", self.programs),
            *self.options(),
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--mysqlx=OFF",
            "--performance-schema=OFF",
            "--innodb-redo-log-capacity=32M",
            "--secure-file-priv=NULL",
            "--plugin-load-add=mysql_clone.so",
            *extra,
        ]

    def create_user(self):
        self.query(f"CREATE USER '{self.user}'@'127.0.0.1' IDENTIFIED BY %s", self.password)
        self.query(f"GRANT {MYSQL_PRIVILEGES} ON *.* TO '{self.user}'@'127.0.0.1'")
        self.create_checker()

    def position(self, cursor):
        cursor.execute("SELECT @@global.gtid_executed")
        return cursor.fetchone()[0].replace("\n", "")


class PostgresServer(Server):
    engine = "postgresql"

    @property
    def programs(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        if not found:
            raise ServerError("PostgreSQL is not installed; run ./dev setup")
        return found[-1]

    @property
    def version(self):
        return int(self.programs.split("/")[4])

    def initialise(self):
        self.run(
            [
                os.path.join(self.programs, "initdb"),
                "-D",
                self.data,
                "-U",
                "postgres",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--data-checksums",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]
        )
        hba = os.path.join(self.data, "pg_hba.conf")
        with open(hba, "a", encoding="ascii") as file:
            file.write(f"host replication {self.user} 127.0.0.1/32 scram-sha-256\n")

    def command(self, *extra):
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "wal_level": "replica",
            "max_wal_senders": 10,
            "max_replication_slots": 10,
            "max_slot_wal_keep_size": "2GB",
            "shared_buffers": "64MB",
            "synchronous_commit": "off",
            "max_wal_size": "256MB",
            "fsync": "off",
            "autovacuum_naptime": "60s",
        }
        options = [item for key, value in settings.items() for item in ("-c", f"{key}={value}")]
        return [os.path.join(self.programs, "postgres"), "-D", self.data, *options, *extra]

    def connect_admin(self, database=None):
        connection = psycopg2.connect(
            host=self.directory, port=self.port, user="postgres", dbname=database or "postgres", connect_timeout=5
        )
        connection.autocommit = True
        return connection

    def create_user(self):
        self.query(f"CREATE ROLE {self.user} LOGIN REPLICATION PASSWORD %s", self.password)
        self.query(f"GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO {self.user}")
        self.query("CREATE ROLE checker LOGIN PASSWORD 'checker-password'")
        self.query("GRANT pg_read_all_data TO checker" if self.version >= 14 else "ALTER ROLE checker SUPERUSER")

    def stop(self, how=signal.SIGINT, timeout=60):
        super().stop(how, timeout)

    def position(self, cursor):
        cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
        return cursor.fetchone()[0]
