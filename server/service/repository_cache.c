// SPDX-License-Identifier: Apache-2.0
#include "server/service/repository_cache.h"

#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/credential_seal.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

typedef struct CacheEntry {
    char *id, *key_file;
    uint8_t digest[SHA256_SIZE]; // of the address: another credential opens it anew
    Repository *repository;
} CacheEntry;

struct RepositoryCache {
    Status (*open)(const StorageOptions *options, Storage **ret_storage, Error *error);
    const Secret *secret_key;
    pthread_mutex_t
        mutex; // guards the entries; held while one is opened, so that none is opened twice
    CacheEntry *entries;
    size_t count;
};

RepositoryCache *repository_cache_new(Status (*open)(const StorageOptions *options,
                                                     Storage **ret_storage, Error *error),
                                      const Secret *secret_key)
{
    RepositoryCache *cache = mem_alloc(sizeof(*cache));
    cache->open = open;
    cache->secret_key = secret_key;
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

static void digest_address(const RepositoryAddress *address, uint8_t ret_digest[SHA256_SIZE])
{
    const char *texts[] = {address->location, address->object_store, address->credential_id,
                           address->access_key_id};
    Sha256 *hash = sha256_new();
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        const char *text = texts[i] != NULL ? texts[i] : "";
        sha256_update(hash, text, strlen(text) + 1);
    }
    if (address->secret_sealed != NULL) {
        sha256_update(hash, address->secret_sealed, address->secret_sealed_size);
    }
    sha256_finish(hash, ret_digest);
    sha256_free(hash);
}

Status repository_storage_options(const Secret *secret_key, const RepositoryAddress *address,
                                  Arena *arena, Secret *ret_store_secret,
                                  StorageOptions *ret_options, Error *error)
{
    StorageOptions options = {.location = address->location};
    RETURN_IF_ERROR(storage_options_from_json(address->object_store, arena, &options, error));
    if (address->credential_id != NULL) {
        RETURN_IF_ERROR(credential_unseal(secret_key, address->credential_id,
                                          address->secret_sealed, address->secret_sealed_size,
                                          ret_store_secret, error));
        options.access_key_id = address->access_key_id;
        options.secret_key = ret_store_secret;
    }
    *ret_options = options;
    return STATUS_OK;
}

static Status open_repository(RepositoryCache *cache, const RepositoryAddress *address,
                              const char *key_file, Repository **ret_repository, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    CLEANUP(secret_done) Secret store_secret = {0};
    StorageOptions options;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(key_file, &wrapper, error));
    RETURN_IF_ERROR(repository_storage_options(cache->secret_key, address, arena, &store_secret,
                                               &options, error));
    RETURN_IF_ERROR(cache->open(&options, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
}

Status repository_cache_get(RepositoryCache *cache, const char *id,
                            const RepositoryAddress *address, const char *key_file,
                            Repository **ret_repository, Error *error)
{
    Status status = STATUS_OK;
    Repository *repository = NULL;
    uint8_t digest[SHA256_SIZE];
    digest_address(address, digest);
    (void)pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < cache->count && repository == NULL; i++) {
        const CacheEntry *entry = &cache->entries[i];
        bool is_it = text_equal(entry->id, id) && text_equal(entry->key_file, key_file) &&
                     memcmp(entry->digest, digest, sizeof(digest)) == 0;
        repository = is_it ? entry->repository : NULL;
    }
    if (repository == NULL) {
        status = open_repository(cache, address, key_file, &repository, error);
        if (status == STATUS_OK) {
            cache->entries =
                mem_realloc_array(cache->entries, cache->count + 1, sizeof(CacheEntry));
            cache->entries[cache->count++] = (CacheEntry){
                .id = string_copy(id), .key_file = string_copy(key_file), .repository = repository};
            memcpy(cache->entries[cache->count - 1].digest, digest, sizeof(digest));
        }
    }
    (void)pthread_mutex_unlock(&cache->mutex);
    if (status == STATUS_OK) {
        *ret_repository = repository;
    }
    return status;
}
