// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_work_restore.h"

#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/store/store_work.h"

#include <string.h>

#define SERVER_LIVES "interval '30 s'"

static Status read_shards(StoreTransaction *transaction, Arena *arena, RestoreRun *run,
                          Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT rs.id, rs.shard_id, s.name AS shard_name, s.placement_provider, rs.state,"
        " rs.reason, rs.message, rs.attempt_count,"
        " coalesce((extract(epoch FROM rs.retry_at - clock_timestamp()) * 1000)::bigint, 0)"
        "  AS retry_left_ms,"
        " i.id AS instance_id, i.state AS instance_state, i.message AS instance_message,"
        " i.joined_at IS NOT NULL AS is_joined, i.state <> 'destroyed' AS is_instance_alive,"
        " i.provider_id <> '' AND NOT EXISTS (SELECT FROM servers v"
        "  WHERE v.id::text = split_part(i.provider_id, '/', 1)"
        "  AND v.last_seen_at > now() - " SERVER_LIVES ") AS is_home_away,"
        " coalesce((extract(epoch FROM clock_timestamp() - GREATEST(i.last_seen_at, i.joined_at,"
        "  i.created_at, (SELECT min(v.started_at) FROM servers v"
        "  WHERE v.last_seen_at > now() - " SERVER_LIVES "))) * 1000)::bigint, -1) AS silence_ms"
        " FROM restore_shards rs JOIN shards s ON s.id = rs.shard_id"
        " LEFT JOIN instances i ON i.id = rs.instance_id WHERE rs.restore_id = $1 ORDER BY s.name",
        STORE_PARAMETERS(run->id), &rows, error));
    run->shards = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*run->shards));
    run->shard_count = (size_t)rows.count;
    for (int i = 0; i < rows.count; i++) {
        run->shards[i] =
            (RestoreShardRun){.id = store_value(&rows, i, "id"),
                              .shard_id = store_value(&rows, i, "shard_id"),
                              .shard_name = store_value(&rows, i, "shard_name"),
                              .provider = store_value(&rows, i, "placement_provider"),
                              .state = store_value(&rows, i, "state"),
                              .reason = store_value(&rows, i, "reason"),
                              .message = store_value(&rows, i, "message"),
                              .instance_id = store_value(&rows, i, "instance_id"),
                              .instance_state = store_value(&rows, i, "instance_state"),
                              .instance_message = store_value(&rows, i, "instance_message"),
                              .is_joined = store_boolean(&rows, i, "is_joined"),
                              .is_home_away = store_boolean(&rows, i, "is_home_away"),
                              .is_instance_alive = store_boolean(&rows, i, "is_instance_alive"),
                              .attempt_count = store_integer(&rows, i, "attempt_count", 0),
                              .retry_left_ms = store_integer(&rows, i, "retry_left_ms", 0),
                              .silence_ms = store_integer(&rows, i, "silence_ms", -1)};
    }
    return STATUS_OK;
}

Status store_restore_run_lock(StoreTransaction *transaction, Arena *arena, const char *restore_id,
                              RestoreRun **ret_run, Error *error)
{
    StoreRows rows;
    *ret_run = NULL;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT r.id, r.state, r.mode, r.database_id, r.backup_id, d.name AS database_name,"
        " r.stop_requested_at IS NOT NULL AS is_stop_requested"
        " FROM restores r JOIN databases d ON d.id = r.database_id WHERE r.id = $1 FOR UPDATE OF r",
        STORE_PARAMETERS(restore_id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    RestoreRun *run = arena_alloc(arena, sizeof(*run));
    *run = (RestoreRun){.id = store_value(&rows, 0, "id"),
                        .state = store_value(&rows, 0, "state"),
                        .mode = store_value(&rows, 0, "mode"),
                        .database_id = store_value(&rows, 0, "database_id"),
                        .database_name = store_value(&rows, 0, "database_name"),
                        .backup_id = store_value(&rows, 0, "backup_id"),
                        .is_stop_requested = store_boolean(&rows, 0, "is_stop_requested")};
    RETURN_IF_ERROR(read_shards(transaction, arena, run, error));
    *ret_run = run;
    return STATUS_OK;
}

Status store_restore_run_set_state(StoreTransaction *transaction, const RestoreRun *run,
                                   const char *state, const char *reason, const char *message,
                                   Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE restores SET state = $2, reason = $3, message = $4,"
        " started_at = coalesce(started_at, now()),"
        " finished_at = CASE WHEN $2 IN ('succeeded', 'failed', 'canceled') THEN now() END"
        " WHERE id = $1 AND state <> $2 RETURNING backup_id",
        STORE_PARAMETERS(run->id, state, reason, message), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    const char *kind = strcmp(state, "running") == 0 ? "started" : state;
    store_event_add(
        transaction,
        &(StoreEventFields){
            .severity = strcmp(state, "failed") == 0 ? "error" : "info",
            .kind = arena_format(arena, "restore.%s", kind),
            .database = run->database_name,
            .backup_id = store_value(&rows, 0, "backup_id"),
            .subject_id = run->id,
            .message = message[0] == '\0'
                           ? arena_format(arena, "the restore of %s: %s", run->database_name, kind)
                           : arena_format(arena, "the restore of %s: %s: %s", run->database_name,
                                          kind, message)});
    return STATUS_OK;
}

Status store_restore_shard_start(StoreTransaction *transaction, const RestoreRun *run,
                                 const RestoreShardRun *shard, const char *instance_id,
                                 const uint8_t *join_secret_hash, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    InstanceIntent intent = {.id = instance_id,
                             .provider = shard->provider,
                             .purpose = "restore",
                             .database_id = run->database_id,
                             .shard_id = shard->shard_id,
                             .subject_id = run->id,
                             .join_secret_hash = join_secret_hash};
    RETURN_IF_ERROR(store_instance_add(transaction, &intent, error));
    return store_execute(transaction, arena,
                         "UPDATE restore_shards SET state = 'running', instance_id = $2,"
                         " attempt_count = attempt_count + 1, reason = '', message = ''"
                         " WHERE id = $1 AND state = 'pending'",
                         STORE_PARAMETERS(shard->id, instance_id), error);
}

Status store_restore_shard_retry(StoreTransaction *transaction, const RestoreRun *run,
                                 const RestoreShardRun *shard, const char *reason,
                                 const char *message, int64_t delay_ms, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    store_event_add(transaction,
                    &(StoreEventFields){
                        .severity = "warning",
                        .kind = "restore.attempt_lost",
                        .database = run->database_name,
                        .backup_id = run->backup_id,
                        .shard = shard->shard_name,
                        .subject_id = run->id,
                        .message = arena_format(arena,
                                                "try %lld of restoring shard %s of %s ended: %s; "
                                                "it is tried again on another instance",
                                                (long long)shard->attempt_count, shard->shard_name,
                                                run->database_name, message)});
    return store_execute(
        transaction, arena,
        "UPDATE restore_shards SET state = 'pending', reason = $2, message = $3,"
        " done_bytes = 0, total_bytes = -1,"
        " retry_at = clock_timestamp() + $4::float8 * interval '1 ms'"
        " WHERE id = $1 AND state = 'running'",
        STORE_PARAMETERS(shard->id, reason, message, store_integer_parameter(arena, delay_ms)),
        error);
}

Status store_restore_shard_set_state(StoreTransaction *transaction, const char *restore_shard_id,
                                     const char *state, const char *reason, const char *message,
                                     Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE restore_shards SET state = $2, reason = $3, message = $4"
                         " WHERE id = $1 AND state IN ('pending', 'running', 'serving')",
                         STORE_PARAMETERS(restore_shard_id, state, reason, message), error);
}
