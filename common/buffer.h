// SPDX-License-Identifier: Apache-2.0
// A growable run of bytes with a limit. Always followed by a NUL that size does not count.
#pragma once

#include "common/attributes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t size_max;
    bool is_overflowed; // something did not fit; the content is cut there
} Buffer;

void buffer_init(Buffer *buffer, size_t size_max);
void buffer_done(Buffer *buffer); // leaves it re-initialisable; fine on a zeroed Buffer
void buffer_clear(Buffer *buffer);
// All appends return false, change nothing and set is_overflowed when the limit would be passed,
// and so do all that follow until buffer_clear; a writer of many pieces may ignore the results and
// look at is_overflowed once.
bool buffer_append(Buffer *buffer, const void *data, size_t size);
bool buffer_append_text(Buffer *buffer, const char *text);
bool buffer_append_format(Buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
bool buffer_append_u32(Buffer *buffer, uint32_t value); // little-endian, as all our formats
bool buffer_append_u64(Buffer *buffer, uint64_t value);
bool buffer_reserve(Buffer *buffer,
                    size_t free_size);           // room for free_size more; false: over the limit
const char *buffer_text(const Buffer *buffer);   // "" when empty
MUST_USE char *buffer_take_text(Buffer *buffer); // caller owns; the buffer is empty afterwards
