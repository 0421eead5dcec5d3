// SPDX-License-Identifier: Apache-2.0
// Small questions about text. Thread-safe.
#pragma once

#include "common/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool text_equal(const char *a, const char *b); // NULL equals NULL only
bool text_has_prefix(const char *text, const char *prefix);
bool text_has_suffix(const char *text, const char *suffix);
bool text_is_empty(const char *text); // NULL or ""
bool text_is_utf8(const char *text, size_t size);
size_t utf8_character_size(const char *text,
                           size_t size); // bytes of the first character; 0 when it is not valid
// RFC 1123 label: lower-case letters, digits and '-', starts and ends with a letter or digit, 1..63
// bytes.
bool text_is_label(const char *text);
// How many letters to insert, remove, change or swap to turn a into b; SIZE_MAX when one is longer
// than 63 bytes.
size_t text_distance(const char *a, const char *b);
bool text_to_int64(const char *text, int64_t *ret_value); // the whole text, decimal
bool text_to_bytes(const char *text, int64_t *ret_bytes); // "64MiB", "1GB", "4096"
bool text_to_duration_ms(const char *text,
                         int64_t *ret_duration_ms); // "90s", "15m", "12h", "7d", "250ms"
// For a part of a URL: all but letters, digits and "-._~" becomes %XX.
char *text_url_encode(Arena *arena, const char *text);
// Splits at every separator; the array is NULL-ended. "" is one empty piece. ret_count may be NULL.
char **text_split(Arena *arena, const char *text, char separator, size_t *ret_count);
