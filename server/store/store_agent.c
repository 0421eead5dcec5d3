// SPDX-License-Identifier: Apache-2.0
// Agents join and are told what to do.
#include "server/store/store_agent.h"

#include "common/crypto.h"

#include <assert.h>
#include <string.h>

Status store_agent_join(StoreTransaction *transaction, Arena *arena, const char *instance_id,
                        const uint8_t *secret_hash, const uint8_t *session_token_hash,
                        const char *server_id, int64_t memory_bytes, AgentJoinRow **ret_row,
                        Error *error)
{
    StoreRows rows;
    *ret_row = NULL;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE instances i SET session_token_hash = $3, server_id = $4, last_seen_at = now(),"
        " joined_at = coalesce(joined_at, now()), memory_bytes = $5,"
        " state = CASE WHEN state IN ('intended', 'launched') THEN 'joined' ELSE state END"
        " WHERE id = $1 AND state <> 'destroyed'"
        " AND (join_secret_hash = $2 OR session_token_hash = $2)"
        " RETURNING i.id, i.purpose, i.state, coalesce(i.join_secret_hash <> $2,"
        " true) AS is_session,"
        " (SELECT a.id FROM attempts a WHERE a.instance_id = i.id) AS attempt_id, i.backup_id,"
        " (SELECT r.id FROM restore_shards r WHERE r.instance_id = i.id) AS restore_shard_id,"
        " CASE WHEN i.purpose = 'restore' THEN i.subject_id END AS restore_id,"
        " (SELECT d.name FROM databases d WHERE d.id = i.database_id) AS database_name,"
        " (SELECT s.name FROM shards s WHERE s.id = i.shard_id) AS shard_name",
        STORE_PARAMETERS(instance_id, store_bytes_parameter(arena, secret_hash, SHA256_SIZE),
                         store_bytes_parameter(arena, session_token_hash, SHA256_SIZE), server_id,
                         store_integer_parameter(arena, memory_bytes)),
        &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    AgentJoinRow *row = arena_alloc(arena, sizeof(*row));
    *row = (AgentJoinRow){.instance_id = store_value(&rows, 0, "id"),
                          .purpose = store_value(&rows, 0, "purpose"),
                          .state = store_value(&rows, 0, "state"),
                          .attempt_id = store_value(&rows, 0, "attempt_id"),
                          .restore_shard_id = store_value(&rows, 0, "restore_shard_id"),
                          .backup_id = store_value(&rows, 0, "backup_id"),
                          .restore_id = store_value(&rows, 0, "restore_id"),
                          .database_name = store_value(&rows, 0, "database_name"),
                          .shard_name = store_value(&rows, 0, "shard_name"),
                          .is_session = store_boolean(&rows, 0, "is_session")};
    *ret_row = row;
    return STATUS_OK;
}

Status store_agent_joined(StoreTransaction *transaction, const char *instance_id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena,
                         "UPDATE instances SET join_secret_hash = NULL"
                         " WHERE id = $1 AND join_secret_hash IS NOT NULL",
                         STORE_PARAMETERS(instance_id), error);
}

Status store_agent_seen(StoreTransaction *transaction, const char *instance_id,
                        const char *server_id, int64_t memory_bytes, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(
        transaction, arena,
        "UPDATE instances SET last_seen_at = now(), server_id = $2,"
        " memory_bytes = CASE WHEN $3::bigint > 0 THEN $3::bigint ELSE memory_bytes END"
        " WHERE id = $1 AND state <> 'destroyed'",
        STORE_PARAMETERS(instance_id, server_id, store_integer_parameter(arena, memory_bytes)),
        error);
}

Status store_agent_directives(StoreTransaction *transaction, Arena *arena, const char *instance_ids,
                              AgentDirective **ret_directives, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT i.id, i.purpose = 'backup' AS is_backup, CASE"
        "  WHEN i.destroy_requested_at IS NOT NULL OR i.state = 'destroyed' THEN"
        "   CASE WHEN i.message = '' THEN 'the instance is not needed any more' ELSE i.message END"
        "  WHEN i.purpose = 'backup' AND b.cancel_requested_at IS NOT NULL"
        " THEN 'the backup was canceled'"
        "  WHEN i.purpose = 'backup' AND (a.id IS NULL OR a.state NOT IN ('running', 'committed')"
        "   OR a.epoch <> s.epoch) THEN 'the attempt is not the current one'"
        "  WHEN i.purpose = 'restore' AND (r.id IS NULL"
        " OR r.state NOT IN ('pending', 'running', 'serving'))"
        "   THEN 'the restore has ended' END AS stop_reason,"
        " coalesce(a.ready_at IS NOT NULL AND a.state = 'running' AND a.checkpoint_position = ''"
        "  AND b.barrier <> 'waiting', false) AS is_checkpoint_wanted,"
        " coalesce(a.checkpoint_position, '') AS checkpoint_position,"
        " coalesce(a.checkpoint_name, '') AS checkpoint_name,"
        " coalesce(a.checkpoint_server_identity, '') AS checkpoint_server_identity,"
        " coalesce(a.phase, '') AS phase"
        " FROM instances i JOIN shards s ON s.id = i.shard_id"
        " LEFT JOIN attempts a ON a.instance_id = i.id"
        " LEFT JOIN backups b ON b.id = i.backup_id"
        " LEFT JOIN restore_shards r ON r.instance_id = i.id"
        " WHERE i.id = ANY($1::uuid[])",
        STORE_PARAMETERS(instance_ids), &rows, error));
    AgentDirective *list = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*list));
    for (int i = 0; i < rows.count; i++) {
        list[i] = (AgentDirective){
            .instance_id = store_value(&rows, i, "id"),
            .is_backup = store_boolean(&rows, i, "is_backup"),
            .stop_reason = store_value(&rows, i, "stop_reason"),
            .is_stop = store_value(&rows, i, "stop_reason") != NULL,
            .is_checkpoint_wanted = store_boolean(&rows, i, "is_checkpoint_wanted"),
            .checkpoint_position = store_value(&rows, i, "checkpoint_position"),
            .checkpoint_name = store_value(&rows, i, "checkpoint_name"),
            .checkpoint_server_identity = store_value(&rows, i, "checkpoint_server_identity"),
            .phase = store_value(&rows, i, "phase"),
        };
    }
    *ret_directives = list;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

#define SOURCE_COLUMNS                                                                             \
    " d.engine, s.source_host, s.source_port, s.source_tls_mode, s.source_tls_ca, c.username,"     \
    " c.password_sealed, c.id AS credential_id, s.deleted_at IS NOT NULL AS is_shard_deleted"

static AgentSource source_of(const StoreRows *rows, Arena *arena)
{
    AgentSource source = {.engine = store_value(rows, 0, "engine"),
                          .host = store_value(rows, 0, "source_host"),
                          .port = (int)store_integer(rows, 0, "source_port", 0),
                          .tls_mode = store_value(rows, 0, "source_tls_mode"),
                          .tls_ca = store_value(rows, 0, "source_tls_ca"),
                          .username = store_value(rows, 0, "username"),
                          .credential_id = store_value(rows, 0, "credential_id"),
                          .is_shard_deleted = store_boolean(rows, 0, "is_shard_deleted")};
    source.password_sealed =
        store_bytes(rows, 0, "password_sealed", arena, &source.password_sealed_size);
    return source;
}

static AgentRepository repository_of(const StoreRows *rows, Arena *arena)
{
    return (AgentRepository){.id = store_value(rows, 0, "repository_id"),
                             .key_file = store_value(rows, 0, "key_file"),
                             .address = store_repository_address(rows, 0, arena)};
}

Status store_agent_backup_assignment(StoreTransaction *transaction, Arena *arena,
                                     const char *attempt_id, BackupAssignmentRow **ret_row,
                                     Error *error)
{
    StoreRows rows;
    *ret_row = NULL;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT a.id AS attempt_id, b.id AS backup_id,"
                    " sb.id AS shard_backup_id, d.id AS database_id,"
                    " d.name AS database_name, s.id AS shard_id, s.name AS shard_name, a.epoch, "
                    "sb.generation," SOURCE_COLUMNS
                    ", r.id AS repository_id, r.key_file," REPOSITORY_ADDRESS_COLUMNS ","
                    " coalesce(p.manifest_id, '') AS parent_manifest_id,"
                    " coalesce(p.manifest_digest, '') AS parent_manifest_digest,"
                    // A backup by hand is checked as often as a policy's by default.
                    " d.reads_everything OR sb.generation % coalesce(po.full_read_every, 10) = 0"
                    " AS reads_everything, (SELECT min(earlier.epoch) FROM attempts earlier"
                    " WHERE earlier.shard_backup_id = sb.id) AS resume_epoch"
                    " FROM attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"
                    " JOIN backups b ON b.id = sb.backup_id JOIN shards s ON s.id = a.shard_id"
                    " JOIN databases d ON d.id = b.database_id JOIN credentials c"
                    " ON c.id = s.source_credential_id"
                    " JOIN repositories r ON r.id = b.repository_id"
                    " LEFT JOIN shard_backups p ON p.id = a.parent_id"
                    " LEFT JOIN policies po ON po.id = b.policy_id"
                    " WHERE a.id = $1 AND a.state = 'running'",
                    STORE_PARAMETERS(attempt_id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    BackupAssignmentRow *row = arena_alloc(arena, sizeof(*row));
    *row = (BackupAssignmentRow){
        .attempt_id = store_value(&rows, 0, "attempt_id"),
        .backup_id = store_value(&rows, 0, "backup_id"),
        .shard_backup_id = store_value(&rows, 0, "shard_backup_id"),
        .database_id = store_value(&rows, 0, "database_id"),
        .database_name = store_value(&rows, 0, "database_name"),
        .shard_id = store_value(&rows, 0, "shard_id"),
        .shard_name = store_value(&rows, 0, "shard_name"),
        .epoch = store_integer(&rows, 0, "epoch", 0),
        .generation = (int)store_integer(&rows, 0, "generation", 0),
        .reads_everything = store_boolean(&rows, 0, "reads_everything"),
        .resume_epoch = store_integer(&rows, 0, "resume_epoch", 0),
        .source = source_of(&rows, arena),
        .repository = repository_of(&rows, arena),
        .parent_manifest_id = store_value(&rows, 0, "parent_manifest_id"),
        .parent_manifest_digest = store_value(&rows, 0, "parent_manifest_digest"),
    };
    *ret_row = row;
    return STATUS_OK;
}

Status store_agent_source(StoreTransaction *transaction, Arena *arena, const char *shard_id,
                          AgentSource **ret_source, Error *error)
{
    StoreRows rows;
    *ret_source = NULL;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT" SOURCE_COLUMNS " FROM shards s JOIN databases d ON d.id = s.database_id"
        " JOIN credentials c ON c.id = s.source_credential_id WHERE s.id = $1",
        STORE_PARAMETERS(shard_id), &rows, error));
    if (rows.count == 1) {
        *ret_source = arena_alloc(arena, sizeof(**ret_source));
        **ret_source = source_of(&rows, arena);
    }
    return STATUS_OK;
}

Status store_agent_restore_assignment(StoreTransaction *transaction, Arena *arena,
                                      const char *restore_shard_id, RestoreAssignmentRow **ret_row,
                                      Error *error)
{
    StoreRows rows;
    *ret_row = NULL;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT t.id AS restore_id, rs.id AS restore_shard_id, t.database_id, rs.shard_id,"
        " s.name AS shard_name, d.engine, rs.directory, rs.port, r.id AS repository_id,"
        " r.key_file," REPOSITORY_ADDRESS_COLUMNS ", sb.manifest_id, sb.manifest_digest"
        " FROM restore_shards rs JOIN restores t ON t.id = rs.restore_id"
        " JOIN shards s ON s.id = rs.shard_id JOIN databases d ON d.id = t.database_id"
        " JOIN shard_backups sb ON sb.id = rs.shard_backup_id JOIN backups b ON b.id = sb.backup_id"
        " JOIN repositories r ON r.id = b.repository_id"
        " WHERE rs.id = $1 AND rs.state IN ('pending', 'running', 'serving')",
        STORE_PARAMETERS(restore_shard_id), &rows, error));
    if (rows.count == 0) {
        return STATUS_OK;
    }
    RestoreAssignmentRow *row = arena_alloc(arena, sizeof(*row));
    *row = (RestoreAssignmentRow){
        .restore_id = store_value(&rows, 0, "restore_id"),
        .restore_shard_id = store_value(&rows, 0, "restore_shard_id"),
        .database_id = store_value(&rows, 0, "database_id"),
        .shard_id = store_value(&rows, 0, "shard_id"),
        .shard_name = store_value(&rows, 0, "shard_name"),
        .engine = store_value(&rows, 0, "engine"),
        .directory = store_value(&rows, 0, "directory"),
        .port = (int)store_integer(&rows, 0, "port", 0),
        .repository = repository_of(&rows, arena),
        .manifest_id = store_value(&rows, 0, "manifest_id"),
        .manifest_digest = store_value(&rows, 0, "manifest_digest"),
    };
    *ret_row = row;
    return STATUS_OK;
}
