// SPDX-License-Identifier: Apache-2.0
// Small values in texts: numbers, sizes, durations, times, labels, UTF-8, and the encodings of
// bytes.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

static void read_values(const char *text)
{
    int64_t value = 0;
    char time_text[TIME_TEXT_SIZE];
    (void)text_to_int64(text, &value);
    if (text_to_bytes(text, &value)) {
        assert(value >= 0);
    }
    if (text_to_duration_ms(text, &value)) {
        assert(value >= 0);
    }
    if (time_parse(text, &value)) {
        int64_t again = 0;
        time_format(value, time_text);
        bool is_time = time_parse(time_text, &again);
        assert(is_time && again == value);
    }
    if (text_is_label(text)) {
        assert(strlen(text) <= 63);
    }
    assert(text_distance(text, text) == 0 || strlen(text) > 63);
    (void)text_distance(text, "http-address");
    (void)uuid_is_valid(text);
}

// What decodes is what its encoding says, and there is one encoding of it.
static void read_encodings(Arena *arena, const char *text)
{
    uint8_t bytes[16];
    uint8_t *data = NULL;
    size_t size = 0;
    (void)hex_decode(text, bytes, sizeof(bytes));
    if (base64url_decode(arena, text, &data, &size)) {
        assert(strcmp(base64url_encode(arena, data, size), text) == 0);
    }
    if (base64_decode(arena, text, &data, &size)) {
        assert(strcmp(base64_encode(arena, data, size), text) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *text = arena_string_n(arena, (const char *)data, size);
    size_t piece_count = 0;
    read_values(text);
    read_encodings(arena, text);
    if (text_is_utf8((const char *)data, size)) {
        size_t offset = 0;
        while (offset < size) {
            size_t step = utf8_character_size((const char *)data + offset, size - offset);
            assert(step > 0 && step <= size - offset);
            offset += step;
        }
    }
    char **pieces = text_split(arena, text, ',', &piece_count);
    assert(piece_count > 0 && pieces[piece_count] == NULL);
    return 0;
}
