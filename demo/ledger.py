# SPDX-License-Identifier: Apache-2.0
"""A workload whose every committed state can be recognised.

Money moves between accounts; each transfer is one transaction that also appends a link to a hash chain. At any
committed state, and at no other, (1) the balances sum to what they began with, (2) the chain has every link from
1 to its end with the right hashes, (3) replaying the chain from the opening balances gives exactly the accounts.
The writer also notes the source's position before and after each commit, so that a restored copy can be compared
with its checkpoint: every link committed at or before it is there, and none after it.
"""

import hashlib
import json
import os
import random
import threading
import time

import psycopg2
import pymysql

ACCOUNTS = 200
OPENING_BALANCE = 1000
DATABASE = "ledger"
PAYLOAD_BYTES = 900  # of one filler row


class Violation(Exception):
    """The copy is not a committed state of its primary; the text says how."""


def link_hash(previous, sequence, source, target, amount):
    return hashlib.sha256(f"{previous}|{sequence}|{source}|{target}|{amount}".encode()).hexdigest()


def is_postgres(server):
    return server.engine == "postgresql"


def create(server, filler_bytes):
    """Creates the tables and about filler_bytes of rows that are not compressible to nothing."""
    if is_postgres(server):
        if not server.query("SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            server.query(f"CREATE DATABASE {DATABASE}")
    else:
        server.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    connection = server.connect_admin(DATABASE)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS account (id int PRIMARY KEY, balance bigint NOT NULL)")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS chain (seq bigint PRIMARY KEY, source int NOT NULL, "
            "target int NOT NULL, amount bigint NOT NULL, hash char(64) NOT NULL)"
        )
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS item (id int PRIMARY KEY, version int NOT NULL, "
            "payload varchar(1000) NOT NULL)"
        )
        cursor.execute("SELECT count(*) FROM account")
        if cursor.fetchone()[0] == 0:
            cursor.executemany(
                "INSERT INTO account VALUES (%s, %s)", [(number, OPENING_BALANCE) for number in range(ACCOUNTS)]
            )
        fill(server, cursor, filler_bytes // (PAYLOAD_BYTES + 40))
        if is_postgres(server):
            # As a table that has been there for a while: autovacuum would write every new page to the WAL once more.
            cursor.execute("VACUUM (FREEZE, ANALYZE)")
    connection.close()


def fill(server, cursor, rows):
    """Filler rows made by the server itself: hashes, about as compressible as real data."""
    cursor.execute("SELECT coalesce(max(id), 0) FROM item")
    first = cursor.fetchone()[0] + 1
    for start in range(first, rows + 1, 20000):
        end = min(start + 19999, rows)
        if is_postgres(server):
            cursor.execute(
                "INSERT INTO item SELECT g, 0, repeat(md5(g::text) || md5((g * 7)::text), 14) "
                "FROM generate_series(%s, %s) g",
                (start, end),
            )
        else:
            cursor.execute(
                "INSERT INTO item WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999), "
                "g AS (SELECT %s + a.i * 1000 + b.i AS i FROM n a JOIN n b WHERE a.i < 20) "
                "SELECT i, 0, repeat(concat(sha2(i, 224), left(sha2(i * 7, 224), 8)), 14) FROM g WHERE i <= %s",
                (start, end),
            )


class Writer(threading.Thread):
    """Moves money on one server until stopped, and reconnects when the server comes back."""

    def __init__(self, server, journal_path, per_second=20, seed=None):
        super().__init__(daemon=True, name=f"writer-{server.port}")
        self.server = server
        self.journal_path = journal_path
        self.per_second = per_second
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.count = 0

    def run(self):
        with open(self.journal_path, "a", encoding="ascii") as journal:
            while not self.stopping.is_set():
                try:
                    self.write_until_stopped(journal)
                except (psycopg2.Error, pymysql.Error, OSError):
                    self.stopping.wait(0.5)

    def write_until_stopped(self, journal):
        connection = self.server.connect_admin(DATABASE)
        try:
            if is_postgres(self.server):
                connection.autocommit = False
            else:
                connection.autocommit(False)
            with connection.cursor() as cursor:
                while not self.stopping.is_set():
                    before = self.server.position(cursor)
                    connection.commit()
                    sequence = self.transfer(cursor)
                    connection.commit()
                    after = self.server.position(cursor)
                    connection.commit()
                    journal.write(json.dumps({"seq": sequence, "before": before, "after": after}) + "\n")
                    journal.flush()
                    self.count += 1
                    self.stopping.wait(self.random.expovariate(self.per_second))
        finally:
            connection.close()

    def transfer(self, cursor):
        cursor.execute("SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1 FOR UPDATE")
        last = cursor.fetchone() or (0, "")
        source, target = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randint(1, 50)
        sequence = last[0] + 1
        cursor.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, source))
        cursor.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, target))
        cursor.execute(
            "INSERT INTO chain VALUES (%s, %s, %s, %s, %s)",
            (sequence, source, target, amount, link_hash(last[1], sequence, source, target, amount)),
        )
        cursor.execute("UPDATE item SET version = version + 1 WHERE id = %s", (self.random.randint(1, 1000),))
        return sequence

    def stop(self):
        self.stopping.set()
        self.join(20)


def verify(connection):
    """Proves that the copy is a committed state; returns the number of its last link."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, balance FROM account ORDER BY id")
        accounts = dict(cursor.fetchall())
        cursor.execute("SELECT seq, source, target, amount, hash FROM chain ORDER BY seq")
        links = cursor.fetchall()
    if len(accounts) != ACCOUNTS:
        raise Violation(f"{len(accounts)} accounts instead of {ACCOUNTS}")
    if sum(accounts.values()) != ACCOUNTS * OPENING_BALANCE:
        raise Violation(f"the balances sum to {sum(accounts.values())} instead of {ACCOUNTS * OPENING_BALANCE}")
    expected = {number: OPENING_BALANCE for number in range(ACCOUNTS)}
    previous = ""
    for number, (sequence, source, target, amount, found) in enumerate(links, start=1):
        if sequence != number:
            raise Violation(f"link {number} of the chain is missing")
        previous = link_hash(previous, sequence, source, target, amount)
        if found != previous:
            raise Violation(f"link {number} of the chain has a wrong hash")
        expected[source] -= amount
        expected[target] += amount
    if expected != accounts:
        raise Violation("the accounts are not what the chain makes of the opening balances")
    return len(links)


def position_number(engine, position):
    """A position as numbers that can be compared: {stream: number}."""
    if engine == "postgresql":
        high, low = position.split("/")
        return {"": (int(high, 16) << 32) + int(low, 16)}
    numbers = {}
    for part in position.replace("\n", "").split(","):
        part = part.strip()
        if not part:
            continue
        if engine == "mariadb":
            domain, _, sequence = part.split("-")
            numbers[domain] = int(sequence)
        else:
            uuid, *ranges = part.split(":")
            numbers[uuid] = max(int(piece.split("-")[-1]) for piece in ranges if piece.split("-")[-1].isdigit())
    return numbers


def is_at_or_before(engine, position, checkpoint):
    first, second = position_number(engine, position), position_number(engine, checkpoint)
    return all(number <= second.get(stream, -1) for stream, number in first.items())


def verify_at(connection, engine, checkpoint, journal_path):
    """verify(), and that the copy is the state at the checkpoint: nothing missing, nothing extra."""
    last = verify(connection)
    for line in open(journal_path, encoding="ascii"):
        if not line.endswith("\n"):
            break  # the writer is in the middle of it
        entry = json.loads(line)
        if is_at_or_before(engine, entry["after"], checkpoint) and entry["seq"] > last:
            raise Violation(
                f"link {entry['seq']} was committed at {entry['after']}, before the checkpoint {checkpoint}, "
                f"but the copy ends at {last}"
            )
        if not is_at_or_before(engine, entry["before"], checkpoint) and entry["seq"] <= last:
            raise Violation(
                f"link {entry['seq']} was committed after {entry['before']}, past the checkpoint {checkpoint}, "
                f"but the copy has {last}"
            )
    return last


def wait_for_links(server, count, timeout=30):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = server.query("SELECT coalesce(max(seq), 0) FROM chain", database=DATABASE)[0][0]
        if found >= count:
            return found
        time.sleep(0.05)
    raise Violation(f"the writer did not reach {count} links in {timeout} s")


def journal_of(directory):
    return os.path.join(directory, "journal.jsonl")
