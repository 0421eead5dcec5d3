# SPDX-License-Identifier: Apache-2.0
"""Wrapping keys of key management services.

When this goes red: a data key cannot be unwrapped any more, opens for another database, or was damaged on the way.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_gcp_kms import FakeGcpKms, Refused

CLIENT = os.environ["HOLDFAST_KEY_SERVICE_CLIENT"]
HOLDFAST = os.environ["HOLDFAST_CLI"]
GCP_KEY = "projects/p-1/locations/europe-west3/keyRings/backups/cryptoKeys/main"
IDS = [str(uuid.uuid4()) for _ in range(3)]  # repository, database, key


def call(location, verb, data, ids=None, environment=None, code=0):
    result = subprocess.run(
        [CLIENT, location, verb, *(ids or IDS), data.hex()],
        env={**os.environ, "no_proxy": "*", **(environment or {})}, capture_output=True, text=True, timeout=120,
        check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return bytes.fromhex(result.stdout) if code == 0 else result.stdout


def check_binding(location, environment, sealed_from):
    """Round trip, and nothing but the same key for the same purpose opens it."""
    key = os.urandom(32)
    wrapped = call(location, "wrap", key, environment=environment)
    assert key not in wrapped
    assert call(location, "wrap", key, environment=environment) != wrapped
    assert call(location, "unwrap", wrapped, environment=environment) == key
    for place in range(3):
        others = IDS[:place] + [str(uuid.uuid4())] + IDS[place + 1 :]
        assert "key-wrong" in call(location, "unwrap", wrapped, ids=others, environment=environment, code=1)
    for place in (sealed_from, sealed_from + 20, len(wrapped) - 1):
        damaged = bytearray(wrapped)
        damaged[place] ^= 1
        assert "key-wrong" in call(location, "unwrap", bytes(damaged), environment=environment, code=1)
    assert "key-wrong" in call(location, "unwrap", wrapped[:-1], environment=environment, code=1)
    return key, wrapped


# --- AWS KMS: moto, which verifies signatures and permissions; what we wrap is also opened by AWS's own library ---

AWS_SCRIPT = """
import base64, json, sys, boto3
call = json.load(sys.stdin)
kms = boto3.client("kms", endpoint_url=call["endpoint"], region_name=call["region"],
                   aws_access_key_id=call["access_key_id"], aws_secret_access_key=call["secret_key"])
answer = getattr(kms, call["method"])(**{name: base64.b64decode(value[4:]) if str(value).startswith("b64:") else value
                                          for name, value in call["arguments"].items()})
answer.pop("ResponseMetadata")
json.dump(answer, sys.stdout, default=lambda value: value.hex() if isinstance(value, bytes) else str(value))
"""


class Moto:
    def __init__(self, directory):
        self.root = pathlib.Path(__file__).resolve().parents[2]
        self.tools = pathlib.Path(os.environ.get("HOLDFAST_S3_TOOLS") or self.root / ".dev" / "s3")
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(self.root / "tests" / "tools" / "s3_server.py"), "moto", str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = json.loads(self.process.stdout.readline())
        self.key = self.boto("create_key")["KeyMetadata"]["Arn"]
        self.boto("create_alias", AliasName="alias/backups", TargetKeyId=self.key)
        self.environment = {"AWS_ACCESS_KEY_ID": self.facts["access_key_id"],
                            "AWS_SECRET_ACCESS_KEY": self.facts["secret_key"], "AWS_REGION": self.facts["region"]}

    def boto(self, method, **arguments):
        result = subprocess.run(
            [str(self.tools / "bin" / "python3"), "-c", AWS_SCRIPT], check=True, capture_output=True, timeout=120,
            input=json.dumps({**self.facts, "method": method, "arguments": arguments}).encode())
        return json.loads(result.stdout)

    def location(self, key=None):
        return f"awskms:///{key or self.key}?endpoint={self.facts['endpoint']}"

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(name="moto", scope="module")
def fixture_moto(tmp_path_factory):
    moto = Moto(tmp_path_factory.mktemp("moto"))
    yield moto
    moto.close()


def test_aws_wraps_for_one_purpose(moto):
    key, wrapped = check_binding(moto.location(), moto.environment, 36)  # behind the key's id
    context = dict(zip(("holdfast:repository", "holdfast:database", "holdfast:key"), IDS))
    opened = moto.boto("decrypt", CiphertextBlob="b64:" + base64.b64encode(wrapped).decode(), EncryptionContext=context)
    assert opened["Plaintext"] == key.hex() and opened["KeyId"] == moto.key


def test_aws_with_an_alias_and_a_profile(moto, tmp_path):
    files = tmp_path / "credentials"
    files.write_text(f"[backups]\naws_access_key_id = {moto.facts['access_key_id']}\n"
                     f"aws_secret_access_key = {moto.facts['secret_key']}\n", encoding="utf-8")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(files), "AWS_PROFILE": "backups",
                   "AWS_REGION": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    location = moto.location("alias/backups") + "&region=" + moto.facts["region"]
    key = os.urandom(32)
    wrapped = call(location, "wrap", key, environment=environment)
    assert call(location, "unwrap", wrapped, environment=environment) == key
    assert "region" in call(moto.location("alias/backups"), "wrap", key, environment=environment, code=1)


def test_aws_refusals(moto):
    secret = moto.facts["secret_key"]
    wrong = {**moto.environment, "AWS_SECRET_ACCESS_KEY": "wrong" + secret[5:]}
    said = call(moto.location(), "wrap", os.urandom(32), environment=wrong, code=1)
    assert said.startswith("permission-denied") and secret[5:] not in said
    gone = moto.key.rsplit("/", 1)[0] + "/" + str(uuid.uuid4())
    assert "key-missing" in call(moto.location(gone), "wrap", os.urandom(32), environment=moto.environment, code=1)


def test_a_repository_under_an_aws_key(moto, tmp_path):
    move_there_and_back(tmp_path, moto.location(), moto.environment)


# --- Google Cloud KMS ---


@pytest.fixture(name="kms")
def fixture_kms():
    fake = FakeGcpKms(GCP_KEY)
    yield fake
    fake.close()


@pytest.fixture(name="gcp")
def fixture_gcp(kms, tmp_path):
    kms.write_account(tmp_path / "account.json")
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json")}


def location_of(kms, key=GCP_KEY):
    return f"gcpkms:///{key}?endpoint={kms.endpoint}"


def test_gcp_wraps_for_one_purpose(kms, gcp):
    check_binding(location_of(kms), gcp, 2)


def test_gcp_with_a_token_of_the_metadata_server(kms):
    environment = {"GCE_METADATA_HOST": kms.address, "GOOGLE_APPLICATION_CREDENTIALS": ""}
    key = os.urandom(32)
    wrapped = call(location_of(kms), "wrap", key, environment=environment)
    assert call(location_of(kms), "unwrap", wrapped, environment=environment) == key


def test_gcp_damage_on_the_way_is_found(kms, gcp):
    wrapped = call(location_of(kms), "wrap", os.urandom(32), environment=gcp)
    for fault, verb in [("damaged answer", "wrap"), ("not verified", "wrap"), ("another key", "wrap"),
                        ("damaged answer", "unwrap")]:
        kms.fault, kms.fault_count = fault, 1
        data = os.urandom(32) if verb == "wrap" else wrapped
        assert "unavailable: " in call(location_of(kms), verb, data, environment=gcp, code=1), fault


@pytest.mark.parametrize("fault,reason,count", [
    (Refused(403, "PERMISSION_DENIED", "Permission denied"), "permission-denied", 9),
    (Refused(400, "FAILED_PRECONDITION", "the version is DISABLED"), "key-missing", 9),
    (Refused(404, "NOT_FOUND", "no such key"), "key-missing", 9),
    (Refused(503, "UNAVAILABLE", "try again"), None, 2),
    (Refused(429, "RESOURCE_EXHAUSTED", "slow down"), None, 1),
    (Refused(500, "INTERNAL", "oops"), "unavailable", 9),
], ids=lambda value: str(value)[:20])
def test_gcp_refusals(kms, gcp, fault, reason, count):
    kms.fault, kms.fault_count = fault, count
    if reason is None:  # it passes
        assert len(call(location_of(kms), "wrap", os.urandom(32), environment=gcp)) > 32
    else:
        said = call(location_of(kms), "wrap", os.urandom(32), environment=gcp, code=1)
        assert said.startswith(reason) and str(fault) in said


def test_gcp_accounts_that_are_refused(kms, gcp, tmp_path):
    path = tmp_path / "account.json"
    kms.write_account(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    said = call(location_of(kms), "wrap", os.urandom(32), environment=gcp, code=1)
    assert "gave no token" in said and "PRIVATE" not in said
    path.write_text("{}", encoding="utf-8")
    assert "not a service account" in call(location_of(kms), "wrap", os.urandom(32), environment=gcp, code=1)
    path.unlink()
    assert "reading Google's credentials" in call(location_of(kms), "wrap", os.urandom(32), environment=gcp, code=1)


def test_locations_that_are_none(kms):
    for location in ["awskms:///", "awskms:///arn:aws:s3:::bucket", "awskms:///k%20y", "gcpkms:///",
                     "gcpkms:///projects/p", f"gcpkms:///{GCP_KEY}/cryptoKeyVersions/1",
                     f"gcpkms:///{GCP_KEY}?color=red", f"gcpkms:///{GCP_KEY}?endpoint=ftp://x", "azurekms:///x",
                     "gcpkms:///projects/p/locations/l/keyRings/../cryptoKeys/k?x", "file://relative"]:
        assert "invalid-argument" in call(location, "wrap", os.urandom(32), code=1), location
    assert kms.calls == []


# --- a repository that moves from a key file to a service and back ---


def holdfast(*arguments, environment=None, code=0):
    result = subprocess.run(
        [HOLDFAST, "repository", *arguments], env={**os.environ, "no_proxy": "*", **(environment or {})},
        capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def move_there_and_back(tmp_path, location, environment):
    place, first, second = (str(tmp_path / name) for name in ("repository", "first.key", "second.key"))
    for key in (first, second):
        holdfast("create-key", "--key-file", key)
    holdfast("init", "--repository", place, "--key-file", location, environment=environment)
    there = ["--repository", place]
    assert "does not open" in holdfast("list", *there, "--key-file", first, code=5)
    holdfast("rotate-key", *there, "--key-file", location, "--new-key-file", first, environment=environment)
    holdfast("list", *there, "--key-file", first)
    holdfast("rotate-key", *there, "--key-file", first, "--new-key-file", location, environment=environment)
    assert location.split("?", maxsplit=1)[0] in holdfast("list", *there, "--key-file", first, code=5)
    holdfast("list", *there, "--key-file", location, environment=environment)


def test_a_repository_under_a_gcp_key(kms, gcp, tmp_path):
    move_there_and_back(tmp_path, location_of(kms), gcp)
