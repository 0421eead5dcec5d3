// SPDX-License-Identifier: Apache-2.0
// What agents report: progress, phases, checkpoints, the commit, restores.
#include "server/store/store_agent.h"
#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/store/store_work.h"

#include <assert.h>
#include <string.h>

Status store_agent_progress(StoreTransaction *transaction, const char *attempt_id,
                            const AttemptProgress *progress, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(
        transaction, arena,
        "UPDATE attempts SET done_bytes = $2, total_bytes = $3, received_bytes = $4,"
        " rate_bytes_per_second = $5, position = coalesce($6, position), progress_at = now()"
        " WHERE id = $1 AND state = 'running'",
        STORE_PARAMETERS(attempt_id, store_integer_parameter(arena, progress->done_bytes),
                         store_integer_parameter(arena, progress->total_bytes),
                         store_integer_parameter(arena, progress->received_bytes),
                         store_integer_parameter(arena, progress->rate_bytes_per_second),
                         progress->position),
        error);
}

static Status close_earlier_phases(StoreTransaction *transaction, Arena *arena,
                                   const char *attempt_id, const char *phase, const char *at,
                                   Error *error)
{
    return store_execute(
        transaction, arena,
        "UPDATE attempt_phases p SET ended_at = GREATEST(p.started_at, $3::timestamptz),"
        " done_bytes = CASE WHEN a.phase = p.phase THEN a.done_bytes ELSE p.done_bytes END,"
        " total_bytes = CASE WHEN a.phase = p.phase THEN a.total_bytes ELSE p.total_bytes END"
        " FROM attempts a WHERE a.id = $1 AND p.attempt_id = a.id"
        " AND p.ended_at IS NULL AND p.phase <> $2",
        STORE_PARAMETERS(attempt_id, phase, at), error);
}

// The agent's clock is believed as far as it is possible: not before the attempt, not in the
// future.
static Status moment_of(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                        int64_t at_us, StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT GREATEST(a.started_at, LEAST(coalesce($2::timestamptz, now()), now())) AS at,"
        " sb.id AS shard_backup_id, sb.backup_id, s.name AS shard_name, d.name AS database_name"
        " FROM attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"
        " JOIN shards s ON s.id = a.shard_id JOIN databases d ON d.id = s.database_id"
        " WHERE a.id = $1 AND a.state = 'running' FOR UPDATE OF a",
        STORE_PARAMETERS(attempt_id, at_us > 0 ? store_time_parameter(arena, at_us) : NULL),
        ret_rows, error);
}

Status store_agent_phase(StoreTransaction *transaction, const char *attempt_id, const char *phase,
                         int64_t at_us, const char *position, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    StoreRows inserted;
    RETURN_IF_ERROR(moment_of(transaction, arena, attempt_id, at_us, &rows, error));
    if (rows.count == 0) {
        return STATUS_OK; // not running any more: what it does now does not count
    }
    const char *at = store_value(&rows, 0, "at");
    RETURN_IF_ERROR(close_earlier_phases(transaction, arena, attempt_id, phase, at, error));
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "INSERT INTO attempt_phases (attempt_id, phase, started_at)"
                                " VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING phase",
                                STORE_PARAMETERS(attempt_id, phase, at), &inserted, error));
    if (inserted.count == 0) {
        return STATUS_OK; // said before
    }
    bool is_ready = strcmp(phase, "ready") == 0;
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE attempts SET phase = $2, done_bytes = 0,"
        " total_bytes = -1, rate_bytes_per_second = 0,"
        " progress_at = now(), position = CASE WHEN $3 = '' THEN position ELSE $3 END,"
        " ready_at = CASE WHEN $4 THEN coalesce(ready_at, now()) ELSE ready_at END WHERE id = $1",
        STORE_PARAMETERS(attempt_id, phase, position != NULL ? position : "",
                         is_ready ? "true" : "false"),
        error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "shard_backup.phase",
                                        .database = store_value(&rows, 0, "database_name"),
                                        .backup_id = store_value(&rows, 0, "backup_id"),
                                        .shard = store_value(&rows, 0, "shard_name"),
                                        .subject_id = store_value(&rows, 0, "shard_backup_id"),
                                        .message = phase});
    return is_ready ? store_work_add(transaction, WORK_BACKUP, store_value(&rows, 0, "backup_id"),
                                     0, error)
                    : STATUS_OK;
}

Status store_agent_checkpoint_sent(StoreTransaction *transaction, const char *attempt_id,
                                   Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE attempts SET checkpoint_sent_at = clock_timestamp()"
                         " WHERE id = $1 AND state = 'running' AND checkpoint_sent_at IS NULL",
                         STORE_PARAMETERS(attempt_id), error);
}

Status store_agent_backup_of(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                             const char **ret_backup_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT sb.backup_id FROM attempts a"
                    " JOIN shard_backups sb ON sb.id = a.shard_backup_id WHERE a.id = $1",
                    STORE_PARAMETERS(attempt_id), &rows, error));
    *ret_backup_id = rows.count == 1 ? store_value(&rows, 0, "backup_id") : NULL;
    return STATUS_OK;
}

Status store_agent_checkpoint_taken(StoreTransaction *transaction, const char *attempt_id,
                                    const char *position, const char *name,
                                    const char *server_identity, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    // The first position is the checkpoint; a repeated message carries the same one.
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE attempts SET checkpoint_received_at = clock_timestamp(), checkpoint_position = $2,"
        " checkpoint_name = $3, checkpoint_server_identity = $4,"
        " checkpoint_sent_at = coalesce(checkpoint_sent_at, ready_at, now())"
        " WHERE id = $1 AND state = 'running' AND checkpoint_position = '' AND $2 <> ''"
        " RETURNING shard_backup_id",
        STORE_PARAMETERS(attempt_id, position, name, server_identity), &rows, error));
    const char *backup_id = NULL;
    RETURN_IF_ERROR(store_agent_backup_of(transaction, arena, attempt_id, &backup_id, error));
    return rows.count == 0 || backup_id == NULL
               ? STATUS_OK
               : store_work_add(transaction, WORK_BACKUP, backup_id, 0, error);
}

// --- the commit ---

typedef struct CommitFacts {
    const char *backup_id, *shard_backup_id, *instance_id, *database_name, *shard_name;
    const char *attempt_state, *manifest_id;
    bool is_current, is_canceled, is_open;
} CommitFacts;

// Takes the locks in order, so that a new attempt, a cancel and a commit of the same shard come one
// after the other.
static Status commit_lock(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                          CommitFacts *ret_facts, bool *ret_is_found, Error *error)
{
    StoreRows rows;
    const char *backup_id = NULL;
    *ret_is_found = false;
    RETURN_IF_ERROR(store_agent_backup_of(transaction, arena, attempt_id, &backup_id, error));
    if (backup_id == NULL) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "SELECT FROM backups WHERE id = $1 FOR UPDATE",
                                  STORE_PARAMETERS(backup_id), error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "SELECT FROM shards WHERE id ="
                                  " (SELECT shard_id FROM attempts WHERE id = $1) FOR UPDATE",
                                  STORE_PARAMETERS(attempt_id), error));
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT a.shard_backup_id, a.instance_id, a.state AS attempt_state, sb.manifest_id,"
        " a.epoch = s.epoch AS is_current, b.cancel_requested_at IS NOT NULL AS is_canceled,"
        " b.state = 'running' AND sb.state = 'running' AS is_open, d.name AS database_name,"
        " s.name AS shard_name"
        " FROM attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"
        " JOIN backups b ON b.id = sb.backup_id JOIN shards s ON s.id = a.shard_id"
        " JOIN databases d ON d.id = b.database_id WHERE a.id = $1 FOR UPDATE OF sb, a",
        STORE_PARAMETERS(attempt_id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    *ret_is_found = true;
    *ret_facts = (CommitFacts){.backup_id = backup_id,
                               .shard_backup_id = store_value(&rows, 0, "shard_backup_id"),
                               .instance_id = store_value(&rows, 0, "instance_id"),
                               .database_name = store_value(&rows, 0, "database_name"),
                               .shard_name = store_value(&rows, 0, "shard_name"),
                               .attempt_state = store_value(&rows, 0, "attempt_state"),
                               .manifest_id = store_value(&rows, 0, "manifest_id"),
                               .is_current = store_boolean(&rows, 0, "is_current"),
                               .is_canceled = store_boolean(&rows, 0, "is_canceled"),
                               .is_open = store_boolean(&rows, 0, "is_open")};
    return STATUS_OK;
}

static Status commit_shard_backup(StoreTransaction *transaction, Arena *arena,
                                  const CommitFacts *facts, const char *attempt_id,
                                  const AgentCommit *commit, Error *error)
{
    return store_execute(
        transaction, arena,
        "UPDATE shard_backups sb SET state = 'committed',"
        " finished_at = now(), reason = '', message = '',"
        " manifest_id = $2, manifest_digest = $3, checkpoint = $4, engine_version = $5,"
        " size_bytes = $6, new_bytes = $7, stored_bytes = $8, received_bytes = $9,"
        " pages_checked = $10, read_bytes = $15, unrecorded_bytes = $16,"
        " reads_everything = $17::boolean,"
        " parent_restore_time = CASE WHEN a.is_seed THEN NULL"
        "  ELSE $11::float8 * interval '1 ms' END,"
        " parent_start_time = CASE WHEN a.is_seed THEN NULL ELSE $12::float8 * interval '1 ms' END,"
        " replay_time = CASE WHEN a.is_seed THEN NULL ELSE $13::float8 * interval '1 ms' END,"
        " checkpoint_at = a.checkpoint_sent_at"
        " FROM attempts a WHERE sb.id = $1 AND a.id = $14",
        STORE_PARAMETERS(facts->shard_backup_id, commit->manifest_id, commit->manifest_digest,
                         commit->checkpoint, commit->engine_version,
                         store_integer_parameter(arena, commit->size_bytes),
                         store_integer_parameter(arena, commit->new_bytes),
                         store_integer_parameter(arena, commit->stored_bytes),
                         store_integer_parameter(arena, commit->received_bytes),
                         store_integer_parameter(arena, commit->pages_checked),
                         store_integer_parameter(arena, commit->parent_restore_ms),
                         store_integer_parameter(arena, commit->parent_start_ms),
                         store_integer_parameter(arena, commit->replay_ms), attempt_id,
                         store_integer_parameter(arena, commit->read_bytes),
                         store_integer_parameter(arena, commit->unrecorded_bytes),
                         commit->reads_everything ? "true" : "false"),
        error);
}

static Status commit_attempt(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                             Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE attempts SET state = 'committed', finished_at = now(),"
                                  " phase = 'destroy' WHERE id = $1",
                                  STORE_PARAMETERS(attempt_id), error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE attempt_phases SET ended_at = now() WHERE attempt_id = $1 AND ended_at IS NULL",
        STORE_PARAMETERS(attempt_id), error));
    return store_execute(transaction, arena,
                         "INSERT INTO attempt_phases (attempt_id, phase, started_at)"
                         " VALUES ($1, 'destroy', now()) ON CONFLICT DO NOTHING",
                         STORE_PARAMETERS(attempt_id), error);
}

// A full read found what the recorder of writes had missed. This backup is right; from now on
// nothing is left to the recorder, until somebody says so.
static Status distrust_recorder(StoreTransaction *transaction, Arena *arena,
                                const CommitFacts *facts, int64_t unrecorded_bytes, Error *error)
{
    RETURN_IF_ERROR(
        store_execute(transaction, arena,
                      "UPDATE databases d SET reads_everything = true, updated_at = now(),"
                      " etag = substr(md5(random()::text), 1, 16) FROM backups b"
                      " WHERE b.id = $1 AND d.id = b.database_id AND NOT d.reads_everything",
                      STORE_PARAMETERS(facts->backup_id), error));
    store_event_add(
        transaction,
        &(StoreEventFields){
            .severity = "error",
            .kind = "recorder.contradicted",
            .database = facts->database_name,
            .backup_id = facts->backup_id,
            .shard = facts->shard_name,
            .subject_id = facts->shard_backup_id,
            .message = arena_format(
                arena,
                "the recorder of writes missed %lld bytes of shard %s of %s, which a full read found: "
                "every backup of the database reads everything from now on, and the backups since "
                "its last full read may lack writes",
                (long long)unrecorded_bytes, facts->shard_name, facts->database_name)});
    return STATUS_OK;
}

static const char *refusal(const CommitFacts *facts)
{
    if (facts->is_canceled) {
        return "the backup was canceled";
    }
    if (!facts->is_current) {
        return "a newer attempt has taken this one's place";
    }
    return "the attempt has ended";
}

Status store_agent_commit(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                          const AgentCommit *commit, bool *ret_is_accepted, const char **ret_why,
                          Error *error)
{
    CommitFacts facts = {0};
    bool is_found = false;
    *ret_is_accepted = false;
    *ret_why = "there is no such attempt";
    RETURN_IF_ERROR(commit_lock(transaction, arena, attempt_id, &facts, &is_found, error));
    if (!is_found) {
        return STATUS_OK;
    }
    if (strcmp(facts.attempt_state, "committed") == 0) {
        *ret_is_accepted = strcmp(facts.manifest_id, commit->manifest_id) == 0;
        *ret_why = *ret_is_accepted ? "" : "another manifest was committed";
        return STATUS_OK;
    }
    if (strcmp(facts.attempt_state, "running") != 0 || !facts.is_current || facts.is_canceled ||
        !facts.is_open) {
        *ret_why = refusal(&facts);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(commit_shard_backup(transaction, arena, &facts, attempt_id, commit, error));
    RETURN_IF_ERROR(commit_attempt(transaction, arena, attempt_id, error));
    if (commit->unrecorded_bytes > 0) {
        RETURN_IF_ERROR(
            distrust_recorder(transaction, arena, &facts, commit->unrecorded_bytes, error));
    }
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "shard_backup.committed",
                                                     .database = facts.database_name,
                                                     .backup_id = facts.backup_id,
                                                     .shard = facts.shard_name,
                                                     .subject_id = facts.shard_backup_id,
                                                     .message = arena_format(
                                                         arena, "shard %s of %s is backed up",
                                                         facts.shard_name, facts.database_name)});
    RETURN_IF_ERROR(store_instance_request_destroy(transaction, facts.instance_id,
                                                   "its shard backup is committed", error));
    RETURN_IF_ERROR(store_work_add(transaction, WORK_BACKUP, facts.backup_id, 0, error));
    *ret_is_accepted = true;
    *ret_why = "";
    return STATUS_OK;
}

// --- restores ---

Status store_agent_restore_progress(StoreTransaction *transaction, const char *restore_shard_id,
                                    const char *instance_id, int64_t done_bytes,
                                    int64_t total_bytes, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE restore_shards SET done_bytes = $3, total_bytes = $4"
                         " WHERE id = $1 AND instance_id = $2 AND state = 'running'",
                         STORE_PARAMETERS(restore_shard_id, instance_id,
                                          store_integer_parameter(arena, done_bytes),
                                          store_integer_parameter(arena, total_bytes)),
                         error);
}

static Status wake_restore(StoreTransaction *transaction, Arena *arena,
                           const char *restore_shard_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT restore_id FROM restore_shards WHERE id = $1",
                                STORE_PARAMETERS(restore_shard_id), &rows, error));
    return rows.count == 0 ? STATUS_OK
                           : store_work_add(transaction, WORK_RESTORE,
                                            store_value(&rows, 0, "restore_id"), 0, error);
}

Status store_agent_restore_done(StoreTransaction *transaction, const char *restore_shard_id,
                                const char *instance_id, const RestoreDoneRow *done,
                                bool *ret_is_accepted, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE restore_shards SET"
        " state = CASE WHEN $6::int > 0 THEN 'serving' ELSE 'succeeded' END,"
        " done_bytes = $3, total_bytes = $3, restore_time = $4::float8 * interval '1 ms',"
        " start_time = $5::float8 * interval '1 ms',"
        " port = CASE WHEN $6::int > 0 THEN $6::int ELSE port END"
        " WHERE id = $1 AND instance_id = $2 AND state = 'running'",
        STORE_PARAMETERS(restore_shard_id, instance_id,
                         store_integer_parameter(arena, done->size_bytes),
                         store_integer_parameter(arena, done->restore_ms),
                         store_integer_parameter(arena, done->start_ms),
                         store_integer_parameter(arena, done->port)),
        error));
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT FROM restore_shards WHERE id = $1 AND instance_id = $2"
                                " AND state IN ('serving', 'succeeded')",
                                STORE_PARAMETERS(restore_shard_id, instance_id), &rows, error));
    *ret_is_accepted = rows.count == 1;
    return wake_restore(transaction, arena, restore_shard_id, error);
}

Status store_agent_restore_failed(StoreTransaction *transaction, const char *restore_shard_id,
                                  const char *instance_id, const char *reason, const char *message,
                                  Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(
        store_execute(transaction, arena,
                      "UPDATE restore_shards SET state = 'failed', reason = $3, message = $4"
                      " WHERE id = $1 AND instance_id = $2 AND state IN ('running', 'serving')",
                      STORE_PARAMETERS(restore_shard_id, instance_id, reason, message), error));
    RETURN_IF_ERROR(store_instance_request_destroy(transaction, instance_id, message, error));
    return wake_restore(transaction, arena, restore_shard_id, error);
}
