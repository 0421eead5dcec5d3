# SPDX-License-Identifier: Apache-2.0
"""Wrapping keys of key management services.

When this goes red: a data key cannot be unwrapped any more, opens for another database, or was damaged on the way.
"""

import os
import subprocess
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


def check_binding(location, environment):
    """Round trip, and nothing but the same key for the same purpose opens it."""
    key = os.urandom(32)
    wrapped = call(location, "wrap", key, environment=environment)
    assert key not in wrapped
    assert call(location, "wrap", key, environment=environment) != wrapped
    assert call(location, "unwrap", wrapped, environment=environment) == key
    for place in range(3):
        others = IDS[:place] + [str(uuid.uuid4())] + IDS[place + 1 :]
        assert "key-wrong" in call(location, "unwrap", wrapped, ids=others, environment=environment, code=1)
    for place in (0, 5, len(wrapped) // 2, len(wrapped) - 1):
        damaged = bytearray(wrapped)
        damaged[place] ^= 1
        if place > 1:  # the fake's first two bytes mean nothing
            assert "key-wrong" in call(location, "unwrap", bytes(damaged), environment=environment, code=1)
    assert "key-wrong" in call(location, "unwrap", wrapped[:-1], environment=environment, code=1)
    return key, wrapped


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
    check_binding(location_of(kms), gcp)


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
    for location in ["gcpkms:///", "gcpkms:///projects/p", f"gcpkms:///{GCP_KEY}/cryptoKeyVersions/1",
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
