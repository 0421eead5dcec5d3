// SPDX-License-Identifier: Apache-2.0
#include "server/service/service_repository.h"

#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "repository/repository.h"
#include "server/service/repository_cache.h"
#include "server/service/resource_limits.h"
#include "server/store/store_credential.h"
#include "server/store/store_event.h"
#include "server/store/store_repository.h"
#include "storage/storage_options.h"

#include <stdio.h>
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
    StorageLocation place;
    if (location[0] == '/' || storage_location_parse(location, &place, error) != STATUS_OK) {
        error_set(error, REASON_INVALID, "the location '%.200s' is not one of a known kind",
                  location);
        error_field(error, "repository.location");
        return error_hint(error, "use 'file:///absolute/path' or 's3://bucket/prefix'");
    }
    size_t size = strlen(location);
    while (size > 1 && location[size - 1] == '/') {
        size--;
    }
    *ret_location = arena_string_n(call->arena, location, size);
    if (place.scheme == STORAGE_SCHEME_FILE) {
        const char *path = size < sizeof(SCHEME) ? "/" : *ret_location + strlen(SCHEME);
        RETURN_IF_ERROR(check_absolute_path("repository.location", path, error));
    }
    return STATUS_OK;
}

// The object store's options as they are kept, without what has its default.
static Status take_object_store(ServiceCall *call, const Holdfast__V1__Repository *body,
                                bool is_in_store, RepositoryAddress *address, Error *error)
{
    const Holdfast__V1__ObjectStore *store = body->object_store;
    if (!is_in_store && store != NULL) {
        error_set(error, REASON_INVALID, "a directory has no object store's options");
        return error_field(error, "repository.object_store");
    }
    if (!is_in_store) {
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *kept = json_new_object();
    if (store != NULL) {
        CLEANUP(json_freep) Json *json = message_to_json(&store->base);
        for (const Json *member = json_first(json); member != NULL; member = json_next(member)) {
            const char *name = json_key(member);
            if (text_equal(name, "credential")) {
                continue;
            }
            if (!text_is_empty(json_text(member, ""))) {
                json_set_text(kept, name, json_text(member, ""));
            } else if (json_boolean(member, false)) {
                json_set_boolean(kept, name, true);
            } else if (json_integer(member, 0) != 0) {
                json_set_integer(kept, name, json_integer(member, 0));
            }
        }
    }
    Buffer text;
    buffer_init(&text, LIMIT_HTTP_BODY_BYTES);
    bool is_written = json_write(kept, false, &text);
    address->object_store = arena_string(call->arena, buffer_text(&text));
    buffer_done(&text);
    return is_written ? STATUS_OK
                      : error_set(error, REASON_INVALID, "the object store's options are too long");
}

static Status take_credential(Service *service, ServiceCall *call,
                              const Holdfast__V1__Repository *body, RepositoryAddress *address,
                              Error *error)
{
    if (body->object_store == NULL || text_is_empty(body->object_store->credential)) {
        return STATUS_OK;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows rows;
    RETURN_IF_ERROR(
        check_name("repository.object_store.credential", body->object_store->credential, error));
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    Status status = store_credential_get(transaction, call->arena, body->object_store->credential,
                                         false, &rows, error);
    if (status == STATUS_NOT_FOUND) {
        error_set(error, REASON_INVALID, "there is no credential '%s'",
                  body->object_store->credential);
        error_field(error, "repository.object_store.credential");
        return error_hint(error, "create it first: the access key's id as username, the secret as "
                                 "password");
    }
    RETURN_IF_ERROR(status);
    address->credential_id = store_value(&rows, 0, "id");
    RETURN_IF_ERROR(
        store_credential_sealed(transaction, call->arena, address->credential_id, &rows, error));
    address->access_key_id = store_value(&rows, 0, "username");
    address->secret_sealed =
        store_bytes(&rows, 0, "password_sealed", call->arena, &address->secret_sealed_size);
    return STATUS_OK;
}

static Status take_options(Service *service, ServiceCall *call,
                           const Holdfast__V1__Repository *body, RepositoryAddress *address,
                           Secret *ret_secret, StorageOptions *ret_options, Error *error)
{
    RETURN_IF_ERROR(normalize_location(call, body->location, &address->location, error));
    bool is_in_store = !text_has_prefix(address->location, SCHEME);
    RETURN_IF_ERROR(take_object_store(call, body, is_in_store, address, error));
    RETURN_IF_ERROR(take_credential(service, call, body, address, error));
    Status status = repository_storage_options(service->secret_key, address, call->arena,
                                               ret_secret, ret_options, error);
    if (status == STATUS_OK) {
        status = storage_options_check(ret_options, error);
    }
    if (status != STATUS_OK && error->field[0] != '\0') {
        char field[sizeof(error->field)];
        (void)snprintf(field, sizeof(field), "%s", error->field);
        error_field(error, "repository.%s%.40s",
                    text_equal(field, "location") ? "" : "object_store.", field);
    }
    return status;
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

// Writes, refuses to replace, lists, reads and removes one object: what every backup needs.
static Status probe_storage(ServiceCall *call, Storage *storage, const char *key, Error *error)
{
    const StorageWriteOptions create_only = {.is_create_only = true};
    char data[5];
    StoragePage page;
    RETURN_IF_ERROR(storage_put(storage, key, "probe", sizeof(data), &create_only, error));
    Status status = storage_put(storage, key, "again", sizeof(data), &create_only, error);
    if (status == STATUS_OK) {
        error_set(error, REASON_STORAGE_UNFIT, "the store does not refuse to replace an object");
        return error_hint(error, "use a store that has conditional writes (If-None-Match)");
    }
    if (status != STATUS_ALREADY_EXISTS) {
        return status;
    }
    error_clear(error);
    RETURN_IF_ERROR(storage_list(storage, key, NULL, 1, call->arena, &page, error));
    if (page.count != 1) {
        return error_set(error, REASON_STORAGE_UNFIT, "the store does not list what was written");
    }
    RETURN_IF_ERROR(storage_get_range(storage, key, 0, sizeof(data), data, error));
    return storage_remove(storage, key, error);
}

// Whether it can be used at all, before anything else is made.
static Status check_usable(ServiceCall *call, Storage *storage, const char *location, Error *error)
{
    char id[UUID_TEXT_SIZE];
    crypto_uuid(id);
    Error cause = {0};
    if (probe_storage(call, storage, arena_format(call->arena, "probe/%s", id), &cause) ==
        STATUS_OK) {
        return STATUS_OK;
    }
    if (!text_has_prefix(location, SCHEME)) {
        *error = cause;
        error_wrap(error, "the store cannot be used");
        return error_field(error, "repository.location");
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
static Status open_or_create(Service *service, const StorageOptions *options,
                             const char *key_location, Repository **ret_repository, Error *error)
{
    Storage *storage = NULL;
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    RETURN_IF_ERROR(key_wrapper_open(key_location, &wrapper, error));
    RETURN_IF_ERROR(service->open_storage(options, &storage, error));
    Status status = repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
    if (status != STATUS_OK && error->reason == REASON_REPOSITORY_MISSING) {
        error_clear(error);
        RETURN_IF_ERROR(key_wrapper_open(key_location, &wrapper, error));
        RETURN_IF_ERROR(service->open_storage(options, &storage, error));
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

// Makes what is outside of the server's own state: the key file, the repository's record.
static Status make_repository(Service *service, ServiceCall *call,
                              const Holdfast__V1__CreateRepositoryRequest *request,
                              const StorageOptions *options, Repository **ret_repository,
                              Error *error)
{
    {
        CLEANUP(storage_freep) Storage *storage = NULL;
        RETURN_IF_ERROR(service->open_storage(options, &storage, error));
        RETURN_IF_ERROR(check_usable(call, storage, options->location, error));
    }
    RETURN_IF_ERROR(repository_key_prepare("repository.key_file", request->repository->key_file,
                                           request->create_key_file, error));
    return open_or_create(service, options, request->repository->key_file, ret_repository, error);
}

Status service_create_repository(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__CreateRepositoryRequest *request = (const void *)message;
    const Holdfast__V1__Repository *body = request->repository;
    RepositoryAddress address = {0};
    StorageOptions options = {0};
    CLEANUP(secret_done) Secret store_secret = {0};
    CLEANUP(repository_freep) Repository *repository = NULL;
    RETURN_IF_ERROR(check_body("repository", body, error));
    RETURN_IF_ERROR(check_name("repository.name", body->name, error));
    RETURN_IF_ERROR(check_key_location("repository.key_file", body->key_file, error));
    RETURN_IF_ERROR(bandwidth_limits_check("repository.limits", body->limits, error));
    RETURN_IF_ERROR(take_options(service, call, body, &address, &store_secret, &options, error));
    RETURN_IF_ERROR(check_free(service, call, body->name, error));
    RETURN_IF_ERROR(make_repository(service, call, request, &options, &repository, error));
    char id[UUID_TEXT_SIZE];
    char etag[17];
    crypto_uuid(id);
    service_new_etag(etag);
    StoreRepository row = {.id = id,
                           .name = body->name,
                           .location = address.location,
                           .key_file = body->key_file,
                           .key_fingerprint = key_wrapper_id(repository_wrapper(repository)),
                           .repository_id = repository_id(repository),
                           .etag = etag,
                           .object_store = address.object_store,
                           .credential_id = address.credential_id,
                           .limits = limits_to_json(call->arena, (const void *)body->limits)};
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

Status service_list_repository_databases(Service *service, ServiceCall *call,
                                         const ProtobufCMessage *message,
                                         ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListRepositoryDatabasesRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("repository", request->repository, error));
    PageRequest list = {
        .list = arena_format(call->arena, "repository_databases %s", request->repository),
        .page_size = request->page_size,
        .page_token = request->page_token,
        .key_count = 2,
        .response = &holdfast__v1__list_repository_databases_response__descriptor};
    StorePage page;
    StoreRows repository;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_get(transaction, call->arena, request->repository, false,
                                         &repository, error));
    RETURN_IF_ERROR(store_repository_databases(
        transaction, call->arena, store_value(&repository, 0, "id"), &page, &rows, error));
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

Status repository_storage_open(Service *service, const char *id, Storage **ret_storage,
                               Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret store_secret = {0};
    RepositoryAddress address = {0};
    StorageOptions options = {0};
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
        RETURN_IF_ERROR(store_repository_find_address(transaction, arena, id, &address, error));
    }
    RETURN_IF_ERROR(repository_storage_options(service->secret_key, &address, arena, &store_secret,
                                               &options, error));
    return service->open_storage(&options, ret_storage, error);
}
