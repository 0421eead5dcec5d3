// SPDX-License-Identifier: Apache-2.0
// Keys of a repository: another wrapping key, another data key, no data key any more.
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "repository/repository.h"
#include "server/service/service_repository.h"
#include "server/store/store_database.h"
#include "server/store/store_event.h"
#include "server/store/store_repository.h"

#include <stdio.h>

// What is needed of a repository while no transaction is open.
typedef struct Place {
    const char *id, *key_file, *previous_key_file, *etag;
} Place;

static Status read_place(Service *service, ServiceCall *call, const char *name, Place *ret_place,
                         Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(check_name("repository", name, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_get(transaction, call->arena, name, false, &rows, error));
    *ret_place = (Place){.id = store_value(&rows, 0, "id"),
                         .key_file = store_value(&rows, 0, "key_file"),
                         .previous_key_file = store_value(&rows, 0, "previous_key_file"),
                         .etag = store_value(&rows, 0, "etag")};
    return STATUS_OK;
}

static Status open_place(Service *service, const Place *place, Repository **ret_repository,
                         Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(place->key_file, &wrapper, error));
    RETURN_IF_ERROR(repository_storage_open(service, place->id, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
}

// --- the wrapping key -------------------------------------------------------------------------

// The second half of a rotation, which may be one that was interrupted: the row has the new key.
static Status strike_off(Service *service, const Place *place, const char *old_key_file,
                         const char *new_key_file, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *from = NULL;
    CLEANUP(key_wrapper_freep) KeyWrapper *to = NULL;
    CLEANUP(storage_freep) Storage *storage = NULL;
    RotateResult result = {0};
    RETURN_IF_ERROR(key_wrapper_open(old_key_file, &from, error));
    RETURN_IF_ERROR(key_wrapper_open(new_key_file, &to, error));
    RETURN_IF_ERROR(repository_storage_open(service, place->id, &storage, error));
    return repository_remove_wrapping_key(storage, from, to, &result, error);
}

// The first half: from here on both keys open everything, and the row is given the new one.
static Status add_key(Service *service, ServiceCall *call, const Place *place,
                      const char *new_key_file, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *from = NULL;
    CLEANUP(key_wrapper_freep) KeyWrapper *to = NULL;
    CLEANUP(storage_freep) Storage *storage = NULL;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RotateResult result = {0};
    char etag[17];
    RETURN_IF_ERROR(key_wrapper_open(place->key_file, &from, error));
    RETURN_IF_ERROR(key_wrapper_open(new_key_file, &to, error));
    RETURN_IF_ERROR(repository_storage_open(service, place->id, &storage, error));
    RETURN_IF_ERROR(repository_add_wrapping_key(storage, from, to, &result, error));
    service_new_etag(etag);
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_rekey(transaction, call->arena, place->id, place->key_file,
                                           new_key_file, key_wrapper_id(to), etag, error));
    return store_commit(&transaction, error);
}

Status service_rotate_repository_key(Service *service, ServiceCall *call,
                                     const ProtobufCMessage *message,
                                     ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__RotateRepositoryKeyRequest *request = (const void *)message;
    Place place = {0};
    RETURN_IF_ERROR(read_place(service, call, request->repository, &place, error));
    RETURN_IF_ERROR(service_check_etag(call, "", place.etag, error));
    RETURN_IF_ERROR(
        repository_key_prepare("key_file", request->key_file, request->create_key_file, error));
    const char *old_key_file = place.key_file;
    if (!text_is_empty(place.previous_key_file)) { // one that was interrupted
        RETURN_IF_ERROR(
            strike_off(service, &place, place.previous_key_file, place.key_file, error));
    }
    bool is_new = !text_equal(place.key_file, request->key_file);
    if (is_new) {
        RETURN_IF_ERROR(add_key(service, call, &place, request->key_file, error));
        RETURN_IF_ERROR(strike_off(service, &place, old_key_file, request->key_file, error));
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    ProtobufCMessage *response = NULL;
    StoreRows rows;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_rekeyed(transaction, call->arena, place.id, error));
    RETURN_IF_ERROR(
        store_repository_get(transaction, call->arena, request->repository, false, &rows, error));
    RETURN_IF_ERROR(
        service_answer_one(call, &rows, &holdfast__v1__repository__descriptor, &response, error));
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "repository.key_rotated",
                                                     .subject_id = place.id,
                                                     .message = "The repository's wrapping key "
                                                                "was rotated"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}

// --- data keys --------------------------------------------------------------------------------

static Status database_id_of(Service *service, ServiceCall *call, const char *database,
                             const char **ret_id, Error *error)
{
    RETURN_IF_ERROR(check_name("database", database, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return store_database_id(transaction, call->arena, database, ret_id, error);
}

Status service_rotate_data_key(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                               ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__RotateDataKeyRequest *request = (const void *)message;
    CLEANUP(repository_freep) Repository *repository = NULL;
    CLEANUP(data_key_done) DataKey key = {0};
    Place place = {0};
    const char *database_id = NULL;
    RETURN_IF_ERROR(database_id_of(service, call, request->database, &database_id, error));
    RETURN_IF_ERROR(read_place(service, call, request->repository, &place, error));
    RETURN_IF_ERROR(open_place(service, &place, &repository, error));
    RETURN_IF_ERROR(repository_data_key_renew(repository, database_id, &key, error));
    Holdfast__V1__RotateDataKeyResponse *response =
        (void *)message_new(call->arena, &holdfast__v1__rotate_data_key_response__descriptor);
    response->key_id = arena_string(call->arena, key.id);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "database.data_key_rotated",
                                                     .database = request->database,
                                                     .subject_id = database_id,
                                                     .message = "The next seed is sealed with a "
                                                                "new data key"});
    return service_finish(service, call, &transaction, &response->base, ret_response, error);
}

static Status check_destruction(const Holdfast__V1__DestroyDataKeysRequest *request,
                                const StoreRows *uses, Error *error)
{
    if (store_value(uses, 0, "running_backup_id") != NULL) {
        error_set(error, REASON_BACKUP_RUNNING, "backup '%s' of database '%s' is running",
                  store_value(uses, 0, "running_backup_id"), request->database);
        return error_hint(error, "wait for its end, or cancel it");
    }
    const char *kept_id = store_value(uses, 0, "kept_backup_id");
    if (kept_id != NULL) {
        bool is_held = store_boolean(uses, 0, "is_held");
        error_set(error, is_held ? REASON_BACKUP_HELD : REASON_BACKUP_PINNED,
                  "backup '%s' of database '%s' is %s", kept_id, request->database,
                  is_held ? "on legal hold" : "pinned");
        return error_hint(error, is_held ? "nothing destroys what is on legal hold; the hold must "
                                           "be lifted first"
                                         : "unpin it first");
    }
    if (store_value(uses, 0, "active_restore_id") != NULL) {
        error_set(error, REASON_IN_USE, "restore '%s' reads a backup of database '%s'",
                  store_value(uses, 0, "active_restore_id"), request->database);
        return error_hint(error, "wait for its end, or stop it");
    }
    if (!text_equal(request->confirm, request->database)) {
        error_set(error, REASON_INVALID,
                  "destroying the data keys of database '%s' makes %s backups unreadable for "
                  "everybody, for ever",
                  request->database, store_value(uses, 0, "backup_count"));
        error_field(error, "confirm");
        return error_hint(error, "if that is what you want, confirm with the database's name");
    }
    return STATUS_OK;
}

Status service_destroy_data_keys(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__DestroyDataKeysRequest *request = (const void *)message;
    CLEANUP(repository_freep) Repository *repository = NULL;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    DestroyResult destroyed = {0};
    Place place = {0};
    StoreRows database;
    StoreRows uses;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(read_place(service, call, request->repository, &place, error));
    RETURN_IF_ERROR(open_place(service, &place, &repository, error));
    // The database stays locked, so that no backup of it starts meanwhile: objects are few and
    // small.
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &database, error));
    const char *database_id = store_value(&database, 0, "id");
    RETURN_IF_ERROR(
        store_repository_uses(transaction, call->arena, place.id, database_id, &uses, error));
    RETURN_IF_ERROR(check_destruction(request, &uses, error));
    RETURN_IF_ERROR(repository_destroy_data_keys(repository, database_id, NULL, &destroyed, error));
    RETURN_IF_ERROR(
        store_repository_shredded(transaction, call->arena, place.id, database_id, error));
    Holdfast__V1__DestroyDataKeysResponse *response =
        (void *)message_new(call->arena, &holdfast__v1__destroy_data_keys_response__descriptor);
    response->key_count = (int32_t)destroyed.key_count;
    response->backup_count = (int32_t)store_integer(&uses, 0, "backup_count", 0);
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "warning",
                                        .kind = "database.keys_destroyed",
                                        .database = request->database,
                                        .subject_id = database_id,
                                        .message = "The data keys of the database were destroyed: "
                                                   "its backups cannot be read any more"});
    return service_finish(service, call, &transaction, &response->base, ret_response, error);
}
