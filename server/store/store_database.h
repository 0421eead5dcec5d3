// SPDX-License-Identifier: Apache-2.0
// Databases and their shards. Whoever adds to a database, starts something on it or deletes it
// locks its row first: store_database_lock.
#pragma once

#include "server/store/store.h"

typedef struct StoreDatabase {
    const char *id, *name, *engine, *etag;
    const char *description;             // NULL in an update: stays
    int64_t recovery_point_objective_us; // -1 in an update: stays
    const char *reads_everything;        // "true", "false"; NULL in an update: stays
} StoreDatabase;

Status store_database_add(StoreTransaction *transaction, Arena *arena,
                          const StoreDatabase *database, Error *error);
// Columns id, name, engine, etag of a database that is not deleted, locked to the end of the
// transaction. REASON_NOT_FOUND.
Status store_database_lock(StoreTransaction *transaction, Arena *arena, const char *name,
                           StoreRows *ret_rows, Error *error);
Status store_database_update(StoreTransaction *transaction, Arena *arena,
                             const StoreDatabase *database, Error *error);
// The resource with its computed fields, and what its protection follows from: now_at,
// uncovered_shard, last_finished_state, last_finished_message, predicted_seconds, running_since.
// REASON_NOT_FOUND.
Status store_database_get(StoreTransaction *transaction, Arena *arena, const char *name,
                          StoreRows *ret_rows, Error *error);
Status store_database_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                           StoreRows *ret_rows, Error *error);
// Its id, for filters: no lock. REASON_NOT_FOUND.
Status store_database_id(StoreTransaction *transaction, Arena *arena, const char *name,
                         const char **ret_id, Error *error);

// What stands against deleting: columns running_backup_id, active_restore_id, backup_count (those
// not deleted), kept_backup_id (one on hold, is_held, or else a pinned one).
Status store_database_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                           StoreRows *ret_rows, Error *error);
// Marks it, its policies and its shards deleted, its backups to be removed, and adds the work that
// follows.
Status store_database_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                             Error *error);

typedef struct StoreShard {
    const char *id, *database_id, *name, *etag;
    const char *source_host, *source_credential_id, *source_tls_mode, *source_tls_ca;
    int source_port;
    const char *placement_provider, *placement_region, *placement_zone;
} StoreShard;

Status store_shard_add(StoreTransaction *transaction, Arena *arena, const StoreShard *shard,
                       Error *error);
// The resource with its computed fields; locked when is_locked. REASON_NOT_FOUND.
Status store_shard_get(StoreTransaction *transaction, Arena *arena, const char *database,
                       const char *name, bool is_locked, StoreRows *ret_rows, Error *error);
Status store_shard_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                        const StorePage *page, StoreRows *ret_rows, Error *error);
// Sets everything but name and database.
Status store_shard_update(StoreTransaction *transaction, Arena *arena, const StoreShard *shard,
                          Error *error);
// Columns running_backup_id, active_restore_id, live_shard_count (of its database).
Status store_shard_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                        StoreRows *ret_rows, Error *error);
Status store_shard_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                          Error *error);
// For probes, every shard of a database: shard, engine, host, port, tls_mode, tls_ca,
// credential_id, username, password_sealed.
Status store_shard_sources(StoreTransaction *transaction, Arena *arena, const char *database_id,
                           StoreRows *ret_rows, Error *error);
