# SPDX-License-Identifier: Apache-2.0
"""Google Cloud KMS and its token endpoint, as strict as their documentation: a call that Google would accept but that
its data integrity guidelines do not want (no checksum) is refused, too. JWTs are verified by another library."""

import base64
import http.server
import json
import os
import threading
import time
import urllib.parse

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCOPE = "https://www.googleapis.com/auth/cloudkms"
EMAIL = "backups@example.iam.gserviceaccount.com"
ACCOUNT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # once: it takes its time


def crc32c(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283  # the published check value


class Refused(Exception):
    def __init__(self, code, status, message):
        super().__init__(message)
        self.code, self.status = code, status


class FakeGcpKms:
    """`fault`: what goes wrong with the calls to come, `fault_count` of them."""

    def __init__(self, key_name):
        self.key_name, self.key = key_name, AESGCM.generate_key(256)
        self.tokens, self.calls, self.fault, self.fault_count = {}, [], None, 0
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(lambda: fake.post(self.path, self.headers, body))

            def do_GET(self):
                self.answer(lambda: fake.metadata(self.path, self.headers))

            def answer(self, handle):
                try:
                    code, answer = 200, handle()
                except Refused as refused:
                    error = {"code": refused.code, "message": str(refused), "status": refused.status}
                    code, answer = refused.code, {"error": error}
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Metadata-Flavor", "Google")  # as the metadata server does; others do not mind
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.endpoint = f"http://{self.address}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def write_account(self, path, key=None):
        pem = (key or ACCOUNT_KEY).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        account = {"type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": pem.decode(),
                   "client_email": EMAIL, "token_uri": self.endpoint + "/token"}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(account, file)

    # --- tokens ---

    def new_token(self):
        token = "ya29." + base64.urlsafe_b64encode(os.urandom(30)).decode()
        self.tokens[token] = time.monotonic() + 3600
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def token(self, headers, body):
        if headers["Content-Type"] != "application/x-www-form-urlencoded":
            raise Refused(400, "INVALID_ARGUMENT", "not a form")
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Refused(400, "INVALID_ARGUMENT", "grant type")
        try:
            claims = jwt.decode(form["assertion"], ACCOUNT_KEY.public_key(), algorithms=["RS256"],
                                audience=self.endpoint + "/token",
                                options={"require": ["iss", "scope", "aud", "iat", "exp"]})
        except jwt.PyJWTError as error:
            raise Refused(401, "UNAUTHENTICATED", f"invalid_grant: {error}") from error
        header = jwt.get_unverified_header(form["assertion"])
        if (claims["iss"], claims["scope"], header) != (EMAIL, SCOPE, {"alg": "RS256", "typ": "JWT", "kid": "k1"}):
            raise Refused(401, "UNAUTHENTICATED", "claims")
        if claims["exp"] - claims["iat"] > 3600:
            raise Refused(401, "UNAUTHENTICATED", "too long a life")
        return self.new_token()

    def metadata(self, path, headers):
        if headers["Metadata-Flavor"] != "Google":
            raise Refused(403, "PERMISSION_DENIED", "no Metadata-Flavor")
        if path != "/computeMetadata/v1/instance/service-accounts/default/token":
            raise Refused(404, "NOT_FOUND", path)
        return self.new_token()

    # --- KMS ---

    def post(self, path, headers, body):
        if path == "/token":
            return self.token(headers, body)
        self.calls.append(path)
        fault = None
        if self.fault_count > 0:
            self.fault_count -= 1
            fault = self.fault
        if fault is not None and isinstance(fault, Refused):
            raise fault
        kind, _, token = headers["Authorization"].partition(" ")
        if kind != "Bearer" or self.tokens.get(token, 0) < time.monotonic():
            raise Refused(401, "UNAUTHENTICATED", "no valid token")
        name, _, verb = path.removeprefix("/v1/").partition(":")
        if not path.startswith("/v1/") or name != self.key_name:
            raise Refused(404, "NOT_FOUND", f"CryptoKey {name} not found.")
        request = json.loads(body)
        return {"encrypt": self.encrypt, "decrypt": self.decrypt}[verb](request, fault)

    @staticmethod
    def field(request, name):
        data = base64.b64decode(request[name], validate=True)
        if request[name + "Crc32c"] != str(crc32c(data)):
            raise Refused(400, "INVALID_ARGUMENT", f"The checksum in field {name}_crc32c did not match.")
        return data

    @staticmethod
    def damaged(data, fault):
        text = bytearray(data)
        if fault == "damaged answer":
            text[0] ^= 1
        return base64.b64encode(text).decode()

    def encrypt(self, request, fault):
        if set(request) != {"plaintext", "plaintextCrc32c", "additionalAuthenticatedData",
                            "additionalAuthenticatedDataCrc32c"}:
            raise Refused(400, "INVALID_ARGUMENT", f"fields {sorted(request)}")
        nonce = os.urandom(12)
        associated = self.field(request, "additionalAuthenticatedData")
        sealed = b"\x0a\x24" + nonce + AESGCM(self.key).encrypt(nonce, self.field(request, "plaintext"), associated)
        return {"name": ("projects/other/x" if fault == "another key" else self.key_name) + "/cryptoKeyVersions/1",
                "ciphertext": self.damaged(sealed, fault), "ciphertextCrc32c": str(crc32c(sealed)),
                "verifiedPlaintextCrc32c": fault != "not verified",
                "verifiedAdditionalAuthenticatedDataCrc32c": True, "protectionLevel": "SOFTWARE"}

    def decrypt(self, request, fault):
        if set(request) != {"ciphertext", "ciphertextCrc32c", "additionalAuthenticatedData",
                            "additionalAuthenticatedDataCrc32c"}:
            raise Refused(400, "INVALID_ARGUMENT", f"fields {sorted(request)}")
        sealed = self.field(request, "ciphertext")
        associated = self.field(request, "additionalAuthenticatedData")
        try:
            plain = AESGCM(self.key).decrypt(sealed[2:14], sealed[14:], associated)
        except InvalidTag as error:
            raise Refused(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.") from error
        return {"plaintext": self.damaged(plain, fault), "plaintextCrc32c": str(crc32c(plain)),
                "usedPrimary": True, "protectionLevel": "SOFTWARE"}
