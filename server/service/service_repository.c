// SPDX-License-Identifier: Apache-2.0
#include "server/service/service_repository.h"

#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository.h"
#include "server/store/store_event.h"
#include "server/store/store_repository.h"

#include <string.h>
#include <unistd.h>

#define DESCRIPTOR (&holdfast__v1__repository__descriptor)
#define SCHEME "file://"

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *name,
                     ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_repository_get(transaction, call->arena, name, false, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

// "file:///backups", without slashes at the end, so that one place has one location.
static Status normalize_location(ServiceCall *call, const char *location, const char **ret_location,
                                 Error *error)
{
    if (!text_has_prefix(location, SCHEME)) {
        error_set(error, REASON_INVALID, "the location '%.200s' is not one of a known kind",
                  location);
        error_field(error, "repository.location");
        return error_hint(error, "use 'file:///absolute/path'; object stores come later");
    }
    char *path = arena_string(call->arena, location + strlen(SCHEME));
    for (size_t size = strlen(path); size > 1 && path[size - 1] == '/'; size--) {
        path[size - 1] = '\0';
    }
    RETURN_IF_ERROR(check_absolute_path("repository.location", path, error));
    *ret_location = arena_format(call->arena, SCHEME "%s", path);
    return STATUS_OK;
}

// An absolute path, or the location of a service's key.
static Status check_key_location(const char *field, const char *location, Error *error)
{
    if (key_location_is_file(location) || location[0] == '\0') {
        return check_absolute_path(field, key_location_path(location), error);
    }
    return key_location_check(location, error) == STATUS_OK ? STATUS_OK
                                                            : error_field(error, "%s", field);
}

// Whether objects can be written there at all, before anything else is made.
static Status check_writable(Storage *storage, const char *location, Error *error)
{
    char id[UUID_TEXT_SIZE];
    char key[64] = "probe/";
    crypto_uuid(id);
    strncat(key, id, sizeof(key) - strlen(key) - 1);
    Error cause = {0};
    if (storage_put(storage, key, "probe", 5, &(StorageWriteOptions){.is_create_only = true},
                    &cause) == STATUS_OK &&
        storage_remove(storage, key, &cause) == STATUS_OK) {
        return STATUS_OK;
    }
    error_set(error, REASON_REPOSITORY_UNWRITABLE, "nothing can be written to '%s': %s", location,
              cause.message);
    error_field(error, "repository.location");
    return error_hint(error, "let the user that holdfastd runs as create and write files there, "
                             "or choose another place");
}

Status repository_key_prepare(const char *field, const char *location, bool may_create,
                              Error *error)
{
    RETURN_IF_ERROR(check_key_location(field, location, error));
    bool is_file = key_location_is_file(location);
    if (is_file && may_create && access(key_location_path(location), F_OK) != 0) {
        Status status = key_file_create(key_location_path(location), error);
        if (status != STATUS_OK && status != STATUS_ALREADY_EXISTS) {
            error_wrap(error, "making the key file");
            return error_field(error, "%s", field);
        }
    }
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Status status = key_wrapper_open(location, &wrapper, error);
    if (status != STATUS_OK) {
        error_field(error, "%s", field);
        if (error->reason == REASON_KEY_MISSING) {
            error_hint(error, "copy the key file there, or ask for a new one with create_key_file");
        }
    }
    return status;
}

// Opens the repository that is there, or makes one.
static Status open_or_create(Service *service, const char *location, const char *key_location,
                             Repository **ret_repository, Error *error)
{
    Storage *storage = NULL;
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    RETURN_IF_ERROR(key_wrapper_open(key_location, &wrapper, error));
    RETURN_IF_ERROR(service->open_storage(location, &storage, error));
    Status status = repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
    if (status != STATUS_OK && error->reason == REASON_REPOSITORY_MISSING) {
        error_clear(error);
        RETURN_IF_ERROR(key_wrapper_open(key_location, &wrapper, error));
        RETURN_IF_ERROR(service->open_storage(location, &storage, error));
        status = repository_create(storage, TAKE_PTR(wrapper), ret_repository, error);
    }
    if (status != STATUS_OK && error->reason == REASON_KEY_WRONG) {
        error_field(error, "repository.key_file");
    }
    return status;
}

// REASON_EXISTS before anything outside is touched.
static Status check_free(Service *service, ServiceCall *call, const char *name, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows rows;
    Status status = store_repository_get(transaction, call->arena, name, false, &rows, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    error_set(error, REASON_EXISTS, "there is a repository '%s' already", name);
    error_field(error, "repository.name");
    return error_hint(error, "choose another name");
}

Status service_create_repository(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__CreateRepositoryRequest *request = (const void *)message;
    const Holdfast__V1__Repository *body = request->repository;
    const char *location = NULL;
    RETURN_IF_ERROR(check_body("repository", body, error));
    RETURN_IF_ERROR(check_name("repository.name", body->name, error));
    RETURN_IF_ERROR(normalize_location(call, body->location, &location, error));
    RETURN_IF_ERROR(check_key_location("repository.key_file", body->key_file, error));
    RETURN_IF_ERROR(check_free(service, call, body->name, error));
    {
        CLEANUP(storage_freep) Storage *storage = NULL;
        RETURN_IF_ERROR(service->open_storage(location, &storage, error));
        RETURN_IF_ERROR(check_writable(storage, location, error));
    }
    CLEANUP(repository_freep) Repository *repository = NULL;
    RETURN_IF_ERROR(repository_key_prepare("repository.key_file", body->key_file,
                                           request->create_key_file, error));
    RETURN_IF_ERROR(open_or_create(service, location, body->key_file, &repository, error));
    char id[UUID_TEXT_SIZE];
    char etag[17];
    crypto_uuid(id);
    service_new_etag(etag);
    StoreRepository row = {.id = id,
                           .name = body->name,
                           .location = location,
                           .key_file = body->key_file,
                           .key_fingerprint = key_wrapper_id(repository_wrapper(repository)),
                           .repository_id = repository_id(repository),
                           .etag = etag};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_add(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, row.name, &response, error));
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "repository.created",
                                                     .subject_id = id,
                                                     .message = "A repository was added"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_repository(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetRepositoryRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("repository", request->repository, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->repository, ret_response, error);
}

Status service_list_repositories(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__ListRepositoriesRequest *request = (const void *)message;
    PageRequest list = {.list = "repositories",
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_repositories_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_list(transaction, call->arena, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

Status service_delete_repository(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__DeleteRepositoryRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("repository", request->repository, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(
        store_repository_get(transaction, call->arena, request->repository, true, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, "", store_value(&current, 0, "etag"), error));
    const char *id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(
        store_repository_delete(transaction, call->arena, id, request->repository, error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "warning",
                                        .kind = "repository.deleted",
                                        .subject_id = id,
                                        .message = "A repository was forgotten; its objects stay"});
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}
