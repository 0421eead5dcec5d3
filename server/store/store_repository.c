// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_repository.h"

#include "common/text.h"
#include "server/store/store_backup.h"
#include "server/store/store_work.h"

// Few backups run at a time, and the partial index backups_one_running finds them.
#define RUNNING_BYTES                                                                              \
    "(SELECT sum(sb.stored_bytes) FROM backups b JOIN shard_backups sb ON sb.backup_id = b.id"     \
    " WHERE b.repository_id = r.id AND b.state IN ('pending', 'running')"                          \
    " AND sb.state = 'committed')"
// An object store's options with the name of its credential, which is a reference of its own.
#define OBJECT_STORE                                                                               \
    "CASE WHEN r.object_store IS NOT NULL THEN r.object_store || jsonb_build_object("              \
    "'credential', coalesce((SELECT c.name FROM credentials c WHERE c.id = r.credential_id), "     \
    "'')) END AS object_store"
#define VIEW                                                                                       \
    "SELECT r.id, r.name, r.location, r.key_file, r.previous_key_file,"                            \
    " r.key_fingerprint, r.created_at, r.etag, r.limits,"                                          \
    " r.repository_id, " OBJECT_STORE ", r.name AS page_key_1,"                                    \
    " greatest(0, r.added_bytes + coalesce(" RUNNING_BYTES ", 0)::bigint - r.removed_bytes)"       \
    " AS stored_bytes FROM repositories r "

Status store_repository_add(StoreTransaction *transaction, Arena *arena,
                            const StoreRepository *repository, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO repositories (id, name, location, key_file, "
        "key_fingerprint, repository_id, etag, object_store, credential_id, "
        "limits) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING "
        "RETURNING id",
        STORE_PARAMETERS(repository->id, repository->name, repository->location,
                         repository->key_file, repository->key_fingerprint,
                         repository->repository_id, repository->etag, repository->object_store,
                         repository->credential_id, repository->limits),
        &rows, error));
    if (rows.count == 1) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT name, location FROM repositories WHERE deleted_at IS NULL "
                                "AND (name = $1 OR location = $2) ORDER BY name = $1 DESC LIMIT 1",
                                STORE_PARAMETERS(repository->name, repository->location), &rows,
                                error));
    bool is_name = rows.count > 0 && text_equal(store_value(&rows, 0, "name"), repository->name);
    if (is_name) {
        error_set(error, REASON_EXISTS, "there is a repository '%s' already", repository->name);
    } else {
        error_set(error, REASON_EXISTS, "repository '%s' is at '%s' already",
                  rows.count > 0 ? store_value(&rows, 0, "name") : "", repository->location);
    }
    error_field(error, is_name ? "repository.name" : "repository.location");
    return error_hint(error, is_name ? "choose another name" : "use that repository");
}

RepositoryAddress store_repository_address(const StoreRows *rows, int row, Arena *arena)
{
    RepositoryAddress address = {.location = store_value(rows, row, "location"),
                                 .object_store = store_value(rows, row, "object_store"),
                                 .credential_id = store_value(rows, row, "store_credential_id"),
                                 .access_key_id = store_value(rows, row, "store_access_key_id")};
    if (address.credential_id != NULL) {
        address.secret_sealed =
            store_bytes(rows, row, "store_secret", arena, &address.secret_sealed_size);
    }
    return address;
}

Status store_repository_find_address(StoreTransaction *transaction, Arena *arena, const char *id,
                                     RepositoryAddress *ret_address, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT" REPOSITORY_ADDRESS_COLUMNS
                                "FROM repositories r WHERE r.id = $1",
                                STORE_PARAMETERS(id), &rows, error));
    if (rows.count == 0) {
        return error_set(error, REASON_NOT_FOUND, "the repository does not exist any more");
    }
    *ret_address = store_repository_address(&rows, 0, arena);
    return STATUS_OK;
}

Status store_repository_get(StoreTransaction *transaction, Arena *arena, const char *name,
                            bool is_locked, StoreRows *ret_rows, Error *error)
{
    if (is_locked) {
        RETURN_IF_ERROR(store_query(transaction, arena,
                                    "SELECT id FROM repositories WHERE name = $1 AND "
                                    "deleted_at IS NULL FOR UPDATE",
                                    STORE_PARAMETERS(name), ret_rows, error));
    }
    RETURN_IF_ERROR(store_query(transaction, arena,
                                VIEW "WHERE r.name = $1 AND r.deleted_at IS NULL",
                                STORE_PARAMETERS(name), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "there is no repository '%s'", name);
    }
    return STATUS_OK;
}

Status store_repository_use(StoreTransaction *transaction, Arena *arena, const char *field,
                            const char *name, const char **ret_id, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT id FROM repositories WHERE name = $1 AND "
                                "deleted_at IS NULL FOR KEY SHARE",
                                STORE_PARAMETERS(name), &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_INVALID, "there is no repository '%s'", name);
        error_field(error, "%s", field);
        return error_hint(error, "create the repository first");
    }
    *ret_id = store_value(&rows, 0, "id");
    return STATUS_OK;
}

Status store_repository_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                             StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        VIEW "WHERE r.deleted_at IS NULL AND r.name > coalesce($1, '') ORDER BY r.name "
             "LIMIT $2::int",
        STORE_PARAMETERS(page->after[0], store_integer_parameter(arena, page->limit)), ret_rows,
        error);
}

Status store_repository_databases(StoreTransaction *transaction, Arena *arena, const char *id,
                                  const StorePage *page, StoreRows *ret_rows, Error *error)
{
    // The page is chosen first, so that only its databases are summed.
    return store_query(
        transaction, arena,
        "SELECT d.name AS database, d.name AS page_key_1, d.id AS page_key_2, sums.*,"
        " (SELECT min(w.swept_at) FROM shards s JOIN shard_sweeps w ON w.shard_id = s.id"
        "  WHERE s.database_id = d.id AND w.repository_id = $1) AS swept_at"
        " FROM (SELECT d.id, d.name FROM databases d WHERE (d.name, d.id) >"
        "  (coalesce($2, ''), coalesce($3, '00000000-0000-0000-0000-000000000000')::uuid)"
        "  AND EXISTS (SELECT FROM backups b WHERE b.repository_id = $1"
        "   AND b.database_id = d.id AND b.state <> 'deleted')"
        "  ORDER BY d.name, d.id LIMIT $4::int) d CROSS JOIN LATERAL"
        " (SELECT (count(*) FILTER (WHERE b.state = 'succeeded'))::int AS backup_count,"
        "  (count(*) FILTER (WHERE " STORE_BACKUP_PINNED "))::int AS pinned_count,"
        "  count(b.held_at)::int AS held_count,"
        "  coalesce(sum(b.size_bytes) FILTER (WHERE b.state = 'succeeded'), 0)::bigint"
        "  AS size_bytes, sum(b.stored_bytes)::bigint AS stored_bytes,"
        "  min(b.created_at) FILTER (WHERE b.state = 'succeeded') AS oldest_backup_at,"
        "  max(b.created_at) FILTER (WHERE b.state = 'succeeded') AS newest_backup_at"
        "  FROM backups b WHERE b.repository_id = $1 AND b.database_id = d.id"
        "  AND b.state <> 'deleted') sums ORDER BY d.name, d.id",
        STORE_PARAMETERS(id, page->after[0], page->after[1],
                         store_integer_parameter(arena, page->limit)),
        ret_rows, error);
}

Status store_repository_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                               const char *name, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT (SELECT p.name || ''' of database ''' || d.name FROM policies p JOIN databases d "
        "ON d.id = p.database_id WHERE p.repository_id = $1 AND p.deleted_at IS NULL LIMIT 1) "
        "AS policy, (SELECT count(*) FROM backups b WHERE b.repository_id = $1 AND "
        "b.state <> 'deleted') AS backup_count",
        STORE_PARAMETERS(id), &rows, error));
    const char *policy = store_value(&rows, 0, "policy");
    if (policy != NULL) {
        error_set(error, REASON_IN_USE, "policy '%s' writes to repository '%s'", policy, name);
        return error_hint(error, "give the policy another repository, or delete it, first");
    }
    if (store_integer(&rows, 0, "backup_count", 0) > 0) {
        error_set(error, REASON_IN_USE, "repository '%s' has %s backups", name,
                  store_value(&rows, 0, "backup_count"));
        return error_hint(error, "delete its backups first; they are gone when their state is "
                                 "'deleted'");
    }
    return store_execute(
        transaction, arena,
        "UPDATE repositories SET deleted_at = now(), credential_id = NULL WHERE id = $1",
        STORE_PARAMETERS(id), error);
}

Status store_repository_add_stored(StoreTransaction *transaction, Arena *arena, const char *id,
                                   const char *backup_id, Error *error)
{
    return store_execute(
        transaction, arena,
        "WITH sums AS (SELECT coalesce(sum(sb.size_bytes), 0)::bigint AS size_bytes,"
        " coalesce(sum(sb.stored_bytes), 0)::bigint AS stored_bytes FROM shard_backups sb"
        " WHERE sb.backup_id = $2 AND sb.state = 'committed'), backup AS (UPDATE backups b"
        " SET size_bytes = sums.size_bytes, stored_bytes = sums.stored_bytes FROM sums"
        " WHERE b.id = $2) UPDATE repositories r SET added_bytes = r.added_bytes +"
        " sums.stored_bytes FROM sums WHERE r.id = $1",
        STORE_PARAMETERS(id, backup_id), error);
}

Status store_repository_add_removed(StoreTransaction *transaction, Arena *arena, const char *id,
                                    int64_t removed_bytes, Error *error)
{
    return store_execute(
        transaction, arena,
        "UPDATE repositories SET removed_bytes = removed_bytes + $2::bigint WHERE id = $1",
        STORE_PARAMETERS(id, store_integer_parameter(arena, removed_bytes)), error);
}

Status store_repository_rekey(StoreTransaction *transaction, Arena *arena, const char *id,
                              const char *old_key_file, const char *new_key_file,
                              const char *fingerprint, const char *etag, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE repositories SET previous_key_file = key_file, key_file = $3, key_fingerprint = $4,"
        " etag = $5 WHERE id = $1 AND key_file = $2 AND deleted_at IS NULL RETURNING id",
        STORE_PARAMETERS(id, old_key_file, new_key_file, fingerprint, etag), &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_CONFLICT, "the repository's key was changed by somebody else");
        return error_hint(error, "look at the repository and decide again");
    }
    return STATUS_OK;
}

Status store_repository_rekeyed(StoreTransaction *transaction, Arena *arena, const char *id,
                                Error *error)
{
    return store_execute(transaction, arena,
                         "UPDATE repositories SET previous_key_file = '' WHERE id = $1",
                         STORE_PARAMETERS(id), error);
}

Status store_repository_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                             const char *database_id, StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT (SELECT b.id FROM backups b WHERE b.database_id = $2 AND b.state IN ('pending', "
        "'running') LIMIT 1) AS running_backup_id, (SELECT count(*) FROM backups b WHERE "
        "b.repository_id = $1 AND b.database_id = $2 AND b.state IN ('succeeded', 'failed', "
        "'canceled') AND EXISTS (SELECT FROM shard_backups sb WHERE sb.backup_id = b.id AND "
        "sb.state = 'committed')) AS backup_count, (SELECT r.id FROM restores r JOIN backups b ON "
        "b.id = r.backup_id WHERE b.repository_id = $1 AND b.database_id = $2 AND r.state IN "
        "('pending', 'running') LIMIT 1) AS active_restore_id, kept.id AS kept_backup_id, "
        "coalesce(kept.is_held, false) AS is_held FROM (SELECT) one LEFT JOIN LATERAL "
        "(SELECT b.id, b.held_at IS NOT NULL AS is_held FROM backups b WHERE b.repository_id = $1 "
        "AND b.database_id = $2 AND b.state NOT IN ('deleting', 'deleted') AND "
        "(b.held_at IS NOT NULL OR " STORE_BACKUP_PINNED ") ORDER BY is_held DESC LIMIT 1) kept "
        "ON true",
        STORE_PARAMETERS(id, database_id), ret_rows, error);
}

Status store_repository_shredded(StoreTransaction *transaction, Arena *arena, const char *id,
                                 const char *database_id, Error *error)
{
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE shard_backups sb SET is_unrestorable = true FROM backups b WHERE b.id = "
        "sb.backup_id AND b.repository_id = $1 AND b.database_id = $2 AND sb.state = 'committed'",
        STORE_PARAMETERS(id, database_id), error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE backups SET state = 'deleting' WHERE repository_id = $1 AND database_id = $2 AND "
        "state IN ('succeeded', 'failed', 'canceled')",
        STORE_PARAMETERS(id, database_id), error));
    return store_work_add(transaction, WORK_RETENTION, database_id, 0, error);
}
