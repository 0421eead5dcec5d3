// SPDX-License-Identifier: Apache-2.0
// What of a database's backups must stay in a repository, and what goes.
#pragma once

#include "server/store/store.h"

// Repositories that hold, or may hold, something of a database.
typedef struct RetentionPlace {
    const char *repository_id, *location, *key_file;
} RetentionPlace;
Status store_retention_places(StoreTransaction *transaction, Arena *arena, const char *database_id,
                              RetentionPlace **ret_places, size_t *ret_count, Error *error);
// Backups in state 'deleting'.
Status store_retention_deleting(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, const char *repository_id,
                                const char ***ret_ids, size_t *ret_count, Error *error);
// Shards of the database with anything ever tried in this repository, also deleted ones.
Status store_retention_shards(StoreTransaction *transaction, Arena *arena, const char *database_id,
                              const char *repository_id, const char ***ret_ids, size_t *ret_count,
                              Error *error);
// Manifests that must stay: of every committed shard backup but those of the backups in `gone`
// ("{uuid,uuid}"), and what running attempts and restores read. ret_protect_epoch: objects of this
// epoch and later may belong to an attempt, running now or beginning later.
Status store_retention_keep(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                            const char *repository_id, const char *gone,
                            const char ***ret_manifest_ids, size_t *ret_count,
                            int64_t *ret_protect_epoch, Error *error);
// Their objects are gone.
Status store_retention_deleted(StoreTransaction *transaction, const char *backup_id, Error *error);
// database_id and repository_id of a backup in state 'deleting'; NULL: it is not.
Status store_retention_place_of(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                                const char **ret_database_id, const char **ret_repository_id,
                                Error *error);
// The rules of a database's policies, and of one. Columns id, keep_last, keep_for_us, keep_hourly,
// keep_daily, keep_weekly, keep_monthly, keep_yearly.
Status store_retention_policies(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, StoreRows *ret_rows, Error *error);
Status store_retention_rule(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                            StoreRows *ret_rows, Error *error);
// Makes retention due for every database that has backups.
Status store_retention_all(StoreTransaction *transaction, Error *error);
