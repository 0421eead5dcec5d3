// SPDX-License-Identifier: Apache-2.0
#include "repository/check_pack.h"

#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_document.h"
#include "repository/repository_pack.h"
#include "repository/repository_replacement.h"

#include <string.h>

struct PackChecker {
    uint8_t *data;  // PACK_SIZE_MAX
    uint8_t *plain; // BLOB_SIZE_MAX
    Ref *refs;      // PACK_BLOB_COUNT_MAX
};

PackChecker *pack_checker_new(void)
{
    PackChecker *checker = mem_alloc(sizeof(*checker));
    checker->data = mem_alloc_aligned(DIRECT_ALIGNMENT, PACK_SIZE_MAX);
    checker->plain = mem_alloc(BLOB_SIZE_MAX);
    checker->refs = mem_alloc_array(PACK_BLOB_COUNT_MAX, sizeof(*checker->refs));
    return checker;
}

void pack_checker_free(PackChecker *checker)
{
    mem_free(checker->data);
    mem_free(checker->plain);
    mem_free(checker->refs);
    mem_free(checker);
}

// The blobs of the object in memory: of a pack (number 0) or of a replacement.
static Status open_index(PackChecker *checker, const PackCheck *check, size_t size,
                         uint32_t **ret_positions, size_t *ret_count, Error *error)
{
    const ReachedPack *pack = check->pack;
    if (check->number == 0) {
        return pack_index_open(pack->scope, &pack->name, checker->data, size, checker->refs,
                               ret_count, error);
    }
    CLEANUP_FREE ReplacedBlob *blobs = NULL;
    size_t whole_size = 0;
    RETURN_IF_ERROR(replacement_front_open(pack->scope, &pack->name, check->number, checker->data,
                                           size, &blobs, ret_count, &whole_size, error));
    if (whole_size != size) {
        return error_set(error, REASON_OBJECT_CORRUPT, "the replacement does not fit its index");
    }
    *ret_positions = mem_alloc_array(*ret_count, sizeof(**ret_positions));
    for (size_t i = 0; i < *ret_count; i++) {
        checker->refs[i] = blobs[i].ref;
        (*ret_positions)[i] = blobs[i].position;
    }
    return STATUS_OK;
}

static Status check_blobs(PackChecker *checker, const PackCheck *check, size_t size,
                          int64_t *ret_extent_count, Error *error)
{
    size_t count = 0;
    const ReachedPack *pack = check->pack;
    CLEANUP_FREE uint32_t *positions = NULL;
    RETURN_IF_ERROR(open_index(checker, check, size, &positions, &count, error));
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(pack->scope);
    uint8_t fold[REF_SIZE] = {0};
    size_t reached_count = 0;
    for (size_t i = 0; i < count; i++) {
        const Ref *ref = &checker->refs[i];
        if (!reached_blob(pack, ref->index)) {
            continue;
        }
        uint32_t position = positions == NULL ? ref->offset : positions[i];
        RETURN_IF_ERROR(
            blob_open(opener, ref, checker->data + position, true, checker->plain, error));
        uint8_t encoded[REF_SIZE];
        ref_encode(ref, encoded);
        for (size_t byte = 0; byte < REF_SIZE; byte++) {
            fold[byte] ^= encoded[byte];
        }
        reached_count++;
        *ret_extent_count += ref->kind == BLOB_EXTENT ? 1 : 0;
    }
    if (reached_count != reached_blob_count(pack) || memcmp(fold, pack->fold, REF_SIZE) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "the maps name blobs that the pack does not have");
    }
    return STATUS_OK;
}

Status pack_check(PackChecker *checker, Storage *storage, const PackCheck *check, Limits *limits,
                  const atomic_bool *is_stopping, int64_t *ret_extent_count, Error *error)
{
    size_t size = (size_t)check->size_bytes;
    *ret_extent_count = 0;
    if (check->size_bytes < 0 || size > PACK_SIZE_MAX) {
        return document_is_damaged(check->key, "has an impossible size", error);
    }
    if (limits != NULL) {
        limits_wait_download(limits, size, is_stopping);
    }
    if (atomic_load(is_stopping)) {
        return error_set(error, REASON_CANCELED, "the check was stopped");
    }
    RETURN_IF_ERROR(storage_get_range(storage, check->key, 0, size, checker->data, error));
    if (limits != NULL) {
        limits_enter(limits);
    }
    Status status = check_blobs(checker, check, size, ret_extent_count, error);
    if (limits != NULL) {
        limits_leave(limits);
    }
    return status == STATUS_OK
               ? status
               : error_wrap(error, "needed by manifest '%s'", check->pack->manifest_id);
}
