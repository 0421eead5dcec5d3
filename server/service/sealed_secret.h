// SPDX-License-Identifier: Apache-2.0
// Secrets at rest: AES-256-GCM under the server's secret key. The label ("credential:<id>",
// "certificate") is bound, so that one sealed thing cannot be put in the place of another kind.
// Thread-safe.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"

#include <stddef.h>
#include <stdint.h>

// Nonce, ciphertext and tag, in the arena. `key` has AES256_KEY_SIZE bytes.
void secret_seal(Arena *arena, const Secret *key, const char *label, const void *plain, size_t size,
                 const uint8_t **ret_sealed, size_t *ret_size);
// REASON_KEY_WRONG when it was sealed with another key or label, or was changed.
Status secret_unseal(const Secret *key, const char *label, const void *sealed, size_t size,
                     Secret *ret_plain, Error *error);
// A secret that every server derives alike, as 64 hex digits: "join:<instance id>" and the like.
Secret secret_derive(const Secret *key, const char *label);
