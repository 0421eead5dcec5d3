// SPDX-License-Identifier: Apache-2.0
// For those who implement a kind of wrapping key, and for tests.
#pragma once

#include "repository/key_wrapper.h"

typedef struct KeyWrapperOperations {
    const char *kind;
    void (*free)(KeyWrapper *wrapper);
    Status (*wrap)(KeyWrapper *wrapper, const WrapContext *context, const Secret *key, Arena *arena,
                   uint8_t **ret_wrapped, size_t *ret_size, Error *error);
    // Must find any change of the bytes and of the context.
    Status (*unwrap)(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                     size_t size, Secret *ret_key, Error *error);
} KeyWrapperOperations;

struct KeyWrapper {
    const KeyWrapperOperations *operations;
    char id[WRAPPING_ID_SIZE];
    char name[512];
};

// Fills id and name for a key of a service; `key` is the service's name for it, without options.
void key_wrapper_base_init(KeyWrapper *wrapper, const KeyWrapperOperations *operations,
                           const char *key);

// An option of a location, "endpoint" of "awskms:///k?endpoint=https://h&ca_file=/f"; NULL when
// absent. Lives in the arena.
const char *key_location_option(const char *location, const char *name, Arena *arena);
// REASON_INVALID for an option that there is not, and for an endpoint that is no URL.
Status key_location_check_options(const char *location, Error *error);
// What is between the scheme and the options; lives in the arena.
const char *key_location_key(const char *location, Arena *arena);
