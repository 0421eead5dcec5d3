// SPDX-License-Identifier: Apache-2.0
// What of a database's backups must stay in a repository, and what goes.
#pragma once

#include "server/store/store.h"
#include "server/store/store_repository.h"

// Repositories that hold, or may hold, something of a database.
typedef struct RetentionPlace {
    const char *repository_id, *key_file;
    RepositoryAddress address;
} RetentionPlace;
Status store_retention_places(StoreTransaction *transaction, Arena *arena, const char *database_id,
                              RetentionPlace **ret_places, size_t *ret_count, Error *error);
// Backups in state 'deleting'.
Status store_retention_deleting(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, const char *repository_id,
                                const char ***ret_ids, size_t *ret_count, Error *error);

// Sweeping a database's shards in a repository.
typedef struct RetentionSweep {
    const char *database_id, *repository_id;
    const char *gone; // backups whose sets are gone: "{uuid,uuid}"
    int64_t grace_ms; // of what failed attempts have left
} RetentionSweep;
typedef struct RetentionShard {
    const char *id;
    bool is_thorough; // it is time again
} RetentionShard;
// Shards, also deleted ones, whose sweep is due: because something of them is gone or was left by
// an attempt, because locked objects can go now, or because it is time.
Status store_retention_shards(StoreTransaction *transaction, Arena *arena,
                              const RetentionSweep *sweep, RetentionShard **ret_shards,
                              size_t *ret_count, Error *error);
typedef struct RetentionKeep {
    // Of every committed shard backup but those of the backups that are gone, and what running
    // attempts and restores read.
    const char **manifest_ids;
    size_t manifest_count;
    uint32_t protect_epoch; // objects of it and later may belong to an attempt, now or later
    uint32_t *abandoned;    // epochs of attempts that ended without a commit lately, ascending
    size_t abandoned_count;
    int64_t now_us; // before all this was read
} RetentionKeep;
Status store_retention_keep(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                            const RetentionSweep *sweep, RetentionKeep *ret_keep, Error *error);
// A sweep is done. retry_us: when locked objects can be tried again; 0: there are none.
Status store_retention_swept(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                             const char *repository_id, int64_t swept_us, bool is_thorough,
                             int64_t retry_us, Error *error);
// The objects of these backups ("{uuid,uuid}") are gone; or the store keeps some, as the message
// says, which is an event when it is a new one.
Status store_retention_deleted(StoreTransaction *transaction, Arena *arena, const char *gone,
                               Error *error);
Status store_retention_locked(StoreTransaction *transaction, Arena *arena, const char *ids,
                              const char *message, Error *error);
// Whether it is time to remove what killed writers left in a repository; then nobody else is told
// so for an hour.
Status store_retention_claim_stale(StoreTransaction *transaction, Arena *arena,
                                   const char *repository_id, bool *ret_is_due, Error *error);
// The rules of a database's policies, and of one. Columns id, keep_last, keep_for_us, keep_hourly,
// keep_daily, keep_weekly, keep_monthly, keep_yearly.
Status store_retention_policies(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, StoreRows *ret_rows, Error *error);
Status store_retention_rule(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                            StoreRows *ret_rows, Error *error);
// Makes retention due for every database that has backups.
Status store_retention_all(StoreTransaction *transaction, Error *error);
