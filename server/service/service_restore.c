// SPDX-License-Identifier: Apache-2.0
#include "common/file.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/resource_limits.h"
#include "server/service/service_database.h"
#include "server/store/store_backup.h"
#include "server/store/store_restore.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define DESCRIPTOR (&holdfast__v1__restore__descriptor)

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *id,
                     ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_restore_get(transaction, call->arena, id, false, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

static Status invalid(Error *error, const char *field, const char *message, const char *hint)
{
    error_set(error, REASON_INVALID, "%s", message);
    error_field(error, "%s", field);
    return error_hint(error, "%s", hint);
}

static Status check_request(const Holdfast__V1__CreateRestoreRequest *request, Error *error)
{
    bool has_backup = !text_is_empty(request->backup);
    bool has_database = !text_is_empty(request->database);
    if (!has_backup && !has_database) {
        return invalid(error, "backup", "neither a backup nor a database is named",
                       "name a backup, or a database to restore its newest one");
    }
    if (has_backup) {
        RETURN_IF_ERROR(check_id("backup", request->backup, error));
    }
    if (has_database) {
        RETURN_IF_ERROR(check_name("database", request->database, error));
    }
    for (size_t i = 0; i < request->n_shards; i++) {
        RETURN_IF_ERROR(check_shard_name("shards", request->shards[i], error));
    }
    if (request->mode != HOLDFAST__V1__RESTORE_MODE__RESTORE_MODE_DIRECTORY &&
        request->mode != HOLDFAST__V1__RESTORE_MODE__RESTORE_MODE_SERVER) {
        return invalid(error, "mode", "the mode is missing or not known",
                       "use 'directory' for data directories, 'server' for running servers");
    }
    if (request->mode == HOLDFAST__V1__RESTORE_MODE__RESTORE_MODE_DIRECTORY &&
        request->first_port != 0) {
        return invalid(error, "first_port", "mode 'directory' has no ports",
                       "leave first_port out, or use mode 'server'");
    }
    if (request->mode == HOLDFAST__V1__RESTORE_MODE__RESTORE_MODE_SERVER &&
        (request->first_port < 1024 || request->first_port > 65535)) {
        return invalid(error, "first_port", "mode 'server' needs a port for its first server",
                       "use 1024 to 65535");
    }
    return check_absolute_path("directory", request->directory, error);
}

// The backup to restore, locked, with its database.
static Status choose_backup(ServiceCall *call, StoreTransaction *transaction,
                            const Holdfast__V1__CreateRestoreRequest *request, StoreRows *ret_rows,
                            Error *error)
{
    const char *id = request->backup;
    if (text_is_empty(id)) {
        StoreRows database;
        RETURN_IF_ERROR(
            store_database_lock(transaction, call->arena, request->database, &database, error));
        RETURN_IF_ERROR(store_restore_newest_backup(transaction, call->arena,
                                                    store_value(&database, 0, "id"), &id, error));
        if (id == NULL) {
            error_set(error, REASON_PRECONDITION, "database '%s' has no restorable backup",
                      request->database);
            return error_hint(error, "back it up first");
        }
    }
    RETURN_IF_ERROR(store_backup_lock(transaction, call->arena, id, ret_rows, error));
    if (!text_is_empty(request->database) &&
        !text_equal(request->database, store_value(ret_rows, 0, "database"))) {
        return invalid(error, "database", "the backup is of another database",
                       "leave the database out, or name the right one");
    }
    const char *state = store_value(ret_rows, 0, "state");
    if (!text_equal(state, "succeeded") && !text_equal(state, "failed") &&
        !text_equal(state, "canceled")) {
        error_set(error, REASON_PRECONDITION, "the backup is '%s' and cannot be restored", state);
        return error_hint(error, "choose one that has succeeded");
    }
    return STATUS_OK;
}

static bool is_chosen(const Holdfast__V1__CreateRestoreRequest *request, const char *shard)
{
    bool is_found = request->n_shards == 0;
    for (size_t i = 0; i < request->n_shards && !is_found; i++) {
        is_found = text_equal(request->shards[i], shard);
    }
    return is_found;
}

static Status check_shards_exist(const Holdfast__V1__CreateRestoreRequest *request,
                                 const StoreRows *sources, Error *error)
{
    for (size_t i = 0; i < request->n_shards; i++) {
        bool is_found = false;
        for (int row = 0; row < sources->count && !is_found; row++) {
            is_found = text_equal(request->shards[i], store_value(sources, row, "shard"));
        }
        if (!is_found) {
            error_set(error, REASON_INVALID, "the backup has no shard '%s'", request->shards[i]);
            error_field(error, "shards");
            return error_hint(error, "name shards of the backup, or none for all");
        }
    }
    return STATUS_OK;
}

static Status choose_shards(ServiceCall *call, StoreTransaction *transaction,
                            const Holdfast__V1__CreateRestoreRequest *request,
                            const char *directory, const char *backup_id,
                            StoreRestoreShard **ret_shards, size_t *ret_count, Error *error)
{
    StoreRows sources;
    RETURN_IF_ERROR(store_restore_sources(transaction, call->arena, backup_id, &sources, error));
    RETURN_IF_ERROR(check_shards_exist(request, &sources, error));
    StoreRestoreShard *shards =
        arena_alloc_array(call->arena, (size_t)sources.count + 1, sizeof(*shards));
    size_t count = 0;
    for (int row = 0; row < sources.count; row++) {
        const char *name = store_value(&sources, row, "shard");
        if (!is_chosen(request, name)) {
            continue;
        }
        if (!text_equal(store_value(&sources, row, "state"), "committed")) {
            error_set(error, REASON_PRECONDITION, "the backup does not have shard '%s': it is '%s'",
                      name, store_value(&sources, row, "state"));
            return error_hint(error, "choose a backup that has succeeded, or name only shards "
                                     "that are committed");
        }
        shards[count] = (StoreRestoreShard){
            .shard_id = store_value(&sources, row, "shard_id"),
            .shard_backup_id = store_value(&sources, row, "id"),
            .directory = arena_format(call->arena, "%s/%s", directory, name),
            .port = request->first_port == 0 ? 0 : request->first_port + (int)count};
        count++;
    }
    *ret_shards = shards;
    *ret_count = count;
    return STATUS_OK;
}

static bool port_is_free(int port)
{
    CLEANUP(fd_closep) int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return true; // the agent will find out
    }
    int one = 1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return bind(descriptor, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

static Status check_ports(ServiceCall *call, StoreTransaction *transaction, int first_port,
                          int count, Error *error)
{
    if (first_port + count - 1 > 65535) {
        return invalid(error, "first_port", "the ports would go beyond 65535",
                       "choose a smaller first_port");
    }
    const char *restore_id = NULL;
    RETURN_IF_ERROR(
        store_restore_find_port(transaction, call->arena, first_port, count, &restore_id, error));
    if (restore_id != NULL) {
        error_set(error, REASON_PORT_IN_USE, "restore '%s' uses one of the ports", restore_id);
        error_field(error, "first_port");
        return error_hint(error, "stop it, or choose another first_port");
    }
    for (int port = first_port; port < first_port + count; port++) {
        if (!port_is_free(port)) {
            error_set(error, REASON_PORT_IN_USE, "port %d is in use", port);
            error_field(error, "first_port");
            return error_hint(error, "choose a first_port with %d free ports from there on", count);
        }
    }
    return STATUS_OK;
}

static Status check_directory(ServiceCall *call, StoreTransaction *transaction,
                              const char *directory, const StoreRestoreShard *shards, size_t count,
                              Error *error)
{
    const char *restore_id = NULL;
    RETURN_IF_ERROR(
        store_restore_find_directory(transaction, call->arena, directory, &restore_id, error));
    if (restore_id != NULL) {
        error_set(error, REASON_TARGET_NOT_EMPTY, "restore '%s' uses the directory", restore_id);
        error_field(error, "directory");
        return error_hint(error, "stop it, or choose another directory");
    }
    for (size_t i = 0; i < count; i++) {
        // What cannot be looked at from here is left to the agent.
        Error ignored = {0};
        bool is_empty = true;
        if (dir_is_empty(shards[i].directory, &is_empty, &ignored) == STATUS_OK && !is_empty) {
            error_set(error, REASON_TARGET_NOT_EMPTY, "'%s' is not empty", shards[i].directory);
            error_field(error, "directory");
            return error_hint(error, "choose an empty or missing directory");
        }
    }
    return STATUS_OK;
}

static char *without_slashes(Arena *arena, const char *directory)
{
    char *text = arena_string(arena, directory);
    for (size_t size = strlen(text); size > 1 && text[size - 1] == '/'; size--) {
        text[size - 1] = '\0';
    }
    return text;
}

Status service_create_restore(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__CreateRestoreRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_request(request, error));
    RETURN_IF_ERROR(resource_limits_check("limits", request->limits, error));
    const char *directory = without_slashes(call->arena, request->directory);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows backup;
    StoreRestoreShard *shards = NULL;
    size_t shard_count = 0;
    RETURN_IF_ERROR(choose_backup(call, transaction, request, &backup, error));
    const char *backup_id = store_value(&backup, 0, "id");
    RETURN_IF_ERROR(choose_shards(call, transaction, request, directory, backup_id, &shards,
                                  &shard_count, error));
    if (request->first_port != 0) {
        RETURN_IF_ERROR(
            check_ports(call, transaction, request->first_port, (int)shard_count, error));
    }
    RETURN_IF_ERROR(check_directory(call, transaction, directory, shards, shard_count, error));
    char id[UUID_TEXT_SIZE];
    crypto_uuid(id);
    bool is_server = request->mode == HOLDFAST__V1__RESTORE_MODE__RESTORE_MODE_SERVER;
    StoreRestore row = {.id = id,
                        .database_id = store_value(&backup, 0, "database_id"),
                        .backup_id = backup_id,
                        .mode = is_server ? "server" : "directory",
                        .directory = directory,
                        .first_port = request->first_port,
                        .limits = limits_to_json(call->arena, (const void *)request->limits)};
    RETURN_IF_ERROR(store_restore_add(transaction, call->arena, &row, shards, shard_count,
                                      store_value(&backup, 0, "database"), error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, id, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_restore(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                           ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetRestoreRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("restore", request->restore, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->restore, ret_response, error);
}

Status service_list_restores(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListRestoresRequest *request = (const void *)message;
    PageRequest list = {.list = arena_format(call->arena, "restores %s", request->database),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 2,
                        .response = &holdfast__v1__list_restores_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    const char *database_id = NULL;
    RETURN_IF_ERROR(
        service_list_begin(service, call, request->database, &transaction, &database_id, error));
    RETURN_IF_ERROR(store_restore_list(transaction, call->arena, database_id, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

Status service_stop_restore(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__StopRestoreRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("restore", request->restore, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(
        store_restore_get(transaction, call->arena, request->restore, true, &current, error));
    const char *state = store_value(&current, 0, "state");
    if (!text_equal(state, "pending") && !text_equal(state, "running") &&
        !text_equal(state, "serving")) {
        error_set(error, REASON_PRECONDITION, "the restore has ended already: it is '%s'", state);
        return error_hint(error, "there is nothing to stop");
    }
    RETURN_IF_ERROR(store_restore_stop(transaction, call->arena, request->restore,
                                       store_value(&current, 0, "database"), error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, request->restore, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}
