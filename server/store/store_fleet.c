// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_fleet.h"

#define INSTANCE_VIEW                                                                              \
    "SELECT i.id, i.provider, i.provider_id, i.state, d.name AS database, sh.name AS shard, "      \
    "i.purpose, i.subject_id, coalesce(i.backup_id::text, '') AS backup_id, i.created_at, "        \
    "i.launched_at, i.joined_at, i.last_seen_at, i.destroyed_at, i.message, i.memory_bytes, "      \
    "i.created_at AS page_key_1, i.id AS page_key_2 FROM instances i "                             \
    "JOIN databases d ON d.id = i.database_id JOIN shards sh ON sh.id = i.shard_id "

Status store_fleet_instance_get(StoreTransaction *transaction, Arena *arena, const char *id,
                                StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena, INSTANCE_VIEW "WHERE i.id = $1",
                                STORE_PARAMETERS(id), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "there is no instance '%s'", id);
    }
    return STATUS_OK;
}

Status store_fleet_instance_list(StoreTransaction *transaction, Arena *arena,
                                 const char *database_id, bool include_destroyed,
                                 const StorePage *page, StoreRows *ret_rows, Error *error)
{
#define FILTER                                                                                     \
    "($1::uuid IS NULL OR i.database_id = $1) AND "                                                \
    "(i.created_at, i.id) < (coalesce($2, 'infinity')::timestamptz, "                              \
    "coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid) "
#define ORDER "ORDER BY i.created_at DESC, i.id DESC LIMIT $4::int"
    static const char ALL[] = INSTANCE_VIEW "WHERE " FILTER ORDER;
    static const char ALIVE[] = INSTANCE_VIEW "WHERE i.state <> 'destroyed' AND " FILTER ORDER;
#undef FILTER
#undef ORDER
    return store_query(transaction, arena, include_destroyed ? ALL : ALIVE,
                       STORE_PARAMETERS(database_id, page->after[0], page->after[1],
                                        store_integer_parameter(arena, page->limit)),
                       ret_rows, error);
}

Status store_fleet_server_count(StoreTransaction *transaction, Arena *arena, int *ret_count,
                                Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT count(*) AS count FROM servers WHERE "
                                "last_seen_at > now() - interval '30 seconds'",
                                0, NULL, &rows, error));
    *ret_count = (int)store_integer(&rows, 0, "count", 0);
    return STATUS_OK;
}

Status store_fleet_counts(StoreTransaction *transaction, Arena *arena, StoreRows *ret_rows,
                          Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT 'instances' AS metric, v.state AS label, count(i.id) AS value FROM "
        "(VALUES ('intended'), ('launched'), ('joined'), ('destroying')) v (state) LEFT JOIN "
        "instances i ON i.state = v.state AND i.state <> 'destroyed' GROUP BY v.state "
        "UNION ALL SELECT 'backups', v.state, count(b.id) FROM (VALUES ('pending'), ('running'), "
        "('succeeded'), ('failed'), ('canceled'), ('deleting'), ('deleted')) v (state) LEFT JOIN "
        "backups b ON b.state = v.state GROUP BY v.state "
        "UNION ALL SELECT 'work_due', '', count(*) FROM work_items WHERE due_at <= now() "
        "UNION ALL SELECT 'policies_late', '', count(*) FROM policy_due WHERE "
        "next_at < now() - interval '1 minute' ORDER BY 1, 2",
        0, NULL, ret_rows, error);
}
