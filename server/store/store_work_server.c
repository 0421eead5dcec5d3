// SPDX-License-Identifier: Apache-2.0
// The servers, what they share, and what they throw away in time.
#include "server/store/store_work.h"

#include <assert.h>

// A server that was not seen for this long is not offered to agents.
#define SERVER_ALIVE "interval '30 s'"

Status store_server_seen(StoreTransaction *transaction, const char *server_id, const char *version,
                         const char *agent_address, bool is_start, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(
        transaction, arena,
        "INSERT INTO servers AS s (id, version, agent_address) VALUES ($1, $2, $3)"
        " ON CONFLICT (id) DO UPDATE SET last_seen_at = now(), version = EXCLUDED.version,"
        " agent_address = EXCLUDED.agent_address,"
        " started_at = CASE WHEN $4 THEN now() ELSE s.started_at END",
        STORE_PARAMETERS(server_id, version, agent_address, is_start ? "true" : "false"), error);
}

Status store_server_addresses(StoreTransaction *transaction, Arena *arena, const char *server_id,
                              const char **ret_addresses, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT string_agg(agent_address, ',' ORDER BY (id = $1) DESC, id) AS addresses"
                    " FROM (SELECT id, agent_address FROM servers"
                    "  WHERE id = $1 OR last_seen_at > now() - " SERVER_ALIVE
                    "  ORDER BY (id = $1) DESC, last_seen_at DESC LIMIT 8) s",
                    STORE_PARAMETERS(server_id), &rows, error));
    const char *addresses = rows.count == 1 ? store_value(&rows, 0, "addresses") : NULL;
    *ret_addresses = addresses != NULL ? addresses : "";
    return STATUS_OK;
}

Status store_server_identity_get(StoreTransaction *transaction, Arena *arena,
                                 ServerIdentityRow **ret_row, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena, "SELECT certificate_pem, key_sealed, key_check FROM server_identity", 0,
        NULL, &rows, error));
    *ret_row = NULL;
    if (rows.count == 1) {
        ServerIdentityRow *row = arena_alloc(arena, sizeof(*row));
        row->certificate_pem = store_value(&rows, 0, "certificate_pem");
        row->key_sealed = store_bytes(&rows, 0, "key_sealed", arena, &row->key_sealed_size);
        row->key_check = store_bytes(&rows, 0, "key_check", arena, &row->key_check_size);
        *ret_row = row;
    }
    return STATUS_OK;
}

Status store_server_identity_add(StoreTransaction *transaction, Arena *arena,
                                 const ServerIdentityRow *row, Error *error)
{
    return store_execute(
        transaction, arena,
        "INSERT INTO server_identity (certificate_pem, key_sealed, key_check) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING",
        STORE_PARAMETERS(row->certificate_pem,
                         store_bytes_parameter(arena, row->key_sealed, row->key_sealed_size),
                         store_bytes_parameter(arena, row->key_check, row->key_check_size)),
        error);
}

Status store_work_clean(StoreTransaction *transaction, int64_t idempotency_keep_ms,
                        int64_t event_keep_ms, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "DELETE FROM idempotency_keys WHERE created_at < now() - $1::float8 * interval '1 ms'",
        STORE_PARAMETERS(store_integer_parameter(arena, idempotency_keep_ms)), error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena, "DELETE FROM events WHERE time < now() - $1::float8 * interval '1 ms'",
        STORE_PARAMETERS(store_integer_parameter(arena, event_keep_ms)), error));
    return store_execute(transaction, arena,
                         "DELETE FROM servers WHERE last_seen_at < now() - interval '7 days'", 0,
                         NULL, error);
}
