// SPDX-License-Identifier: Apache-2.0
// What agents report and what they are to do. Every function may be called twice with the same: the
// second time changes nothing. Lock order: see store_instance.h.
#pragma once

#include "server/store/store.h"
#include "server/store/store_repository.h"

// --- joining ---
typedef struct AgentJoinRow {
    const char *instance_id, *purpose, *state;
    const char *attempt_id;             // of a backup's instance
    const char *restore_shard_id;       // of a restore's instance
    const char *backup_id, *restore_id; // or NULL
    const char *database_name, *shard_name;
    bool is_session; // the secret was the session token, not the join secret
} AgentJoinRow;
// `secret_hash` must be that of the join secret (until it is used up) or of the session token.
// NULL: refused.
Status store_agent_join(StoreTransaction *transaction, Arena *arena, const char *instance_id,
                        const uint8_t *secret_hash, const uint8_t *session_token_hash,
                        const char *server_id, int64_t memory_bytes, AgentJoinRow **ret_row,
                        Error *error);
// The agent has acted on its session: the join secret is of no use any more.
Status store_agent_joined(StoreTransaction *transaction, const char *instance_id, Error *error);
// Heard from, all at once.
Status store_agent_seen(StoreTransaction *transaction, const char *instance_id,
                        const char *server_id, int64_t memory_bytes, Error *error);

// --- what to tell ---
typedef struct AgentDirective {
    const char *instance_id;
    bool is_stop; // destroy requested, canceled, or the attempt is not the current one
    const char *stop_reason;
    bool is_backup;
    bool is_checkpoint_wanted; // it is ready, the barrier is open, no position yet
    const char *checkpoint_position, *checkpoint_name,
        *checkpoint_server_identity; // "" until taken
    const char *phase;
} AgentDirective;
// For the instances of the list ("{uuid,uuid}", PostgreSQL's array text).
Status store_agent_directives(StoreTransaction *transaction, Arena *arena, const char *instance_ids,
                              AgentDirective **ret_directives, size_t *ret_count, Error *error);

typedef struct AgentSource {
    const char *engine, *host, *tls_mode, *tls_ca, *username;
    int port;
    const uint8_t *password_sealed;
    size_t password_sealed_size;
    const char *credential_id;
    bool is_shard_deleted;
} AgentSource;
typedef struct AgentRepository {
    const char *id, *key_file;
    RepositoryAddress address;
} AgentRepository;
typedef struct BackupAssignmentRow {
    const char *attempt_id, *backup_id, *shard_backup_id;
    const char *database_id, *database_name, *shard_id, *shard_name;
    int64_t epoch;
    int generation;
    bool reads_everything;
    int64_t resume_epoch; // of the first attempt; sweeps keep what it and later ones have stored
    AgentSource source;
    AgentRepository repository;
    const char *parent_manifest_id, *parent_manifest_digest; // "" for a seed
} BackupAssignmentRow;
// NULL when the attempt is not running.
Status store_agent_backup_assignment(StoreTransaction *transaction, Arena *arena,
                                     const char *attempt_id, BackupAssignmentRow **ret_row,
                                     Error *error);
// What a shard's source needs, for cleaning up there. NULL when the shard is gone.
Status store_agent_source(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                          AgentSource **ret_source, Error *error);

typedef struct RestoreAssignmentRow {
    const char *restore_id, *restore_shard_id, *database_id, *shard_id, *shard_name, *engine,
        *directory;
    int port;
    AgentRepository repository;
    const char *manifest_id, *manifest_digest;
} RestoreAssignmentRow;
Status store_agent_restore_assignment(StoreTransaction *transaction, Arena *arena,
                                      const char *restore_shard_id, RestoreAssignmentRow **ret_row,
                                      Error *error);

// --- what a backup's agent says; only of a running attempt ---
typedef struct AttemptProgress {
    int64_t done_bytes, total_bytes, received_bytes, rate_bytes_per_second;
    const char *position; // NULL: as before
} AttemptProgress;
Status store_agent_progress(StoreTransaction *transaction, const char *attempt_id,
                            const AttemptProgress *progress, Error *error);
// Closes the phases before it. `at_us` 0: now. Makes it ready for the barrier with phase "ready".
Status store_agent_phase(StoreTransaction *transaction, const char *attempt_id, const char *phase,
                         int64_t at_us, const char *position, Error *error);
// Before the agent is told to take its position: the earliest moment it can have been taken at. The
// first one stays.
Status store_agent_checkpoint_sent(StoreTransaction *transaction, const char *attempt_id,
                                   Error *error);
Status store_agent_checkpoint_taken(StoreTransaction *transaction, const char *attempt_id,
                                    const char *position, const char *name,
                                    const char *server_identity, Error *error);

typedef struct AgentCommit {
    const char *manifest_id, *manifest_digest, *checkpoint, *engine_version;
    int64_t size_bytes, new_bytes, stored_bytes, received_bytes, pages_checked;
    int64_t read_bytes,
        unrecorded_bytes; // the latter: found by a full read, missed by the recorder
    bool reads_everything;
    int64_t parent_restore_ms, parent_start_ms, replay_ms;
} AgentCommit;
// The commit point of a shard backup: accepted only from the newest epoch, while the run goes on.
// ret_why says why not.
Status store_agent_commit(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                          const AgentCommit *commit, bool *ret_is_accepted, const char **ret_why,
                          Error *error);
// The backup that an attempt belongs to, or NULL.
Status store_agent_backup_of(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                             const char **ret_backup_id, Error *error);

// --- what a restore's agent says; counts only from the instance that the shard runs on now ---
Status store_agent_restore_progress(StoreTransaction *transaction, const char *restore_shard_id,
                                    const char *instance_id, int64_t done_bytes,
                                    int64_t total_bytes, Error *error);
typedef struct RestoreDoneRow {
    int64_t size_bytes, restore_ms, start_ms;
    int port;
} RestoreDoneRow;
Status store_agent_restore_done(StoreTransaction *transaction, const char *restore_shard_id,
                                const char *instance_id, const RestoreDoneRow *done,
                                bool *ret_is_accepted, Error *error);
// Asks for the destruction of its instance too.
Status store_agent_restore_failed(StoreTransaction *transaction, const char *restore_shard_id,
                                  const char *instance_id, const char *reason, const char *message,
                                  Error *error);
