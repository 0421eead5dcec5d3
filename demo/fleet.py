# SPDX-License-Identifier: Apache-2.0
"""The demo fleet: database `shop` (MariaDB, 4 shards) and `ledger` (PostgreSQL, 2 shards), under constant writes.

    fleet.py run --directory DIR       start the servers and the writers; stop them on SIGTERM
    fleet.py verify --directory DIR    prove that a restored server is a committed state (see --help)

`run` prints "ready" when every server takes writes.
"""

import argparse
import os
import signal
import socket
import sys
import threading

if __package__ is None or __package__ == "":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import psycopg2
import pymysql

from demo import ledger, servers

# Ports below those that Linux gives to outgoing connections.
FLEET = [
    # database, shard, class, port
    ("shop", "-40", servers.MariadbServer, 13401),
    ("shop", "40-80", servers.MariadbServer, 13402),
    ("shop", "80-c0", servers.MariadbServer, 13403),
    ("shop", "c0-", servers.MariadbServer, 13404),
    ("ledger", "0", servers.PostgresServer, 15401),
    ("ledger", "1", servers.PostgresServer, 15402),
]


def is_taken(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def build(directory):
    return [
        (f"{database}/{shard}", kind(os.path.join(directory, f"{database}_{number}"), port))
        for number, (database, shard, kind, port) in enumerate(FLEET)
    ]


def run(arguments):
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    taken = [str(port) for _, _, _, port in FLEET if is_taken(port)]
    if taken:
        print(
            f"the demo fleet cannot start: port {', '.join(taken)} on 127.0.0.1 is taken; "
            "stop what listens there and try again",
            file=sys.stderr,
        )
        return 1
    fleet = build(arguments.directory)
    writers = []
    try:
        servers.make_directory(os.path.abspath(arguments.directory))
        for name, server in fleet:
            if stop.is_set():
                return 0
            print(f"starting {name} ({server.engine}, port {server.port})", flush=True)
            server.start()
            ledger.create(server, arguments.size_mib << 20)
            writer = ledger.Writer(server, ledger.journal_of(server.directory), arguments.writes_per_second)
            writer.start()
            writers.append(writer)
        for _, server in fleet:
            ledger.wait_for_links(server, 1)
        print("ready", flush=True)
        while not stop.wait(2):
            for name, server in fleet:
                if server.process.poll() is not None:
                    print(f"the server of {name} stopped unexpectedly; its log is {server.log}", file=sys.stderr)
                    return 1
    except servers.ServerError as error:
        print(f"the demo fleet cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        for writer in writers:
            writer.stopping.set()
        for _, server in fleet:
            server.stop()
    return 0


def connect_restored(engine, port, user, password):
    if engine == "postgresql":
        return psycopg2.connect(host="127.0.0.1", port=port, user=user, password=password, dbname=ledger.DATABASE)
    return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=ledger.DATABASE)


def verify(arguments):
    """Compares a restored server with the journal of the demo server that it came from."""
    for number, (database, shard, kind, _) in enumerate(FLEET):
        if (database, shard) == (arguments.database, arguments.shard):
            journal = ledger.journal_of(os.path.join(arguments.directory, f"{database}_{number}"))
            break
    else:
        print(f"the demo has no shard {arguments.database}/{arguments.shard}", file=sys.stderr)
        return 2
    connection = connect_restored(kind.engine, arguments.port, arguments.user, arguments.password)
    try:
        last = ledger.verify_at(connection, kind.engine, arguments.checkpoint, journal)
    except ledger.Violation as violation:
        print(f"NOT a committed state at the checkpoint: {violation}")
        return 1
    print(f"exactly the committed state at {arguments.checkpoint}: {last} transfers, nothing missing, nothing extra")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("run")
    start.add_argument("--directory", required=True)
    start.add_argument("--size-mib", type=int, default=160, help="of each shard, about (default 160)")
    start.add_argument("--writes-per-second", type=float, default=10.0, help="to each shard (default 10)")
    check = commands.add_parser("verify")
    check.add_argument("--directory", required=True, help="where the demo fleet runs")
    check.add_argument("--database", required=True)
    check.add_argument("--shard", required=True)
    check.add_argument("--port", required=True, type=int, help="of the restored server on 127.0.0.1")
    check.add_argument("--checkpoint", required=True)
    check.add_argument("--user", default="checker")
    check.add_argument("--password", default="checker-password")
    arguments = parser.parse_args()
    return run(arguments) if arguments.command == "run" else verify(arguments)


if __name__ == "__main__":
    sys.exit(main())
