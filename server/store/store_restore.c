// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_restore.h"

#include "common/crypto.h"
#include "server/store/store_event.h"
#include "server/store/store_work.h"

#define ACTIVE "('pending', 'running', 'serving')"
#define SECONDS(column) "extract(epoch FROM " column ")::text || 's'"

#define SHARDS                                                                                                     \
    "SELECT json_agg(json_build_object('shard', sh.name, 'shard_backup_id', rs.shard_backup_id,"                   \
    " 'state', rs.state, 'directory', rs.directory, 'port', rs.port, 'checkpoint', sb.checkpoint,"                 \
    " 'done_bytes', rs.done_bytes, 'total_bytes', rs.total_bytes,"                                                 \
    " 'restore_time', " SECONDS("rs.restore_time") ", 'start_time', " SECONDS(                                     \
        "rs.start_time") ","                                                                                       \
                         " 'reason', rs.reason, 'message', rs.message, 'instance_id', rs.instance_id,"             \
                         " 'attempt_count', rs.attempt_count) ORDER BY sh.name) AS shards,"                        \
                         " avg(CASE WHEN rs.state IN ('serving', 'succeeded') THEN 1"                              \
                         "  WHEN rs.total_bytes > 0 THEN least(1, rs.done_bytes::numeric / rs.total_bytes) * 0.95" \
                         "  ELSE 0 END)::double precision AS progress"                                             \
                         " FROM restore_shards rs JOIN shards sh ON sh.id = rs.shard_id"                           \
                         " JOIN shard_backups sb ON sb.id = rs.shard_backup_id WHERE rs.restore_id = r.id"

#define VIEW                                                                                       \
    "SELECT r.id, d.name AS database, r.backup_id, r.mode, r.state, r.directory, r.first_port,"    \
    " r.created_at, r.started_at, r.finished_at, r.reason, r.message, r.limits,"                   \
    " r.created_at AS page_key_1, r.id AS page_key_2, r.stop_requested_at, s.shards,"              \
    " CASE WHEN r.state IN ('succeeded', 'serving') THEN 1 ELSE coalesce(s.progress, 0) END"       \
    "  AS progress"                                                                                \
    " FROM restores r JOIN databases d ON d.id = r.database_id"                                    \
    " LEFT JOIN LATERAL (" SHARDS ") s ON true "

Status store_restore_sources(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                             StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       "SELECT sh.name AS shard, sb.shard_id, sb.id, sb.state, sb.is_unrestorable "
                       "FROM shard_backups sb JOIN shards sh ON sh.id = sb.shard_id "
                       "WHERE sb.backup_id = $1 ORDER BY sh.name",
                       STORE_PARAMETERS(backup_id), ret_rows, error);
}

Status store_restore_newest_backup(StoreTransaction *transaction, Arena *arena,
                                   const char *database_id, const char **ret_backup_id,
                                   Error *error)
{
    return store_query_value(
        transaction, arena,
        "SELECT b.id FROM backups b WHERE b.database_id = $1 AND "
        "b.state = 'succeeded' AND NOT EXISTS (SELECT 1 FROM shard_backups x WHERE "
        "x.backup_id = b.id AND x.is_unrestorable) "
        "ORDER BY b.created_at DESC, b.id DESC LIMIT 1",
        STORE_PARAMETERS(database_id), ret_backup_id, error);
}

Status store_restore_find_directory(StoreTransaction *transaction, Arena *arena,
                                    const char *directory, const char **ret_restore_id,
                                    Error *error)
{
    return store_query_value(transaction, arena,
                             "SELECT id FROM restores WHERE state IN " ACTIVE " AND "
                             "(starts_with($1 || '/', directory || '/') OR "
                             "starts_with(directory || '/', $1 || '/')) LIMIT 1",
                             STORE_PARAMETERS(directory), ret_restore_id, error);
}

Status store_restore_find_port(StoreTransaction *transaction, Arena *arena, int first_port,
                               int count, const char **ret_restore_id, Error *error)
{
    return store_query_value(transaction, arena,
                             "SELECT r.id FROM restores r JOIN restore_shards rs ON "
                             "rs.restore_id = r.id WHERE r.state IN " ACTIVE " AND "
                             "rs.port >= $1::int AND rs.port < $2::int LIMIT 1",
                             STORE_PARAMETERS(store_integer_parameter(arena, first_port),
                                              store_integer_parameter(arena, first_port + count)),
                             ret_restore_id, error);
}

Status store_restore_add(StoreTransaction *transaction, Arena *arena, const StoreRestore *restore,
                         const StoreRestoreShard *shards, size_t shard_count, const char *database,
                         Error *error)
{
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO restores (id, database_id, backup_id, mode, state, directory, first_port, "
        "limits) VALUES ($1, $2, $3, $4, 'pending', $5, $6::int, $7)",
        STORE_PARAMETERS(restore->id, restore->database_id, restore->backup_id, restore->mode,
                         restore->directory, store_integer_parameter(arena, restore->first_port),
                         restore->limits),
        error));
    for (size_t i = 0; i < shard_count; i++) {
        char id[UUID_TEXT_SIZE];
        crypto_uuid(id);
        RETURN_IF_ERROR(store_execute(
            transaction, arena,
            "INSERT INTO restore_shards (id, restore_id, shard_id, shard_backup_id, state, "
            "directory, port) VALUES ($1, $2, $3, $4, 'pending', $5, $6::int)",
            STORE_PARAMETERS(id, restore->id, shards[i].shard_id, shards[i].shard_backup_id,
                             shards[i].directory, store_integer_parameter(arena, shards[i].port)),
            error));
    }
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "restore.created",
                                                     .database = database,
                                                     .backup_id = restore->backup_id,
                                                     .subject_id = restore->id,
                                                     .message = "A restore was started"});
    return store_work_add(transaction, WORK_RESTORE, restore->id, 0, error);
}

Status store_restore_get(StoreTransaction *transaction, Arena *arena, const char *id,
                         bool is_locked, StoreRows *ret_rows, Error *error)
{
    if (is_locked) {
        RETURN_IF_ERROR(store_execute(transaction, arena,
                                      "SELECT id FROM restores WHERE id = $1 FOR NO KEY UPDATE",
                                      STORE_PARAMETERS(id), error));
    }
    RETURN_IF_ERROR(store_query(transaction, arena, VIEW "WHERE r.id = $1", STORE_PARAMETERS(id),
                                ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "there is no restore '%s'", id);
    }
    return STATUS_OK;
}

Status store_restore_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                          const StorePage *page, StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       VIEW "WHERE ($1::uuid IS NULL OR r.database_id = $1) AND "
                            "(r.created_at, r.id) < (coalesce($2, 'infinity')::timestamptz, "
                            "coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid) "
                            "ORDER BY r.created_at DESC, r.id DESC LIMIT $4::int",
                       STORE_PARAMETERS(database_id, page->after[0], page->after[1],
                                        store_integer_parameter(arena, page->limit)),
                       ret_rows, error);
}

Status store_restore_stop(StoreTransaction *transaction, Arena *arena, const char *id,
                          const char *database, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE restores SET stop_requested_at = now() WHERE id = $1 AND "
                                "stop_requested_at IS NULL RETURNING backup_id",
                                STORE_PARAMETERS(id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK; // asked for before
    }
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "restore.stop_requested",
                                        .database = database,
                                        .backup_id = store_value(&rows, 0, "backup_id"),
                                        .subject_id = id,
                                        .message = "Stopping was asked for"});
    RETURN_IF_ERROR(store_notify(transaction, "sessions", error));
    return store_work_add(transaction, WORK_RESTORE, id, 0, error);
}
