// SPDX-License-Identifier: Apache-2.0
// Sealed nodes one after another in a file without a name, and a table in memory that says where.
// What comes out is opened as if it came from the store, so the file need not be trusted.
#include "repository/node_cache.h"

#include "common/file.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define CACHE_FILE_SIZE_MAX (INT64_C(2) * 1024 * 1024 * 1024)
#define NODE_COUNT_MAX ((size_t)512 * 1024) // 16 MiB of memory, for 1 TiB of data
#define SLOT_COUNT_FIRST ((size_t)1024)

typedef struct CachedNode {
    uint64_t name; // of the blob; another's, by chance, does not open
    uint32_t size; // sealed; 0: the slot is free
    uint32_t offset;
} CachedNode;
static_assert(CACHE_FILE_SIZE_MAX <= UINT32_MAX, "a node's offset in the file");

struct NodeCache {
    int fd;
    pthread_mutex_t mutex; // guards what follows
    CachedNode *slots;     // open addressing
    size_t count, slot_count;
    uint32_t end; // of the file
    bool is_full;
};

Status node_cache_new(const char *directory, NodeCache **ret_cache, Error *error)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "making a temporary file in '%s'",
                               directory);
    }
    NodeCache *cache = mem_alloc(sizeof(*cache));
    cache->fd = fd;
    cache->slot_count = SLOT_COUNT_FIRST;
    cache->slots = mem_alloc_array(cache->slot_count, sizeof(*cache->slots));
    pthread_mutex_init(&cache->mutex, NULL);
    *ret_cache = cache;
    return STATUS_OK;
}

void node_cache_free(NodeCache *cache)
{
    if (cache != NULL) {
        fd_closep(&cache->fd);
        pthread_mutex_destroy(&cache->mutex);
        mem_free(cache->slots);
        mem_free(cache);
    }
}

static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return value ^ value >> 29;
}

static uint64_t name_of(const Ref *ref)
{
    uint64_t place = (uint64_t)ref->pack.epoch << 32 | ref->index;
    return mix(get_u64(ref->pack.id) ^ mix(get_u64(ref->pack.id + 8) ^ mix(place)));
}

// With the mutex held, as what follows. The node's slot, or the free one that it would have.
static CachedNode *find(const NodeCache *cache, uint64_t name)
{
    size_t slot = (size_t)name & (cache->slot_count - 1);
    while (cache->slots[slot].size != 0 && cache->slots[slot].name != name) {
        slot = (slot + 1) & (cache->slot_count - 1);
    }
    return &cache->slots[slot];
}

static void grow(NodeCache *cache)
{
    CachedNode *old = cache->slots;
    size_t old_count = cache->slot_count;
    cache->slot_count = 2 * old_count;
    cache->slots = mem_alloc_array(cache->slot_count, sizeof(*cache->slots));
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].size != 0) {
            *find(cache, old[i].name) = old[i];
        }
    }
    mem_free(old);
}

// Takes room in the file; -1: there is none, or the node is in it already.
static int64_t take_room(NodeCache *cache, const Ref *ref)
{
    int64_t offset = cache->end;
    if (cache->is_full || cache->count == NODE_COUNT_MAX ||
        offset + ref->stored_size > CACHE_FILE_SIZE_MAX || find(cache, name_of(ref))->size != 0) {
        return -1;
    }
    cache->end += ref->stored_size;
    return offset;
}

void node_cache_put(NodeCache *cache, const Ref *ref, const uint8_t *sealed)
{
    pthread_mutex_lock(&cache->mutex);
    int64_t offset = take_room(cache, ref);
    pthread_mutex_unlock(&cache->mutex);
    if (offset < 0) {
        return;
    }
    Error error = {0};
    bool is_written =
        file_write_all_at(cache->fd, sealed, ref->stored_size, offset, &error) == STATUS_OK;
    pthread_mutex_lock(&cache->mutex);
    cache->is_full = cache->is_full || !is_written; // the engine needs the disk more
    CachedNode *node = find(cache, name_of(ref));
    if (is_written && node->size == 0) {
        *node = (CachedNode){
            .name = name_of(ref), .size = ref->stored_size, .offset = (uint32_t)offset};
        cache->count++;
        if (2 * cache->count > cache->slot_count) {
            grow(cache);
        }
    }
    pthread_mutex_unlock(&cache->mutex);
}

bool node_cache_get(NodeCache *cache, const Ref *ref, uint8_t *ret_sealed)
{
    pthread_mutex_lock(&cache->mutex);
    CachedNode node = *find(cache, name_of(ref));
    pthread_mutex_unlock(&cache->mutex);
    size_t size = 0;
    Error error = {0};
    return node.size != 0 && node.size == ref->stored_size &&
           file_read_at(cache->fd, ret_sealed, node.size, node.offset, &size, &error) ==
               STATUS_OK &&
           size == node.size;
}
