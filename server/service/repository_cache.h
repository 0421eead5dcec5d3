// SPDX-License-Identifier: Apache-2.0
// Opened repositories, by id, key and address: opening reads the key file and the repository's own
// record, which need not happen for every step. After a rotation a repository is opened again with
// its new key. Thread-safe.
#pragma once

#include "repository/repository.h"
#include "server/store/store_repository.h"
#include "storage/storage_options.h"

typedef struct RepositoryCache RepositoryCache;

// How options become a Storage: composition code knows the drivers. The server's secret key, which
// opens credentials, is borrowed.
RepositoryCache *repository_cache_new(Status (*open)(const StorageOptions *options,
                                                     Storage **ret_storage, Error *error),
                                      const Secret *secret_key);
void repository_cache_free(RepositoryCache *cache); // nobody may use any of its repositories
// Borrowed until the cache is freed. Errors are not kept: the next call tries again.
Status repository_cache_get(RepositoryCache *cache, const char *id,
                            const RepositoryAddress *address, const char *key_file,
                            Repository **ret_repository, Error *error);

// What opens the store of an address. Texts are of the address and the arena; the secret, which the
// caller ends, is borrowed by the options.
Status repository_storage_options(const Secret *secret_key, const RepositoryAddress *address,
                                  Arena *arena, Secret *ret_store_secret,
                                  StorageOptions *ret_options, Error *error);
