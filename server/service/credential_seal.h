// SPDX-License-Identifier: Apache-2.0
// Passwords at rest: sealed_secret.h's, bound to the credential's id.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"

#include <stddef.h>
#include <stdint.h>

// In the arena.
const uint8_t *credential_seal(const Secret *secret_key, const char *credential_id,
                               const char *password, Arena *arena, size_t *ret_size);
// REASON_KEY_WRONG when the server's secret key is not the one it was sealed with. The caller ends
// the secret.
Status credential_unseal(const Secret *secret_key, const char *credential_id, const uint8_t *sealed,
                         size_t size, Secret *ret_password, Error *error);
