// SPDX-License-Identifier: Apache-2.0
// Bytes that must never be printed: passwords, tokens, keys. There is deliberately no format
// function.
#pragma once

#include "common/attributes.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Secret {
    uint8_t *data; // NUL-terminated beyond size, so that text secrets can be handed to C libraries
    size_t size;
} Secret;

Secret secret_from_text(const char *text);
Secret secret_from_bytes(const void *data, size_t size);
Secret secret_copy(const Secret *secret);
const char *secret_text(const Secret *secret); // borrowed; "" when empty
void secret_done(Secret *secret);              // wipes
void secret_wipe_text(char *text); // wipes a NUL-terminated string in place; NULL is fine
