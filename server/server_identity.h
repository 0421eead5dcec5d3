// SPDX-License-Identifier: Apache-2.0
// What all servers of one database share: the secret key that seals, and the certificate that
// agents pin.
#pragma once

#include "common/error.h"
#include "common/secret.h"

typedef struct Store Store;

#define SERVER_CERTIFICATE_NAME "holdfast" // the name in the certificate, whatever the address

typedef struct ServerIdentity {
    Secret secret_key; // AES256_KEY_SIZE bytes
    char *certificate_pem;
    Secret key_pem;
} ServerIdentity;

// The key file is one line, "holdfast-secret-1:" and 64 hex digits; made (mode 0600) when it is
// missing.
Status server_secret_key_load(const char *path, Secret *ret_key, Error *error);
// Reads the identity, or makes it when this is the database's first server. REASON_KEY_WRONG when
// the secret key is not this database's.
Status server_identity_load(Store *store, const char *secret_key_file, ServerIdentity *ret_identity,
                            Error *error);
void server_identity_done(ServerIdentity *identity);
