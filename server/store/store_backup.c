// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_backup.h"

#include "common/crypto.h"
#include "common/text.h"
#include "server/store/store_event.h"
#include "server/store/store_progress.h"
#include "server/store/store_work.h"

#include <assert.h>

#define VIEW                                                                                                  \
    "SELECT b.id, d.name AS database, r.name AS repository, coalesce(p.name, '') AS policy, "                 \
    "b.trigger, b.state, b.slot_at, b.created_at, b.started_at, b.finished_at, b.checkpoint_at, "             \
    "b.checkpoint_skew, b.reason, b.message, b.note, b.limits, b.held_at IS NOT NULL AS is_held, b.held_at, " \
    "b.hold_note, pin.is_pinned, CASE WHEN pin.is_pinned THEN b.pinned_until END AS pinned_until, "           \
    "CASE WHEN pin.is_pinned THEN b.pin_note ELSE '' END AS pin_note, s.shard_count, s.committed_count, "     \
    "s.failed_count, s.size_bytes, s.new_bytes, s.stored_bytes, s.received_bytes, s.generation, "             \
    "CASE WHEN b.state = 'succeeded' THEN 1 ELSE s.progress END AS progress, "                                \
    "b.created_at AS page_key_1, b.id AS page_key_2 "                                                         \
    "FROM backups b JOIN databases d ON d.id = b.database_id "                                                \
    "JOIN repositories r ON r.id = b.repository_id LEFT JOIN policies p ON p.id = b.policy_id "               \
    "CROSS JOIN LATERAL (SELECT " STORE_BACKUP_PINNED " AS is_pinned) pin "                                   \
    "LEFT JOIN LATERAL (SELECT count(*)::int AS shard_count, "                                                \
    "(count(*) FILTER (WHERE sb.state = 'committed'))::int AS committed_count, "                              \
    "(count(*) FILTER (WHERE sb.state = 'failed'))::int AS failed_count, "                                    \
    "(sum(sb.size_bytes) FILTER (WHERE sb.state = 'committed'))::bigint AS size_bytes, "                      \
    "(sum(sb.new_bytes) FILTER (WHERE sb.state = 'committed'))::bigint AS new_bytes, "                        \
    "(sum(sb.stored_bytes) FILTER (WHERE sb.state = 'committed'))::bigint AS stored_bytes, "                  \
    "sum(CASE WHEN sb.state = 'committed' THEN sb.received_bytes ELSE "                                       \
    "coalesce(a.received_bytes, 0) END)::bigint AS received_bytes, "                                          \
    "coalesce(max(sb.generation), 0) AS generation, "                                                         \
    "coalesce(avg(" STORE_SHARD_PROGRESS(                                                                     \
        "sb", "a") "), 0)::double precision AS progress "                                                     \
                   "FROM shard_backups sb " STORE_CURRENT_ATTEMPT(                                            \
                       "sb", "a") "WHERE sb.backup_id = b.id) s ON true "

// Newest first: what comes after a place has a smaller key.
#define AFTER                                                                                      \
    "(b.created_at, b.id) < (coalesce($1, 'infinity')::timestamptz, "                              \
    "coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid) "

static Status not_found(const char *id, Error *error)
{
    return error_set(error, REASON_NOT_FOUND, "there is no backup '%s'", id);
}

// Why the row was not inserted: one of the two unique indexes.
static Status find_obstacle(StoreTransaction *transaction, Arena *arena,
                            const StoreBackupRequest *request, StoreBackupOutcome *ret_outcome,
                            const char **ret_backup_id, Error *error)
{
    const char *id = NULL;
    if (request->policy_id != NULL && request->slot_at != NULL) {
        RETURN_IF_ERROR(store_query_value(
            transaction, arena, "SELECT id FROM backups WHERE policy_id = $1 AND slot_at = $2",
            STORE_PARAMETERS(request->policy_id, request->slot_at), &id, error));
        *ret_outcome = STORE_BACKUP_SLOT_TAKEN;
    }
    if (id == NULL) {
        RETURN_IF_ERROR(store_query_value(transaction, arena,
                                          "SELECT id FROM backups WHERE database_id = $1 AND "
                                          "state IN ('pending', 'running')",
                                          STORE_PARAMETERS(request->database_id), &id, error));
        *ret_outcome = STORE_BACKUP_OVERLAP;
    }
    if (id == NULL) {
        // The obstacle went away between the two statements.
        error_set(error, REASON_CONFLICT, "another backup of the database has just ended");
        return error_hint(error, "try again");
    }
    *ret_backup_id = id;
    return STATUS_OK;
}

static Status add_shard_backups(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                                const StoreBackupRequest *request, Error *error)
{
    return store_execute(
        transaction, arena,
        "INSERT INTO shard_backups (id, backup_id, shard_id, state, parent_id, generation, "
        "seed_reason) SELECT gen_random_uuid(), $1, sh.id, 'pending', parent.id, "
        "coalesce(parent.generation + 1, 0), CASE WHEN $4::boolean AND EXISTS (SELECT 1 FROM "
        "shard_backups old WHERE old.shard_id = sh.id AND old.state = 'committed') "
        "THEN 'asked for' ELSE '' END "
        "FROM shards sh LEFT JOIN LATERAL (SELECT sb.id, sb.generation FROM shard_backups sb "
        "JOIN backups b ON b.id = sb.backup_id WHERE sb.shard_id = sh.id AND "
        "sb.state = 'committed' AND NOT sb.is_unrestorable AND b.repository_id = $3 AND "
        "b.state NOT IN ('deleting', 'deleted') AND NOT $4::boolean "
        "ORDER BY sb.created_at DESC LIMIT 1) parent ON true "
        "WHERE sh.database_id = $2 AND sh.deleted_at IS NULL",
        STORE_PARAMETERS(backup_id, request->database_id, request->repository_id,
                         request->is_seed ? "true" : "false"),
        error);
}

static Status announce(StoreTransaction *transaction, const StoreBackupRequest *request,
                       const char *backup_id, const char *database, Error *error)
{
    bool is_policy = request->policy_id != NULL;
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "backup.created",
                                        .database = database,
                                        .backup_id = backup_id,
                                        .subject_id = request->policy_id,
                                        .message = is_policy ? "A policy started a backup"
                                                             : "A backup was started by hand"});
    return store_work_add(transaction, WORK_BACKUP, backup_id, 0, error);
}

Status store_backup_create(StoreTransaction *transaction, Arena *arena,
                           const StoreBackupRequest *request, StoreBackupOutcome *ret_outcome,
                           const char **ret_backup_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT d.name, EXISTS (SELECT 1 FROM shards sh WHERE "
                                "sh.database_id = d.id AND sh.deleted_at IS NULL) AS has_shards "
                                "FROM databases d WHERE d.id = $1 AND d.deleted_at IS NULL "
                                "FOR NO KEY UPDATE",
                                STORE_PARAMETERS(request->database_id), &rows, error));
    if (rows.count == 0) {
        return error_set(error, REASON_NOT_FOUND, "the database was deleted");
    }
    if (!store_boolean(&rows, 0, "has_shards")) {
        *ret_outcome = STORE_BACKUP_NO_SHARDS;
        return STATUS_OK;
    }
    const char *database = store_value(&rows, 0, "name");
    char *id = arena_alloc(arena, UUID_TEXT_SIZE);
    crypto_uuid(id);
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO backups (id, database_id, repository_id, policy_id, trigger, state, slot_at, "
        "is_seed, note, limits) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9) "
        "ON CONFLICT DO NOTHING RETURNING id",
        STORE_PARAMETERS(id, request->database_id, request->repository_id, request->policy_id,
                         request->policy_id != NULL ? "policy" : "manual", request->slot_at,
                         request->is_seed ? "true" : "false",
                         request->note != NULL ? request->note : "", request->limits),
        &rows, error));
    if (rows.count == 0) {
        return find_obstacle(transaction, arena, request, ret_outcome, ret_backup_id, error);
    }
    RETURN_IF_ERROR(add_shard_backups(transaction, arena, id, request, error));
    RETURN_IF_ERROR(announce(transaction, request, id, database, error));
    *ret_outcome = STORE_BACKUP_CREATED;
    *ret_backup_id = id;
    return STATUS_OK;
}

Status store_backup_get(StoreTransaction *transaction, Arena *arena, const char *id,
                        StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena, VIEW "WHERE b.id = $1", STORE_PARAMETERS(id),
                                ret_rows, error));
    return ret_rows->count == 0 ? not_found(id, error) : STATUS_OK;
}

#define LISTED(condition)                                                                          \
    VIEW "WHERE " AFTER "AND ($3::text IS NULL OR b.state = $3) " condition                        \
         "ORDER BY b.created_at DESC, b.id DESC LIMIT $4::int"

Status store_backup_list(StoreTransaction *transaction, Arena *arena,
                         const StoreBackupFilter *filter, const StorePage *page,
                         StoreRows *ret_rows, Error *error)
{
    // A statement for each, so that each has its index.
    static const char ALL[] = LISTED("");
    static const char OF_DATABASE[] =
        LISTED("AND b.database_id = $5 AND ($6::uuid IS NULL OR b.repository_id = $6) ");
    static const char IN_REPOSITORY[] = LISTED("AND b.repository_id = $5 ");
    const char *limit = store_integer_parameter(arena, page->limit);
    if (filter->database_id != NULL) {
        return store_query(transaction, arena, OF_DATABASE,
                           STORE_PARAMETERS(page->after[0], page->after[1], filter->state, limit,
                                            filter->database_id, filter->repository_id),
                           ret_rows, error);
    }
    if (filter->repository_id != NULL) {
        return store_query(transaction, arena, IN_REPOSITORY,
                           STORE_PARAMETERS(page->after[0], page->after[1], filter->state, limit,
                                            filter->repository_id),
                           ret_rows, error);
    }
    return store_query(transaction, arena, ALL,
                       STORE_PARAMETERS(page->after[0], page->after[1], filter->state, limit),
                       ret_rows, error);
}

Status store_backup_lock(StoreTransaction *transaction, Arena *arena, const char *id,
                         StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT d.id FROM databases d WHERE d.id = "
                                "(SELECT b.database_id FROM backups b WHERE b.id = $1) "
                                "FOR NO KEY UPDATE",
                                STORE_PARAMETERS(id), ret_rows, error));
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT b.id, b.state, d.name AS database, b.database_id, "
                    "b.repository_id, b.held_at IS NOT NULL AS is_held, " STORE_BACKUP_PINNED
                    " AS is_pinned FROM backups b JOIN databases d ON "
                    "d.id = b.database_id WHERE b.id = $1 FOR NO KEY UPDATE OF b",
                    STORE_PARAMETERS(id), ret_rows, error));
    return ret_rows->count == 0 ? not_found(id, error) : STATUS_OK;
}

Status store_backup_cancel(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *database, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE backups SET cancel_requested_at = now() WHERE id = $1 AND "
                                "cancel_requested_at IS NULL RETURNING id",
                                STORE_PARAMETERS(id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK; // asked for before
    }
    store_event_add(transaction, &(StoreEventFields){.severity = "warning",
                                                     .kind = "backup.cancel_requested",
                                                     .database = database,
                                                     .backup_id = id,
                                                     .message = "Canceling was asked for"});
    RETURN_IF_ERROR(store_notify(transaction, "sessions", error));
    return store_work_add(transaction, WORK_BACKUP, id, 0, error);
}

Status store_backup_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *why, StoreBackupDeletion *ret_outcome,
                           const char **ret_user_id, Error *error)
{
    StoreRows backup;
    RETURN_IF_ERROR(store_backup_lock(transaction, arena, id, &backup, error));
    const char *state = store_value(&backup, 0, "state");
    *ret_outcome = STORE_BACKUP_DELETION_BEGUN;
    if (text_equal(state, "deleting") || text_equal(state, "deleted")) {
        return STATUS_OK;
    }
    if (text_equal(state, "pending") || text_equal(state, "running")) {
        *ret_outcome = STORE_BACKUP_DELETION_RUNNING;
        return STATUS_OK;
    }
    if (store_boolean(&backup, 0, "is_held") || store_boolean(&backup, 0, "is_pinned")) {
        *ret_outcome = store_boolean(&backup, 0, "is_held") ? STORE_BACKUP_DELETION_HELD
                                                            : STORE_BACKUP_DELETION_PINNED;
        return STATUS_OK;
    }
    // New restores and backups lock the database first, so none can come to use it from here on.
    RETURN_IF_ERROR(store_query_value(transaction, arena,
                                      "SELECT id FROM restores WHERE backup_id = $1 AND "
                                      "state IN ('pending', 'running') LIMIT 1",
                                      STORE_PARAMETERS(id), ret_user_id, error));
    if (*ret_user_id != NULL) {
        *ret_outcome = STORE_BACKUP_DELETION_RESTORING;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_query_value(
        transaction, arena,
        "SELECT b.id FROM backups b JOIN shard_backups child ON "
        "child.backup_id = b.id JOIN shard_backups parent ON "
        "parent.id = child.parent_id WHERE b.database_id = $2 AND "
        "b.state IN ('pending', 'running') AND parent.backup_id = $1 LIMIT 1",
        STORE_PARAMETERS(id, store_value(&backup, 0, "database_id")), ret_user_id, error));
    if (*ret_user_id != NULL) {
        *ret_outcome = STORE_BACKUP_DELETION_PARENT;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE backups SET state = 'deleting' WHERE id = $1",
                                  STORE_PARAMETERS(id), error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "backup.deleting",
                                        .database = store_value(&backup, 0, "database"),
                                        .backup_id = id,
                                        .message = why});
    return store_work_add(transaction, WORK_RETENTION, store_value(&backup, 0, "database_id"), 0,
                          error);
}

Status store_backup_pin(StoreTransaction *transaction, Arena *arena, const char *id, bool is_pinned,
                        const char *until, const char *note, Error *error)
{
    return store_execute(transaction, arena,
                         "UPDATE backups SET pinned_at = CASE WHEN $2::boolean THEN now() END, "
                         "pinned_until = $3::timestamptz, pin_note = $4 WHERE id = $1",
                         STORE_PARAMETERS(id, is_pinned ? "true" : "false", until, note), error);
}

Status store_backup_hold(StoreTransaction *transaction, Arena *arena, const char *id, bool is_held,
                         const char *note, Error *error)
{
    return store_execute(transaction, arena,
                         "UPDATE backups SET held_at = CASE WHEN $2::boolean THEN "
                         "coalesce(held_at, now()) END, hold_note = $3 WHERE id = $1",
                         STORE_PARAMETERS(id, is_held ? "true" : "false", note), error);
}

// The sums are made once for all of them, and PostgreSQL, whose time zones the schedules have too,
// says what a clock there showed.
Status store_backup_retention(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                              StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "WITH mine AS MATERIALIZED (SELECT b.*, p.time_zone FROM policies p JOIN backups b ON "
        "b.database_id = p.database_id AND (b.policy_id = p.id OR "
        "(b.policy_id IS NULL AND b.repository_id = p.repository_id)) WHERE p.id = $1 AND "
        "b.state IN ('succeeded', 'failed', 'canceled')), "
        "shards AS (SELECT sb.backup_id, sum(sb.stored_bytes)::bigint AS stored_bytes, "
        "bool_or(sb.is_unrestorable) AS is_unrestorable FROM mine JOIN shard_backups sb ON "
        "sb.backup_id = mine.id WHERE sb.state = 'committed' GROUP BY sb.backup_id) "
        "SELECT b.id, b.state, b.trigger, at.checkpoint_at, "
        "(extract(epoch FROM at.checkpoint_at AT TIME ZONE b.time_zone) * 1000000)::bigint "
        "AS local_us, b.held_at IS NOT NULL AS is_held, " STORE_BACKUP_PINNED " AS is_pinned, "
        "to_char(b.pinned_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"') "
        "AS pinned_until_text, b.state = 'succeeded' AND NOT coalesce(s.is_unrestorable, false) "
        "AS is_restorable, coalesce(s.stored_bytes, 0) AS stored_bytes "
        "FROM mine b LEFT JOIN shards s ON s.backup_id = b.id CROSS JOIN LATERAL "
        "(SELECT coalesce(b.checkpoint_at, b.created_at) AS checkpoint_at) at "
        "WHERE b.state = 'succeeded' OR s.backup_id IS NOT NULL "
        "ORDER BY b.created_at DESC, b.id DESC",
        STORE_PARAMETERS(policy_id), ret_rows, error);
}
