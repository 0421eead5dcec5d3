// SPDX-License-Identifier: Apache-2.0
// Replacement packs: the whole front, and the index behind its seal. Input: either of them.
#include "common/memory.h"
#include "repository/repository_replacement.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"
#include "tests/fuzz/fuzz_seal.h"

#include <assert.h>
#include <string.h>

#define NUMBER 1

static void open_front(const FuzzRepository *fuzz, const uint8_t *data, size_t size)
{
    Error error = {0};
    CLEANUP_FREE ReplacedBlob *blobs = NULL;
    size_t count = 0;
    size_t object_size = 0;
    if (replacement_front_open(&fuzz->scope, &fuzz->pack, NUMBER, data, size, &blobs, &count,
                               &object_size, &error) != STATUS_OK) {
        assert(error.reason == REASON_OBJECT_CORRUPT);
        return;
    }
    assert(count > 0 && count <= PACK_BLOB_COUNT_MAX && object_size <= PACK_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        assert(blobs[i].position + (size_t)blobs[i].ref.stored_size <= object_size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const FuzzRepository *fuzz = fuzz_repository();
    char name[PACK_OBJECT_NAME_SIZE + 1];
    PackName pack;
    uint32_t number = 0;
    size_t name_size = MIN(size, sizeof(name) - 1);
    memcpy(name, data, name_size);
    name[name_size] = '\0';
    if (pack_object_decode(name, &pack, &number)) {
        assert(number <= REPLACEMENT_NUMBER_MAX);
    }
    open_front(fuzz, data, size);
    size_t count = size / REPLACEMENT_ENTRY_SIZE;
    if (count == 0 || count > PACK_BLOB_COUNT_MAX) {
        return 0;
    }
    // A true front of so many blobs, in which the index is then another one.
    size_t front_size = replacement_front_size(count);
    CLEANUP_FREE ReplacedBlob *blobs = mem_alloc_array(count, sizeof(*blobs));
    CLEANUP_FREE uint8_t *front = mem_alloc(front_size);
    for (size_t i = 0; i < count; i++) {
        blobs[i].ref = (Ref){.pack = fuzz->pack, .index = (uint32_t)i};
    }
    replacement_front_write(&fuzz->scope, &fuzz->pack, NUMBER, blobs, count, front);
    memcpy(front + REPLACEMENT_HEADER_SIZE, data, count * REPLACEMENT_ENTRY_SIZE);
    fuzz_seals_hold(true);
    open_front(fuzz, front, front_size);
    fuzz_seals_hold(false);
    return 0;
}
