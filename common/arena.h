// SPDX-License-Identifier: Apache-2.0
// Memory for one request or one step: allocated piece by piece, freed at once. One thread at a
// time. Results live until the arena is reset or freed; never store them in an object that lives
// longer. With ARENA_EMULATE every allocation is a malloc of its own, so that AddressSanitizer sees
// overruns.
#pragma once

#include "common/attributes.h"

#include <stdarg.h>
#include <stddef.h>

typedef struct Arena Arena;

MUST_USE Arena *arena_new(void);
void arena_free(Arena *arena);
void arena_freep(Arena **arena);
void arena_reset(Arena *arena);
MUST_USE void *arena_alloc(Arena *arena, size_t size); // zeroed, aligned for any type
MUST_USE void *arena_alloc_array(Arena *arena, size_t count, size_t item_size);
MUST_USE char *arena_string(Arena *arena, const char *text); // NULL gives NULL
MUST_USE char *arena_string_n(Arena *arena, const char *text, size_t size);
MUST_USE void *arena_copy(Arena *arena, const void *data, size_t size);
MUST_USE char *arena_format(Arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
MUST_USE char *arena_format_list(Arena *arena, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);
