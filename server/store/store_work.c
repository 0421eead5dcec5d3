// SPDX-License-Identifier: Apache-2.0
// The work table: adding, claiming under a lease, finishing.
#include "server/store/store_work.h"

#include <assert.h>

Status store_work_add(StoreTransaction *transaction, const char *kind, const char *subject_id,
                      int64_t delay_ms, Error *error)
{
    assert(kind != NULL && subject_id != NULL);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    // One that is being worked on gets a due time other than the claimed one: so its finish leaves
    // it there.
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO work_items AS w (kind, subject_id, due_at)"
        " VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 ms')"
        " ON CONFLICT (kind, subject_id) DO UPDATE SET due_at = CASE WHEN w.lease_until IS NULL"
        " THEN LEAST(w.due_at, EXCLUDED.due_at) ELSE EXCLUDED.due_at END",
        STORE_PARAMETERS(kind, subject_id, store_integer_parameter(arena, delay_ms)), error));
    return delay_ms > 0 ? STATUS_OK : store_notify(transaction, "work", error);
}

Status store_work_claim(StoreTransaction *transaction, Arena *arena, const char *server_id,
                        int64_t lease_ms, int limit, WorkItem **ret_items, size_t *ret_count,
                        Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "UPDATE work_items w SET lease_owner = $1::uuid,"
                    " lease_until = clock_timestamp() + $2::float8 * interval '1 ms'"
                    " FROM (SELECT kind, subject_id FROM work_items"
                    "  WHERE due_at <= clock_timestamp()"
                    "   AND (lease_until IS NULL OR lease_until < clock_timestamp())"
                    "   AND (position(':' IN kind) = 0 OR split_part(kind, ':', 2) = $1::text)"
                    "  ORDER BY due_at LIMIT $3::int FOR UPDATE SKIP LOCKED) due"
                    " WHERE w.kind = due.kind AND w.subject_id = due.subject_id"
                    " RETURNING w.kind, w.subject_id, w.due_at, w.tries",
                    STORE_PARAMETERS(server_id, store_integer_parameter(arena, lease_ms),
                                     store_integer_parameter(arena, limit)),
                    &rows, error));
    WorkItem *items = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*items));
    for (int i = 0; i < rows.count; i++) {
        items[i] = (WorkItem){.kind = store_value(&rows, i, "kind"),
                              .subject_id = store_value(&rows, i, "subject_id"),
                              .due_at = store_value(&rows, i, "due_at"),
                              .tries = (int)store_integer(&rows, i, "tries", 0)};
    }
    *ret_items = items;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

Status store_work_finish(StoreTransaction *transaction, const char *server_id, const WorkItem *item,
                         int64_t next_ms, bool is_failure, bool *ret_is_due, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    if (next_ms < 0) {
        assert(!is_failure);
        RETURN_IF_ERROR(store_execute(
            transaction, arena,
            "DELETE FROM work_items WHERE kind = $2 AND subject_id = $3 AND lease_owner = $1"
            " AND due_at = $4",
            STORE_PARAMETERS(server_id, item->kind, item->subject_id, item->due_at), error));
    }
    // Not deleted: it was added again meanwhile, and stays due when that said.
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE work_items SET lease_until = NULL, lease_owner = NULL,"
        " tries = CASE WHEN $6 THEN tries + 1 ELSE 0 END,"
        " due_at = CASE WHEN due_at = $4 THEN clock_timestamp() + $5::float8 * interval '1 ms'"
        "  ELSE due_at END"
        " WHERE kind = $2 AND subject_id = $3 AND lease_owner = $1"
        " RETURNING due_at <= clock_timestamp() AS is_due",
        STORE_PARAMETERS(server_id, item->kind, item->subject_id, item->due_at,
                         store_integer_parameter(arena, next_ms < 0 ? 0 : next_ms),
                         is_failure ? "true" : "false"),
        &rows, error));
    *ret_is_due = rows.count == 1 && store_boolean(&rows, 0, "is_due");
    return STATUS_OK;
}

Status store_work_renew(StoreTransaction *transaction, const char *server_id, int64_t lease_ms,
                        const WorkItem *item, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(
        transaction, arena,
        "UPDATE work_items SET lease_until = clock_timestamp() + $4::float8 * interval '1 ms'"
        " WHERE kind = $2 AND subject_id = $3 AND lease_owner = $1",
        STORE_PARAMETERS(server_id, item->kind, item->subject_id,
                         store_integer_parameter(arena, lease_ms)),
        error);
}

Status store_work_release(StoreTransaction *transaction, const char *server_id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE work_items SET lease_until = NULL, lease_owner = NULL"
                         " WHERE lease_owner = $1",
                         STORE_PARAMETERS(server_id), error);
}
