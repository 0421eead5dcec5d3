// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_database.h"
#include "server/store/store_proof.h"
#include "server/store/store_work.h"

#define VIEW                                                                                       \
    "SELECT sh.id, d.name AS database, sh.name, sh.source_host AS \"source.host\", "               \
    "sh.source_port AS \"source.port\", c.name AS \"source.credential\", "                         \
    "sh.source_tls_mode AS \"source.tls_mode\", sh.source_tls_ca AS \"source.tls_ca\", "           \
    "sh.placement_provider AS \"placement.provider\", "                                            \
    "sh.placement_region AS \"placement.region\", sh.placement_zone AS \"placement.zone\", "       \
    "sh.created_at, sh.updated_at, sh.etag, sh.name AS page_key_1, d.id AS database_id, "          \
    "sh.source_credential_id, d.engine, "                                                          \
    "lc.generation, lc.checkpoint, lc.at AS last_backup_at, lc.size_bytes, "                       \
    "proof.at AS proven_at, proof.duration AS proven_recovery_time "                               \
    "FROM shards sh JOIN databases d ON d.id = sh.database_id "                                    \
    "LEFT JOIN credentials c ON c.id = sh.source_credential_id "                                   \
    "LEFT JOIN LATERAL (SELECT sb.generation, sb.checkpoint, sb.size_bytes, "                      \
    "coalesce(sb.checkpoint_at, sb.finished_at) AS at FROM shard_backups sb "                      \
    "JOIN backups b ON b.id = sb.backup_id WHERE sb.shard_id = sh.id AND "                         \
    "sb.state = 'committed' AND b.state NOT IN ('deleting', 'deleted') "                           \
    "ORDER BY sb.created_at DESC LIMIT 1) lc ON true "                                             \
    "LEFT JOIN LATERAL " STORE_PROOF("sh.id") " proof ON true "

Status store_shard_add(StoreTransaction *transaction, Arena *arena, const StoreShard *shard,
                       Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "INSERT INTO shards (id, database_id, name, source_host, source_port, "
                    "source_credential_id, source_tls_mode, source_tls_ca, placement_provider, "
                    "placement_region, placement_zone, etag) "
                    "VALUES ($1, $2, $3, $4, $5::int, $6, $7, $8, $9, $10, $11, $12) "
                    "ON CONFLICT DO NOTHING RETURNING id",
                    STORE_PARAMETERS(shard->id, shard->database_id, shard->name, shard->source_host,
                                     store_integer_parameter(arena, shard->source_port),
                                     shard->source_credential_id, shard->source_tls_mode,
                                     shard->source_tls_ca, shard->placement_provider,
                                     shard->placement_region, shard->placement_zone, shard->etag),
                    &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_EXISTS, "the database has a shard '%s' already", shard->name);
        error_field(error, "shard.name");
        return error_hint(error, "choose another name, or update that one");
    }
    return STATUS_OK;
}

Status store_shard_get(StoreTransaction *transaction, Arena *arena, const char *database,
                       const char *name, bool is_locked, StoreRows *ret_rows, Error *error)
{
    static const char SQL[] = VIEW "WHERE d.name = $1 AND d.deleted_at IS NULL AND sh.name = $2 "
                                   "AND sh.deleted_at IS NULL";
    static const char LOCKED_SQL[] =
        VIEW "WHERE d.name = $1 AND d.deleted_at IS NULL AND sh.name = $2 "
             "AND sh.deleted_at IS NULL FOR UPDATE OF sh";
    RETURN_IF_ERROR(store_query(transaction, arena, is_locked ? LOCKED_SQL : SQL,
                                STORE_PARAMETERS(database, name), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "database '%s' has no shard '%s'", database,
                         name);
    }
    return STATUS_OK;
}

Status store_shard_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                        const StorePage *page, StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        VIEW "WHERE sh.database_id = $1 AND sh.deleted_at IS NULL AND "
             "sh.name > coalesce($2, '') ORDER BY sh.name LIMIT $3::int",
        STORE_PARAMETERS(database_id, page->after[0], store_integer_parameter(arena, page->limit)),
        ret_rows, error);
}

Status store_shard_update(StoreTransaction *transaction, Arena *arena, const StoreShard *shard,
                          Error *error)
{
    return store_execute(
        transaction, arena,
        "UPDATE shards SET source_host = $2, source_port = $3::int, source_credential_id = $4, "
        "source_tls_mode = $5, source_tls_ca = $6, placement_provider = $7, "
        "placement_region = $8, placement_zone = $9, etag = $10, updated_at = now() WHERE id = $1",
        STORE_PARAMETERS(
            shard->id, shard->source_host, store_integer_parameter(arena, shard->source_port),
            shard->source_credential_id, shard->source_tls_mode, shard->source_tls_ca,
            shard->placement_provider, shard->placement_region, shard->placement_zone, shard->etag),
        error);
}

Status store_shard_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                        StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        "SELECT (SELECT b.id FROM backups b JOIN shard_backups sb ON sb.backup_id = b.id "
        "WHERE sb.shard_id = sh.id AND b.state IN ('pending', 'running') LIMIT 1) "
        "AS running_backup_id, (SELECT r.id FROM restores r JOIN restore_shards rs "
        "ON rs.restore_id = r.id WHERE rs.shard_id = sh.id AND "
        "r.state IN ('pending', 'running', 'serving') LIMIT 1) AS active_restore_id "
        "FROM shards sh WHERE sh.id = $1",
        STORE_PARAMETERS(id), ret_rows, error);
}

Status store_shard_delete(StoreTransaction *transaction, Arena *arena, const char *id, Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE shards SET deleted_at = now() WHERE id = $1",
                                  STORE_PARAMETERS(id), error));
    return store_work_add(transaction, WORK_FORGET_SOURCE, id, 0, error);
}

Status store_shard_sources(StoreTransaction *transaction, Arena *arena, const char *database_id,
                           StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       "SELECT sh.name AS shard, d.engine, sh.source_host AS host, "
                       "sh.source_port AS port, sh.source_tls_mode AS tls_mode, "
                       "sh.source_tls_ca AS tls_ca, c.id AS credential_id, c.username, "
                       "c.password_sealed FROM shards sh JOIN databases d ON "
                       "d.id = sh.database_id JOIN credentials c ON "
                       "c.id = sh.source_credential_id WHERE sh.database_id = $1 AND "
                       "sh.deleted_at IS NULL ORDER BY sh.name",
                       STORE_PARAMETERS(database_id), ret_rows, error);
}
