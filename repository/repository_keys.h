// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: data keys as objects.
//   keys/<database id>/<key id>                  the key's record: that there is one, and since
//   when keys/<database id>/<key id>.<wrapping id>    the key, wrapped by one wrapping key
//   keys/<database id>/<key id>.destroyed        says that and when it was destroyed
//   wrapping-keys/<wrapping id>                  a wrapping key that opens the repository
#pragma once

#include "repository/repository_blob.h"

#define WRAPPING_COUNT_MAX 16 // of one data key
#define DESTROYED_SIZE_MAX 4096

// All objects of one data key.
typedef struct KeyState {
    char database_id[UUID_TEXT_SIZE], key_id[UUID_TEXT_SIZE];
    bool has_record, is_destroyed;
    size_t wrapping_count;
    char wrappings[WRAPPING_COUNT_MAX][WRAPPING_ID_SIZE];
} KeyState;
// Calls on_key for every data key of a database; of all databases when database_id is NULL.
Status each_data_key(Repository *repository, const char *database_id,
                     Status (*on_key)(void *context, const KeyState *state, Error *error),
                     void *context, Error *error);
bool key_state_has(const KeyState *state, const char *wrapping_id);

void key_record_object_key(const char *database_id, const char *key_id,
                           char ret_key[OBJECT_KEY_SIZE]);
void key_wrapping_object_key(const char *database_id, const char *key_id, const char *wrapping_id,
                             char ret_key[OBJECT_KEY_SIZE]);
void key_destroyed_object_key(const char *database_id, const char *key_id,
                              char ret_key[OBJECT_KEY_SIZE]);

// Opens one wrapping of a data key with the repository's wrapping key and compares it with the
// key's record, if there is one. REASON_NOT_FOUND, OBJECT_CORRUPT.
Status wrapping_read(Repository *repository, const char *database_id, const char *key_id,
                     Secret *ret_key, Error *error);
// Create-only, by the repository's wrapping key; REASON_EXISTS.
Status wrapping_write(Repository *repository, const char *database_id, const char *key_id,
                      const Secret *key, Error *error);
void wrapping_key_object_key(const char *wrapping_id, char ret_key[OBJECT_KEY_SIZE]);
// Whether the repository's wrapping key is one of those that open it.
Status wrapping_key_is_known(Repository *repository, bool *ret_is_known, Error *error);
Status wrapping_key_write(Repository *repository, Error *error); // one that is there is fine

// REASON_KEY_WRONG, naming the keys that do open the repository.
Status wrapping_key_wrong(Repository *repository, Error *error);

// A Repository over a storage and a wrapper that stay the caller's, without looking whether the
// wrapping key is known.
Status repository_borrow(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                         Error *error);
void repository_return(Repository *repository); // NULL is fine

// Opened data keys by the object that they came from, so that a service is not asked for each
// object. Thread-safe. Kept for KEY_CACHE_KEEP_MS.
typedef struct KeyCache KeyCache;
KeyCache *key_cache_new(void);
void key_cache_free(KeyCache *cache);
bool key_cache_get(KeyCache *cache, const uint8_t digest[SHA256_SIZE], Secret *ret_key);
void key_cache_put(KeyCache *cache, const uint8_t digest[SHA256_SIZE], const Secret *key);
