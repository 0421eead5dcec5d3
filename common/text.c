// SPDX-License-Identifier: Apache-2.0
// Small questions about text.
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Unit {
    const char *suffix;
    int64_t factor;
} Unit;

bool text_equal(const char *a, const char *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return strcmp(a, b) == 0;
}

bool text_has_prefix(const char *text, const char *prefix)
{
    assert(text != NULL);
    assert(prefix != NULL);
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_has_suffix(const char *text, const char *suffix)
{
    assert(text != NULL);
    assert(suffix != NULL);
    size_t text_size = strlen(text);
    size_t suffix_size = strlen(suffix);
    return suffix_size <= text_size && strcmp(text + text_size - suffix_size, suffix) == 0;
}

bool text_is_empty(const char *text)
{
    return text == NULL || text[0] == '\0';
}

size_t utf8_character_size(const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    if (size == 0) {
        return 0;
    }
    if (bytes[0] < 0x80) {
        return 1;
    }
    // RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
    size_t length = 0;
    uint8_t second_min = 0x80;
    uint8_t second_max = 0xbf;
    if (bytes[0] >= 0xc2 && bytes[0] <= 0xdf) {
        length = 2;
    } else if (bytes[0] >= 0xe0 && bytes[0] <= 0xef) {
        length = 3;
        second_min = bytes[0] == 0xe0 ? 0xa0 : 0x80;
        second_max = bytes[0] == 0xed ? 0x9f : 0xbf;
    } else if (bytes[0] >= 0xf0 && bytes[0] <= 0xf4) {
        length = 4;
        second_min = bytes[0] == 0xf0 ? 0x90 : 0x80;
        second_max = bytes[0] == 0xf4 ? 0x8f : 0xbf;
    }
    if (length == 0 || length > size || bytes[1] < second_min || bytes[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

bool text_is_utf8(const char *text, size_t size)
{
    assert(text != NULL || size == 0);
    size_t position = 0;
    while (position < size) {
        size_t length = utf8_character_size(text + position, size - position);
        if (length == 0) {
            return false;
        }
        position += length;
    }
    return true;
}

bool text_is_label(const char *text)
{
    if (text_is_empty(text)) {
        return false;
    }
    size_t size = strnlen(text, 64);
    if (size > 63 || text[0] == '-' || text[size - 1] == '-') {
        return false;
    }
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

size_t text_distance(const char *a, const char *b)
{
    enum { SIZE_MAX_HERE = 64 };
    size_t a_size = strnlen(a, SIZE_MAX_HERE);
    size_t b_size = strnlen(b, SIZE_MAX_HERE);
    if (a_size == SIZE_MAX_HERE || b_size == SIZE_MAX_HERE) {
        return SIZE_MAX;
    }
    // Three rows of the table of optimal string alignment.
    size_t rows[3][SIZE_MAX_HERE] = {0};
    for (size_t j = 0; j <= b_size; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3];
        const size_t *above_that = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t change = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = MIN(change, MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = MIN(row[j], above_that[j - 2] + 1);
            }
        }
    }
    return rows[a_size % 3][b_size];
}

// Reads the digits at the start; the rest of the text is in ret_rest.
static bool read_number(const char *text, int64_t *ret_value, const char **ret_rest)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (digits[0] < '0' || digits[0] > '9') {
        return false;
    }
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    *ret_value = value;
    *ret_rest = end;
    return true;
}

bool text_to_int64(const char *text, int64_t *ret_value)
{
    int64_t value = 0;
    const char *rest = NULL;
    if (text == NULL || !read_number(text, &value, &rest) || rest[0] != '\0') {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool read_with_unit(const char *text, const Unit *units, size_t unit_count,
                           int64_t *ret_value)
{
    int64_t value = 0;
    const char *rest = NULL;
    if (text == NULL || !read_number(text, &value, &rest) || value < 0) {
        return false;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(rest, units[i].suffix) == 0) {
            if (value > INT64_MAX / units[i].factor) {
                return false;
            }
            *ret_value = value * units[i].factor;
            return true;
        }
    }
    return false;
}

bool text_to_bytes(const char *text, int64_t *ret_bytes)
{
    static const Unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
        {"KB", 1000},
        {"MB", 1000 * 1000},
        {"GB", 1000 * 1000 * 1000},
        {"TB", INT64_C(1000) * 1000 * 1000 * 1000},
    };
    return read_with_unit(text, units, ARRAY_COUNT(units), ret_bytes);
}

bool text_to_duration_ms(const char *text, int64_t *ret_duration_ms)
{
    static const Unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {"d", 24 * 60 * 60 * 1000},
    };
    if (text_equal(text, "0")) {
        *ret_duration_ms = 0;
        return true;
    }
    return read_with_unit(text, units, ARRAY_COUNT(units), ret_duration_ms);
}

char **text_split(Arena *arena, const char *text, char separator, size_t *ret_count)
{
    assert(text != NULL);
    assert(separator != '\0');
    size_t count = 1;
    for (const char *p = text; *p != '\0'; p++) {
        count += *p == separator ? 1 : 0;
    }
    char **pieces = arena_alloc_array(arena, count + 1, sizeof(char *));
    const char *start = text;
    for (size_t i = 0; i < count; i++) {
        const char *end = strchr(start, separator);
        size_t size = end == NULL ? strlen(start) : (size_t)(end - start);
        pieces[i] = arena_string_n(arena, start, size);
        start += size + 1;
    }
    if (ret_count != NULL) {
        *ret_count = count;
    }
    return pieces;
}

char *text_url_encode(Arena *arena, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *encoded = arena_alloc(arena, 3 * strlen(text) + 1);
    char *next = encoded;
    for (const char *byte = text; *byte != '\0'; byte++) {
        bool is_plain = (*byte >= 'a' && *byte <= 'z') || (*byte >= 'A' && *byte <= 'Z') ||
                        (*byte >= '0' && *byte <= '9') || strchr("-._~", *byte) != NULL;
        if (is_plain) {
            *next++ = *byte;
        } else {
            *next++ = '%';
            *next++ = digits[(unsigned char)*byte >> 4];
            *next++ = digits[(unsigned char)*byte & 15];
        }
    }
    return encoded; // the arena's memory is zeroed: a NUL follows
}
