# SPDX-License-Identifier: Apache-2.0
"""What a user would use instead: full backup, incremental after a change, restore, each on the same data and store."""

import os
import re
import shutil
import subprocess

import bench_store
from bench_tools import measured, pipeline
from demo import servers

PASSWORD = "correct horse battery staple"
PROCESSES = 2


class Peer:
    """`full` and `incremental` return seconds and processor seconds; so does `restore`, durable at its end."""

    name = ""
    engines = ()

    def __init__(self, store, scratch):
        self.store = store
        self.scratch = os.path.join(scratch, self.name)
        os.makedirs(self.scratch)

    def begin(self, dataset):
        """Whatever is not to be measured."""

    def end(self):
        pass

    def full(self, dataset):
        raise NotImplementedError

    def incremental(self, dataset):
        raise NotImplementedError

    def restore(self, target):
        raise NotImplementedError

    def stored_bytes(self):
        return self.store.prefix_bytes(self.name)

    def secret(self):
        path = os.path.join(self.scratch, "password")
        with open(path, "w", encoding="ascii") as file:
            file.write(PASSWORD)
        return path


class MariadbBackup(Peer):
    """mariadb-backup, streamed through zstd and openssl to the store by rclone."""

    name = "mariadb-backup"
    engines = ("mariadb",)

    def begin(self, dataset):
        self.server = servers.MariadbServer(dataset.server.directory, dataset.server.port)
        secret = self.secret()
        self.seal = f"openssl enc -aes-256-ctr -pbkdf2 -iter 1 -pass file:{secret}"
        self.environment = {
            "AWS_CA_BUNDLE": "",
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.store.endpoint,
            "RCLONE_CONFIG_STORE_REGION": bench_store.REGION,
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": bench_store.ACCESS_KEY,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": bench_store.SECRET_KEY,
        }
        self.rclone = f"rclone --ca-cert {self.store.certificate} --s3-chunk-size 16M --s3-no-check-bucket"

    def end(self):
        self.server.stop()

    def backup(self, directory, name, options):
        """On a running server: its start is not measured."""
        self.server.stop()
        self.server.data = directory
        self.server.start("--skip-log-bin")
        marks = os.path.join(self.scratch, f"{name}-lsn")
        os.makedirs(marks)
        command = (
            f"mariadb-backup --backup --stream=xbstream --parallel={PROCESSES} --user=root"
            f" --socket={self.server.socket}"
            f" --datadir={directory} --extra-lsndir={marks} {options} | zstd -q -1 -T{PROCESSES} | {self.seal}"
            f" | {self.rclone} rcat store:{self.store.bucket}/{self.name}/{name}"
        )
        _, seconds, processor = measured(pipeline(command), self.environment)
        self.server.stop()
        return seconds, processor

    def full(self, dataset):
        return self.backup(dataset.first_live, "full", "")

    def incremental(self, dataset):
        with open(os.path.join(self.scratch, "full-lsn", "xtrabackup_checkpoints"), encoding="ascii") as file:
            lsn = re.search(r"to_lsn = (\d+)", file.read()).group(1)
        return self.backup(dataset.second_live, "incremental", f"--incremental-lsn={lsn}")

    def restore(self, target):
        def fetch(name, directory):
            return (
                f"mkdir {directory} && {self.rclone} cat store:{self.store.bucket}/{self.name}/{name} | {self.seal} -d"
                f" | zstd -q -d | mbstream -x -p {PROCESSES} -C {directory}"
            )

        change = os.path.join(self.scratch, "change")
        command = (
            f"{fetch('full', target)} && mariadb-backup --prepare --target-dir={target}"
            f" && {fetch('incremental', change)} && mariadb-backup --prepare --target-dir={target}"
            f" --incremental-dir={change}"
            f" && sync -f {target}"
        )
        _, seconds, processor = measured(pipeline(command), self.environment)
        shutil.rmtree(change)
        return seconds, processor


class Restic(Peer):
    name = "restic"
    engines = ("mariadb", "postgresql")

    def begin(self, dataset):
        self.environment = {
            "AWS_ACCESS_KEY_ID": bench_store.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": bench_store.SECRET_KEY,
            "AWS_DEFAULT_REGION": bench_store.REGION,
            "RESTIC_PASSWORD_FILE": self.secret(),
            "RESTIC_REPOSITORY": f"s3:{self.store.endpoint}/{self.store.bucket}/{self.name}",
            "RESTIC_CACHE_DIR": os.path.join(self.scratch, "cache"),
        }
        self.command = ["restic", "--quiet", "--cacert", self.store.certificate]
        measured([*self.command, "init"], self.environment)

    def full(self, dataset):
        return self.backup(dataset.first)

    def incremental(self, dataset):
        return self.backup(dataset.second)

    def backup(self, directory):
        # The same path each time, so that it finds its parent.
        current = os.path.join(self.scratch, "current")
        subprocess.run(["ln", "-sfn", directory, current], check=True)
        environment = {**self.environment, "PWD": current}
        _, seconds, processor = measured([*self.command, "backup", "."], environment, directory=current)
        return seconds, processor

    def restore(self, target):
        command = f"{' '.join(self.command)} restore latest --target {target} && sync -f {target}"
        _, seconds, processor = measured(pipeline(command), self.environment)
        return seconds, processor


class Pgbackrest(Peer):
    name = "pgbackrest"
    engines = ("postgresql",)

    def begin(self, dataset):
        self.current = os.path.join(self.scratch, "current")
        os.symlink(dataset.first, self.current)
        self.configuration = os.path.join(self.scratch, "pgbackrest.conf")
        version = subprocess.run(["pgbackrest", "version"], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.version = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        block = "repo1-block=y\n" if self.version >= (2, 46) else ""
        with open(self.configuration, "w", encoding="ascii") as file:
            file.write(
                f"[global]\nrepo1-type=s3\nrepo1-path=/{self.name}\nrepo1-s3-bucket={self.store.bucket}\n"
                f"repo1-s3-endpoint=localhost\nrepo1-storage-host=localhost\nrepo1-storage-port={self.store.port}\n"
                f"repo1-s3-region={bench_store.REGION}\nrepo1-s3-uri-style=path\n"
                f"repo1-s3-key={bench_store.ACCESS_KEY}\nrepo1-s3-key-secret={bench_store.SECRET_KEY}\n"
                f"repo1-storage-ca-file={self.store.certificate}\nrepo1-cipher-type=aes-256-cbc\n"
                f"repo1-cipher-pass={PASSWORD.replace(' ', '-')}\nrepo1-bundle=y\n{block}"
                f"compress-type=zst\ncompress-level=1\nprocess-max={PROCESSES}\nstart-fast=y\nlog-level-console=warn\n"
                f"log-level-file=off\nlock-path={self.scratch}/lock\nspool-path={self.scratch}/spool\n"
                f"[main]\npg1-path={self.current}\n"
            )
        os.chmod(self.configuration, 0o600)
        measured(self.command("stanza-create", "--no-online"))

    def command(self, *arguments):
        return ["pgbackrest", f"--config={self.configuration}", "--stanza=main", *arguments]

    def full(self, dataset):
        _, seconds, processor = measured(self.command("backup", "--type=full", "--no-online"))
        return seconds, processor

    def incremental(self, dataset):
        subprocess.run(["ln", "-sfn", dataset.second, self.current], check=True)
        _, seconds, processor = measured(self.command("backup", "--type=incr", "--no-online"))
        return seconds, processor

    def restore(self, target):
        os.makedirs(target, mode=0o700)
        command = " ".join(self.command("restore", f"--pg1-path={target}", "--type=none"))
        _, seconds, processor = measured(pipeline(f"{command} && sync -f {target}"))
        return seconds, processor


PEERS = [MariadbBackup, Pgbackrest, Restic]
# Programs, each in the package of its name.
PACKAGES = ["mariadb-backup", "pgbackrest", "restic", "rclone", "sysbench", "zstd", "openssl"]
