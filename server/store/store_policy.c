// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_policy.h"

#define VIEW                                                                                       \
    "SELECT p.id, d.name AS database, p.name, p.schedule, p.time_zone, r.name AS repository, "     \
    "p.keep_last AS \"retention.keep_last\", p.keep_for AS \"retention.keep_for\", "               \
    "p.keep_hourly AS \"retention.keep_hourly\", p.keep_daily AS \"retention.keep_daily\", "       \
    "p.keep_weekly AS \"retention.keep_weekly\", p.keep_monthly AS \"retention.keep_monthly\", "   \
    "p.keep_yearly AS \"retention.keep_yearly\", p.is_paused, "                                    \
    "p.full_read_every, p.stagger, p.stagger_delay, p.limits, "                                    \
    "p.created_at, p.updated_at, p.etag, CASE WHEN NOT p.is_paused THEN pd.next_at END AS "        \
    "next_run_at, lb.created_at AS last_run_at, coalesce(lb.id::text, '') AS last_backup_id, "     \
    "d.name AS page_key_1, p.name AS page_key_2, p.database_id, "                                  \
    "p.repository_id AS repository_row_id "                                                        \
    "FROM policies p JOIN databases d ON d.id = p.database_id "                                    \
    "JOIN repositories r ON r.id = p.repository_id "                                               \
    "LEFT JOIN policy_due pd ON pd.policy_id = p.id "                                              \
    "LEFT JOIN LATERAL (SELECT b.id, b.created_at FROM backups b WHERE "                           \
    "b.database_id = p.database_id AND b.policy_id = p.id "                                        \
    "ORDER BY b.created_at DESC LIMIT 1) lb ON true "

// In the order of the statements: keep_last, keep_for, keep_hourly to keep_yearly.
#define KEEP_PARAMETERS(arena, policy)                                                             \
    store_integer_parameter((arena), (policy)->keep_last),                                         \
        store_integer_parameter((arena), (policy)->keep_for_us),                                   \
        store_integer_parameter((arena), (policy)->keep_hourly),                                   \
        store_integer_parameter((arena), (policy)->keep_daily),                                    \
        store_integer_parameter((arena), (policy)->keep_weekly),                                   \
        store_integer_parameter((arena), (policy)->keep_monthly),                                  \
        store_integer_parameter((arena), (policy)->keep_yearly)

static Status set_due(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                      Error *error)
{
    if (policy->is_paused) {
        return store_execute(transaction, arena, "DELETE FROM policy_due WHERE policy_id = $1",
                             STORE_PARAMETERS(policy->id), error);
    }
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO policy_due (policy_id, next_at) VALUES ($1, $2) "
        "ON CONFLICT (policy_id) DO UPDATE SET next_at = excluded.next_at",
        STORE_PARAMETERS(policy->id,
                         store_time_parameter(arena, policy->next_us + policy->stagger_delay_us)),
        error));
    return store_notify(transaction, "work", error);
}

// The slot that is due stays: its start moves with the delay.
static Status set_stagger(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                          Error *error)
{
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE policy_due SET next_at = next_at + $2::float8 * interval '1 us'"
        " - (SELECT stagger_delay FROM policies WHERE id = $1) WHERE policy_id = $1",
        STORE_PARAMETERS(policy->id, store_integer_parameter(arena, policy->stagger_delay_us)),
        error));
    return store_execute(transaction, arena,
                         "UPDATE policies SET stagger = $2::float8 * interval '1 us',"
                         " stagger_delay = $3::float8 * interval '1 us' WHERE id = $1",
                         STORE_PARAMETERS(policy->id,
                                          store_integer_parameter(arena, policy->stagger_us),
                                          store_integer_parameter(arena, policy->stagger_delay_us)),
                         error);
}

Status store_policy_add(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                        Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO policies (id, database_id, name, schedule, time_zone, repository_id, "
        "is_paused, etag, limits, full_read_every, keep_last, keep_for, keep_hourly, keep_daily, "
        "keep_weekly, keep_monthly, keep_yearly) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
        "$10::int, $11::int, make_interval(secs => $12::double precision / 1000000), $13::int, "
        "$14::int, $15::int, $16::int, $17::int) "
        "ON CONFLICT DO NOTHING RETURNING id",
        STORE_PARAMETERS(policy->id, policy->database_id, policy->name, policy->schedule,
                         policy->time_zone, policy->repository_id,
                         policy->is_paused ? "true" : "false", policy->etag, policy->limits,
                         store_integer_parameter(arena, policy->full_read_every),
                         KEEP_PARAMETERS(arena, policy)),
        &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_EXISTS, "the database has a policy '%s' already", policy->name);
        error_field(error, "policy.name");
        return error_hint(error, "choose another name, or update that one");
    }
    RETURN_IF_ERROR(set_stagger(transaction, arena, policy, error));
    return set_due(transaction, arena, policy, error);
}

Status store_policy_update(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                           bool is_due_kept, Error *error)
{
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE policies SET schedule = $2, time_zone = $3, repository_id = $4, is_paused = $5, "
        "etag = $6, limits = $7, full_read_every = $8::int, keep_last = $9::int, "
        "keep_for = make_interval(secs => $10::double precision / 1000000), "
        "keep_hourly = $11::int, keep_daily = $12::int, keep_weekly = $13::int, "
        "keep_monthly = $14::int, keep_yearly = $15::int, updated_at = now() WHERE id = $1",
        STORE_PARAMETERS(policy->id, policy->schedule, policy->time_zone, policy->repository_id,
                         policy->is_paused ? "true" : "false", policy->etag, policy->limits,
                         store_integer_parameter(arena, policy->full_read_every),
                         KEEP_PARAMETERS(arena, policy)),
        error));
    RETURN_IF_ERROR(store_notify(transaction, "sessions", error)); // of the limits
    RETURN_IF_ERROR(set_stagger(transaction, arena, policy, error));
    return is_due_kept ? STATUS_OK : set_due(transaction, arena, policy, error);
}

Status store_policy_get(StoreTransaction *transaction, Arena *arena, const char *database,
                        const char *name, bool is_locked, StoreRows *ret_rows, Error *error)
{
    static const char SQL[] = VIEW "WHERE d.name = $1 AND d.deleted_at IS NULL AND p.name = $2 "
                                   "AND p.deleted_at IS NULL";
    static const char LOCKED_SQL[] =
        VIEW "WHERE d.name = $1 AND d.deleted_at IS NULL AND p.name = $2 "
             "AND p.deleted_at IS NULL FOR UPDATE OF p";
    RETURN_IF_ERROR(store_query(transaction, arena, is_locked ? LOCKED_SQL : SQL,
                                STORE_PARAMETERS(database, name), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "database '%s' has no policy '%s'", database,
                         name);
    }
    return STATUS_OK;
}

Status store_policy_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                         const StorePage *page, StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       VIEW "WHERE d.deleted_at IS NULL AND p.deleted_at IS NULL AND "
                            "($1::uuid IS NULL OR p.database_id = $1) AND "
                            "(d.name, p.name) > (coalesce($2, ''), coalesce($3, '')) "
                            "ORDER BY d.name, p.name LIMIT $4::int",
                       STORE_PARAMETERS(database_id, page->after[0], page->after[1],
                                        store_integer_parameter(arena, page->limit)),
                       ret_rows, error);
}

Status store_policy_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                           Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena, "DELETE FROM policy_due WHERE policy_id = $1",
                                  STORE_PARAMETERS(id), error));
    return store_execute(transaction, arena, "UPDATE policies SET deleted_at = now() WHERE id = $1",
                         STORE_PARAMETERS(id), error);
}

Status store_policy_first_repository(StoreTransaction *transaction, Arena *arena,
                                     const char *database_id, const char **ret_repository_id,
                                     Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT repository_id FROM policies WHERE database_id = $1 AND "
                                "deleted_at IS NULL ORDER BY created_at, id LIMIT 1",
                                STORE_PARAMETERS(database_id), &rows, error));
    *ret_repository_id = rows.count > 0 ? store_value(&rows, 0, "repository_id") : NULL;
    return STATUS_OK;
}

Status store_now(StoreTransaction *transaction, int64_t *ret_now_us, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena, "SELECT clock_timestamp() AS now_at", 0, NULL,
                                &rows, error));
    *ret_now_us = store_time_us(&rows, 0, "now_at", 0);
    return STATUS_OK;
}
