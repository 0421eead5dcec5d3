// SPDX-License-Identifier: Apache-2.0
// Opened repositories, by id and key: opening reads the key file and the repository's own record,
// which need not happen for every step. After a rotation a repository is opened again with its new
// key. Thread-safe.
#pragma once

#include "repository/repository.h"

typedef struct RepositoryCache RepositoryCache;

// How a location becomes a Storage: composition code knows the drivers.
RepositoryCache *repository_cache_new(Status (*open)(const char *location, Storage **ret_storage,
                                                     Error *error));
void repository_cache_free(RepositoryCache *cache); // nobody may use any of its repositories
// Borrowed until the cache is freed. Errors are not kept: the next call tries again.
Status repository_cache_get(RepositoryCache *cache, const char *id, const char *location,
                            const char *key_file, Repository **ret_repository, Error *error);
