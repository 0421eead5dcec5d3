// SPDX-License-Identifier: Apache-2.0
// Records of what manifests reach: the steps behind the seal, and any object at the record's place.
// Input: steps.
#include "common/memory.h"
#include "repository/repository_reach_record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"
#include "tests/fuzz/fuzz_seal.h"

#include <assert.h>
#include <string.h>

#define KEY "reach/" FUZZ_SHARD_ID "/00000001"
#define HEADER_SIZE 112
#define SIZE_AT 108

static void load(const FuzzRepository *fuzz, size_t *ret_count)
{
    Error error = {0};
    CLEANUP(reach_record_freep) ReachRecord *record = NULL;
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    char database_id[UUID_TEXT_SIZE];
    uint32_t number = 0;
    Status status = reach_record_load(fuzz->repository, &fuzz->key, FUZZ_SHARD_ID, &record, &number,
                                      database_id, &error);
    assert(status == STATUS_OK); // a bad record is as good as none
    *ret_count = reach_record_count(record);
    const ReachStep *head = reach_record_head(record);
    if (head != NULL) {
        CLEANUP(reach_record_freep) ReachRecord *copy = reach_record_new();
        bool is_copied = reach_record_copy(copy, head);
        assert(is_copied);
        reach_begin(reach, &fuzz->scope, FUZZ_MANIFEST_ID);
        reach_record_merge(head, reach);
        reach_record_merge(reach_record_head(copy), reach); // and what is there is doubled
        (void)reach_live_bytes(reach);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t header[HEADER_SIZE];
    const FuzzRepository *fuzz = fuzz_repository();
    Error error = {0};
    size_t count = 0;
    if (header[0] == 0) {
        CLEANUP(reach_record_freep) ReachRecord *empty = reach_record_new();
        Status status = reach_record_save(empty, &fuzz->scope, 1, &error);
        assert(status == STATUS_OK);
        status = storage_get_range(fuzz->storage, KEY, 0, HEADER_SIZE, header, &error);
        assert(status == STATUS_OK);
    }
    CLEANUP_FREE uint8_t *object = mem_alloc(HEADER_SIZE + size + GCM_TAG_SIZE);
    memcpy(object, header, HEADER_SIZE);
    put_u32(object + SIZE_AT, (uint32_t)size);
    if (size > 0) {
        memcpy(object + HEADER_SIZE, data, size);
    }
    fuzz_object_put(fuzz, KEY, object, HEADER_SIZE + size + GCM_TAG_SIZE);
    load(fuzz, &count);
    assert(count == 0); // nobody guesses a seal
    fuzz_seals_hold(true);
    load(fuzz, &count);
    fuzz_seals_hold(false);
    return 0;
}
