// SPDX-License-Identifier: Apache-2.0
// Looking: this server, instances, events.
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/store/store_event.h"
#include "server/store/store_fleet.h"

Status service_get_server_info(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                               ProtobufCMessage **ret_response, Error *error)
{
    (void)message;
    int count = 0;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_fleet_server_count(transaction, call->arena, &count, error));
    Holdfast__V1__ServerInfo *info = (Holdfast__V1__ServerInfo *)message_new(
        call->arena, &holdfast__v1__server_info__descriptor);
    info->version = arena_string(call->arena, HOLDFAST_VERSION);
    info->server_id = arena_string(call->arena, service->server_id);
    info->started_at = service_timestamp(call->arena, service->started_us);
    info->is_embedded = service->is_embedded;
    info->server_count = count;
    *ret_response = &info->base;
    return STATUS_OK;
}

Status service_get_instance(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetInstanceRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("instance", request->instance, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows rows;
    RETURN_IF_ERROR(
        store_fleet_instance_get(transaction, call->arena, request->instance, &rows, error));
    return service_answer_one(call, &rows, &holdfast__v1__instance__descriptor, ret_response,
                              error);
}

Status service_list_instances(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListInstancesRequest *request = (const void *)message;
    PageRequest list = {.list = arena_format(call->arena, "instances %s %d", request->database,
                                             request->include_destroyed ? 1 : 0),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 2,
                        .response = &holdfast__v1__list_instances_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    const char *database_id = NULL;
    RETURN_IF_ERROR(
        service_list_begin(service, call, request->database, &transaction, &database_id, error));
    RETURN_IF_ERROR(store_fleet_instance_list(transaction, call->arena, database_id,
                                              request->include_destroyed, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

Status service_list_events(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                           ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListEventsRequest *request = (const void *)message;
    StoreEventFilter filter = {.severity_min = (int)request->minimum_severity};
    if (!text_is_empty(request->database)) {
        RETURN_IF_ERROR(check_name("database", request->database, error));
        filter.database = request->database; // deleted ones have a history too
    }
    if (!text_is_empty(request->backup)) {
        RETURN_IF_ERROR(check_id("backup", request->backup, error));
        filter.backup_id = request->backup;
    }
    if (filter.severity_min < 0 || filter.severity_min > 3) {
        error_set(error, REASON_INVALID, "minimum_severity is not known");
        error_field(error, "minimum_severity");
        return error_hint(error, "use 'info', 'warning' or 'error'");
    }
    PageRequest list = {.list = arena_format(call->arena, "events %s %s %d", request->database,
                                             request->backup, filter.severity_min),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_events_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_event_list(transaction, call->arena, &filter, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}
