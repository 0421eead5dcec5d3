// SPDX-License-Identifier: Apache-2.0
// What the PostgreSQL engine's files share: its state, and the parts it is made of. For these files
// only.
#pragma once

#include "agent/engine/engine_driver.h"
#include "agent/engine/engine_postgresql_client.h"
#include "agent/engine/engine_postgresql_receiver.h"
#include "agent/engine/engine_postgresql_server.h"

#define POSTGRESQL_CONNECT_MS 10000
#define POSTGRESQL_NAME_SIZE 64 // identifiers, with the NUL

// What a manifest keeps about a backup: engine_state, as JSON.
typedef struct PostgresqlState {
    uint64_t system_identifier;
    uint32_t timeline;       // of the checkpoint
    uint64_t checkpoint_lsn; // the restore point's end: the directory's WAL ends exactly there
    char checkpoint_name[POSTGRESQL_NAME_SIZE];
    char superuser[POSTGRESQL_NAME_SIZE]; // the cluster's first role
} PostgresqlState;

typedef struct PostgresqlEngine {
    Engine base;
    PostgresqlServer server;
    PostgresqlControl control;
    PostgresqlState state; // the parent's until a checkpoint is reached
    bool is_adopted, is_served, is_checkpoint_reached, is_stopped;
    uint64_t start_lsn; // the directory's own WAL ends here
    uint32_t start_timeline;

    PostgresqlReceiver *receiver;
    PostgresqlClient *source_client; // SQL, connected on demand
    PostgresqlClient *local_client;
    bool has_run_slot;
    int64_t seed_received_bytes;

    uint64_t sample_lsn; // where the source was ...
    int64_t sample_ms;   // ... at that moment
    int64_t slot_advanced_ms;
    int restart_count;
    int64_t blind_since_ms; // the standby lets nobody in since then; 0: it does

    uint64_t taken_lsn; // of the last checkpoint taken ...
    uint32_t taken_timeline;
} PostgresqlEngine;

// The session on the source, connected on demand; dropped by postgresql_source_drop after a
// failure.
Status postgresql_source_session(PostgresqlEngine *engine, PostgresqlClient **ret_client,
                                 Error *error);
void postgresql_source_drop(PostgresqlEngine *engine);
// The source's major version must be the data directory's.
Status postgresql_source_check(PostgresqlEngine *engine, int major, Error *error);

bool postgresql_is_canceled(const PostgresqlEngine *engine);
// Starts the private standby on the data directory.
Status postgresql_run_standby(PostgresqlEngine *engine, Reason otherwise, Error *error);
// The session on the private standby.
Status postgresql_local_session(PostgresqlEngine *engine, PostgresqlClient **ret_client,
                                Error *error);
// Where replay is; 0 while the standby lets nobody in. *ret_is_paused: it refuses to go on with its
// limits.
Status postgresql_replayed(PostgresqlEngine *engine, uint64_t *ret_lsn, bool *ret_is_paused,
                           Error *error);
// As postgresql_replayed, and gives a standby that refuses to go on what it asks for.
Status postgresql_replayed_or_restart(PostgresqlEngine *engine, uint64_t *ret_lsn, Error *error);
// Has it let nobody in for too long to wait for that?
bool postgresql_is_blind(const PostgresqlEngine *engine);
void postgresql_fill_progress(const PostgresqlEngine *engine, const PostgresqlReceiverState *state,
                              uint64_t replayed_lsn, EngineProgress *ret_progress);

// Slots. A lineage of backups keeps one on the source between runs, so that the WAL since its
// newest backup is still there; a run that has none yet makes one of its own until its backup is
// committed. Both only hold back as much as max_slot_wal_keep_size lets them.
Status postgresql_slots_prepare(PostgresqlEngine *engine, Error *error);
void postgresql_slots_advance_run(PostgresqlEngine *engine,
                                  uint64_t lsn); // what this run no longer needs
Status postgresql_slots_commit(PostgresqlEngine *engine, Error *error);
void postgresql_slots_release(PostgresqlEngine *engine); // the run's own
Status postgresql_clean_source(const EngineSource *source, const char *shard_id,
                               const char *const *alive, int *ret_removed, Error *error);
Status postgresql_forget_source(const EngineSource *source, const char *shard_id, Error *error);

Status postgresql_probe(const EngineSource *source, int64_t timeout_ms, EngineInfo *ret_info,
                        Error *error);
Status postgresql_seed(Engine *engine, EngineProgressFunction on_progress, void *context,
                       Error *error);
Status postgresql_follow(Engine *base, Error *error);
Status postgresql_position(Engine *base, EngineProgress *ret_progress, bool *ret_is_caught_up,
                           Error *error);
Status postgresql_checkpoint_take(Engine *base, const char *name, Checkpoint *ret_checkpoint,
                                  Error *error);
Status postgresql_replay_to(Engine *base, const Checkpoint *checkpoint, int64_t stall_ms,
                            EngineProgressFunction on_progress, void *context, Error *error);
Status postgresql_layout(Engine *engine, Arena *arena, EngineLayout *ret_layout, Error *error);
// Is the file or directory, relative to the data directory, part of a backup?
bool postgresql_layout_keeps(const char *path);
Status postgresql_serve(Engine *engine, const char *version, const char *engine_state, int port,
                        int64_t *ret_started_ms, Error *error);

Status postgresql_state_parse(const char *text, PostgresqlState *ret_state, Error *error);
const char *postgresql_state_write(Arena *arena, const PostgresqlState *state, int major);
// The last run of digits of "<bytes>/<total> kB (" lines that pg_basebackup writes. False: none
// yet.
bool postgresql_seed_parse_progress(const char *text, int64_t *ret_done_bytes,
                                    int64_t *ret_total_bytes);
