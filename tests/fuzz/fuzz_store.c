// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_store.h"

#include "storage/storage_drivers.h"
#include "tests/fuzz/fuzz_http.h"

#include <assert.h>
#include <string.h>

#define OBJECT_BYTES_MAX 65536

static Status list(Storage *storage, Arena *arena, Error *error)
{
    StoragePage page = {0};
    RETURN_IF_ERROR(storage_list(storage, "sets/", NULL, 10, arena, &page, error));
    assert(page.count <= 10);
    for (size_t i = 0; i < page.count; i++) {
        assert(storage_key_is_valid(page.objects[i].key) && page.objects[i].size_bytes >= 0);
    }
    return STATUS_OK;
}

static Status get(Storage *storage, Arena *arena, Error *error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(storage_get(storage, "sets/a", OBJECT_BYTES_MAX, arena, &data, &size, error));
    assert(size <= OBJECT_BYTES_MAX);
    return STATUS_OK;
}

static Status run(Storage *storage, const char *operation, Arena *arena, Error *error)
{
    StorageObject object = {0};
    StorageRemoval removals[] = {{.key = "sets/a"}, {.key = "sets/b"}};
    const StorageWriteOptions options = {.is_create_only = true};
    uint8_t bytes[16];
    int64_t count = 0;
    switch (operation[0]) {
    case 'l':
        return list(storage, arena, error);
    case 'g':
        return get(storage, arena, error);
    case 'h':
        return storage_stat(storage, "sets/a", &object, error);
    case 'r':
        return storage_get_range(storage, "sets/a", 8, sizeof(bytes), bytes, error);
    case 'p':
        return storage_put(storage, "sets/a", "bytes", 5, &options, error);
    case 'd':
        return storage_remove(storage, "sets/a", error);
    case 'm':
        return storage_remove_many(storage, removals, ARRAY_COUNT(removals), error);
    case 'u':
        return storage_remove_stale(storage, &count, error);
    default:
        return STATUS_OK;
    }
}

int fuzz_store(const StorageOptions *options, const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    if (end == NULL || end == data) {
        return 0;
    }
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(storage_freep) Storage *storage = NULL;
    Status status = storage_open(options, &storage, &error);
    assert(status == STATUS_OK);
    char *operation = arena_string_n(arena, (const char *)data, (size_t)(end - data));
    fuzz_http_answers(end + 1, size - (size_t)(end - data) - 1);
    status = run(storage, operation, arena, &error);
    assert(status == STATUS_OK || error.message[0] != '\0');
    return 0;
}
