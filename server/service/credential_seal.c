// SPDX-License-Identifier: Apache-2.0
#include "server/service/credential_seal.h"

#include "common/crypto.h"
#include "common/memory.h"

#include <string.h>

// Sealed: version, nonce, ciphertext with tag.
#define VERSION 1
#define HEADER_SIZE (1 + GCM_NONCE_SIZE)

static void derive(const Secret *secret_key, uint8_t ret_key[AES256_KEY_SIZE])
{
    static const char LABEL[] = "holdfast credential";
    crypto_hkdf(secret_key->data, secret_key->size, LABEL, sizeof(LABEL) - 1, ret_key,
                AES256_KEY_SIZE);
}

uint8_t *credential_seal(const Secret *secret_key, const char *credential_id, const char *password,
                         Arena *arena, size_t *ret_size)
{
    size_t password_size = strlen(password);
    size_t size = HEADER_SIZE + password_size + GCM_TAG_SIZE;
    uint8_t *sealed = arena_alloc(arena, size);
    sealed[0] = VERSION;
    crypto_random(sealed + 1, GCM_NONCE_SIZE);
    uint8_t key[AES256_KEY_SIZE];
    derive(secret_key, key);
    crypto_seal(key, sealed + 1, credential_id, strlen(credential_id), password, password_size,
                sealed + HEADER_SIZE);
    explicit_bzero(key, sizeof(key));
    *ret_size = size;
    return sealed;
}

Status credential_unseal(const Secret *secret_key, const char *credential_id, const uint8_t *sealed,
                         size_t size, Secret *ret_password, Error *error)
{
    bool is_open = false;
    if (size >= HEADER_SIZE + GCM_TAG_SIZE && sealed[0] == VERSION) {
        size_t plain_size = size - HEADER_SIZE - GCM_TAG_SIZE;
        uint8_t *plain = mem_alloc(plain_size + 1);
        uint8_t key[AES256_KEY_SIZE];
        derive(secret_key, key);
        is_open = crypto_open(key, sealed + 1, credential_id, strlen(credential_id),
                              sealed + HEADER_SIZE, size - HEADER_SIZE, plain);
        explicit_bzero(key, sizeof(key));
        if (is_open) {
            *ret_password = secret_from_bytes(plain, plain_size);
        }
        explicit_bzero(plain, plain_size);
        mem_free(plain);
    }
    if (!is_open) {
        error_set(error, REASON_KEY_WRONG,
                  "a credential cannot be opened with this server's "
                  "secret key");
        return error_hint(error, "start the server with the secret key file it was first started "
                                 "with, or set the credential's password anew");
    }
    return STATUS_OK;
}
