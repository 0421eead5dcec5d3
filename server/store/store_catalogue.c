// SPDX-License-Identifier: Apache-2.0
// Everything is added only where it is missing, so that an import may be repeated, also after it
// was stopped, and does not touch what the server knows better.
#include "server/store/store_catalogue.h"

#include "common/crypto.h"
#include "common/text.h"
#include "server/store/store_repository.h"

Status store_catalogue_has(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                           bool *ret_has, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena, "SELECT 1 AS one FROM backups WHERE id = $1",
                                STORE_PARAMETERS(backup_id), &rows, error));
    *ret_has = rows.count > 0;
    return STATUS_OK;
}

static const char *new_id(Arena *arena)
{
    char *id = arena_alloc(arena, UUID_TEXT_SIZE);
    crypto_uuid(id);
    return id;
}

static const char *new_etag(Arena *arena)
{
    uint8_t bytes[8];
    char *etag = arena_alloc(arena, 2 * sizeof(bytes) + 1);
    crypto_random(bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), etag);
    return etag;
}

static Status insert_database(StoreTransaction *transaction, Arena *arena,
                              const CatalogueBackup *backup, const char *name, bool *ret_is_made,
                              Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO databases (id, name, engine, description, etag) VALUES ($1, $2, $3, "
        "'imported from a repository', $4) ON CONFLICT DO NOTHING RETURNING id",
        STORE_PARAMETERS(backup->database_id, name, backup->engine, new_etag(arena)), &rows,
        error));
    *ret_is_made = rows.count > 0;
    return STATUS_OK;
}

// The name it had, unless that is no name or another database has it now.
static Status add_database(StoreTransaction *transaction, Arena *arena,
                           const CatalogueBackup *backup, CatalogueCounts *counts, Error *error)
{
    StoreRows rows;
    bool is_made = false;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT deleted_at IS NOT NULL AS is_deleted FROM databases WHERE id = $1",
                    STORE_PARAMETERS(backup->database_id), &rows, error));
    if (rows.count > 0) {
        return !store_boolean(&rows, 0, "is_deleted")
                   ? STATUS_OK
                   : error_set(error, REASON_PRECONDITION, "database '%s' was deleted here",
                               backup->database_name);
    }
    if (text_is_label(backup->database_name)) {
        RETURN_IF_ERROR(
            insert_database(transaction, arena, backup, backup->database_name, &is_made, error));
    }
    if (!is_made) {
        const char *stem =
            text_is_label(backup->database_name) ? backup->database_name : "database";
        // Eight digits of a time-ordered id are not unique; the last twelve are random.
        const char *name = arena_format(arena, "%.40s-%s", stem, backup->database_id + 24);
        RETURN_IF_ERROR(insert_database(transaction, arena, backup, name, &is_made, error));
    }
    counts->database_count += is_made ? 1 : 0;
    return is_made ? STATUS_OK
                   : error_set(error, REASON_EXISTS, "no name is free for database '%s'",
                               backup->database_name);
}

static Status add_shard(StoreTransaction *transaction, Arena *arena, const CatalogueBackup *backup,
                        const CatalogueShard *shard, CatalogueCounts *counts, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "INSERT INTO shards (id, database_id, name, source_host, source_port, etag) "
                    "VALUES ($1, $2, $3, '', 0, $4) ON CONFLICT DO NOTHING RETURNING id",
                    STORE_PARAMETERS(shard->id, backup->database_id, shard->name, new_etag(arena)),
                    &rows, error));
    counts->shard_count += rows.count;
    if (rows.count > 0) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT 1 AS one FROM shards WHERE id = $1 AND database_id = $2",
                                STORE_PARAMETERS(shard->id, backup->database_id), &rows, error));
    return rows.count > 0
               ? STATUS_OK
               : error_set(error, REASON_EXISTS,
                           "shard '%s' is another one here, or its name is taken", shard->name);
}

static Status add_shard_backup(StoreTransaction *transaction, Arena *arena,
                               const CatalogueBackup *backup, const CatalogueShard *shard,
                               Error *error)
{
    return store_execute(
        transaction, arena,
        "INSERT INTO shard_backups (id, backup_id, shard_id, state, parent_id, generation, "
        "checkpoint, checkpoint_at, manifest_id, manifest_digest, engine_version, size_bytes, "
        "new_bytes, stored_bytes, created_at, finished_at) VALUES ($1, $2, $3, 'committed', "
        "(SELECT p.id FROM shard_backups p JOIN backups pb ON pb.id = p.backup_id WHERE "
        "p.shard_id = $3 AND p.manifest_id = nullif($4, '') AND pb.repository_id = $5 LIMIT 1), "
        "$6::int, $7, $8, $9, $10, $11, $12::bigint, $13::bigint, $14::bigint, $8, $8)",
        STORE_PARAMETERS(new_id(arena), backup->id, shard->id, shard->parent_manifest_id,
                         backup->repository_id, store_integer_parameter(arena, shard->generation),
                         shard->checkpoint, store_time_parameter(arena, shard->created_us),
                         shard->manifest_id, shard->manifest_digest, shard->engine_version,
                         store_integer_parameter(arena, shard->size_bytes),
                         store_integer_parameter(arena, shard->new_bytes),
                         store_integer_parameter(arena, shard->stored_bytes)),
        error);
}

Status store_catalogue_add(StoreTransaction *transaction, Arena *arena,
                           const CatalogueBackup *backup, CatalogueCounts *counts, Error *error)
{
    StoreRows rows;
    CatalogueCounts made = *counts;
    bool is_seed = true;
    RETURN_IF_ERROR(add_database(transaction, arena, backup, &made, error));
    for (size_t i = 0; i < backup->shard_count; i++) {
        RETURN_IF_ERROR(add_shard(transaction, arena, backup, &backup->shards[i], &made, error));
        is_seed = is_seed && backup->shards[i].generation == 0;
    }
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "INSERT INTO backups (id, database_id, repository_id, trigger, state, is_seed, note, "
        "barrier, checkpoint_at, set_written_at, created_at, started_at, finished_at, message) "
        "VALUES ($1, $2, $3, 'manual', $4, $5, 'imported from the repository', 'taken', $6, $6, "
        "$6, $6, $6, $7) ON CONFLICT DO NOTHING RETURNING id",
        STORE_PARAMETERS(backup->id, backup->database_id, backup->repository_id,
                         backup->is_complete ? "succeeded" : "failed", is_seed ? "true" : "false",
                         store_time_parameter(arena, backup->created_us),
                         backup->is_complete ? "" : "not every shard was in the backup"),
        &rows, error));
    if (rows.count == 0) {
        return STATUS_OK; // somebody else imports, too
    }
    made.backup_count++;
    for (size_t i = 0; i < backup->shard_count; i++) {
        RETURN_IF_ERROR(add_shard_backup(transaction, arena, backup, &backup->shards[i], error));
    }
    RETURN_IF_ERROR(
        store_repository_add_stored(transaction, arena, backup->repository_id, backup->id, error));
    *counts = made;
    return STATUS_OK;
}

Status store_catalogue_fence(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                             int64_t epoch, Error *error)
{
    return store_execute(
        transaction, arena,
        "UPDATE shards SET epoch = $2::bigint WHERE id = $1 AND epoch < $2::bigint",
        STORE_PARAMETERS(shard_id, store_integer_parameter(arena, epoch)), error);
}

Status store_catalogue_sourceless(StoreTransaction *transaction, Arena *arena,
                                  const char *database_id, const char **ret_shard, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT name FROM shards WHERE database_id = $1 AND deleted_at IS "
                                "NULL AND source_credential_id IS NULL ORDER BY name LIMIT 1",
                                STORE_PARAMETERS(database_id), &rows, error));
    *ret_shard = rows.count > 0 ? store_value(&rows, 0, "name") : NULL;
    return STATUS_OK;
}
