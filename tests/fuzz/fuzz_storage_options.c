// SPDX-License-Identifier: Apache-2.0
// Where an object store is, as people write it. Input: a location, a line break, and the JSON of an
// ObjectStore.
#include "common/arena.h"
#include "storage/storage_options.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    StorageLocation place;
    StorageOptions options = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    size_t line_size = end == NULL ? size : (size_t)(end - data);
    char *location = arena_string_n(arena, (const char *)data, line_size);
    if (storage_location_parse(location, &place, &error) == STATUS_OK) {
        assert(strlen(place.bucket) <= STORAGE_BUCKET_SIZE_MAX);
        assert(strlen(place.prefix) <= STORAGE_PREFIX_SIZE_MAX + 1);
    }
    options.location = location;
    if (end != NULL) {
        char *json = arena_string_n(arena, (const char *)end + 1, size - line_size - 1);
        if (storage_options_from_json(json, arena, &options, &error) == STATUS_OK &&
            storage_options_check(&options, &error) == STATUS_OK) {
            assert(storage_location_parse(location, &place, &error) == STATUS_OK);
        }
    }
    return 0;
}
