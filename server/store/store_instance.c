// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_instance.h"

#include "common/crypto.h"
#include "server/store/store_work.h"

#include <assert.h>
#include <string.h>

#define PLAN_LOCK "7305804402566922342" // differs from the other advisory locks of this schema
#define SERVER_LIVES "interval '30 s'"

Status store_instance_add(StoreTransaction *transaction, const InstanceIntent *intent, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO instances (id, provider, state, purpose, database_id, shard_id, backup_id,"
        " subject_id, join_secret_hash) VALUES ($1, $2, 'intended', $3, $4, $5, $6, $7, $8)",
        STORE_PARAMETERS(intent->id, intent->provider, intent->purpose, intent->database_id,
                         intent->shard_id, intent->backup_id, intent->subject_id,
                         store_bytes_parameter(arena, intent->join_secret_hash, SHA256_SIZE)),
        error));
    return store_work_add(transaction, WORK_INSTANCE, intent->id, 0, error);
}

#define INSTANCE_COLUMNS                                                                           \
    "i.id, i.provider, split_part(i.provider_id, '/', 1) AS home, i.state, i.purpose,"             \
    " i.subject_id, i.backup_id, i.shard_id, s.placement_region, s.placement_zone,"                \
    " i.destroy_requested_at IS NOT NULL AS is_destroy_requested"

static void instance_fill(const StoreRows *rows, int index, InstanceRow *ret_row)
{
    *ret_row = (InstanceRow){
        .id = store_value(rows, index, "id"),
        .provider = store_value(rows, index, "provider"),
        .home = store_value(rows, index, "home"),
        .state = store_value(rows, index, "state"),
        .purpose = store_value(rows, index, "purpose"),
        .subject_id = store_value(rows, index, "subject_id"),
        .backup_id = store_value(rows, index, "backup_id"),
        .shard_id = store_value(rows, index, "shard_id"),
        .region = store_value(rows, index, "placement_region"),
        .zone = store_value(rows, index, "placement_zone"),
        .is_destroy_requested = store_boolean(rows, index, "is_destroy_requested"),
    };
}

Status store_instance_lock(StoreTransaction *transaction, Arena *arena, const char *id,
                           InstanceRow **ret_row, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT " INSTANCE_COLUMNS
                                " FROM instances i JOIN shards s ON s.id = i.shard_id"
                                " WHERE i.id = $1 FOR UPDATE OF i",
                                STORE_PARAMETERS(id), &rows, error));
    *ret_row = NULL;
    if (rows.count == 1) {
        *ret_row = arena_alloc(arena, sizeof(**ret_row));
        instance_fill(&rows, 0, *ret_row);
    }
    return STATUS_OK;
}

// The kind of work that looks after an instance: at its home, once it has one.
static const char *work_kind(Arena *arena, const char *home)
{
    return home[0] == '\0' ? WORK_INSTANCE : arena_format(arena, WORK_INSTANCE_AT "%s", home);
}

Status store_instance_place(StoreTransaction *transaction, const char *id, const char *server_id,
                            Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE instances SET provider_id = $2"
                                " WHERE id = $1 AND provider_id = '' AND state <> 'destroyed'"
                                " RETURNING id",
                                STORE_PARAMETERS(id, server_id), &rows, error));
    return rows.count == 0 ? STATUS_OK
                           : store_work_add(transaction, work_kind(arena, server_id), id, 0, error);
}

Status store_instance_launched(StoreTransaction *transaction, const char *id, const char *server_id,
                               const char *provider_id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    // It may have joined already: its state then says more than ours.
    return store_execute(
        transaction, arena,
        "UPDATE instances SET provider_id = $2::text || '/' || $3::text,"
        " launched_at = coalesce(launched_at, now()),"
        " state = CASE WHEN state = 'intended' THEN 'launched' ELSE state END WHERE id = $1",
        STORE_PARAMETERS(id, server_id, provider_id), error);
}

Status store_instance_look(StoreTransaction *transaction, const char *id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT split_part(provider_id, '/', 1) AS home FROM instances"
                                " WHERE id = $1 AND state IN ('launched', 'joined')",
                                STORE_PARAMETERS(id), &rows, error));
    return rows.count == 0
               ? STATUS_OK
               : store_work_add(transaction, work_kind(arena, store_value(&rows, 0, "home")), id,
                                300, error);
}

Status store_instance_request_destroy(StoreTransaction *transaction, const char *id,
                                      const char *message, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE instances SET state = 'destroying',"
                                " destroy_requested_at = coalesce(destroy_requested_at, now()),"
                                " message = CASE WHEN message = '' THEN $2 ELSE message END"
                                " WHERE id = $1 AND state <> 'destroyed'"
                                " RETURNING split_part(provider_id, '/', 1) AS home",
                                STORE_PARAMETERS(id, message), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(
        store_work_add(transaction, work_kind(arena, store_value(&rows, 0, "home")), id, 0, error));
    return store_notify(transaction, "sessions", error);
}

// Of an attempt that came to nothing: nobody writes any more.
static Status sweep_what_it_left(StoreTransaction *transaction, Arena *arena, const char *id,
                                 const char *database_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT FROM attempts WHERE instance_id = $1 AND state IN"
                                " ('failed', 'canceled', 'lost')",
                                STORE_PARAMETERS(id), &rows, error));
    return rows.count == 0 ? STATUS_OK
                           : store_work_add(transaction, WORK_RETENTION, database_id, 0, error);
}

Status store_instance_destroyed(StoreTransaction *transaction, const char *id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE instances SET state = 'destroyed', destroyed_at = now(), join_secret_hash = NULL,"
        " session_token_hash = NULL WHERE id = $1 AND state <> 'destroyed'"
        " RETURNING purpose, subject_id, backup_id, database_id",
        STORE_PARAMETERS(id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    bool is_backup = strcmp(store_value(&rows, 0, "purpose"), "backup") == 0;
    if (is_backup) {
        RETURN_IF_ERROR(store_execute(
            transaction, arena,
            "UPDATE attempt_phases p SET ended_at = now() FROM attempts a"
            " WHERE a.instance_id = $1 AND p.attempt_id = a.id AND p.phase = 'destroy'"
            " AND p.ended_at IS NULL",
            STORE_PARAMETERS(id), error));
        RETURN_IF_ERROR(sweep_what_it_left(transaction, arena, id,
                                           store_value(&rows, 0, "database_id"), error));
    }
    return store_work_add(transaction, is_backup ? WORK_BACKUP : WORK_RESTORE,
                          store_value(&rows, 0, is_backup ? "backup_id" : "subject_id"), 0, error);
}

Status store_instance_plan_lock(StoreTransaction *transaction, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena, "SELECT pg_advisory_xact_lock(" PLAN_LOCK ")", 0, NULL,
                         error);
}

Status store_instance_count(StoreTransaction *transaction, int *ret_count, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT count(*) AS count FROM instances i WHERE i.state <> 'destroyed'"
                    " AND (i.provider_id = '' OR EXISTS (SELECT FROM servers v"
                    "  WHERE v.id::text = split_part(i.provider_id, '/', 1)"
                    "  AND v.last_seen_at > now() - " SERVER_LIVES "))",
                    0, NULL, &rows, error));
    *ret_count = (int)store_integer(&rows, 0, "count", 0);
    return STATUS_OK;
}

Status store_instance_list_at(StoreTransaction *transaction, Arena *arena, const char *server_id,
                              InstanceRow **ret_rows, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT " INSTANCE_COLUMNS
                                " FROM instances i JOIN shards s ON s.id = i.shard_id"
                                " WHERE i.state <> 'destroyed'"
                                " AND split_part(i.provider_id, '/', 1) = $1 ORDER BY i.id",
                                STORE_PARAMETERS(server_id), &rows, error));
    InstanceRow *list = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*list));
    for (int i = 0; i < rows.count; i++) {
        instance_fill(&rows, i, &list[i]);
    }
    *ret_rows = list;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

Status store_instance_is_stray(StoreTransaction *transaction, const char *id, const char *server_id,
                               bool *ret_is_stray, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT FROM instances WHERE id = $1 AND state <> 'destroyed'"
                                " AND split_part(provider_id, '/', 1) = $2",
                                STORE_PARAMETERS(id, server_id), &rows, error));
    *ret_is_stray = rows.count == 0;
    return STATUS_OK;
}

Status store_instance_alive_of_shard(StoreTransaction *transaction, Arena *arena,
                                     const char *shard_id, const char ***ret_ids, size_t *ret_count,
                                     Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT id FROM instances WHERE shard_id = $1"
                                " AND state <> 'destroyed' ORDER BY id",
                                STORE_PARAMETERS(shard_id), &rows, error));
    const char **ids = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*ids));
    for (int i = 0; i < rows.count; i++) {
        ids[i] = store_value(&rows, i, "id");
    }
    *ret_ids = ids;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}
