// SPDX-License-Identifier: Apache-2.0
// The run of a restore: what its step reads and the transitions it makes. Lock order: see
// store_instance.h.
#pragma once

#include "server/store/store.h"

typedef struct RestoreShardRun {
    const char *id, *shard_id, *shard_name, *provider;
    const char *state, *reason, *message;
    const char *instance_id, *instance_state, *instance_message; // NULL: none yet
    bool is_joined, is_home_away, is_instance_alive;
    int64_t attempt_count;
    int64_t retry_left_ms; // until the next try may begin
    int64_t silence_ms;    // since its agent was heard, not counting time when no server was there;
                           // -1: never
} RestoreShardRun;

typedef struct RestoreRun {
    const char *id, *state, *mode, *database_id, *database_name, *backup_id;
    bool is_stop_requested;
    RestoreShardRun *shards;
    size_t shard_count;
} RestoreRun;
// Locks it. NULL: there is none.
Status store_restore_run_lock(StoreTransaction *transaction, Arena *arena, const char *restore_id,
                              RestoreRun **ret_run, Error *error);
// Sets started_at and finished_at as the state needs, and writes the event when it changes.
Status store_restore_run_set_state(StoreTransaction *transaction, const RestoreRun *run,
                                   const char *state, const char *reason, const char *message,
                                   Error *error);
// The instance's intent, and the shard running on it.
Status store_restore_shard_start(StoreTransaction *transaction, const RestoreRun *run,
                                 const RestoreShardRun *shard, const char *instance_id,
                                 const uint8_t *join_secret_hash, Error *error);
// Its instance is lost: pending again, to be tried on another one after delay_ms. Written with an
// event that says why.
Status store_restore_shard_retry(StoreTransaction *transaction, const RestoreRun *run,
                                 const RestoreShardRun *shard, const char *reason,
                                 const char *message, int64_t delay_ms, Error *error);
Status store_restore_shard_set_state(StoreTransaction *transaction, const char *restore_shard_id,
                                     const char *state, const char *reason, const char *message,
                                     Error *error);
