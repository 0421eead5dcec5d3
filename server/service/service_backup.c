// SPDX-License-Identifier: Apache-2.0
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/resource_limits.h"
#include "server/service/service_database.h"
#include "server/store/store_backup.h"
#include "server/store/store_catalogue.h"
#include "server/store/store_policy.h"
#include "server/store/store_repository.h"

#define DESCRIPTOR (&holdfast__v1__backup__descriptor)
#define NOTE_SIZE_MAX 1024

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *id,
                     ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_backup_get(transaction, call->arena, id, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

static Status choose_repository(ServiceCall *call, StoreTransaction *transaction,
                                const char *database_id, const char *name, const char **ret_id,
                                Error *error)
{
    if (!text_is_empty(name)) {
        RETURN_IF_ERROR(check_name("repository", name, error));
        return store_repository_use(transaction, call->arena, "repository", name, ret_id, error);
    }
    RETURN_IF_ERROR(
        store_policy_first_repository(transaction, call->arena, database_id, ret_id, error));
    if (*ret_id == NULL) {
        error_set(error, REASON_INVALID,
                  "the database has no policy that would say which "
                  "repository to use");
        error_field(error, "repository");
        return error_hint(error, "name a repository, or add a policy");
    }
    return STATUS_OK;
}

Status service_start_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__StartBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_text("note", request->note, NOTE_SIZE_MAX, false, error));
    RETURN_IF_ERROR(resource_limits_check("limits", request->limits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows database;
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &database, error));
    StoreBackupRequest creation = {.database_id = store_value(&database, 0, "id"),
                                   .is_seed = request->seed,
                                   .note = request->note,
                                   .limits =
                                       limits_to_json(call->arena, (const void *)request->limits)};
    RETURN_IF_ERROR(choose_repository(call, transaction, creation.database_id, request->repository,
                                      &creation.repository_id, error));
    const char *sourceless = NULL;
    RETURN_IF_ERROR(store_catalogue_sourceless(transaction, call->arena, creation.database_id,
                                               &sourceless, error));
    if (sourceless != NULL) {
        error_set(error, REASON_PRECONDITION, "shard '%s' of database '%s' has no source",
                  sourceless, request->database);
        return error_hint(error, "it was imported from a repository: give it a source with: "
                                 "holdfast shard update");
    }
    StoreBackupOutcome outcome;
    const char *id = NULL;
    RETURN_IF_ERROR(store_backup_create(transaction, call->arena, &creation, &outcome, &id, error));
    if (outcome == STORE_BACKUP_NO_SHARDS) {
        error_set(error, REASON_NO_SHARDS, "database '%s' has no shards", request->database);
        return error_hint(error, "add its shards first");
    }
    if (outcome != STORE_BACKUP_CREATED) {
        error_set(error, REASON_BACKUP_RUNNING, "backup '%s' of database '%s' is running", id,
                  request->database);
        return error_hint(error, "wait for its end, or cancel it");
    }
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, id, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                          ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->backup, ret_response, error);
}

Status service_list_backups(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListBackupsRequest *request = (const void *)message;
    char storage[32];
    const char *state = NULL;
    if (!text_is_empty(request->repository)) {
        RETURN_IF_ERROR(check_name("repository", request->repository, error));
    }
    if (request->state != HOLDFAST__V1__BACKUP_STATE__BACKUP_STATE_UNSPECIFIED) {
        state = enum_word(&holdfast__v1__backup_state__descriptor, (int)request->state, storage,
                          sizeof(storage));
        if (state == NULL) {
            error_set(error, REASON_INVALID, "the state is not known");
            error_field(error, "state");
            return error_hint(error, "use 'pending', 'running', 'succeeded', 'failed', "
                                     "'canceled', 'deleting' or 'deleted'");
        }
    }
    PageRequest list = {.list = arena_format(call->arena, "backups %s %s %s", request->database,
                                             state != NULL ? state : "", request->repository),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 2,
                        .response = &holdfast__v1__list_backups_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreBackupFilter filter = {.state = state};
    RETURN_IF_ERROR(service_list_begin(service, call, request->database, &transaction,
                                       &filter.database_id, error));
    if (!text_is_empty(request->repository)) {
        StoreRows repository;
        RETURN_IF_ERROR(store_repository_get(transaction, call->arena, request->repository, false,
                                             &repository, error));
        filter.repository_id = store_value(&repository, 0, "id");
    }
    RETURN_IF_ERROR(store_backup_list(transaction, call->arena, &filter, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

Status service_cancel_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__CancelBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(store_backup_lock(transaction, call->arena, request->backup, &current, error));
    const char *state = store_value(&current, 0, "state");
    if (!text_equal(state, "pending") && !text_equal(state, "running")) {
        error_set(error, REASON_PRECONDITION, "the backup is '%s' and cannot be canceled", state);
        return error_hint(error, "only a pending or running backup can be canceled");
    }
    RETURN_IF_ERROR(store_backup_cancel(transaction, call->arena, request->backup,
                                        store_value(&current, 0, "database"), error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, request->backup, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

static Status refuse_deletion(StoreBackupDeletion outcome, const char *user_id, Error *error)
{
    switch (outcome) {
    case STORE_BACKUP_DELETION_RUNNING:
        error_set(error, REASON_BACKUP_RUNNING, "the backup is running");
        return error_hint(error, "cancel it, or wait for its end");
    case STORE_BACKUP_DELETION_RESTORING:
        error_set(error, REASON_IN_USE, "restore '%s' reads the backup", user_id);
        return error_hint(error, "stop it, or wait for its end");
    case STORE_BACKUP_DELETION_PARENT:
        error_set(error, REASON_IN_USE, "running backup '%s' starts from the backup", user_id);
        return error_hint(error, "wait for its end, or cancel it");
    case STORE_BACKUP_DELETION_HELD:
        error_set(error, REASON_BACKUP_HELD, "the backup is on legal hold");
        return error_hint(error, "nothing deletes it until an administrator releases it");
    case STORE_BACKUP_DELETION_PINNED:
        error_set(error, REASON_BACKUP_PINNED, "the backup is pinned");
        return error_hint(error, "unpin it first");
    case STORE_BACKUP_DELETION_BEGUN:
    default:
        return STATUS_OK;
    }
}

Status service_delete_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__DeleteBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreBackupDeletion outcome;
    const char *user_id = NULL;
    RETURN_IF_ERROR(store_backup_delete(transaction, call->arena, request->backup,
                                        "A backup was deleted by hand", &outcome, &user_id, error));
    RETURN_IF_ERROR(refuse_deletion(outcome, user_id, error));
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}

Status service_list_shard_backups(Service *service, ServiceCall *call,
                                  const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                  Error *error)
{
    const Holdfast__V1__ListShardBackupsRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    PageRequest list = {.list = arena_format(call->arena, "shard_backups %s", request->backup),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_shard_backups_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_backup_get(transaction, call->arena, request->backup, &rows, error));
    RETURN_IF_ERROR(
        store_shard_backup_list(transaction, call->arena, request->backup, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

Status service_get_shard_backup(Service *service, ServiceCall *call,
                                const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                Error *error)
{
    const Holdfast__V1__GetShardBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    RETURN_IF_ERROR(check_shard_name("shard", request->shard, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows rows;
    RETURN_IF_ERROR(store_shard_backup_get(transaction, call->arena, request->backup,
                                           request->shard, &rows, error));
    return service_answer_one(call, &rows, &holdfast__v1__shard_backup__descriptor, ret_response,
                              error);
}
