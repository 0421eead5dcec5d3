// SPDX-License-Identifier: Apache-2.0
// A sweep may replace a pack at any time, also while we read: its replacement is there before the
// pack goes. So what is not found is looked for again, as long as a newer replacement turns up.
#include "repository/repository_pack_reader.h"

#include "common/memory.h"
#include "repository/repository_replacement.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_COUNT 8 // a restore reads as many packs in turns

typedef struct CachedReplacement {
    PackName pack;
    uint32_t number; // 0: the slot is free
    BlobPlace *places;
    size_t count;
    uint64_t age;
} CachedReplacement;

struct PackReader {
    const ShardScope *scope;
    CachedReplacement cache[CACHE_COUNT];
    uint64_t age;
};

PackReader *pack_reader_new(const ShardScope *scope)
{
    PackReader *reader = mem_alloc(sizeof(*reader));
    reader->scope = scope;
    return reader;
}

void pack_reader_free(PackReader *reader)
{
    if (reader == NULL) {
        return;
    }
    for (size_t i = 0; i < CACHE_COUNT; i++) {
        mem_free(reader->cache[i].places);
    }
    mem_free(reader);
}

// NULL: nothing says that the pack was replaced.
static CachedReplacement *cache_find(PackReader *reader, const PackName *pack)
{
    for (size_t i = 0; i < CACHE_COUNT; i++) {
        CachedReplacement *cached = &reader->cache[i];
        if (cached->number != 0 && pack_name_equal(&cached->pack, pack)) {
            cached->age = ++reader->age;
            return cached;
        }
    }
    return NULL;
}

static CachedReplacement *cache_put(PackReader *reader, const PackName *pack, uint32_t number,
                                    const ReplacedBlob *blobs, size_t count)
{
    CachedReplacement *cached = cache_find(reader, pack);
    for (size_t i = 0; i < CACHE_COUNT && cached == NULL; i++) {
        cached = reader->cache[i].number == 0 ? &reader->cache[i] : NULL;
    }
    if (cached == NULL) {
        cached = &reader->cache[0];
        for (size_t i = 1; i < CACHE_COUNT; i++) {
            cached = reader->cache[i].age < cached->age ? &reader->cache[i] : cached;
        }
    }
    mem_free(cached->places);
    *cached =
        (CachedReplacement){.pack = *pack, .number = number, .count = count, .age = ++reader->age};
    cached->places = mem_alloc_array(count, sizeof(*cached->places));
    for (size_t i = 0; i < count; i++) {
        cached->places[i] = (BlobPlace){.index = blobs[i].ref.index,
                                        .offset = blobs[i].position,
                                        .stored_size = blobs[i].ref.stored_size};
    }
    return cached;
}

// A replacement newer than `known`; NULL when there is none.
static Status find_newer(PackReader *reader, const PackName *pack, uint32_t known,
                         CachedReplacement **ret_cached, Error *error)
{
    *ret_cached = NULL;
    for (;;) {
        uint32_t number = 0;
        RETURN_IF_ERROR(replacement_find(reader->scope, pack, &number, error));
        if (number <= known) {
            return STATUS_OK;
        }
        CLEANUP_FREE ReplacedBlob *blobs = NULL;
        size_t count = 0;
        size_t size = 0;
        Status status =
            replacement_front_read(reader->scope, pack, number, &blobs, &count, &size, error);
        if (status == STATUS_OK) {
            *ret_cached = cache_put(reader, pack, number, blobs, count);
            return STATUS_OK;
        }
        if (status != STATUS_NOT_FOUND) {
            return status;
        }
        error_clear(error);
        known = number;
    }
}

static int compare_places(const void *a, const void *b)
{
    const BlobPlace *left = a;
    const BlobPlace *right = b;
    return left->index < right->index ? -1 : left->index > right->index;
}

// Sets the offsets to those in the replacement.
static Status locate(const PackReader *reader, const CachedReplacement *cached, BlobPlace *places,
                     size_t count, Error *error)
{
    for (size_t i = 0; i < count; i++) {
        const BlobPlace *found = bsearch(&places[i], cached->places, cached->count,
                                         sizeof(*cached->places), compare_places);
        if (found == NULL || found->stored_size != places[i].stored_size) {
            char key[OBJECT_KEY_SIZE];
            replacement_object_key(reader->scope->shard_id, &cached->pack, cached->number, key);
            error_set(error, REASON_OBJECT_CORRUPT, "object '%s' does not have blob %u", key,
                      places[i].index);
            return error_hint(error, "bring the pack back from a copy of the repository");
        }
        places[i].offset = found->offset;
    }
    return STATUS_OK;
}

static Status read_span(const PackReader *reader, const PackName *pack, uint32_t number,
                        const BlobPlace *places, size_t count, uint8_t *data, size_t size_max,
                        size_t *ret_size, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    uint32_t first = places[0].offset;
    uint32_t end = first;
    replacement_object_key(reader->scope->shard_id, pack, number, key);
    for (size_t i = 0; i < count; i++) {
        if (places[i].offset < end || (size_t)places[i].offset - first > size_max ||
            (size_t)places[i].offset - first + places[i].stored_size > size_max) {
            return error_set(error, REASON_OBJECT_CORRUPT,
                             "object '%s' has its blobs in an impossible order", key);
        }
        end = places[i].offset + places[i].stored_size;
    }
    *ret_size = end - first;
    return storage_get_range(reader->scope->storage, key, first, *ret_size, data, error);
}

Status pack_reader_read(PackReader *reader, const PackName *pack, BlobPlace *places, size_t count,
                        uint8_t *data, size_t size_max, size_t *ret_size, Error *error)
{
    assert(count > 0);
    CachedReplacement *cached = cache_find(reader, pack);
    for (;;) {
        uint32_t number = cached == NULL ? 0 : cached->number;
        if (cached != NULL) {
            RETURN_IF_ERROR(locate(reader, cached, places, count, error));
        }
        Status status =
            read_span(reader, pack, number, places, count, data, size_max, ret_size, error);
        if (status != STATUS_NOT_FOUND) {
            RETURN_IF_ERROR(status);
            break;
        }
        Error other = {0};
        if (find_newer(reader, pack, number, &cached, &other) != STATUS_OK) {
            *error = other;
            return error->status;
        }
        if (cached == NULL) {
            return missing_becomes_damage(status, error);
        }
        error_clear(error);
    }
    uint32_t first = places[0].offset;
    for (size_t i = 0; i < count; i++) {
        places[i].offset -= first;
    }
    return STATUS_OK;
}
