// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_token.h"

#include "common/crypto.h"
#include "common/text.h"

#include <assert.h>

Status store_token_find(StoreTransaction *transaction, Arena *arena, const uint8_t hash[32],
                        StoreToken **ret_token, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT id, role, token_hash, "
        "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS is_valid "
        "FROM tokens WHERE token_hash = $1",
        STORE_PARAMETERS(store_bytes_parameter(arena, hash, SHA256_SIZE)), &rows, error));
    *ret_token = NULL;
    if (rows.count == 1) {
        // The index compared hashes of what the caller sent, so its timing tells nothing about a
        // token; compare again all the same.
        size_t size;
        const uint8_t *stored = store_bytes(&rows, 0, "token_hash", arena, &size);
        if (size == SHA256_SIZE && crypto_equal(stored, hash, size)) {
            StoreToken *token = arena_alloc(arena, sizeof(*token));
            token->id = store_value(&rows, 0, "id");
            token->role = store_value(&rows, 0, "role");
            token->is_valid = store_boolean(&rows, 0, "is_valid");
            *ret_token = token;
        }
    }
    return STATUS_OK;
}

Status store_token_add(StoreTransaction *transaction, Arena *arena, const char *name,
                       const uint8_t hash[32], const char *role, Error *error)
{
    char id[UUID_TEXT_SIZE];
    crypto_uuid(id);
    return store_execute(
        transaction, arena,
        "INSERT INTO tokens (id, name, token_hash, role) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (token_hash) DO NOTHING",
        STORE_PARAMETERS(id, name, store_bytes_parameter(arena, hash, SHA256_SIZE), role), error);
}

Status store_idempotency_claim(StoreTransaction *transaction, Arena *arena,
                               const StoreIdempotencyKey *key, StoreClaim *ret_claim,
                               const uint8_t **ret_response, size_t *ret_response_size,
                               Error *error)
{
    const char *hash = store_bytes_parameter(arena, key->request_hash, SHA256_SIZE);
    // One statement decides: a new key is ours, and so is one whose answer has expired or whose
    // claim was abandoned.
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO idempotency_keys AS k (token_id, key, method, request_hash, claim_id) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (token_id, key) DO UPDATE SET "
        "method = excluded.method, request_hash = excluded.request_hash, "
        "claim_id = excluded.claim_id, response = NULL, created_at = clock_timestamp() "
        "WHERE (k.response IS NULL AND k.created_at < clock_timestamp() - $6 * interval '1 ms') "
        "OR k.created_at < clock_timestamp() - $7 * interval '1 ms' RETURNING claim_id",
        STORE_PARAMETERS(key->token_id, key->key, key->method, hash, key->claim_id,
                         store_integer_parameter(arena, key->stale_ms),
                         store_integer_parameter(arena, key->keep_ms)),
        &rows, error));
    if (rows.count == 1) {
        *ret_claim = STORE_CLAIM_OURS;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT request_hash = $3 AND method = $4 AS is_same, "
                                "response IS NOT NULL AS is_answered, "
                                "response FROM idempotency_keys WHERE token_id = $1 AND key = $2",
                                STORE_PARAMETERS(key->token_id, key->key, hash, key->method), &rows,
                                error));
    if (rows.count == 0) {
        *ret_claim = STORE_CLAIM_BUSY; // just released by the other call
        return STATUS_OK;
    }
    if (!store_boolean(&rows, 0, "is_same")) {
        *ret_claim = STORE_CLAIM_MISMATCH;
    } else if (!store_boolean(&rows, 0, "is_answered")) {
        *ret_claim = STORE_CLAIM_BUSY;
    } else {
        *ret_response = store_bytes(&rows, 0, "response", arena, ret_response_size);
        *ret_claim = STORE_CLAIM_ANSWERED;
    }
    return STATUS_OK;
}

Status store_idempotency_answer(StoreTransaction *transaction, Arena *arena,
                                const StoreIdempotencyKey *key, const void *response,
                                size_t response_size, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE idempotency_keys SET response = $4, created_at = clock_timestamp() "
        "WHERE token_id = $1 AND key = $2 AND claim_id = $3 AND response IS NULL RETURNING key",
        STORE_PARAMETERS(key->token_id, key->key, key->claim_id,
                         store_bytes_parameter(arena, response, response_size)),
        &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_CONFLICT, "another call with this idempotency key has taken over");
        return error_hint(error, "repeat the request with the same key to get its answer");
    }
    return STATUS_OK;
}

Status store_idempotency_release(StoreTransaction *transaction, Arena *arena,
                                 const StoreIdempotencyKey *key, Error *error)
{
    return store_execute(transaction, arena,
                         "DELETE FROM idempotency_keys WHERE token_id = $1 AND key = $2 "
                         "AND claim_id = $3 AND response IS NULL",
                         STORE_PARAMETERS(key->token_id, key->key, key->claim_id), error);
}
