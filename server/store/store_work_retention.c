// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_work_retention.h"

#include "server/store/store_event.h"
#include "server/store/store_work.h"

#define RULE                                                                                       \
    "SELECT p.id, p.keep_last, (extract(epoch FROM p.keep_for) * 1000000)::bigint AS "             \
    "keep_for_us, p.keep_hourly, p.keep_daily, p.keep_weekly, p.keep_monthly, p.keep_yearly "      \
    "FROM policies p "

static void take_ids(const StoreRows *rows, Arena *arena, const char ***ret_ids, size_t *ret_count)
{
    const char **ids = arena_alloc_array(arena, (size_t)rows->count + 1, sizeof(*ids));
    for (int i = 0; i < rows->count; i++) {
        ids[i] = store_value(rows, i, "id");
    }
    *ret_ids = ids;
    *ret_count = (size_t)rows->count;
}

Status store_retention_places(StoreTransaction *transaction, Arena *arena, const char *database_id,
                              RetentionPlace **ret_places, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT r.id, r.location, r.key_file FROM repositories r WHERE EXISTS"
                    " (SELECT FROM backups b WHERE b.repository_id = r.id"
                    "  AND b.database_id = $1) ORDER BY r.id",
                    STORE_PARAMETERS(database_id), &rows, error));
    RetentionPlace *places = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*places));
    for (int i = 0; i < rows.count; i++) {
        places[i] = (RetentionPlace){.repository_id = store_value(&rows, i, "id"),
                                     .location = store_value(&rows, i, "location"),
                                     .key_file = store_value(&rows, i, "key_file")};
    }
    *ret_places = places;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

Status store_retention_deleting(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, const char *repository_id,
                                const char ***ret_ids, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT id FROM backups WHERE database_id = $1 AND repository_id = $2"
                    " AND state = 'deleting' ORDER BY id LIMIT 1000",
                    STORE_PARAMETERS(database_id, repository_id), &rows, error));
    take_ids(&rows, arena, ret_ids, ret_count);
    return STATUS_OK;
}

Status store_retention_shards(StoreTransaction *transaction, Arena *arena, const char *database_id,
                              const char *repository_id, const char ***ret_ids, size_t *ret_count,
                              Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT s.id FROM shards s WHERE s.database_id = $1 AND EXISTS"
                    " (SELECT FROM shard_backups sb JOIN backups b ON b.id = sb.backup_id"
                    "  WHERE sb.shard_id = s.id AND b.repository_id = $2"
                    "  AND sb.attempt_count > 0) ORDER BY s.id",
                    STORE_PARAMETERS(database_id, repository_id), &rows, error));
    take_ids(&rows, arena, ret_ids, ret_count);
    return STATUS_OK;
}

Status store_retention_keep(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                            const char *repository_id, const char *gone,
                            const char ***ret_manifest_ids, size_t *ret_count,
                            int64_t *ret_protect_epoch, Error *error)
{
    StoreRows rows;
    // The epoch first: an attempt that begins after this statement has a later one, so it is
    // protected too.
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT coalesce((SELECT min(a.epoch) FROM attempts a"
                    "  WHERE a.shard_id = s.id AND a.state = 'running'), s.epoch + 1) AS epoch"
                    " FROM shards s WHERE s.id = $1",
                    STORE_PARAMETERS(shard_id), &rows, error));
    *ret_protect_epoch = rows.count == 1 ? store_integer(&rows, 0, "epoch", 0) : 0;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT DISTINCT sb.manifest_id AS id FROM shard_backups sb JOIN backups b ON "
                    "b.id = sb.backup_id"
                    " WHERE sb.shard_id = $1 AND b.repository_id = $2 AND sb.state = 'committed'"
                    " AND sb.manifest_id <> ''"
                    " AND ((b.state <> 'deleted' AND b.id <> ALL ($3::uuid[]))"
                    "  OR EXISTS (SELECT FROM shard_backups c WHERE c.parent_id = sb.id"
                    "   AND c.state IN ('pending', 'running'))"
                    "  OR EXISTS (SELECT FROM restore_shards rs WHERE rs.shard_backup_id = sb.id"
                    "   AND rs.state IN ('pending', 'running')))"
                    " ORDER BY id",
                    STORE_PARAMETERS(shard_id, repository_id, gone), &rows, error));
    take_ids(&rows, arena, ret_manifest_ids, ret_count);
    return STATUS_OK;
}

Status store_retention_deleted(StoreTransaction *transaction, const char *backup_id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE backups b SET state = 'deleted' FROM databases d"
                                " WHERE b.id = $1 AND b.state = 'deleting' AND d.id = b.database_id"
                                " RETURNING d.name",
                                STORE_PARAMETERS(backup_id), &rows, error));
    if (rows.count > 0) {
        store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                         .kind = "backup.deleted",
                                                         .database = store_value(&rows, 0, "name"),
                                                         .backup_id = backup_id,
                                                         .message = "the backup is deleted"});
    }
    return STATUS_OK;
}

Status store_retention_place_of(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                                const char **ret_database_id, const char **ret_repository_id,
                                Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT database_id, repository_id FROM backups"
                                " WHERE id = $1 AND state = 'deleting'",
                                STORE_PARAMETERS(backup_id), &rows, error));
    *ret_database_id = rows.count == 1 ? store_value(&rows, 0, "database_id") : NULL;
    *ret_repository_id = rows.count == 1 ? store_value(&rows, 0, "repository_id") : NULL;
    return STATUS_OK;
}

Status store_retention_policies(StoreTransaction *transaction, Arena *arena,
                                const char *database_id, StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       RULE "WHERE p.database_id = $1 AND p.deleted_at IS NULL ORDER BY p.id",
                       STORE_PARAMETERS(database_id), ret_rows, error);
}

Status store_retention_rule(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                            StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena, RULE "WHERE p.id = $1", STORE_PARAMETERS(policy_id),
                       ret_rows, error);
}

Status store_retention_all(StoreTransaction *transaction, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "INSERT INTO work_items (kind, subject_id)"
                                  " SELECT '" WORK_RETENTION "', d.id FROM databases d WHERE EXISTS"
                                  " (SELECT FROM backups b WHERE b.database_id = d.id)"
                                  " ON CONFLICT DO NOTHING",
                                  0, NULL, error));
    return store_notify(transaction, "work", error);
}
