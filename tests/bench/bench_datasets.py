# SPDX-License-Identifier: Apache-2.0
"""Data directories of real servers to measure with: InnoDB made by sysbench, PostgreSQL made by pgbench, each before
and after one page in a hundred was changed at random. Kept for the next time."""

import os
import shutil
import subprocess

from bench_tools import STATE, say
from demo import servers

CHANGED_PART = 0.01
PORT = 13499
PAGE_SIZE = 8192  # PostgreSQL's; two of them are one of InnoDB's


class Dataset:
    """`first` and `second` are directories of a cleanly stopped server: before and after the change, of one page in a
    hundred or of about `changed_mib`."""

    engine = ""

    def __init__(self, size_mib, changed_mib=None):
        self.changed_part = changed_mib / size_mib if changed_mib else CHANGED_PART
        suffix = f"-{changed_mib}" if changed_mib else ""
        self.home = os.path.join(STATE, f"{self.engine}-{size_mib}{suffix}")
        self.first, self.second = (os.path.join(self.home, name) for name in ("first", "second"))
        self.server = self.new_server()
        complete = os.path.join(self.home, "complete")
        if not os.path.exists(complete):
            say(f"making {size_mib} MiB of {self.engine} data (kept for the next time)")
            shutil.rmtree(self.home, ignore_errors=True)
            servers.make_directory(self.home)
            self.make(size_mib)
            open(complete, "w", encoding="ascii").close()

    def new_server(self):
        raise NotImplementedError

    def make(self, size_mib):
        try:
            self.start()
            self.fill(self.server, size_mib)
            self.server.stop()
            copy_tree(self.server.data, self.first)
            self.start()
            self.change(self.server, self.changed_part)
            self.server.stop()
            os.rename(self.server.data, self.second)
        finally:
            self.server.stop()

    def start(self):
        self.server.start()

    @staticmethod
    def fill(server, size_mib):
        raise NotImplementedError

    @staticmethod
    def change(server, part):
        """Updates a row in so many of the pages."""
        raise NotImplementedError


def copy_tree(source, target):
    subprocess.run(["cp", "-a", source, target], check=True)


TABLES = 8
ROW_BYTES = 235  # of sysbench, with its share of the pages' free space and the secondary index
SCALE_BYTES = 16 << 20  # of one unit of pgbench's scale, with the fill factor below


class InnodbDataset(Dataset):
    engine = "mariadb"

    def new_server(self):
        self.first_live, self.second_live = self.first + "-live", self.second + "-live"
        return servers.MariadbServer(os.path.join(self.home, "server"), PORT)

    def start(self):
        # As on an agent's instance: no binary logs.
        self.server.start(
            "--skip-log-bin",
            "--innodb-buffer-pool-size=512M",
            "--innodb-log-file-size=96M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        )

    @staticmethod
    def fill(server, size_mib):
        server.query("CREATE DATABASE sbtest")
        rows = (size_mib << 20) // ROW_BYTES // TABLES
        subprocess.run(
            [
                servers.program("sysbench"),
                "oltp_read_write",
                f"--mysql-socket={server.socket}",
                "--mysql-user=root",
                f"--tables={TABLES}",
                f"--table-size={rows}",
                "--threads=2",
                "prepare",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def make(self, size_mib):
        super().make(size_mib)
        # mariadb-backup wants a running server, which writes a little: on copies.
        copy_tree(self.first, self.first_live)
        copy_tree(self.second, self.second_live)

    @staticmethod
    def change(server, part):
        for table in range(1, TABLES + 1):
            ((pages, rows),) = server.query(
                "SELECT s.clustered_index_size, s.n_rows FROM mysql.innodb_table_stats s"
                f" WHERE s.database_name = 'sbtest' AND s.table_name = 'sbtest{table}'"
            )
            # Column c is in no index: only the row's own page changes.
            server.query(
                f"UPDATE sbtest.sbtest{table} SET c = REVERSE(c) WHERE RAND({table}) < {part * pages / rows}"
            )


class PostgresDataset(Dataset):
    engine = "postgresql"

    def new_server(self):
        return servers.PostgresServer(os.path.join(self.home, "server"), PORT)

    def start(self):
        self.server.start(
            "-c", "shared_buffers=512MB", "-c", "autovacuum=off", "-c", "wal_level=minimal", "-c", "max_wal_senders=0"
        )

    @staticmethod
    def fill(server, size_mib):
        scale = max(1, (size_mib << 20) // SCALE_BYTES)
        # Room in each page for a new version of a row: then an update changes the row's own page and no index.
        subprocess.run(
            [
                os.path.join(server.programs, "pgbench"),
                "-h",
                server.directory,
                "-p",
                str(server.port),
                "-U",
                "postgres",
                "-i",
                "-q",
                "-F",
                "90",
                "-s",
                str(scale),
                "postgres",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def change(server, part):
        ((pages, rows),) = server.query(
            "SELECT relpages, reltuples FROM pg_class WHERE relname = 'pgbench_accounts'"
        )
        server.query(
            f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE random() < {part * pages / rows}"
        )


DATASETS = {"mariadb": InnodbDataset, "postgresql": PostgresDataset}


MARK_SIZE = 16384  # what the agent's recorder marks at a time


def changed_ranges(first, second):
    """Ranges of the files of `second` that `first` has too and that differ, as the agent's recorder would have marked
    them at the least; and how many bytes of database pages those are."""
    ranges, changed_bytes = [], 0
    for directory, _, names in os.walk(second):
        for name in names:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, second)
            before = os.path.join(first, relative)
            if not os.path.exists(before):
                continue
            with open(before, "rb") as old, open(path, "rb") as new:
                offset = 0
                while True:
                    was, now = old.read(MARK_SIZE), new.read(MARK_SIZE)
                    if not now:
                        break
                    if was != now:
                        ranges.append((relative, offset, len(now)))
                        changed_bytes += sum(
                            PAGE_SIZE
                            for at in range(0, len(now), PAGE_SIZE)
                            if was[at : at + PAGE_SIZE] != now[at : at + PAGE_SIZE]
                        )
                    offset += MARK_SIZE
    return sorted(ranges), changed_bytes
