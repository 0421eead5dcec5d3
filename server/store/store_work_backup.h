// SPDX-License-Identifier: Apache-2.0
// The run of a backup: what its step reads and the transitions it makes. Lock order: see
// store_instance.h.
#pragma once

#include "server/store/store.h"
#include "server/store/store_repository.h"

// One shard of a run with its newest attempt (attempt_id NULL: none yet) and that one's instance.
// Ages are in milliseconds by the database's clock, -1: never.
typedef struct ShardRun {
    const char *shard_backup_id, *shard_id, *shard_name;
    const char *state;            // of the shard backup
    const char *reason, *message; // why it is in that state
    const char *parent_id;        // or NULL
    const char *provider;
    const char *attempt_id, *attempt_state, *attempt_reason;
    int64_t attempt_count, plain_failure_count; // failures that were simply tried again
    bool is_seed;
    bool is_ready, has_checkpoint;
    int64_t ready_age_ms, attempt_ended_age_ms, attempt_age_ms;
    const char *instance_id, *instance_state, *instance_message;
    bool is_joined;         // ever
    bool is_home_away;      // its server has not been seen lately
    int64_t silence_ms;     // since it was heard, not counting time when no server was there
    bool is_instance_alive; // not destroyed
} ShardRun;

typedef struct BackupRun {
    const char *id, *state, *barrier;
    const char *database_id, *database_name, *engine;
    const char *repository_id;
    bool is_cancel_requested, is_set_written;
    int64_t barrier_age_ms;
    int64_t created_us;
    ShardRun *shards;
    size_t shard_count;
    size_t waiting_instance_count; // of this run, alive at servers that live: the run waits for
                                   // their end
    size_t away_instance_count;    // of this run, at servers that are away
} BackupRun;
// Locks the backup. NULL: there is none.
Status store_backup_run_lock(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                             BackupRun **ret_run, Error *error);

Status store_backup_run_start(StoreTransaction *transaction, const BackupRun *run, Error *error);
// 'taking' or 'taken'; wakes the sessions.
Status store_backup_run_barrier(StoreTransaction *transaction, const BackupRun *run,
                                const char *barrier, Error *error);
Status store_backup_run_set_written(StoreTransaction *transaction, const char *backup_id,
                                    Error *error);
// Final state; checkpoint and skew over the committed shards.
Status store_backup_run_finish(StoreTransaction *transaction, const BackupRun *run,
                               const char *state, const char *reason, const char *message,
                               Error *error);

typedef struct AttemptStart {
    const char *attempt_id;  // new
    const char *instance_id; // new, the intent is written too
    const uint8_t *join_secret_hash;
} AttemptStart;
// The next epoch of the shard, the attempt and its instance's intent, at once. From here on older
// attempts cannot commit.
Status store_attempt_start(StoreTransaction *transaction, const BackupRun *run,
                           const ShardRun *shard, const AttemptStart *start, Error *error);

// What comes after an attempt that ended without success.
typedef enum AttemptSequel {
    ATTEMPT_RETRY,        // again, the same way
    ATTEMPT_RESEED,       // a new copy from the source
    ATTEMPT_OLDER_PARENT, // the parent is marked; the next older one, or a new copy
    ATTEMPT_GIVE_UP,      // the shard backup failed
    ATTEMPT_CANCEL,       // the shard backup is canceled
} AttemptSequel;
typedef struct AttemptEnd {
    const char *attempt_id;
    const char *state; // "failed", "lost", "canceled"
    const char *reason, *message;
    AttemptSequel sequel;
} AttemptEnd;
// Ends a running attempt, asks for its instance's destruction and applies the sequel, with the
// events that belong to it. The backup must be locked. False in ret_is_ended: it was not running
// any more.
Status store_attempt_end(StoreTransaction *transaction, const AttemptEnd *end, bool *ret_is_ended,
                         Error *error);
// A shard backup that has no running attempt.
Status store_shard_backup_end(StoreTransaction *transaction, const char *shard_backup_id,
                              const char *state, const char *reason, const char *message,
                              Error *error);

// What the set object of a backup says: its committed shards.
typedef struct SetShardRow {
    const char *shard_id, *shard_name, *manifest_id, *manifest_digest, *checkpoint;
} SetShardRow;
Status store_backup_set_shards(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                               SetShardRow **ret_shards, size_t *ret_count, Error *error);

typedef struct RepositoryPlace {
    const char *id, *key_file;
    RepositoryAddress address;
} RepositoryPlace;
Status store_repository_place(StoreTransaction *transaction, Arena *arena,
                              const char *repository_id, RepositoryPlace *ret_place, Error *error);
