// SPDX-License-Identifier: Apache-2.0
// Assignments: the facts of an attempt or a restore, with the secrets that the agent needs for just
// this.
#include "common/message_json.h"
#include "server/service/agent_sessions_internal.h"
#include "server/service/credential_seal.h"
#include "server/store/store_instance.h"

#include <assert.h>
#include <string.h>

#define COMPRESSION_LEVEL 1

// protobuf-c's texts are not const, but it only reads them when packing.
static char *text_of(Arena *arena, const char *text)
{
    return arena_string(arena, text != NULL ? text : "");
}

static Holdfast__V1__Engine engine_of(const char *word)
{
    int value = 0;
    return enum_from_word(&holdfast__v1__engine__descriptor, word, &value)
               ? (Holdfast__V1__Engine)value
               : HOLDFAST__V1__ENGINE__ENGINE_UNSPECIFIED;
}

static Status source_access(const AgentSessions *sessions, const AgentSource *source, Arena *arena,
                            Holdfast__V1__EngineSourceAccess **ret_access, Error *error)
{
    CLEANUP(secret_done) Secret password = {0};
    RETURN_IF_ERROR(credential_unseal(sessions->options.secret_key, source->credential_id,
                                      source->password_sealed, source->password_sealed_size,
                                      &password, error));
    Holdfast__V1__EngineSourceAccess *access =
        (void *)message_new(arena, &holdfast__v1__engine_source_access__descriptor);
    access->source = (void *)message_new(arena, &holdfast__v1__source__descriptor);
    access->engine = engine_of(source->engine);
    access->source->host = text_of(arena, source->host);
    access->source->port = source->port;
    access->source->tls_mode = text_of(arena, source->tls_mode);
    access->source->tls_ca = text_of(arena, source->tls_ca);
    access->username = text_of(arena, source->username);
    access->password = text_of(arena, secret_text(&password));
    *ret_access = access;
    return STATUS_OK;
}

// Where the objects are, and what opens the store.
static Status store_access(const AgentSessions *sessions, const RepositoryAddress *address,
                           Arena *arena, Holdfast__V1__RepositoryAccess *access, Error *error)
{
    CLEANUP(secret_done) Secret secret = {0};
    access->location = text_of(arena, address->location);
    if (address->object_store != NULL) {
        CLEANUP(json_freep) Json *json = NULL;
        ProtobufCMessage *message = NULL;
        RETURN_IF_ERROR(
            json_parse(address->object_store, strlen(address->object_store), &json, error));
        RETURN_IF_ERROR(message_from_json(arena, &holdfast__v1__object_store__descriptor, json,
                                          &message, error));
        access->object_store = (void *)message;
    }
    if (address->credential_id != NULL) {
        RETURN_IF_ERROR(credential_unseal(sessions->options.secret_key, address->credential_id,
                                          address->secret_sealed, address->secret_sealed_size,
                                          &secret, error));
        access->access_key_id = text_of(arena, address->access_key_id);
        access->secret_key = text_of(arena, secret_text(&secret));
    }
    return STATUS_OK;
}

// With a manifest, the data key that it is sealed with; a seed ("") gets the database's newest.
static Status repository_access(const AgentSessions *sessions, const AgentRepository *place,
                                const char *database_id, const char *shard_id,
                                const char *manifest_id, Arena *arena,
                                Holdfast__V1__RepositoryAccess **ret_access, Error *error)
{
    Repository *repository = NULL;
    CLEANUP(data_key_done) DataKey key = {0};
    RETURN_IF_ERROR(repository_cache_get(sessions->options.repositories, place->id, &place->address,
                                         place->key_file, &repository, error));
    if (manifest_id[0] == '\0') {
        RETURN_IF_ERROR(repository_data_key(repository, database_id, true, &key, error));
    } else {
        RETURN_IF_ERROR(
            manifest_data_key(repository, database_id, shard_id, manifest_id, &key, error));
    }
    Holdfast__V1__RepositoryAccess *access =
        (void *)message_new(arena, &holdfast__v1__repository_access__descriptor);
    RETURN_IF_ERROR(store_access(sessions, &place->address, arena, access, error));
    access->key_id = text_of(arena, key.id);
    access->data_key.data = arena_copy(arena, key.bytes.data, key.bytes.size);
    access->data_key.len = key.bytes.size;
    *ret_access = access;
    return STATUS_OK;
}

static Status read_backup(const AgentSessions *sessions, const char *attempt_id, Arena *arena,
                          BackupAssignmentRow **ret_row, const char ***ret_alive,
                          size_t *ret_alive_count, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(sessions->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_backup_assignment(transaction, arena, attempt_id, ret_row, error));
    if (*ret_row != NULL) {
        RETURN_IF_ERROR(store_instance_alive_of_shard(transaction, arena, (*ret_row)->shard_id,
                                                      ret_alive, ret_alive_count, error));
    }
    return store_commit(&transaction, error);
}

// A parent whose key was destroyed or is lost is no parent: an older one, or a seed, goes on.
static Status name_parent_failure(const BackupAssignmentRow *row, Error *error)
{
    bool is_parent_at_fault =
        error->status == STATUS_DATA_LOSS || error->reason == REASON_KEY_MISSING;
    if (row->parent_manifest_id[0] == '\0' || !is_parent_at_fault) {
        return error->status;
    }
    Error cause = *error;
    error_set(error, REASON_PARENT_UNRESTORABLE, "manifest '%s' does not restore (%s): %.1200s",
              row->parent_manifest_id, reason_slug(cause.reason), cause.message);
    return error_hint(error, "%s", cause.hint);
}

static Status make_backup(const AgentSessions *sessions, const char *attempt_id, Arena *arena,
                          Holdfast__V1__BackupAssignment **ret_assignment, Error *error)
{
    BackupAssignmentRow *row = NULL;
    const char **alive = NULL;
    size_t alive_count = 0;
    *ret_assignment = NULL;
    RETURN_IF_ERROR(read_backup(sessions, attempt_id, arena, &row, &alive, &alive_count, error));
    if (row == NULL) {
        return STATUS_OK;
    }
    Holdfast__V1__BackupAssignment *assignment =
        (void *)message_new(arena, &holdfast__v1__backup_assignment__descriptor);
    assignment->attempt_id = text_of(arena, row->attempt_id);
    assignment->backup_id = text_of(arena, row->backup_id);
    assignment->shard_backup_id = text_of(arena, row->shard_backup_id);
    assignment->database_id = text_of(arena, row->database_id);
    assignment->database_name = text_of(arena, row->database_name);
    assignment->shard_id = text_of(arena, row->shard_id);
    assignment->shard_name = text_of(arena, row->shard_name);
    assignment->epoch = row->epoch;
    assignment->generation = row->generation;
    assignment->reads_everything = row->reads_everything;
    assignment->resume_epoch = row->resume_epoch;
    assignment->compression_level = COMPRESSION_LEVEL;
    assignment->memory_bytes = sessions->options.memory_bytes;
    assignment->parent_manifest_id = text_of(arena, row->parent_manifest_id);
    assignment->parent_manifest_digest = text_of(arena, row->parent_manifest_digest);
    assignment->n_alive_instance_ids = alive_count;
    assignment->alive_instance_ids = arena_alloc_array(arena, alive_count + 1, sizeof(char *));
    for (size_t i = 0; i < alive_count; i++) {
        assignment->alive_instance_ids[i] = text_of(arena, alive[i]);
    }
    RETURN_IF_ERROR(source_access(sessions, &row->source, arena, &assignment->source, error));
    if (repository_access(sessions, &row->repository, row->database_id, row->shard_id,
                          row->parent_manifest_id, arena, &assignment->repository,
                          error) != STATUS_OK) {
        return name_parent_failure(row, error);
    }
    *ret_assignment = assignment;
    return STATUS_OK;
}

static Status make_restore(const AgentSessions *sessions, const char *restore_shard_id,
                           Arena *arena, Holdfast__V1__RestoreAssignment **ret_assignment,
                           Error *error)
{
    RestoreAssignmentRow *row = NULL;
    *ret_assignment = NULL;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(sessions->options.store, &transaction, error));
        RETURN_IF_ERROR(
            store_agent_restore_assignment(transaction, arena, restore_shard_id, &row, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    if (row == NULL) {
        return STATUS_OK;
    }
    Holdfast__V1__RestoreAssignment *assignment =
        (void *)message_new(arena, &holdfast__v1__restore_assignment__descriptor);
    assignment->restore_id = text_of(arena, row->restore_id);
    assignment->shard_id = text_of(arena, row->shard_id);
    assignment->shard_name = text_of(arena, row->shard_name);
    assignment->engine = engine_of(row->engine);
    assignment->manifest_id = text_of(arena, row->manifest_id);
    assignment->manifest_digest = text_of(arena, row->manifest_digest);
    assignment->directory = text_of(arena, row->directory);
    assignment->port = row->port;
    assignment->memory_bytes = sessions->options.memory_bytes;
    RETURN_IF_ERROR(repository_access(sessions, &row->repository, row->database_id, row->shard_id,
                                      row->manifest_id, arena, &assignment->repository, error));
    *ret_assignment = assignment;
    return STATUS_OK;
}

Status session_make_assignment(AgentSessions *sessions, const char *attempt_id,
                               const char *restore_shard_id, Arena *arena,
                               Holdfast__V1__ServerMessage **ret_message, Error *error)
{
    Holdfast__V1__ServerMessage *message =
        (void *)message_new(arena, &holdfast__v1__server_message__descriptor);
    *ret_message = NULL;
    if (attempt_id[0] != '\0') {
        RETURN_IF_ERROR(make_backup(sessions, attempt_id, arena, &message->backup, error));
        message->message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP;
        *ret_message = message->backup != NULL ? message : NULL;
    } else if (restore_shard_id[0] != '\0') {
        RETURN_IF_ERROR(make_restore(sessions, restore_shard_id, arena, &message->restore, error));
        message->message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE;
        *ret_message = message->restore != NULL ? message : NULL;
    }
    return STATUS_OK;
}
