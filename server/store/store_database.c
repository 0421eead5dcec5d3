// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_database.h"

#include "server/store/store_backup.h"
#include "server/store/store_proof.h"
#include "server/store/store_work.h"

#define SHARD_PROOF STORE_PROOF("sh.id")
#define VIEW                                                                                       \
    "SELECT d.id, d.name, d.engine, d.description, d.recovery_point_objective, d.created_at, "     \
    "d.reads_everything, "                                                                         \
    "d.updated_at, d.etag, d.name AS page_key_1, now() AS now_at, "                                \
    "s.shard_count, s.uncovered_shard, s.proven_recovery_time, "                                   \
    "lb.id AS last_backup_id, lb.checkpoint_at AS last_restorable_at, lb.size_bytes, "             \
    "due.next_run_at, rb.id AS running_backup_id, rb.created_at AS running_since, "                \
    "lf.state AS last_finished_state, lf.message AS last_finished_message, "                       \
    "pred.seconds AS predicted_seconds "                                                           \
    "FROM databases d "                                                                            \
    "LEFT JOIN LATERAL (SELECT b.id, b.checkpoint_at, (SELECT sum(sb.size_bytes) "                 \
    "FROM shard_backups sb WHERE sb.backup_id = b.id AND sb.state = 'committed')::bigint "         \
    "AS size_bytes FROM backups b WHERE b.database_id = d.id AND b.state = 'succeeded' "           \
    "AND NOT EXISTS (SELECT 1 FROM shard_backups x WHERE x.backup_id = b.id AND "                  \
    "x.is_unrestorable) ORDER BY b.created_at DESC LIMIT 1) lb ON true "                           \
    "LEFT JOIN LATERAL (SELECT count(*)::int AS shard_count, "                                     \
    "min(x.name) FILTER (WHERE NOT x.is_covered) AS uncovered_shard, "                             \
    "CASE WHEN count(x.proof) = count(*) THEN max(x.proof) END AS proven_recovery_time "           \
    "FROM (SELECT sh.name, EXISTS (SELECT 1 FROM shard_backups sb WHERE sb.backup_id = lb.id AND " \
    "sb.shard_id = sh.id AND sb.state = 'committed') AS is_covered, "                              \
    "(SELECT proof.duration FROM " SHARD_PROOF " proof) AS proof "                                 \
    "FROM shards sh WHERE sh.database_id = d.id AND sh.deleted_at IS NULL) x) s ON true "          \
    "LEFT JOIN LATERAL (SELECT min(pd.next_at) AS next_run_at FROM policies p "                    \
    "JOIN policy_due pd ON pd.policy_id = p.id WHERE p.database_id = d.id AND "                    \
    "p.deleted_at IS NULL AND NOT p.is_paused) due ON true "                                       \
    "LEFT JOIN LATERAL (SELECT b.id, b.created_at FROM backups b WHERE "                           \
    "b.database_id = d.id AND b.state IN ('pending', 'running') LIMIT 1) rb ON true "              \
    "LEFT JOIN LATERAL (SELECT b.state, b.message FROM backups b WHERE "                           \
    "b.database_id = d.id AND b.state IN ('succeeded', 'failed') "                                 \
    "ORDER BY b.created_at DESC LIMIT 1) lf ON true "                                              \
    "LEFT JOIN LATERAL (SELECT "                                                                   \
    "ceil(avg(extract(epoch FROM l.finished_at - l.created_at)))::bigint AS seconds "              \
    "FROM (SELECT b.finished_at, b.created_at FROM backups b "                                     \
    "WHERE b.database_id = d.id AND b.state = 'succeeded' "                                        \
    "ORDER BY b.created_at DESC LIMIT 5) l) pred ON true "

static Status not_found(const char *name, Error *error)
{
    return error_set(error, REASON_NOT_FOUND, "there is no database '%s'", name);
}

Status store_database_add(StoreTransaction *transaction, Arena *arena,
                          const StoreDatabase *database, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO databases (id, name, engine, description, recovery_point_objective, etag, "
        "reads_everything) "
        "VALUES ($1, $2, $3, $4, make_interval(secs => $5::double precision / 1000000), $6, $7) "
        "ON CONFLICT DO NOTHING RETURNING id",
        STORE_PARAMETERS(database->id, database->name, database->engine, database->description,
                         store_integer_parameter(arena, database->recovery_point_objective_us),
                         database->etag, database->reads_everything),
        &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_EXISTS, "there is a database '%s' already", database->name);
        error_field(error, "database.name");
        return error_hint(error, "choose another name, or update that one");
    }
    return STATUS_OK;
}

Status store_database_lock(StoreTransaction *transaction, Arena *arena, const char *name,
                           StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT id, name, engine, etag FROM databases WHERE name = $1 "
                                "AND deleted_at IS NULL FOR NO KEY UPDATE",
                                STORE_PARAMETERS(name), ret_rows, error));
    return ret_rows->count == 0 ? not_found(name, error) : STATUS_OK;
}

Status store_database_update(StoreTransaction *transaction, Arena *arena,
                             const StoreDatabase *database, Error *error)
{
    const char *objective =
        database->recovery_point_objective_us < 0
            ? NULL
            : store_integer_parameter(arena, database->recovery_point_objective_us);
    return store_execute(
        transaction, arena,
        "UPDATE databases SET description = coalesce($2, description), recovery_point_objective = "
        "coalesce(make_interval(secs => $3::double precision / 1000000), "
        "recovery_point_objective), etag = $4, updated_at = now(), "
        "reads_everything = coalesce($5::boolean, reads_everything) WHERE id = $1",
        STORE_PARAMETERS(database->id, database->description, objective, database->etag,
                         database->reads_everything),
        error);
}

Status store_database_get(StoreTransaction *transaction, Arena *arena, const char *name,
                          StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena,
                                VIEW "WHERE d.name = $1 AND d.deleted_at IS NULL",
                                STORE_PARAMETERS(name), ret_rows, error));
    return ret_rows->count == 0 ? not_found(name, error) : STATUS_OK;
}

Status store_database_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                           StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        VIEW "WHERE d.deleted_at IS NULL AND d.name > coalesce($1, '') ORDER BY d.name "
             "LIMIT $2::int",
        STORE_PARAMETERS(page->after[0], store_integer_parameter(arena, page->limit)), ret_rows,
        error);
}

Status store_database_id(StoreTransaction *transaction, Arena *arena, const char *name,
                         const char **ret_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT id FROM databases WHERE name = $1 AND deleted_at IS NULL",
                                STORE_PARAMETERS(name), &rows, error));
    if (rows.count == 0) {
        return not_found(name, error);
    }
    *ret_id = store_value(&rows, 0, "id");
    return STATUS_OK;
}

Status store_database_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                           StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT kept.id AS kept_backup_id, kept.is_held, "
        "(SELECT b.id FROM backups b WHERE b.database_id = $1 AND "
        "b.state IN ('pending', 'running') LIMIT 1) AS running_backup_id, "
        "(SELECT r.id FROM restores r WHERE r.database_id = $1 AND "
        "r.state IN ('pending', 'running', 'serving') LIMIT 1) AS active_restore_id, "
        "(SELECT count(*) FROM backups b WHERE b.database_id = $1 AND b.state <> 'deleted' "
        "AND b.state <> 'deleting') AS backup_count "
        "FROM (SELECT) one LEFT JOIN LATERAL (SELECT b.id, b.held_at IS NOT NULL AS is_held "
        "FROM backups b WHERE b.database_id = $1 AND b.state NOT IN ('deleting', 'deleted') AND "
        "(b.held_at IS NOT NULL OR " STORE_BACKUP_PINNED ") ORDER BY is_held DESC LIMIT 1) kept "
        "ON true",
        STORE_PARAMETERS(id), ret_rows, error);
}

static Status add_work(StoreTransaction *transaction, const StoreRows *rows, const char *kind,
                       Error *error)
{
    for (int row = 0; row < rows->count; row++) {
        RETURN_IF_ERROR(store_work_add(transaction, kind, store_value(rows, row, "id"), 0, error));
    }
    return STATUS_OK;
}

Status store_database_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                             Error *error)
{
    StoreRows backups;
    StoreRows shards;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE backups SET state = 'deleting' WHERE database_id = $1 AND "
                                "state IN ('succeeded', 'failed', 'canceled') RETURNING id",
                                STORE_PARAMETERS(id), &backups, error));
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE shards SET deleted_at = now() WHERE database_id = $1 AND "
                                "deleted_at IS NULL RETURNING id",
                                STORE_PARAMETERS(id), &shards, error));
    if (backups.count > 0) {
        RETURN_IF_ERROR(store_work_add(transaction, WORK_RETENTION, id, 0, error));
    }
    RETURN_IF_ERROR(add_work(transaction, &shards, WORK_FORGET_SOURCE, error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "DELETE FROM policy_due WHERE policy_id IN "
                                  "(SELECT id FROM policies WHERE database_id = $1)",
                                  STORE_PARAMETERS(id), error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE policies SET deleted_at = now() WHERE database_id = $1 "
                                  "AND deleted_at IS NULL",
                                  STORE_PARAMETERS(id), error));
    return store_execute(transaction, arena,
                         "UPDATE databases SET deleted_at = now() WHERE id = $1",
                         STORE_PARAMETERS(id), error);
}
