// SPDX-License-Identifier: Apache-2.0
#include "server/service/sealed_secret.h"

#include "common/crypto.h"
#include "common/memory.h"

#include <assert.h>
#include <string.h>

void secret_seal(Arena *arena, const Secret *key, const char *label, const void *plain, size_t size,
                 const uint8_t **ret_sealed, size_t *ret_size)
{
    assert(key->size == AES256_KEY_SIZE);
    uint8_t *sealed = arena_alloc(arena, GCM_NONCE_SIZE + size + GCM_TAG_SIZE);
    crypto_random(sealed, GCM_NONCE_SIZE);
    crypto_seal(key->data, sealed, label, strlen(label), plain, size, sealed + GCM_NONCE_SIZE);
    *ret_sealed = sealed;
    *ret_size = GCM_NONCE_SIZE + size + GCM_TAG_SIZE;
}

Status secret_unseal(const Secret *key, const char *label, const void *sealed, size_t size,
                     Secret *ret_plain, Error *error)
{
    assert(key->size == AES256_KEY_SIZE);
    if (size < GCM_NONCE_SIZE + GCM_TAG_SIZE) {
        return error_set(error, REASON_KEY_WRONG, "a sealed secret is too short");
    }
    const uint8_t *bytes = sealed;
    size_t plain_size = size - GCM_NONCE_SIZE - GCM_TAG_SIZE;
    uint8_t *plain = mem_alloc(plain_size + 1);
    bool is_open = crypto_open(key->data, bytes, label, strlen(label), bytes + GCM_NONCE_SIZE,
                               size - GCM_NONCE_SIZE, plain);
    if (is_open) {
        *ret_plain = secret_from_bytes(plain, plain_size);
    }
    explicit_bzero(plain, plain_size + 1);
    mem_free(plain);
    if (!is_open) {
        error_set(error, REASON_KEY_WRONG,
                  "a sealed secret does not open with this server's secret key");
        return error_hint(
            error, "give this server the secret key file that the others of this database use");
    }
    return STATUS_OK;
}

Secret secret_derive(const Secret *key, const char *label)
{
    assert(key->size == AES256_KEY_SIZE);
    uint8_t digest[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];
    crypto_hmac_sha256(key->data, key->size, label, strlen(label), digest);
    hex_encode(digest, sizeof(digest), text);
    Secret derived = secret_from_text(text);
    explicit_bzero(digest, sizeof(digest));
    explicit_bzero(text, sizeof(text));
    return derived;
}
