// SPDX-License-Identifier: Apache-2.0
#include "server/service/service_database.h"

#include "common/limits.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/protection.h"
#include "server/store/store_event.h"

#define DESCRIPTOR (&holdfast__v1__database__descriptor)
#define DESCRIPTION_SIZE_MAX 1024
#define US_PER_SECOND INT64_C(1000000)
#define OBJECTIVE_DEFAULT_US (24 * 3600 * US_PER_SECOND)
#define OBJECTIVE_SECONDS_MIN 60
#define OBJECTIVE_SECONDS_MAX (366LL * 86400)

static void protect(const StoreRows *rows, int row, Arena *arena, Holdfast__V1__Database *database)
{
    const Google__Protobuf__Duration *objective = database->recovery_point_objective;
    ProtectionFacts facts = {
        .now_us = store_time_us(rows, row, "now_at", 0),
        .objective_us = objective != NULL ? objective->seconds * US_PER_SECOND : 0,
        .last_restorable_us = store_time_us(rows, row, "last_restorable_at", 0),
        .next_run_us = store_time_us(rows, row, "next_run_at", 0),
        .running_since_us = store_time_us(rows, row, "running_since", 0),
        .predicted_us = store_integer(rows, row, "predicted_seconds", 0) * US_PER_SECOND,
        .shard_count = database->shard_count,
        .uncovered_shard = store_value(rows, row, "uncovered_shard"),
        .is_last_failed = text_equal(store_value(rows, row, "last_finished_state"), "failed"),
        .last_failure = store_value(rows, row, "last_finished_message")};
    char *reason = arena_alloc(arena, PROTECTION_REASON_SIZE);
    database->protection = protection_of(&facts, reason);
    database->protection_reason = reason;
}

Status database_messages(const StoreRows *rows, Arena *arena, ProtobufCMessage ***ret_messages,
                         Error *error)
{
    RETURN_IF_ERROR(store_messages(rows, arena, DESCRIPTOR, ret_messages, error));
    for (int row = 0; row < rows->count; row++) {
        protect(rows, row, arena, (Holdfast__V1__Database *)(*ret_messages)[row]);
    }
    return STATUS_OK;
}

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *name,
                     ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    ProtobufCMessage **messages = NULL;
    RETURN_IF_ERROR(store_database_get(transaction, call->arena, name, &rows, error));
    RETURN_IF_ERROR(database_messages(&rows, call->arena, &messages, error));
    *ret_response = messages[0];
    return STATUS_OK;
}

static Status check_objective(const Google__Protobuf__Duration *duration, int64_t *ret_us,
                              Error *error)
{
    return check_duration("database.recovery_point_objective", duration, OBJECTIVE_SECONDS_MIN,
                          OBJECTIVE_SECONDS_MAX, OBJECTIVE_DEFAULT_US, ret_us, error);
}

static Status check_engine(Holdfast__V1__Engine engine, ServiceCall *call, const char **ret_word,
                           Error *error)
{
    char *word = arena_alloc(call->arena, 32);
    const char *found = engine == HOLDFAST__V1__ENGINE__ENGINE_UNSPECIFIED
                            ? NULL
                            : enum_word(&holdfast__v1__engine__descriptor, (int)engine, word, 32);
    if (found == NULL) {
        error_set(error, REASON_INVALID, "the engine is missing or not known");
        error_field(error, "database.engine");
        return error_hint(error, "use 'mariadb', 'mysql' or 'postgresql'");
    }
    *ret_word = found;
    return STATUS_OK;
}

static Status add_shards(ServiceCall *call, StoreTransaction *transaction,
                         const StoreDatabase *database,
                         const Holdfast__V1__CreateDatabaseRequest *request, Error *error)
{
    if (request->n_shards > LIMIT_SHARD_COUNT) {
        error_set(error, REASON_INVALID, "there are %zu shards", request->n_shards);
        error_field(error, "shards");
        return error_hint(error, "a database has at most %d shards", LIMIT_SHARD_COUNT);
    }
    for (size_t i = 0; i < request->n_shards; i++) {
        StoreShard shard;
        const char *prefix = arena_format(call->arena, "shards[%zu]", i);
        RETURN_IF_ERROR(shard_from_message(call, transaction, prefix, request->shards[i],
                                           database->engine, &shard, error));
        shard.database_id = database->id;
        if (store_shard_add(transaction, call->arena, &shard, error) != STATUS_OK) {
            return error_field(error, "%s.name", prefix);
        }
    }
    return STATUS_OK;
}

Status service_create_database(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                               ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__CreateDatabaseRequest *request = (const void *)message;
    const Holdfast__V1__Database *body = request->database;
    char id[UUID_TEXT_SIZE];
    char etag[17];
    crypto_uuid(id);
    service_new_etag(etag);
    RETURN_IF_ERROR(check_body("database", body, error));
    RETURN_IF_ERROR(check_name("database.name", body->name, error));
    RETURN_IF_ERROR(
        check_text("database.description", body->description, DESCRIPTION_SIZE_MAX, false, error));
    StoreDatabase row = {.id = id,
                         .name = body->name,
                         .etag = etag,
                         .description = body->description,
                         .reads_everything = body->reads_everything ? "true" : "false"};
    RETURN_IF_ERROR(check_engine(body->engine, call, &row.engine, error));
    RETURN_IF_ERROR(
        check_objective(body->recovery_point_objective, &row.recovery_point_objective_us, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_database_add(transaction, call->arena, &row, error));
    RETURN_IF_ERROR(add_shards(call, transaction, &row, request, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, row.name, &response, error));
    if (request->validate_only) {
        *ret_response = response;
        return STATUS_OK;
    }
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "database.created",
                                                     .database = row.name,
                                                     .message = "The database was added"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_database(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetDatabaseRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->database, ret_response, error);
}

Status service_list_databases(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListDatabasesRequest *request = (const void *)message;
    PageRequest list = {.list = "databases",
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_databases_response__descriptor};
    StorePage page;
    StoreRows rows;
    ProtobufCMessage **messages = NULL;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_database_list(transaction, call->arena, &page, &rows, error));
    RETURN_IF_ERROR(database_messages(&rows, call->arena, &messages, error));
    return service_page_answer(service, call, &list, &page, &rows, messages, ret_response, error);
}

enum { MASK_DESCRIPTION = 1, MASK_OBJECTIVE = 2, MASK_READS_EVERYTHING = 4 };
static const MaskField MASK[] = {{"name", 0},
                                 {"etag", 0},
                                 {"description", MASK_DESCRIPTION},
                                 {"recovery_point_objective", MASK_OBJECTIVE},
                                 {"reads_everything", MASK_READS_EVERYTHING}};

Status service_update_database(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                               ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__UpdateDatabaseRequest *request = (const void *)message;
    const Holdfast__V1__Database *body = request->database;
    unsigned bits = 0;
    char etag[17];
    service_new_etag(etag);
    RETURN_IF_ERROR(check_body("database", body, error));
    RETURN_IF_ERROR(check_name("database.name", body->name, error));
    RETURN_IF_ERROR(service_mask(request->update_mask, MASK, ARRAY_COUNT(MASK), &bits, error));
    StoreDatabase row = {.etag = etag, .recovery_point_objective_us = -1};
    if ((bits & MASK_DESCRIPTION) != 0) {
        RETURN_IF_ERROR(check_text("database.description", body->description, DESCRIPTION_SIZE_MAX,
                                   false, error));
        row.description = body->description;
    }
    if ((bits & MASK_OBJECTIVE) != 0) {
        RETURN_IF_ERROR(check_objective(body->recovery_point_objective,
                                        &row.recovery_point_objective_us, error));
    }
    if ((bits & MASK_READS_EVERYTHING) != 0) {
        row.reads_everything = body->reads_everything ? "true" : "false";
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(store_database_lock(transaction, call->arena, body->name, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, body->etag, store_value(&current, 0, "etag"), error));
    row.id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(store_database_update(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, body->name, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

static Status check_uses(const StoreRows *uses, const char *name, bool is_forced, Error *error)
{
    if (store_value(uses, 0, "running_backup_id") != NULL) {
        error_set(error, REASON_BACKUP_RUNNING, "backup '%s' of database '%s' is running",
                  store_value(uses, 0, "running_backup_id"), name);
        return error_hint(error, "cancel it, or wait for its end");
    }
    if (store_value(uses, 0, "active_restore_id") != NULL) {
        error_set(error, REASON_IN_USE, "restore '%s' of database '%s' has not ended",
                  store_value(uses, 0, "active_restore_id"), name);
        return error_hint(error, "stop it, or wait for its end");
    }
    const char *kept_id = store_value(uses, 0, "kept_backup_id");
    if (kept_id != NULL && store_boolean(uses, 0, "is_held")) {
        error_set(error, REASON_BACKUP_HELD, "backup '%s' of database '%s' is on legal hold",
                  kept_id, name);
        return error_hint(error, "nothing deletes it until an administrator releases it");
    }
    if (kept_id != NULL) {
        error_set(error, REASON_BACKUP_PINNED, "backup '%s' of database '%s' is pinned", kept_id,
                  name);
        return error_hint(error, "unpin it first");
    }
    int64_t backup_count = store_integer(uses, 0, "backup_count", 0);
    if (backup_count > 0 && !is_forced) {
        error_set(error, REASON_IN_USE, "database '%s' has %lld backups", name,
                  (long long)backup_count);
        return error_hint(error, "repeat with force to delete the backups too; that cannot be "
                                 "undone");
    }
    return STATUS_OK;
}

Status service_delete_database(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                               ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__DeleteDatabaseRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    StoreRows uses;
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, "", store_value(&current, 0, "etag"), error));
    const char *id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(store_database_uses(transaction, call->arena, id, &uses, error));
    RETURN_IF_ERROR(check_uses(&uses, request->database, request->force, error));
    RETURN_IF_ERROR(store_database_delete(transaction, call->arena, id, error));
    store_event_add(transaction, &(StoreEventFields){.severity = "warning",
                                                     .kind = "database.deleted",
                                                     .database = request->database,
                                                     .subject_id = id,
                                                     .message = "The database was deleted"});
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}
