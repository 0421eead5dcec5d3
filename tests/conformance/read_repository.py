# SPDX-License-Identifier: Apache-2.0
"""A second reader of repositories, written from docs/repository-format.md alone: restores the newest set.

It shares no code with repository/, so that the document stays enough to restore from. Only Python's standard library
and the C libraries libcrypto and libzstd are used.

    read_repository.py REPOSITORY_DIRECTORY KEY_FILE TARGET_DIRECTORY
"""

import ctypes
import ctypes.util
import hashlib
import hmac
import json
import os
import struct
import sys
import uuid

CRYPTO = ctypes.CDLL(ctypes.util.find_library("crypto"))
ZSTD = ctypes.CDLL(ctypes.util.find_library("zstd"))
ZSTD.ZSTD_decompress.restype = ctypes.c_size_t
ZSTD.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
    getattr(CRYPTO, name).restype = ctypes.c_void_p
SET_TAG = 0x11
EXTENT_SIZE = 32768
GET_TAG = 0x10


def require(condition, what):
    if not condition:
        raise SystemExit(f"not as the format says: {what}")


def hkdf(key, info):
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info.encode() + b"\x01", hashlib.sha256).digest()


def unseal(key, nonce, associated, sealed):
    body, tag = sealed[:-16], sealed[-16:]
    context = ctypes.c_void_p(CRYPTO.EVP_CIPHER_CTX_new())
    plain = ctypes.create_string_buffer(max(len(body), 1))
    size = ctypes.c_int(0)
    cipher = ctypes.c_void_p(CRYPTO.EVP_aes_256_gcm())
    good = CRYPTO.EVP_DecryptInit_ex(context, cipher, None, key, nonce) == 1
    good = good and CRYPTO.EVP_DecryptUpdate(context, None, ctypes.byref(size), associated, len(associated)) == 1
    good = good and CRYPTO.EVP_DecryptUpdate(context, plain, ctypes.byref(size), body, len(body)) == 1
    good = good and CRYPTO.EVP_CIPHER_CTX_ctrl(context, SET_TAG, 16, tag) == 1
    good = good and CRYPTO.EVP_DecryptFinal_ex(context, ctypes.create_string_buffer(16), ctypes.byref(size)) == 1
    CRYPTO.EVP_CIPHER_CTX_free(context)
    require(good, "a seal")
    return plain.raw[: len(body)]


def gmac(key, data):
    context = ctypes.c_void_p(CRYPTO.EVP_CIPHER_CTX_new())
    tag = ctypes.create_string_buffer(16)
    size = ctypes.c_int(0)
    cipher = ctypes.c_void_p(CRYPTO.EVP_aes_256_gcm())
    good = CRYPTO.EVP_EncryptInit_ex(context, cipher, None, key, bytes(12)) == 1
    good = good and CRYPTO.EVP_EncryptUpdate(context, None, ctypes.byref(size), data, len(data)) == 1
    good = good and CRYPTO.EVP_EncryptFinal_ex(context, ctypes.create_string_buffer(16), ctypes.byref(size)) == 1
    good = good and CRYPTO.EVP_CIPHER_CTX_ctrl(context, GET_TAG, 16, tag) == 1
    CRYPTO.EVP_CIPHER_CTX_free(context)
    require(good, "a hash")
    return tag.raw


def inflate(packed, plain_size):
    plain = ctypes.create_string_buffer(max(plain_size, 1))
    require(ZSTD.ZSTD_decompress(plain, plain_size, packed, len(packed)) == plain_size, "a zstd frame")
    return plain.raw[:plain_size]


def id_text(data):
    return str(uuid.UUID(bytes=data))


class Repository:
    def __init__(self, directory, key_file):
        self.directory = directory
        with open(key_file, encoding="ascii") as file:
            prefix, digits = file.read().strip().split(":")
        require(prefix == "holdfast-key-1", "the key file")
        self.wrapping_key = bytes.fromhex(digits)
        description = json.loads(self.read("repository"))
        require(description["format"] == "holdfast-repository" and description["version"] == 1, "the repository")
        self.id = description["repository_id"]
        self.wrapping_id = hkdf(self.wrapping_key, "holdfast/1/fingerprint")[:8].hex()
        wrapping = json.loads(self.read(f"wrapping-keys/{self.wrapping_id}"))
        require(wrapping["version"] == 1 and wrapping["kind"] == "file", "the wrapping key")

    def read(self, key, offset=0, size=-1):
        with open(os.path.join(self.directory, key), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def names(self, folder):
        return os.listdir(os.path.join(self.directory, folder))

    def data_key(self, database_id, key_id):
        ids = [uuid.UUID(text).bytes for text in (self.id, database_id, key_id)]
        data = self.read(f"keys/{database_id}/{key_id}.{self.wrapping_id}")
        header = b"HFWRAP01" + struct.pack("<II", 1, 60) + b"".join(ids) + bytes.fromhex(self.wrapping_id) + bytes(8)
        require(len(data) == 140 and data[:80] == header, "a wrapped key")
        wrap = hkdf(self.wrapping_key, f"holdfast/1/wrap\n{self.id}\n{database_id}\n{key_id}")
        key = unseal(wrap, data[80:92], b"", data[92:])
        record = self.read(f"keys/{database_id}/{key_id}")
        mac_key = hkdf(key, f"holdfast/1/key-record\n{self.id}\n{database_id}\n{key_id}")
        require(record[:64] == b"HFKEY001" + struct.pack("<II", 1, 0) + b"".join(ids), "a key's record")
        require(record[80:] == hmac.digest(mac_key, record[:80], "sha256"), "a key's record")
        return key

    def document(self, key, magic):
        data = self.read(key)
        version, epoch = struct.unpack_from("<II", data, 8)
        ids = [id_text(data[start : start + 16]) for start in range(16, 96, 16)]
        require(data[:8] == magic and version == 1 and ids[1] == self.id, f"the header of {key}")
        (plain_size,) = struct.unpack_from("<I", data, 108)
        data_key = self.data_key(ids[2], ids[4])
        if magic == b"HFSET001":
            info = f"holdfast/1/set\n{self.id}\n{ids[2]}\n{ids[0]}"
        else:
            info = f"holdfast/1/manifest\n{self.id}\n{ids[3]}\n{epoch:08x}-{ids[0]}"
        packed = unseal(hkdf(data_key, info), data[96:108], data[:112], data[112:])
        digest = hashlib.sha256(data).hexdigest()
        return json.loads(inflate(packed, plain_size)), ids[2], data_key, digest


class Shard:
    def __init__(self, repository, database_id, shard_id, data_key, fan_out):
        self.repository, self.database_id, self.shard_id, self.data_key = repository, database_id, shard_id, data_key
        self.hash_keys = [
            hkdf(data_key, f"holdfast/1/{kind}-hash\n{repository.id}\n{shard_id}") for kind in ("extent", "node")
        ]
        self.fan_out = fan_out
        self.packs = {}

    def pack(self, name):
        """The pack's object, its key and its blobs' places, once its header and its sealed index are found right."""
        if name not in self.packs:
            key = hkdf(self.data_key, f"holdfast/1/pack\n{self.repository.id}\n{self.shard_id}\n{name}")
            objects = [key for key in self.repository.names(f"shards/{self.shard_id}/packs") if key.startswith(name)]
            if name in objects:
                self.packs[name] = name, key, self.check_pack(name, key)
            else:
                newest = max(objects, default=name)
                self.packs[name] = newest, key, self.check_replacement(name, newest)
        return self.packs[name]

    def associated(self, name, kind, encoding, index, plain_size):
        text = f"holdfast/1/blob\n{self.repository.id}\n{self.database_id}\n{self.shard_id}\n{name}\n"
        return text.encode() + struct.pack("<BBII", kind, encoding, index, plain_size)

    def check_pack(self, name, key):
        data = self.repository.read(f"shards/{self.shard_id}/packs/{name}")
        version, epoch = struct.unpack_from("<II", data, 8)
        require(data[:8] == b"HFPACK01" and version == 1, "a pack's header")
        require(f"{epoch:08x}-{id_text(data[16:32])}" == name and id_text(data[64:80]) == self.shard_id, "a pack's ids")
        index_size, count = struct.unpack_from("<II", data, len(data) - 16)
        require(data[-8:] == b"HFPACKE1" and len(data) <= 16 << 20, "a pack's trailer")
        sealed = data[-16 - index_size : -16]
        nonce = struct.pack("<Iq", 0xFFFFFFFF, 0)
        associated = self.associated(name, 3, 0, 0xFFFFFFFF, 28 * count)
        index = unseal(key, nonce, associated, sealed)
        places, offset = {}, 96
        for i in range(count):
            places[i] = offset
            offset += struct.unpack_from("<I", index, 28 * i + 8)[0]
        require(len(index) == 28 * count and offset + index_size + 16 == len(data), "a pack's index")
        return places

    def check_replacement(self, name, newest):
        data = self.repository.read(f"shards/{self.shard_id}/packs/{newest}")
        version, epoch = struct.unpack_from("<II", data, 8)
        number, count, index_size = struct.unpack_from("<III", data, 96)
        require(data[:8] == b"HFREPL01" and version == 1, "a replacement's header")
        require(f"{epoch:08x}-{id_text(data[16:32])}.{number:02x}" == newest and number > 0, "a replacement's name")
        require(id_text(data[64:80]) == self.shard_id and index_size == 36 * count + 16, "a replacement's header")
        info = f"holdfast/1/replacement\n{self.repository.id}\n{self.shard_id}\n{newest}"
        index = unseal(hkdf(self.data_key, info), data[112:124], data[:128], data[128 : 128 + index_size])
        places, offset = {}, 128 + index_size
        for i in range(count):
            blob, _, _, _, _, _, stored = struct.unpack_from("<IIBBHII", index, 36 * i)
            require(blob > max(places, default=-1), "a replacement's order")
            places[blob] = offset
            offset += stored
        require(offset == len(data), "a replacement's index")
        return places

    def blob(self, ref):
        pack_id = id_text(ref[16:32])
        epoch, index, offset, stored_size, plain_size = struct.unpack_from("<IIIII", ref, 32)
        kind, encoding = ref[52], ref[53]
        name = f"{epoch:08x}-{pack_id}"
        found, key, places = self.pack(name)
        require(index in places and (found != name or places[index] == offset), "a blob's place")
        sealed = self.repository.read(f"shards/{self.shard_id}/packs/{found}", places[index], stored_size)
        associated = self.associated(name, kind, encoding, index, plain_size)
        plain = unseal(key, struct.pack("<Iq", index, 0), associated, sealed)
        if encoding == 1:
            plain = inflate(plain, plain_size)
        if kind == 1:
            hashed = gmac(self.hash_keys[0], plain)
        else:
            hashed = hmac.new(self.hash_keys[1], plain, hashlib.sha256).digest()[:16]
        require(len(plain) == plain_size and hashed == ref[:16], "a blob's hash")
        return plain

    def node(self, ref, node_type, level):
        data = self.blob(ref)
        found_type, found_level, count, zero = struct.unpack_from("<BBHI", data, 0)
        require((found_type, found_level, zero) == (node_type, level, 0), "a node's header")
        return data, count

    def children(self, ref, node_type, level):
        data, count = self.node(ref, node_type, level)
        require(len(data) == 8 + 56 * count, "a node's size")
        return [data[8 + 56 * i : 64 + 56 * i] for i in range(count)]

    def entries(self, ref, level):
        if level > 0:
            for child in self.children(ref, 3, level):
                yield from self.entries(child, level - 1)
            return
        data, count = self.node(ref, 2, 0)
        at = 8
        for _ in range(count):
            path_size, kind, depth, mode, size, data_size = struct.unpack_from("<HBBIQQ", data, at)
            root = data[at + 24 : at + 80] if kind == 1 else None
            at += 80 if kind == 1 else 24
            yield data[at : at + path_size].decode(), kind, depth, mode, size, data_size, root
            at += path_size
        require(at == len(data), "a leaf's size")

    def write_map(self, file, ref, depth, first_extent):
        if ref == bytes(56):
            return 0
        if depth == 0:
            file.seek(first_extent * EXTENT_SIZE)
            return file.write(self.blob(ref))
        written = 0
        children = self.children(ref, 1, depth)
        require(len(children) <= self.fan_out, "a map node's count")
        for i, child in enumerate(children):
            written += self.write_map(file, child, depth - 1, first_extent + i * self.fan_out ** (depth - 1))
        return written

    def restore(self, manifest, target):
        os.makedirs(target)
        previous = ""
        list_root = bytes.fromhex(manifest["list_root"])
        for path, kind, depth, mode, size, data_size, root in self.entries(list_root, manifest["list_level"]):
            require(previous.encode() < path.encode() and ".." not in path.split("/") and path[0] != "/", "a path")
            previous = path
            full = os.path.join(target, path)
            if kind == 2:
                os.makedirs(full, mode=0o700, exist_ok=True)
                continue
            with open(full, "xb") as file:
                file.truncate(size)
                require(self.write_map(file, root, depth, 0) == data_size, "a file's bytes of data")
                require(file.seek(0, os.SEEK_END) == size, "a file's size")
            os.chmod(full, mode)


def main():
    repository = Repository(sys.argv[1], sys.argv[2])
    sets = []
    for database_id in os.listdir(os.path.join(sys.argv[1], "sets")):
        for backup_id in os.listdir(os.path.join(sys.argv[1], "sets", database_id)):
            document, found_id, _, _ = repository.document(f"sets/{database_id}/{backup_id}", b"HFSET001")
            require(found_id == database_id, "a set's place")
            sets.append((document["created_us"], database_id, document))
    _, database_id, newest = max(sets, key=lambda item: item[0])
    for shard in newest["shards"]:
        key = f"shards/{shard['shard_id']}/manifests/{shard['manifest_id']}"
        manifest, found_id, data_key, digest = repository.document(key, b"HFMANIF1")
        require(found_id == database_id and digest == shard["manifest_digest"], "a manifest's place")
        require(manifest["extent_size"] == EXTENT_SIZE, "the extent size")
        fan_out = manifest.get("map_fan_out", 512)
        require(fan_out in (64, 512), "the fan-out of maps")
        target = os.path.join(sys.argv[3], shard["shard_id"])
        Shard(repository, database_id, shard["shard_id"], data_key, fan_out).restore(manifest, target)


main()
