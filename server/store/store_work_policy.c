// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_work_policy.h"

#include "server/store/store_event.h"

#include <string.h>

Status store_policy_due_list(StoreTransaction *transaction, Arena *arena, int limit,
                             const char ***ret_ids, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT due.policy_id FROM policy_due due JOIN policies p ON p.id = due.policy_id"
        " WHERE due.next_at <= now() AND NOT p.is_paused AND p.deleted_at IS NULL"
        " ORDER BY due.next_at LIMIT $1::int",
        STORE_PARAMETERS(store_integer_parameter(arena, limit)), &rows, error));
    const char **ids = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*ids));
    for (int i = 0; i < rows.count; i++) {
        ids[i] = store_value(&rows, i, "policy_id");
    }
    *ret_ids = ids;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

Status store_policy_due_take(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                             DuePolicy **ret_policy, Error *error)
{
    StoreRows rows;
    *ret_policy = NULL;
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "SELECT FROM databases WHERE id ="
                                  " (SELECT database_id FROM policies WHERE id = $1)"
                                  " FOR NO KEY UPDATE",
                                  STORE_PARAMETERS(policy_id), error));
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT p.id, p.name, p.schedule, p.time_zone, p.database_id, d.name AS database_name,"
        " p.repository_id, due.next_at - p.stagger_delay AS slot_at, now() - p.stagger_delay AS now"
        " FROM policy_due due JOIN policies p ON p.id = due.policy_id"
        " JOIN databases d ON d.id = p.database_id"
        " WHERE due.policy_id = $1 AND due.next_at <= now() AND NOT p.is_paused"
        " AND p.deleted_at IS NULL AND d.deleted_at IS NULL FOR UPDATE OF due SKIP LOCKED",
        STORE_PARAMETERS(policy_id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    DuePolicy *policy = arena_alloc(arena, sizeof(*policy));
    *policy = (DuePolicy){.id = store_value(&rows, 0, "id"),
                          .name = store_value(&rows, 0, "name"),
                          .schedule = store_value(&rows, 0, "schedule"),
                          .time_zone = store_value(&rows, 0, "time_zone"),
                          .database_id = store_value(&rows, 0, "database_id"),
                          .database_name = store_value(&rows, 0, "database_name"),
                          .repository_id = store_value(&rows, 0, "repository_id"),
                          .slot_at = store_value(&rows, 0, "slot_at"),
                          .slot_us = store_time_us(&rows, 0, "slot_at", 0),
                          .now_us = store_time_us(&rows, 0, "now", 0)};
    *ret_policy = policy;
    return STATUS_OK;
}

Status store_policy_due_move(StoreTransaction *transaction, const char *policy_id, int64_t next_us,
                             Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (next_us == 0) {
        return store_execute(transaction, arena, "DELETE FROM policy_due WHERE policy_id = $1",
                             STORE_PARAMETERS(policy_id), error);
    }
    return store_execute(transaction, arena,
                         "UPDATE policy_due SET next_at = $2::timestamptz + (SELECT stagger_delay"
                         " FROM policies WHERE id = $1) WHERE policy_id = $1",
                         STORE_PARAMETERS(policy_id, store_time_parameter(arena, next_us)), error);
}

Status store_policy_slot_add(StoreTransaction *transaction, const DuePolicy *policy,
                             int64_t slot_us, const char *outcome, const char *backup_id,
                             const char *message, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "INSERT INTO policy_slots (policy_id, slot_at, outcome, backup_id, message)"
                    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING slot_at",
                    STORE_PARAMETERS(policy->id, store_time_parameter(arena, slot_us), outcome,
                                     backup_id, message),
                    &rows, error));
    if (rows.count > 0) {
        store_event_add(
            transaction,
            &(StoreEventFields){.severity = strcmp(outcome, "fired") == 0 ? "info" : "warning",
                                .kind = arena_format(arena, "policy.%s", outcome),
                                .database = policy->database_name,
                                .backup_id = backup_id,
                                .subject_id = policy->id,
                                .message = message});
    }
    return STATUS_OK;
}
