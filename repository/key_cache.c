// SPDX-License-Identifier: Apache-2.0
// A few opened data keys, by the digest of the object each came from: an object that is gone or has
// changed is never answered from here, because its reader asks with the object in hand.
#include "common/clock.h"
#include "common/memory.h"
#include "repository/repository_keys.h"

#include <pthread.h>
#include <string.h>

#define KEY_CACHE_COUNT 256
#define KEY_CACHE_KEEP_MS (10 * 60 * 1000) // a key that a service disables is not used for longer

typedef struct CachedKey {
    uint8_t digest[SHA256_SIZE];
    Secret key; // empty: the slot is free
    int64_t put_ms;
} CachedKey;

struct KeyCache {
    pthread_mutex_t mutex;
    CachedKey keys[KEY_CACHE_COUNT];
};

KeyCache *key_cache_new(void)
{
    KeyCache *cache = mem_alloc(sizeof(*cache));
    (void)pthread_mutex_init(&cache->mutex, NULL); // cannot fail with default attributes
    return cache;
}

void key_cache_free(KeyCache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < KEY_CACHE_COUNT; i++) {
        secret_done(&cache->keys[i].key);
    }
    (void)pthread_mutex_destroy(&cache->mutex);
    mem_free(cache);
}

bool key_cache_get(KeyCache *cache, const uint8_t digest[SHA256_SIZE], Secret *ret_key)
{
    bool is_found = false;
    int64_t now_ms = clock_monotonic_ms();
    (void)pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < KEY_CACHE_COUNT; i++) {
        CachedKey *cached = &cache->keys[i];
        if (cached->key.size > 0 && now_ms - cached->put_ms > KEY_CACHE_KEEP_MS) {
            secret_done(&cached->key);
        }
        if (!is_found && cached->key.size > 0 && memcmp(cached->digest, digest, SHA256_SIZE) == 0) {
            *ret_key = secret_copy(&cached->key);
            is_found = true;
        }
    }
    (void)pthread_mutex_unlock(&cache->mutex);
    return is_found;
}

void key_cache_put(KeyCache *cache, const uint8_t digest[SHA256_SIZE], const Secret *key)
{
    (void)pthread_mutex_lock(&cache->mutex);
    // Its own place, when several threads have opened it; else a free one, or the oldest.
    CachedKey *place = NULL;
    CachedKey *oldest = &cache->keys[0];
    for (size_t i = 0; i < KEY_CACHE_COUNT && place == NULL; i++) {
        CachedKey *cached = &cache->keys[i];
        bool is_there = cached->key.size > 0 && memcmp(cached->digest, digest, SHA256_SIZE) == 0;
        place = is_there ? cached : NULL;
        bool is_older =
            oldest->key.size > 0 && (cached->key.size == 0 || cached->put_ms < oldest->put_ms);
        oldest = is_older ? cached : oldest;
    }
    place = place == NULL ? oldest : place;
    secret_done(&place->key);
    memcpy(place->digest, digest, SHA256_SIZE);
    place->key = secret_copy(key);
    place->put_ms = clock_monotonic_ms();
    (void)pthread_mutex_unlock(&cache->mutex);
}
