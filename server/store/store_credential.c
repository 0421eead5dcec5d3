// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_credential.h"

#include "common/text.h"

#define COLUMNS "id, name, username, created_at, updated_at, etag, name AS page_key_1"

Status store_credential_add(StoreTransaction *transaction, Arena *arena,
                            const StoreCredential *credential, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "INSERT INTO credentials (id, name, username, password_sealed, etag) "
                    "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id",
                    STORE_PARAMETERS(credential->id, credential->name, credential->username,
                                     store_bytes_parameter(arena, credential->password_sealed,
                                                           credential->password_sealed_size),
                                     credential->etag),
                    &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_EXISTS, "there is a credential '%s' already", credential->name);
        error_field(error, "credential.name");
        return error_hint(error, "choose another name, or update that one");
    }
    return STATUS_OK;
}

Status store_credential_get(StoreTransaction *transaction, Arena *arena, const char *name,
                            bool is_locked, StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena,
                                is_locked ? "SELECT " COLUMNS
                                            " FROM credentials WHERE name = $1 FOR UPDATE"
                                          : "SELECT " COLUMNS " FROM credentials WHERE name = $1",
                                STORE_PARAMETERS(name), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "there is no credential '%s'", name);
    }
    return STATUS_OK;
}

Status store_credential_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                             StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT " COLUMNS " FROM credentials WHERE name > coalesce($1, '') "
        "ORDER BY name LIMIT $2::int",
        STORE_PARAMETERS(page->after[0], store_integer_parameter(arena, page->limit)), ret_rows,
        error);
}

Status store_credential_update(StoreTransaction *transaction, Arena *arena,
                               const StoreCredential *credential, Error *error)
{
    const char *sealed = credential->password_sealed == NULL
                             ? NULL
                             : store_bytes_parameter(arena, credential->password_sealed,
                                                     credential->password_sealed_size);
    return store_execute(
        transaction, arena,
        "UPDATE credentials SET username = coalesce($2, username), "
        "password_sealed = coalesce($3, password_sealed), etag = $4, "
        "updated_at = now() WHERE id = $1",
        STORE_PARAMETERS(credential->id, credential->username, sealed, credential->etag), error);
}

Status store_credential_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                               const char *name, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT s.name AS shard, d.name AS database, s.deleted_at IS NULL AS is_alive "
        "FROM shards s JOIN databases d ON d.id = s.database_id "
        "WHERE s.source_credential_id = $1 AND (s.deleted_at IS NULL OR EXISTS "
        "(SELECT 1 FROM work_items w WHERE w.kind = 'forget_source' AND w.subject_id = s.id)) "
        "ORDER BY s.deleted_at NULLS FIRST LIMIT 1",
        STORE_PARAMETERS(id), &rows, error));
    if (rows.count > 0) {
        bool is_alive = store_boolean(&rows, 0, "is_alive");
        error_set(error, REASON_IN_USE, "%sshard '%s' of database '%s' uses credential '%s'",
                  is_alive ? "" : "cleaning up after ", store_value(&rows, 0, "shard"),
                  store_value(&rows, 0, "database"), name);
        return error_hint(error, is_alive ? "give the shard another credential first"
                                          : "try again in a minute");
    }
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT name FROM repositories WHERE credential_id = $1 LIMIT 1",
                                STORE_PARAMETERS(id), &rows, error));
    if (rows.count > 0) {
        error_set(error, REASON_IN_USE, "repository '%s' uses credential '%s'",
                  store_value(&rows, 0, "name"), name);
        return error_hint(error, "delete the repository first, or change the credential's "
                                 "username and password");
    }
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE shards SET source_credential_id = NULL "
                                  "WHERE source_credential_id = $1 AND deleted_at IS NOT NULL",
                                  STORE_PARAMETERS(id), error));
    return store_execute(transaction, arena, "DELETE FROM credentials WHERE id = $1",
                         STORE_PARAMETERS(id), error);
}

Status store_credential_sealed(StoreTransaction *transaction, Arena *arena, const char *id,
                               StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT username, password_sealed FROM credentials WHERE id = $1",
                                STORE_PARAMETERS(id), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "there is no credential with id '%s'", id);
    }
    return STATUS_OK;
}
