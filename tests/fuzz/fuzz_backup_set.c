// SPDX-License-Identifier: Apache-2.0
// Set objects behind their seal. Input: the JSON.
#include "common/json.h"
#include "repository/repository_document.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"

#include <assert.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const FuzzRepository *fuzz = fuzz_repository();
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    if (json_parse((const char *)data, size, &json, &error) != STATUS_OK) {
        return 0;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buffer_done) Buffer object = {0};
    DocumentHeader header = {
        .magic = DOCUMENT_SET, .id = FUZZ_OBJECT_ID, .database_id = FUZZ_DATABASE_ID};
    (void)snprintf(header.repository_id, UUID_TEXT_SIZE, "%s", repository_id(fuzz->repository));
    (void)snprintf(header.key_id, UUID_TEXT_SIZE, "%s", fuzz->key.id);
    buffer_init(&object, SET_SIZE_MAX);
    if (document_seal(&header, &fuzz->key.bytes, json, SET_SIZE_MAX, &object, &error) !=
        STATUS_OK) {
        return 0;
    }
    fuzz_object_put(fuzz, "sets/" FUZZ_DATABASE_ID "/" FUZZ_OBJECT_ID, object.data, object.size);
    BackupSet *set = NULL;
    if (backup_set_read(fuzz->repository, FUZZ_DATABASE_ID, FUZZ_OBJECT_ID, arena, &set, &error) ==
        STATUS_OK) {
        for (size_t i = 0; i < set->shard_count; i++) {
            PackName name;
            bool is_id = pack_name_decode(set->shards[i].manifest_id, &name);
            assert(is_id && uuid_is_valid(set->shards[i].shard_id));
        }
    } else {
        assert(error.reason == REASON_OBJECT_CORRUPT || error.reason == REASON_REPOSITORY_FORMAT);
    }
    return 0;
}
