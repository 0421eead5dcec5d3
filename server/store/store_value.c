// SPDX-License-Identifier: Apache-2.0
// Single values of rows and parameters: their text form is PostgreSQL's.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/text.h"
#include "server/store/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *store_value(const StoreRows *rows, int row, const char *column)
{
    assert(row >= 0 && row < rows->count);
    for (int i = 0; i < rows->column_count; i++) {
        if (strcmp(rows->names[i], column) == 0) {
            return rows->values[row * rows->column_count + i];
        }
    }
    assert(!"the statement has no such column");
    return NULL;
}

int64_t store_integer(const StoreRows *rows, int row, const char *column, int64_t fallback)
{
    const char *text = store_value(rows, row, column);
    int64_t value;
    return text != NULL && text_to_int64(text, &value) ? value : fallback;
}

bool store_boolean(const StoreRows *rows, int row, const char *column)
{
    return text_equal(store_value(rows, row, column), "t");
}

bool store_time_parse(const char *text, int64_t *ret_time_us)
{
    // "2026-11-21 08:00:00.123456+00", as TimeZone UTC gives it.
    char rfc3339[64];
    size_t size = strlen(text);
    if (size < 22 || size >= sizeof(rfc3339) - 1 || !text_has_suffix(text, "+00")) {
        return false;
    }
    memcpy(rfc3339, text, size + 1);
    rfc3339[10] = 'T';
    memcpy(rfc3339 + size - 3, "Z", 2);
    return time_parse(rfc3339, ret_time_us);
}

int64_t store_time_us(const StoreRows *rows, int row, const char *column, int64_t fallback)
{
    const char *text = store_value(rows, row, column);
    int64_t time_us;
    return text != NULL && store_time_parse(text, &time_us) ? time_us : fallback;
}

const uint8_t *store_bytes(const StoreRows *rows, int row, const char *column, Arena *arena,
                           size_t *ret_size)
{
    const char *text = store_value(rows, row, column);
    size_t size = text != NULL && text_has_prefix(text, "\\x") ? (strlen(text) - 2) / 2 : 0;
    uint8_t *data = arena_alloc(arena, size + 1);
    bool is_hex = size == 0 || hex_decode(text + 2, data, size);
    *ret_size = is_hex ? size : 0;
    return data;
}

const char *store_bytes_parameter(Arena *arena, const void *data, size_t size)
{
    char *text = arena_alloc(arena, 2 * size + 3);
    memcpy(text, "\\x", 2);
    hex_encode(data, size, text + 2);
    return text;
}

const char *store_integer_parameter(Arena *arena, int64_t value)
{
    return arena_format(arena, "%" PRId64, value);
}

const char *store_time_parameter(Arena *arena, int64_t time_us)
{
    char text[TIME_TEXT_SIZE];
    time_format(time_us, text);
    return arena_string(arena, text);
}
