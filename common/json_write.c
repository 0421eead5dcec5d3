// SPDX-License-Identifier: Apache-2.0
// Writes JSON straight into a Buffer: cJSON's own printer makes copies and has no limit.
#include "common/json.h"
#include "common/text.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_INTEGER_MAX 9007199254740992.0 // 2^53
#define REPLACEMENT "\xef\xbf\xbd"           // U+FFFD

static void write_escaped(unsigned char c, Buffer *buffer)
{
    static const char letters[] = "btn?fr"; // from 8 to 13
    if (c == '"' || c == '\\') {
        buffer_append_format(buffer, "\\%c", c);
    } else if (c >= 8 && c <= 13 && c != 11) {
        buffer_append_format(buffer, "\\%c", letters[c - 8]);
    } else {
        buffer_append_format(buffer, "\\u%04x", c);
    }
}

void json_write_string(const char *text, Buffer *buffer)
{
    assert(text != NULL);
    buffer_append(buffer, "\"", 1);
    size_t size = strlen(text);
    size_t start = 0; // of the run not written yet
    size_t position = 0;
    while (position < size) {
        unsigned char c = (unsigned char)text[position];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            position++;
            continue;
        }
        size_t length = utf8_character_size(text + position, size - position);
        if (length > 1) {
            position += length;
            continue;
        }
        buffer_append(buffer, text + start, position - start);
        if (length == 0) {
            // Whatever the source was, what we write is valid.
            buffer_append_text(buffer, REPLACEMENT);
        } else {
            write_escaped(c, buffer);
        }
        start = ++position;
    }
    buffer_append(buffer, text + start, position - start);
    buffer_append(buffer, "\"", 1);
}

static void write_number(const Json *json, Buffer *buffer)
{
    double number = json_number(json, 0);
    int64_t integer = json_integer(json, 0);
    if (integer != 0 || number == 0) {
        buffer_append_format(buffer, "%lld", (long long)integer);
        return;
    }
    if (!isfinite(number)) {
        buffer_append_text(buffer, "null"); // JSON has no word for it
        return;
    }
    char digits[32];
    (void)snprintf(digits, sizeof(digits), "%.15g", number);
    if (strtod(digits, NULL) != number) {
        (void)snprintf(digits, sizeof(digits), "%.17g", number);
    }
    buffer_append_text(buffer, digits);
}

static void write_line_break(bool is_pretty, int depth, Buffer *buffer)
{
    if (is_pretty) {
        buffer_append_format(buffer, "\n%*s", depth * 2, "");
    }
}

static void write_value(const Json *json, bool is_pretty, int depth, Buffer *buffer);

static void write_container(const Json *json, bool is_pretty, int depth, Buffer *buffer)
{
    bool is_object = json_type(json) == JSON_OBJECT;
    buffer_append(buffer, is_object ? "{" : "[", 1);
    for (const Json *item = json_first(json); item != NULL; item = json_next(item)) {
        write_line_break(is_pretty, depth + 1, buffer);
        if (is_object) {
            json_write_string(json_key(item), buffer);
            buffer_append_text(buffer, is_pretty ? ": " : ":");
        }
        write_value(item, is_pretty, depth + 1, buffer);
        if (json_next(item) != NULL) {
            buffer_append(buffer, ",", 1);
        }
    }
    if (json_first(json) != NULL) {
        write_line_break(is_pretty, depth, buffer);
    }
    buffer_append(buffer, is_object ? "}" : "]", 1);
}

static void write_value(const Json *json, bool is_pretty, int depth, Buffer *buffer)
{
    if (buffer->is_overflowed) {
        return;
    }
    switch (json_type(json)) {
    case JSON_NULL:
        buffer_append_text(buffer, "null");
        break;
    case JSON_BOOL:
        buffer_append_text(buffer, json_boolean(json, false) ? "true" : "false");
        break;
    case JSON_NUMBER:
        write_number(json, buffer);
        break;
    case JSON_STRING:
        json_write_string(json_text(json, ""), buffer);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        write_container(json, is_pretty, depth, buffer);
        break;
    }
}

bool json_write(const Json *json, bool is_pretty, Buffer *buffer)
{
    assert(json != NULL);
    write_value(json, is_pretty, 0, buffer);
    return !buffer->is_overflowed;
}
