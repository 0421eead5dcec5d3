// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_work_retention.h"

#include "server/store/store_event.h"
#include "server/store/store_work.h"

#define RULE                                                                                       \
    "SELECT p.id, p.keep_last, (extract(epoch FROM p.keep_for) * 1000000)::bigint AS "             \
    "keep_for_us, p.keep_hourly, p.keep_daily, p.keep_weekly, p.keep_monthly, p.keep_yearly "      \
    "FROM policies p "

#define WEEK "7 days" // so often a shard is swept without a reason, and thoroughly
// Attempts that left something, perhaps, and since when it can go: no other attempt at the same
// shard backup goes on from it, and nobody is there any more who could still write.
#define ABANDONED                                                                                  \
    "attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"                                \
    " JOIN instances i ON i.id = a.instance_id WHERE a.state IN ('failed', 'canceled', 'lost')"    \
    " AND sb.state NOT IN ('pending', 'running') AND i.state = 'destroyed'"
#define ABANDONED_AT "greatest(a.finished_at, sb.finished_at, i.destroyed_at)"

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
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT r.id, r.key_file," REPOSITORY_ADDRESS_COLUMNS
                                "FROM repositories r WHERE EXISTS"
                                " (SELECT FROM backups b WHERE b.repository_id = r.id"
                                "  AND b.database_id = $1) ORDER BY r.id",
                                STORE_PARAMETERS(database_id), &rows, error));
    RetentionPlace *places = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*places));
    for (int i = 0; i < rows.count; i++) {
        places[i] = (RetentionPlace){.repository_id = store_value(&rows, i, "id"),
                                     .key_file = store_value(&rows, i, "key_file"),
                                     .address = store_repository_address(&rows, i, arena)};
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
                    " AND state = 'deleting' ORDER BY id",
                    STORE_PARAMETERS(database_id, repository_id), &rows, error));
    take_ids(&rows, arena, ret_ids, ret_count);
    return STATUS_OK;
}

Status store_retention_shards(StoreTransaction *transaction, Arena *arena,
                              const RetentionSweep *sweep, RetentionShard **ret_shards,
                              size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "WITH gone AS MATERIALIZED (SELECT DISTINCT sb.shard_id FROM shard_backups sb WHERE"
        " sb.backup_id = ANY ($3::uuid[]) AND (sb.attempt_count > 0 OR sb.state = 'committed'))"
        " SELECT s.id, s.epoch,"
        " coalesce(w.thorough_at < now() - interval '" WEEK "', false) AS is_thorough"
        " FROM shards s LEFT JOIN shard_sweeps w ON w.shard_id = s.id AND w.repository_id = $2"
        " WHERE s.database_id = $1 AND (s.id IN (SELECT shard_id FROM gone)"
        " OR (w.shard_id IS NULL AND (EXISTS (SELECT FROM attempts a WHERE a.shard_id = s.id)"
        "  OR EXISTS (SELECT FROM shard_backups sb WHERE sb.shard_id = s.id"
        "   AND sb.state = 'committed')))"
        " OR w.swept_at < now() - interval '" WEEK "' OR w.retry_at <= now()"
        // A minute more: what ended just before the last sweep may not have been seen by it.
        " OR EXISTS (SELECT FROM " ABANDONED " AND a.shard_id = s.id"
        "  AND " ABANDONED_AT " > w.swept_at - $4::float8 * interval '1 ms' - interval '1 minute'"
        "  AND " ABANDONED_AT " <= now() - $4::float8 * interval '1 ms')) ORDER BY s.id",
        STORE_PARAMETERS(sweep->database_id, sweep->repository_id, sweep->gone,
                         store_integer_parameter(arena, sweep->grace_ms)),
        &rows, error));
    RetentionShard *shards = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*shards));
    for (int i = 0; i < rows.count; i++) {
        shards[i] = (RetentionShard){.id = store_value(&rows, i, "id"),
                                     .is_thorough = store_boolean(&rows, i, "is_thorough")};
    }
    *ret_shards = shards;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

// The epochs first: an attempt that begins after these statements has a later one, so it is
// protected too. Also the epochs of the earlier attempts at what is being tried now are: the next
// attempt may go on from what they have stored.
static Status read_epochs(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                          const RetentionSweep *sweep, RetentionKeep *keep, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT now() AS now_at, coalesce((SELECT min(a.epoch) FROM shard_backups sb"
                    " JOIN attempts a ON a.shard_backup_id = sb.id WHERE sb.shard_id = s.id"
                    " AND sb.state IN ('pending', 'running')), (SELECT min(a.epoch) FROM attempts a"
                    " WHERE a.shard_id = s.id AND a.state = 'running'), s.epoch + 1) AS epoch"
                    " FROM shards s WHERE s.id = $1",
                    STORE_PARAMETERS(shard_id), &rows, error));
    int64_t protect_epoch = rows.count == 1 ? store_integer(&rows, 0, "epoch", 0) : 0;
    keep->now_us = store_time_us(&rows, 0, "now_at", 0);
    keep->protect_epoch = protect_epoch > UINT32_MAX ? UINT32_MAX : (uint32_t)protect_epoch;
    // A day more: what such an attempt stored is older than its end, but for clocks that differ.
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT a.epoch FROM " ABANDONED " AND a.shard_id = $1"
        " AND " ABANDONED_AT " > now() - interval '1 day' - $2::float8 *"
        " interval '1 ms' ORDER BY a.epoch",
        STORE_PARAMETERS(shard_id, store_integer_parameter(arena, sweep->grace_ms)), &rows, error));
    keep->abandoned = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(uint32_t));
    keep->abandoned_count = (size_t)rows.count;
    for (int i = 0; i < rows.count; i++) {
        keep->abandoned[i] = (uint32_t)store_integer(&rows, i, "epoch", 0);
    }
    return STATUS_OK;
}

Status store_retention_keep(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                            const RetentionSweep *sweep, RetentionKeep *ret_keep, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(read_epochs(transaction, arena, shard_id, sweep, ret_keep, error));
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT DISTINCT sb.manifest_id AS id FROM shard_backups sb JOIN backups b ON "
        "b.id = sb.backup_id"
        " WHERE sb.shard_id = $1 AND b.repository_id = $2 AND sb.state = 'committed'"
        " AND sb.manifest_id <> '' AND ((b.state <> 'deleted' AND NOT EXISTS"
        "  (SELECT FROM unnest($3::uuid[]) gone WHERE gone = b.id))"
        "  OR sb.id IN (SELECT c.parent_id FROM shard_backups c WHERE c.shard_id = $1"
        "   AND c.state IN ('pending', 'running') AND c.parent_id IS NOT NULL)"
        "  OR sb.id IN (SELECT rs.shard_backup_id FROM restore_shards rs WHERE rs.shard_id = $1"
        "   AND rs.state IN ('pending', 'running')))"
        " ORDER BY id",
        STORE_PARAMETERS(shard_id, sweep->repository_id, sweep->gone), &rows, error));
    take_ids(&rows, arena, &ret_keep->manifest_ids, &ret_keep->manifest_count);
    return STATUS_OK;
}

Status store_retention_swept(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                             const char *repository_id, int64_t swept_us, bool is_thorough,
                             int64_t retry_us, Error *error)
{
    return store_execute(
        transaction, arena,
        "INSERT INTO shard_sweeps AS w (shard_id, repository_id, swept_at, thorough_at, retry_at)"
        " VALUES ($1, $2, $3, $3, $5) ON CONFLICT (shard_id, repository_id) DO UPDATE SET"
        " swept_at = excluded.swept_at, retry_at = excluded.retry_at,"
        " thorough_at = CASE WHEN $4::boolean THEN excluded.swept_at ELSE w.thorough_at END",
        STORE_PARAMETERS(shard_id, repository_id, store_time_parameter(arena, swept_us),
                         is_thorough ? "true" : "false",
                         retry_us > 0 ? store_time_parameter(arena, retry_us) : NULL),
        error);
}

static void add_events(StoreTransaction *transaction, const StoreRows *rows, const char *severity,
                       const char *kind, const char *message)
{
    for (int i = 0; i < rows->count; i++) {
        store_event_add(transaction, &(StoreEventFields){.severity = severity,
                                                         .kind = kind,
                                                         .database = store_value(rows, i, "name"),
                                                         .backup_id = store_value(rows, i, "id"),
                                                         .message = message});
    }
}

Status store_retention_deleted(StoreTransaction *transaction, Arena *arena, const char *gone,
                               Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "UPDATE backups b SET state = 'deleted', message = '' FROM databases d"
                    " WHERE b.id = ANY ($1::uuid[]) AND b.state = 'deleting'"
                    " AND d.id = b.database_id RETURNING b.id, d.name",
                    STORE_PARAMETERS(gone), &rows, error));
    add_events(transaction, &rows, "info", "backup.deleted", "the backup is deleted");
    return STATUS_OK;
}

Status store_retention_locked(StoreTransaction *transaction, Arena *arena, const char *ids,
                              const char *message, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE backups b SET message = $2 FROM databases d"
                                " WHERE b.id = ANY ($1::uuid[]) AND b.state = 'deleting'"
                                " AND b.message <> $2 AND d.id = b.database_id"
                                " RETURNING b.id, d.name",
                                STORE_PARAMETERS(ids, message), &rows, error));
    add_events(transaction, &rows, "warning", "backup.locked", message);
    return STATUS_OK;
}

Status store_retention_claim_stale(StoreTransaction *transaction, Arena *arena,
                                   const char *repository_id, bool *ret_is_due, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE repositories SET stale_removed_at = now() WHERE id = $1"
                                " AND (stale_removed_at IS NULL OR"
                                " stale_removed_at < now() - interval '1 hour') RETURNING id",
                                STORE_PARAMETERS(repository_id), &rows, error));
    *ret_is_due = rows.count > 0;
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
