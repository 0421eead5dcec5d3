# SPDX-License-Identifier: Apache-2.0
"""What this machine can do with a data directory when it does one thing only, with all its processors, by other
people's tools: the slowest of these bounds every backup. In bytes of files in a second."""

import os
import re
import subprocess

import bench_store
from bench_tools import drop_caches, measured, pipeline

UPLOAD_MIB = 512
OBJECT_MIB = 16


def files_of(directory):
    found = []
    for folder, _, names in os.walk(directory):
        found += [os.path.join(folder, name) for name in names]
    return [path for path in found if os.path.getsize(path) >= 1 << 20]


class Stage:
    """How many bytes of files one stage does in a second when nothing else runs, and what a byte costs in processor
    seconds, those of the store's server too."""

    def __init__(self, rate, processor):
        self.rate, self.processor = rate, processor

    def of_part(self, part):
        """When only this part of each byte comes to the stage."""
        return Stage(self.rate / part, self.processor * part)


def stage(size, command, store=None):
    before = store.processor_seconds() if store else 0.0
    _, seconds, processor = measured(pipeline(command))
    of_store = store.processor_seconds() - before if store else 0.0
    return Stage(size / seconds, (processor + of_store) / size)


def speed_of(algorithm, processors):
    """openssl's own measurement."""
    output = subprocess.run(
        ["openssl", "speed", "-bytes", "32768", "-seconds", "1", "-multi", str(processors), *algorithm],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    rate = float(re.findall(r"([0-9.]+)k\s*$", output, re.M)[-1]) * 1000
    return Stage(rate, processors / rate)


def curl(store, arguments):
    return (
        f"curl -sS --fail --cacert {store.certificate} --aws-sigv4 aws:amz:{bench_store.REGION}:s3 "
        f"--user {bench_store.ACCESS_KEY}:{bench_store.SECRET_KEY} "
        f"-H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' {arguments}"
    )


def transfers(store, scratch):
    """Upload and download of incompressible objects, four at once."""
    source = os.path.join(scratch, "upload")
    os.makedirs(source)
    names = [f"object-{number}" for number in range(UPLOAD_MIB // OBJECT_MIB)]
    for name in names:
        with open(os.path.join(source, name), "wb") as file:
            file.write(os.urandom(OBJECT_MIB << 20))
    url = f"{store.endpoint}/{store.bucket}/limits"
    each = f"printf '%s\\n' {' '.join(names)} | xargs -P4 -I@ "
    size = UPLOAD_MIB << 20
    upload = stage(size, each + curl(store, f"-T {source}/@ {url}/@"), store)
    download = stage(size, each + curl(store, f"-o /dev/null {url}/@"), store)
    subprocess.run(["rm", "-rf", source], check=True)
    return upload, download


class Files:
    """The large files of a data directory, listed for xargs."""

    def __init__(self, directory, scratch):
        files = files_of(directory)
        self.size = sum(os.path.getsize(path) for path in files)
        self.listing = os.path.join(scratch, "files")
        with open(self.listing, "w", encoding="utf-8") as file:
            file.write("\n".join(files) + "\n")

    def stage(self, command):
        """A command for each file, `@`, as many at once as there are processors."""
        drop_caches()
        return stage(self.size, f"xargs -a {self.listing} -d '\\n' -P{os.cpu_count() or 1} -I@ {command}")

    def read(self):
        return self.stage("dd if=@ of=/dev/null iflag=direct bs=4M status=none")


def decompression(files, scratch):
    folder = os.path.join(scratch, "compressed")
    os.makedirs(folder)
    files.stage(f"zstd -q -1 -T1 --output-dir-mirror {folder} @")
    result = files.stage(f"zstd -q -t {folder}/@.zst")
    subprocess.run(["rm", "-rf", folder], check=True)
    return result


def direct_write(size, scratch):
    target = os.path.join(scratch, "write")
    half = size // 2 >> 22
    result = stage(
        half * 2 << 22,
        f"for i in 1 2; do dd if=/dev/zero of={target}-$i oflag=direct bs=4M count={half} "
        f"status=none & done; wait; sync -f {target}-1",
    )
    for number in (1, 2):
        os.remove(f"{target}-{number}")
    return result


def limits(directory, store, scratch, stored_part):
    """`stored_part`: stored bytes for each byte of files, which is all that is sealed and sent."""
    processors = os.cpu_count() or 1
    files = Files(directory, scratch)
    upload, download = transfers(store, scratch)
    return {
        "direct read": files.read(),
        "zstd -1": files.stage("zstd -q -1 -T1 -f -o /dev/null @"),
        "zstd -d": decompression(files, scratch),
        "AES-256-GCM": speed_of(["-evp", "aes-256-gcm"], processors).of_part(stored_part),
        "hash": speed_of(["ghash"], processors),
        "upload": upload.of_part(stored_part),
        "download": download.of_part(stored_part),
        "direct write": direct_write(min(files.size, 2 << 30), scratch),
    }
