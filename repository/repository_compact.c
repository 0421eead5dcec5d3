// SPDX-License-Identifier: Apache-2.0
// A replacement has the reached blobs as they were sealed. Each is opened first: what is damaged
// is left where it is, for the check to name and for a copy to mend.
#include "repository/repository_compact.h"

#include "common/memory.h"
#include "repository/repository_pack.h"
#include "repository/repository_replacement.h"

#include <assert.h>
#include <string.h>

struct Compactor {
    Storage *storage;
    uint8_t *data; // PACK_SIZE_MAX
    uint8_t *plain;
};

Compactor *compactor_new(Storage *storage)
{
    Compactor *compactor = mem_alloc(sizeof(*compactor));
    compactor->storage = storage;
    return compactor;
}

void compactor_free(Compactor *compactor)
{
    if (compactor != NULL) {
        mem_free(compactor->data);
        mem_free(compactor->plain);
        mem_free(compactor);
    }
}

void compactor_freep(Compactor **compactor)
{
    compactor_free(*compactor);
    *compactor = NULL;
}

int64_t compacted_size(const ReachedPack *pack, int64_t size_bytes)
{
    // The first bound is cheap and nearly always decides.
    if (2 * pack->live_bytes >= size_bytes) {
        return 0;
    }
    int64_t size = (int64_t)replacement_front_size(reached_blob_count(pack)) + pack->live_bytes;
    return 2 * size < size_bytes ? size : 0;
}

// Damage is an answer here; the failure of storage is not.
static Status damage_is_an_answer(Status status, bool *ret_is_good, Error *error)
{
    *ret_is_good = status == STATUS_OK;
    if (status == STATUS_DATA_LOSS || status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

// Everything that object `number`, which is in memory, says it has.
static Status open_index(const ReachedPack *pack, uint32_t number, const uint8_t *data, size_t size,
                         ReplacedBlob **ret_blobs, size_t *ret_count, Error *error)
{
    if (number > 0) {
        size_t whole_size = 0;
        RETURN_IF_ERROR(replacement_front_open(pack->scope, &pack->name, number, data, size,
                                               ret_blobs, ret_count, &whole_size, error));
        return whole_size == size ? STATUS_OK
                                  : error_set(error, REASON_OBJECT_CORRUPT, "a pack is cut off");
    }
    CLEANUP_FREE Ref *refs = mem_alloc_array(PACK_BLOB_COUNT_MAX, sizeof(*refs));
    RETURN_IF_ERROR(pack_index_open(pack->scope, &pack->name, data, size, refs, ret_count, error));
    *ret_blobs = mem_alloc_array(*ret_count, sizeof(**ret_blobs));
    for (size_t i = 0; i < *ret_count; i++) {
        (*ret_blobs)[i] = (ReplacedBlob){.ref = refs[i], .position = refs[i].offset};
    }
    return STATUS_OK;
}

// Keeps what is reached of the list; false when the maps name something else.
static bool keep_reached(const ReachedPack *pack, ReplacedBlob *blobs, size_t *count)
{
    uint8_t fold[REF_SIZE] = {0};
    size_t kept_count = 0;
    for (size_t i = 0; i < *count; i++) {
        if (!reached_blob(pack, blobs[i].ref.index)) {
            continue;
        }
        uint8_t encoded[REF_SIZE];
        ref_encode(&blobs[i].ref, encoded);
        for (size_t byte = 0; byte < REF_SIZE; byte++) {
            fold[byte] ^= encoded[byte];
        }
        blobs[kept_count++] = blobs[i];
    }
    *count = kept_count;
    // Where the fold says nothing, each blob's own seal still says that it is the one of its index.
    return kept_count == reached_blob_count(pack) &&
           (pack->is_doubled || memcmp(fold, pack->fold, REF_SIZE) == 0);
}

static Status write_replacement(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                                ReplacedBlob *blobs, size_t count, size_t size, Error *error)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(size);
    size_t offset = replacement_front_size(count);
    for (size_t i = 0; i < count; i++) {
        assert(offset + blobs[i].ref.stored_size <= size);
        memcpy(data + offset, compactor->data + blobs[i].position, blobs[i].ref.stored_size);
        offset += blobs[i].ref.stored_size;
    }
    assert(offset == size);
    replacement_front_write(pack->scope, &pack->name, number, blobs, count, data);
    char key[OBJECT_KEY_SIZE];
    const StorageWriteOptions options = {.is_create_only = true};
    replacement_object_key(pack->scope->shard_id, &pack->name, number, key);
    return storage_put(compactor->storage, key, data, size, &options, error);
}

static Status read_live_blobs(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                              size_t size, ReplacedBlob **ret_blobs, size_t *ret_count,
                              Error *error)
{
    char key[OBJECT_KEY_SIZE];
    if (compactor->data == NULL) {
        compactor->data = mem_alloc(PACK_SIZE_MAX);
        compactor->plain = mem_alloc(BLOB_SIZE_MAX);
    }
    replacement_object_key(pack->scope->shard_id, &pack->name, number, key);
    RETURN_IF_ERROR(storage_get_range(compactor->storage, key, 0, size, compactor->data, error));
    RETURN_IF_ERROR(open_index(pack, number, compactor->data, size, ret_blobs, ret_count, error));
    if (!keep_reached(pack, *ret_blobs, ret_count)) {
        return error_set(error, REASON_OBJECT_CORRUPT, "a pack lacks what the maps name");
    }
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(pack->scope);
    for (size_t i = 0; i < *ret_count; i++) {
        const ReplacedBlob *blob = &(*ret_blobs)[i];
        RETURN_IF_ERROR(blob_open(opener, &blob->ref, compactor->data + blob->position, true,
                                  compactor->plain, error));
    }
    return STATUS_OK;
}

Status compact_pack(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                    int64_t size_bytes, bool is_dry_run, int64_t *ret_size_bytes, Error *error)
{
    *ret_size_bytes = 0;
    if (number == REPLACEMENT_NUMBER_MAX || size_bytes > (int64_t)PACK_SIZE_MAX) {
        return STATUS_OK;
    }
    CLEANUP_FREE ReplacedBlob *blobs = NULL;
    size_t count = 0;
    bool is_good = false;
    Status status =
        read_live_blobs(compactor, pack, number, (size_t)size_bytes, &blobs, &count, error);
    RETURN_IF_ERROR(damage_is_an_answer(status, &is_good, error));
    if (!is_good) {
        return STATUS_OK;
    }
    size_t size = replacement_front_size(count);
    for (size_t i = 0; i < count; i++) {
        size += blobs[i].ref.stored_size;
    }
    if (!is_dry_run) {
        status = write_replacement(compactor, pack, number + 1, blobs, count, size, error);
        if (status == STATUS_ALREADY_EXISTS) {
            // Of a sweep that runs beside this one; the next sweep looks at it.
            error_clear(error);
            return STATUS_OK;
        }
        RETURN_IF_ERROR(status);
    }
    *ret_size_bytes = (int64_t)size;
    return STATUS_OK;
}

Status replacement_is_complete(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                               int64_t size_bytes, bool *ret_is_complete, Error *error)
{
    CLEANUP_FREE ReplacedBlob *blobs = NULL;
    size_t count = 0;
    bool is_good = false;
    *ret_is_complete = false;
    if (size_bytes > (int64_t)PACK_SIZE_MAX) {
        return STATUS_OK;
    }
    Status status =
        read_live_blobs(compactor, pack, number, (size_t)size_bytes, &blobs, &count, error);
    RETURN_IF_ERROR(damage_is_an_answer(status, &is_good, error));
    *ret_is_complete = is_good;
    return STATUS_OK;
}
