// SPDX-License-Identifier: Apache-2.0
// The run of a backup: reading it whole, starting, barrier, finishing.
#include "server/store/store_work_backup.h"

#include "server/store/store_event.h"
#include "server/store/store_repository.h"
#include "server/store/store_work.h"

#include <assert.h>
#include <string.h>

#define SERVER_LIVES "interval '30 s'"
#define IS_AWAY                                                                                    \
    "(i.provider_id <> '' AND NOT EXISTS (SELECT FROM servers v"                                   \
    " WHERE v.id::text = split_part(i.provider_id, '/', 1)"                                        \
    " AND v.last_seen_at > now() - " SERVER_LIVES "))"

// Ages are in milliseconds, NULL for never. Of the silence, the time when no server was there to be
// heard by does not count.
static const char SELECT_SHARDS[] =
    "SELECT sb.id AS shard_backup_id, sb.shard_id, s.name AS shard_name, sb.state, sb.parent_id,"
    " sb.reason, sb.message, s.placement_provider AS provider, sb.attempt_count,"
    // Lost machines, and failures that led to another way (a new copy, an older parent), do not use
    // up the tries.
    " (SELECT count(*) FROM attempts f WHERE f.shard_backup_id = sb.id"
    "   AND f.state IN ('failed', 'lost') AND f.reason NOT IN ('instance-lost', 'lease-lost')"
    "   AND (f.is_seed OR f.reason NOT IN ('logs-gone',"
    "   'source-diverged', 'engine-version', 'parent-unrestorable', 'object-corrupt',"
    "   'object-missing', 'page-corrupt'))) AS plain_failure_count,"
    " a.id AS attempt_id, a.state AS attempt_state, a.reason AS attempt_reason, a.is_seed,"
    " a.ready_at IS NOT NULL AS is_ready, a.checkpoint_position <> '' AS has_checkpoint,"
    " (extract(epoch FROM clock_timestamp() - a.ready_at) * 1000)::bigint AS ready_age_ms,"
    " (extract(epoch FROM clock_timestamp() - a.finished_at) * 1000)::bigint AS attempt_ended_age_ms,"
    " (extract(epoch FROM clock_timestamp() - a.started_at) * 1000)::bigint AS attempt_age_ms,"
    " i.id AS instance_id, i.state AS instance_state, i.joined_at IS NOT NULL AS is_joined,"
    " " IS_AWAY " AS is_home_away, i.state <> 'destroyed' AS is_instance_alive,"
    " i.message AS instance_message,"
    " (extract(epoch FROM clock_timestamp() - GREATEST(i.last_seen_at, i.joined_at, a.started_at,"
    "  (SELECT min(v.started_at) FROM servers v WHERE v.last_seen_at > now() - " SERVER_LIVES
    "  ))) * 1000)::bigint AS silence_ms"
    " FROM shard_backups sb JOIN shards s ON s.id = sb.shard_id"
    " LEFT JOIN LATERAL (SELECT * FROM attempts WHERE shard_backup_id = sb.id"
    "  ORDER BY epoch DESC LIMIT 1) a ON true"
    " LEFT JOIN instances i ON i.id = a.instance_id"
    " WHERE sb.backup_id = $1 ORDER BY s.name";

static void shard_fill(const StoreRows *rows, int index, ShardRun *ret_shard)
{
    *ret_shard = (ShardRun){
        .shard_backup_id = store_value(rows, index, "shard_backup_id"),
        .shard_id = store_value(rows, index, "shard_id"),
        .shard_name = store_value(rows, index, "shard_name"),
        .state = store_value(rows, index, "state"),
        .reason = store_value(rows, index, "reason"),
        .message = store_value(rows, index, "message"),
        .parent_id = store_value(rows, index, "parent_id"),
        .provider = store_value(rows, index, "provider"),
        .attempt_id = store_value(rows, index, "attempt_id"),
        .attempt_state = store_value(rows, index, "attempt_state"),
        .attempt_reason = store_value(rows, index, "attempt_reason"),
        .attempt_count = store_integer(rows, index, "attempt_count", 0),
        .plain_failure_count = store_integer(rows, index, "plain_failure_count", 0),
        .is_seed = store_boolean(rows, index, "is_seed"),
        .is_ready = store_boolean(rows, index, "is_ready"),
        .has_checkpoint = store_boolean(rows, index, "has_checkpoint"),
        .ready_age_ms = store_integer(rows, index, "ready_age_ms", -1),
        .attempt_ended_age_ms = store_integer(rows, index, "attempt_ended_age_ms", -1),
        .attempt_age_ms = store_integer(rows, index, "attempt_age_ms", -1),
        .instance_id = store_value(rows, index, "instance_id"),
        .instance_state = store_value(rows, index, "instance_state"),
        .instance_message = store_value(rows, index, "instance_message"),
        .is_joined = store_boolean(rows, index, "is_joined"),
        .is_home_away = store_boolean(rows, index, "is_home_away"),
        .silence_ms = store_integer(rows, index, "silence_ms", -1),
        .is_instance_alive = store_boolean(rows, index, "is_instance_alive"),
    };
}

static Status read_shards(StoreTransaction *transaction, Arena *arena, BackupRun *run, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena, SELECT_SHARDS, STORE_PARAMETERS(run->id), &rows, error));
    run->shards = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*run->shards));
    run->shard_count = (size_t)rows.count;
    for (int i = 0; i < rows.count; i++) {
        shard_fill(&rows, i, &run->shards[i]);
    }
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT count(*) FILTER (WHERE NOT " IS_AWAY ") AS waiting,"
                    " count(*) FILTER (WHERE " IS_AWAY ") AS away"
                    " FROM instances i WHERE i.backup_id = $1 AND i.state <> 'destroyed'",
                    STORE_PARAMETERS(run->id), &rows, error));
    run->waiting_instance_count = (size_t)store_integer(&rows, 0, "waiting", 0);
    run->away_instance_count = (size_t)store_integer(&rows, 0, "away", 0);
    return STATUS_OK;
}

Status store_backup_run_lock(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                             BackupRun **ret_run, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT b.id, b.state, b.barrier, b.database_id, d.name AS database_name, d.engine,"
        " b.repository_id, b.cancel_requested_at IS NOT NULL AS is_cancel_requested,"
        " b.set_written_at IS NOT NULL AS is_set_written, b.created_at,"
        " (extract(epoch FROM clock_timestamp() - b.barrier_at) * 1000)::bigint AS barrier_age_ms"
        " FROM backups b JOIN databases d ON d.id = b.database_id WHERE b.id = $1 FOR UPDATE OF b",
        STORE_PARAMETERS(backup_id), &rows, error));
    *ret_run = NULL;
    if (rows.count == 0) {
        return STATUS_OK;
    }
    BackupRun *run = arena_alloc(arena, sizeof(*run));
    *run = (BackupRun){
        .id = store_value(&rows, 0, "id"),
        .state = store_value(&rows, 0, "state"),
        .barrier = store_value(&rows, 0, "barrier"),
        .database_id = store_value(&rows, 0, "database_id"),
        .database_name = store_value(&rows, 0, "database_name"),
        .engine = store_value(&rows, 0, "engine"),
        .repository_id = store_value(&rows, 0, "repository_id"),
        .is_cancel_requested = store_boolean(&rows, 0, "is_cancel_requested"),
        .is_set_written = store_boolean(&rows, 0, "is_set_written"),
        .barrier_age_ms = store_integer(&rows, 0, "barrier_age_ms", -1),
        .created_us = store_time_us(&rows, 0, "created_at", 0),
    };
    RETURN_IF_ERROR(read_shards(transaction, arena, run, error));
    *ret_run = run;
    return STATUS_OK;
}

static void add_event(StoreTransaction *transaction, const BackupRun *run, const char *severity,
                      const char *kind, const char *message)
{
    store_event_add(transaction, &(StoreEventFields){.severity = severity,
                                                     .kind = kind,
                                                     .database = run->database_name,
                                                     .backup_id = run->id,
                                                     .message = message});
}

Status store_backup_run_start(StoreTransaction *transaction, const BackupRun *run, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE backups SET state = 'running', started_at = now()"
                                  " WHERE id = $1 AND state = 'pending'",
                                  STORE_PARAMETERS(run->id), error));
    add_event(transaction, run, "info", "backup.started",
              arena_format(arena, "the backup of %s has started (%zu shard%s)", run->database_name,
                           run->shard_count, run->shard_count == 1 ? "" : "s"));
    return STATUS_OK;
}

// Over the attempts that have a position: the moment of the cut, and the longest time two of them
// can lie apart.
#define UPDATE_CUT "checkpoint_at = cut.first_at, checkpoint_skew = cut.last_at - cut.first_at"
#define FROM_CUT(condition)                                                                        \
    " FROM (SELECT min(a.checkpoint_sent_at) AS first_at,"                                         \
    "  max(a.checkpoint_received_at) AS last_at"                                                   \
    " FROM attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"                          \
    " WHERE sb.backup_id = $1 AND a.checkpoint_position <> '' AND " condition ") cut"
#define CUT_OF_COMMITTED FROM_CUT("a.state = 'committed'")

Status store_backup_run_barrier(StoreTransaction *transaction, const BackupRun *run,
                                const char *barrier, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (strcmp(barrier, "taking") == 0) {
        RETURN_IF_ERROR(store_execute(transaction, arena,
                                      "UPDATE backups SET barrier = 'taking', barrier_at = now()"
                                      " WHERE id = $1 AND barrier = 'waiting'",
                                      STORE_PARAMETERS(run->id), error));
    } else {
        RETURN_IF_ERROR(store_execute(
            transaction, arena,
            "UPDATE backups b SET barrier = 'taken', " UPDATE_CUT FROM_CUT(
                "a.state IN ('running', 'committed')") " WHERE b.id = $1 AND b.barrier = 'taking'",
            STORE_PARAMETERS(run->id), error));
        add_event(transaction, run, "info", "backup.checkpoint",
                  "the checkpoints of all shards have been taken");
    }
    return store_notify(transaction, "sessions", error);
}

Status store_backup_run_set_written(StoreTransaction *transaction, const char *backup_id,
                                    Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE backups SET set_written_at = coalesce(set_written_at, now())"
                         " WHERE id = $1",
                         STORE_PARAMETERS(backup_id), error);
}

Status store_backup_run_finish(StoreTransaction *transaction, const BackupRun *run,
                               const char *state, const char *reason, const char *message,
                               Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE backups b SET state = $2, finished_at = now(), reason = $3, message = $4,"
        " " UPDATE_CUT CUT_OF_COMMITTED
        " WHERE b.id = $1 AND b.state IN ('pending', 'running') RETURNING b.id",
        STORE_PARAMETERS(run->id, state, reason, message), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(
        store_repository_add_stored(transaction, arena, run->repository_id, run->id, error));
    const char *text =
        message[0] == '\0'
            ? arena_format(arena, "the backup of %s %s", run->database_name,
                           strcmp(state, "canceled") == 0 ? "was canceled" : state)
            : arena_format(arena, "the backup of %s %s: %s", run->database_name,
                           strcmp(state, "canceled") == 0 ? "was canceled" : state, message);
    add_event(transaction, run, strcmp(state, "failed") == 0 ? "error" : "info",
              arena_format(arena, "backup.%s", state), text);
    return store_work_add(transaction, WORK_RETENTION, run->database_id, 0, error);
}

Status store_backup_set_shards(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                               SetShardRow **ret_shards, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT sb.shard_id, s.name, sb.manifest_id, sb.manifest_digest, sb.checkpoint"
        " FROM shard_backups sb JOIN shards s ON s.id = sb.shard_id"
        " WHERE sb.backup_id = $1 AND sb.state = 'committed' ORDER BY s.name, sb.shard_id",
        STORE_PARAMETERS(backup_id), &rows, error));
    SetShardRow *shards = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*shards));
    for (int i = 0; i < rows.count; i++) {
        shards[i] = (SetShardRow){.shard_id = store_value(&rows, i, "shard_id"),
                                  .shard_name = store_value(&rows, i, "name"),
                                  .manifest_id = store_value(&rows, i, "manifest_id"),
                                  .manifest_digest = store_value(&rows, i, "manifest_digest"),
                                  .checkpoint = store_value(&rows, i, "checkpoint")};
    }
    *ret_shards = shards;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

Status store_repository_place(StoreTransaction *transaction, Arena *arena,
                              const char *repository_id, RepositoryPlace *ret_place, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT r.id, r.key_file," REPOSITORY_ADDRESS_COLUMNS
                                "FROM repositories r WHERE r.id = $1",
                                STORE_PARAMETERS(repository_id), &rows, error));
    if (rows.count == 0) {
        return error_set(error, REASON_NOT_FOUND, "the repository does not exist any more");
    }
    *ret_place = (RepositoryPlace){.id = store_value(&rows, 0, "id"),
                                   .key_file = store_value(&rows, 0, "key_file"),
                                   .address = store_repository_address(&rows, 0, arena)};
    return STATUS_OK;
}
