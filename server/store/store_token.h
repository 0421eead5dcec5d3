// SPDX-License-Identifier: Apache-2.0
// API tokens (only their SHA-256 is kept) and the answers kept under idempotency keys.
#pragma once

#include "server/store/store.h"

typedef struct StoreToken {
    const char *id;
    const char *role; // "viewer", "operator", "admin"
    bool is_valid;    // neither revoked nor expired
} StoreToken;
// NULL when there is none with this hash.
Status store_token_find(StoreTransaction *transaction, Arena *arena, const uint8_t hash[32],
                        StoreToken **ret_token, Error *error);
// A token of this hash that exists already stays as it is.
Status store_token_add(StoreTransaction *transaction, Arena *arena, const char *name,
                       const uint8_t hash[32], const char *role, Error *error);

// A claim is made before the work, in a transaction of its own; the answer is stored under it in
// the transaction of the effect. So a crash leaves either a claim without effect, which is taken
// over when it is stale, or the effect with its answer.
typedef struct StoreIdempotencyKey {
    const char *token_id, *key, *method;
    const uint8_t *request_hash; // 32 bytes
    const char *claim_id;        // ours, should we get it
    int64_t stale_ms;            // a claim this old without an answer is abandoned
    int64_t keep_ms;             // an answer this old is forgotten
} StoreIdempotencyKey;

typedef enum StoreClaim {
    STORE_CLAIM_OURS,
    STORE_CLAIM_ANSWERED,
    STORE_CLAIM_BUSY,
    STORE_CLAIM_MISMATCH
} StoreClaim;
// ANSWERED: the answer is in ret_response.
Status store_idempotency_claim(StoreTransaction *transaction, Arena *arena,
                               const StoreIdempotencyKey *key, StoreClaim *ret_claim,
                               const uint8_t **ret_response, size_t *ret_response_size,
                               Error *error);
// REASON_CONFLICT when the claim was taken over.
Status store_idempotency_answer(StoreTransaction *transaction, Arena *arena,
                                const StoreIdempotencyKey *key, const void *response,
                                size_t response_size, Error *error);
// Gives up a claim that has no answer.
Status store_idempotency_release(StoreTransaction *transaction, Arena *arena,
                                 const StoreIdempotencyKey *key, Error *error);
