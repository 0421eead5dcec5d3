// SPDX-License-Identifier: Apache-2.0
#include "server/service/repository_cache.h"

#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>

typedef struct CacheEntry {
    char *id, *key_file;
    Repository *repository;
} CacheEntry;

struct RepositoryCache {
    Status (*open)(const char *location, Storage **ret_storage, Error *error);
    pthread_mutex_t
        mutex; // guards the entries; held while one is opened, so that none is opened twice
    CacheEntry *entries;
    size_t count;
};

RepositoryCache *repository_cache_new(Status (*open)(const char *location, Storage **ret_storage,
                                                     Error *error))
{
    RepositoryCache *cache = mem_alloc(sizeof(*cache));
    cache->open = open;
    (void)pthread_mutex_init(&cache->mutex, NULL); // cannot fail with default attributes
    return cache;
}

void repository_cache_free(RepositoryCache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < cache->count; i++) {
        repository_free(cache->entries[i].repository);
        mem_free(cache->entries[i].id);
        mem_free(cache->entries[i].key_file);
    }
    mem_free(cache->entries);
    (void)pthread_mutex_destroy(&cache->mutex);
    mem_free(cache);
}

static Status open_repository(RepositoryCache *cache, const char *location, const char *key_file,
                              Repository **ret_repository, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(key_file, &wrapper, error));
    RETURN_IF_ERROR(cache->open(location, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
}

Status repository_cache_get(RepositoryCache *cache, const char *id, const char *location,
                            const char *key_file, Repository **ret_repository, Error *error)
{
    Status status = STATUS_OK;
    Repository *repository = NULL;
    (void)pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < cache->count && repository == NULL; i++) {
        const CacheEntry *entry = &cache->entries[i];
        bool is_it = text_equal(entry->id, id) && text_equal(entry->key_file, key_file);
        repository = is_it ? entry->repository : NULL;
    }
    if (repository == NULL) {
        status = open_repository(cache, location, key_file, &repository, error);
        if (status == STATUS_OK) {
            cache->entries =
                mem_realloc_array(cache->entries, cache->count + 1, sizeof(CacheEntry));
            cache->entries[cache->count++] = (CacheEntry){
                .id = string_copy(id), .key_file = string_copy(key_file), .repository = repository};
        }
    }
    (void)pthread_mutex_unlock(&cache->mutex);
    if (status == STATUS_OK) {
        *ret_repository = repository;
    }
    return status;
}
