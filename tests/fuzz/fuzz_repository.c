// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_repository.h"

#include "repository/key_wrapper.h"
#include "storage/storage_drivers.h"

#include <assert.h>

static FuzzRepository fuzz;

FuzzRepository *fuzz_repository(void)
{
    if (fuzz.repository == NULL) {
        Error error = {0};
        const uint8_t bytes[AES256_KEY_SIZE] = {1};
        Secret wrapping_key = secret_from_bytes(bytes, sizeof(bytes));
        fuzz.storage = storage_memory_new();
        Status status = repository_create(fuzz.storage, key_wrapper_from_key(&wrapping_key),
                                          &fuzz.repository, &error);
        assert(status == STATUS_OK);
        secret_done(&wrapping_key);
        status = repository_data_key(fuzz.repository, FUZZ_DATABASE_ID, true, &fuzz.key, &error);
        assert(status == STATUS_OK);
        status = scope_init(&fuzz.scope, fuzz.repository, &fuzz.key, FUZZ_DATABASE_ID,
                            FUZZ_SHARD_ID, &error);
        assert(status == STATUS_OK);
        bool is_name = pack_name_decode(FUZZ_MANIFEST_ID, &fuzz.pack);
        assert(is_name);
    }
    return &fuzz;
}

void fuzz_object_put(const FuzzRepository *repository, const char *key, const void *data,
                     size_t size)
{
    Error error = {0};
    const StorageWriteOptions options = {.is_create_only = false};
    Status status = storage_put(repository->storage, key, data, size, &options, &error);
    assert(status == STATUS_OK);
}
