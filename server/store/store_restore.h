// SPDX-License-Identifier: Apache-2.0
// Restores as resources.
#pragma once

#include "server/store/store.h"

typedef struct StoreRestore {
    const char *id, *database_id, *backup_id;
    const char *mode; // "directory", "server"
    const char *directory;
    int first_port;
    const char *limits; // JSON, or NULL
} StoreRestore;
typedef struct StoreRestoreShard {
    const char *shard_id, *shard_backup_id;
    const char *directory;
    int port;
} StoreRestoreShard;

// The shard backups that can be restored of a backup: columns shard, shard_id, id, state,
// is_unrestorable; by name.
Status store_restore_sources(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                             StoreRows *ret_rows, Error *error);
// The newest restorable backup of a database; NULL when there is none.
Status store_restore_newest_backup(StoreTransaction *transaction, Arena *arena,
                                   const char *database_id, const char **ret_backup_id,
                                   Error *error);
// An active restore that uses this directory, one above or below it; NULL: none.
Status store_restore_find_directory(StoreTransaction *transaction, Arena *arena,
                                    const char *directory, const char **ret_restore_id,
                                    Error *error);
// An active restore that has one of these ports; NULL: none.
Status store_restore_find_port(StoreTransaction *transaction, Arena *arena, int first_port,
                               int count, const char **ret_restore_id, Error *error);
// With its shards, the work and the event. The database must be locked.
Status store_restore_add(StoreTransaction *transaction, Arena *arena, const StoreRestore *restore,
                         const StoreRestoreShard *shards, size_t shard_count, const char *database,
                         Error *error);
// The resource. REASON_NOT_FOUND.
Status store_restore_get(StoreTransaction *transaction, Arena *arena, const char *id,
                         bool is_locked, StoreRows *ret_rows, Error *error);
Status store_restore_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                          const StorePage *page, StoreRows *ret_rows, Error *error);
// Remembers that it is to end, and wakes who ends it.
Status store_restore_stop(StoreTransaction *transaction, Arena *arena, const char *id,
                          const char *database, Error *error);
