// SPDX-License-Identifier: Apache-2.0
// Backups that were found in a repository, as rows.
#pragma once

#include "server/store/store.h"

typedef struct CatalogueShard {
    const char *id, *name, *manifest_id, *manifest_digest, *parent_manifest_id, *checkpoint,
        *engine_version;
    int32_t generation;
    int64_t created_us, size_bytes, new_bytes, stored_bytes;
} CatalogueShard;

typedef struct CatalogueBackup {
    const char *id, *database_id, *database_name, *engine;
    const char *repository_id; // the row's
    int64_t created_us;
    bool is_complete;
    const CatalogueShard *shards;
    size_t shard_count;
} CatalogueBackup;

typedef struct CatalogueCounts {
    int32_t database_count, shard_count, backup_count; // made now
} CatalogueCounts;

// Whether the server knows the backup, in whatever state.
Status store_catalogue_has(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                           bool *ret_has, Error *error);
// Adds the backup, and its database and shards where they are missing; adds to the counts. What is
// there already stays as it is. REASON_PRECONDITION for a database that was deleted, REASON_EXISTS
// for a shard id that belongs to another database.
Status store_catalogue_add(StoreTransaction *transaction, Arena *arena,
                           const CatalogueBackup *backup, CatalogueCounts *counts, Error *error);
// No attempt of the shard may have an epoch at or below this one any more.
Status store_catalogue_fence(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                             int64_t epoch, Error *error);
// A live shard of the database without a source, which only an import leaves; NULL: there is none.
Status store_catalogue_sourceless(StoreTransaction *transaction, Arena *arena,
                                  const char *database_id, const char **ret_shard, Error *error);
