// SPDX-License-Identifier: Apache-2.0
// Changing what runs may use while they run. A policy's limits are changed with the policy.
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/resource_limits.h"
#include "server/service/service_internal.h"
#include "server/store/store_backup.h"
#include "server/store/store_event.h"
#include "server/store/store_limits.h"
#include "server/store/store_repository.h"
#include "server/store/store_restore.h"

static Status check_running(const char *what, const char *state, Error *error)
{
    if (!text_equal(state, "pending") && !text_equal(state, "running")) {
        error_set(error, REASON_PRECONDITION, "the %s is '%s': it moves no data any more", what,
                  state);
        return error_hint(error, "limits are of what is pending or running");
    }
    return STATUS_OK;
}

Status service_limit_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__LimitBackupRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("backup", request->backup, error));
    RETURN_IF_ERROR(resource_limits_check("limits", request->limits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows rows;
    RETURN_IF_ERROR(store_backup_lock(transaction, call->arena, request->backup, &rows, error));
    RETURN_IF_ERROR(check_running("backup", store_value(&rows, 0, "state"), error));
    RETURN_IF_ERROR(store_limit_backup(transaction, call->arena, request->backup,
                                       limits_to_json(call->arena, (const void *)request->limits),
                                       error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "backup.limited",
                                        .database = store_value(&rows, 0, "database"),
                                        .backup_id = request->backup,
                                        .message = "The limits of a backup were changed"});
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(store_backup_get(transaction, call->arena, request->backup, &rows, error));
    RETURN_IF_ERROR(
        service_answer_one(call, &rows, &holdfast__v1__backup__descriptor, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_limit_restore(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__LimitRestoreRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_id("restore", request->restore, error));
    RETURN_IF_ERROR(resource_limits_check("limits", request->limits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows rows;
    RETURN_IF_ERROR(
        store_restore_get(transaction, call->arena, request->restore, true, &rows, error));
    RETURN_IF_ERROR(check_running("restore", store_value(&rows, 0, "state"), error));
    RETURN_IF_ERROR(store_limit_restore(transaction, call->arena, request->restore,
                                        limits_to_json(call->arena, (const void *)request->limits),
                                        error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "restore.limited",
                                        .database = store_value(&rows, 0, "database"),
                                        .backup_id = store_value(&rows, 0, "backup_id"),
                                        .subject_id = request->restore,
                                        .message = "The limits of a restore were changed"});
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(
        store_restore_get(transaction, call->arena, request->restore, false, &rows, error));
    RETURN_IF_ERROR(
        service_answer_one(call, &rows, &holdfast__v1__restore__descriptor, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

// --- repositories and the fleet ---

enum { MASK_UPLOAD = 1, MASK_DOWNLOAD = 2 };
static const MaskField REPOSITORY_MASK[] = {{"name", 0},
                                            {"etag", 0},
                                            {"limits", MASK_UPLOAD | MASK_DOWNLOAD},
                                            {"limits.upload_bytes_per_second", MASK_UPLOAD},
                                            {"limits.download_bytes_per_second", MASK_DOWNLOAD}};
static const MaskField FLEET_MASK[] = {{"etag", 0},
                                       {"upload_bytes_per_second", MASK_UPLOAD},
                                       {"download_bytes_per_second", MASK_DOWNLOAD}};

static Status answer_repository(ServiceCall *call, StoreTransaction *transaction, const char *name,
                                bool is_locked, StoreRows *ret_rows,
                                ProtobufCMessage **ret_response, Error *error)
{
    RETURN_IF_ERROR(
        store_repository_get(transaction, call->arena, name, is_locked, ret_rows, error));
    return service_answer_one(call, ret_rows, &holdfast__v1__repository__descriptor, ret_response,
                              error);
}

static Holdfast__V1__BandwidthLimits merge(const Holdfast__V1__BandwidthLimits *current,
                                           const Holdfast__V1__BandwidthLimits *body, unsigned bits)
{
    static const Holdfast__V1__BandwidthLimits NONE = HOLDFAST__V1__BANDWIDTH_LIMITS__INIT;
    Holdfast__V1__BandwidthLimits limits = current != NULL ? *current : NONE;
    body = body != NULL ? body : &NONE;
    if ((bits & MASK_UPLOAD) != 0) {
        limits.upload_bytes_per_second = body->upload_bytes_per_second;
    }
    if ((bits & MASK_DOWNLOAD) != 0) {
        limits.download_bytes_per_second = body->download_bytes_per_second;
    }
    return limits;
}

Status service_update_repository(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__UpdateRepositoryRequest *request = (const void *)message;
    const Holdfast__V1__Repository *body = request->repository;
    unsigned bits = 0;
    char etag[17];
    StoreRows rows;
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(check_body("repository", body, error));
    RETURN_IF_ERROR(check_name("repository.name", body->name, error));
    RETURN_IF_ERROR(service_mask(request->update_mask, REPOSITORY_MASK,
                                 ARRAY_COUNT(REPOSITORY_MASK), &bits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(
        answer_repository(call, transaction, body->name, true, &rows, &response, error));
    RETURN_IF_ERROR(service_check_etag(call, body->etag, store_value(&rows, 0, "etag"), error));
    const char *id = store_value(&rows, 0, "id");
    const Holdfast__V1__Repository *current = (const void *)response;
    const Holdfast__V1__BandwidthLimits limits = merge(current->limits, body->limits, bits);
    RETURN_IF_ERROR(bandwidth_limits_check("repository.limits", &limits, error));
    service_new_etag(etag);
    RETURN_IF_ERROR(store_limit_repository(transaction, call->arena, id,
                                           limits_to_json(call->arena, &limits.base), etag, error));
    RETURN_IF_ERROR(
        answer_repository(call, transaction, body->name, false, &rows, &response, error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "repository.updated",
                                        .subject_id = id,
                                        .message = "The limits of a repository were changed"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}

static Status answer_fleet(ServiceCall *call, StoreTransaction *transaction, bool is_locked,
                           ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_fleet_limits(transaction, call->arena, is_locked, &rows, error));
    return service_answer_one(call, &rows, &holdfast__v1__fleet_limits__descriptor, ret_response,
                              error);
}

Status service_get_fleet_limits(Service *service, ServiceCall *call,
                                const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                Error *error)
{
    (void)message;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer_fleet(call, transaction, false, ret_response, error);
}

static Holdfast__V1__BandwidthLimits bandwidth_of(const Holdfast__V1__FleetLimits *limits)
{
    Holdfast__V1__BandwidthLimits bandwidth = HOLDFAST__V1__BANDWIDTH_LIMITS__INIT;
    bandwidth.upload_bytes_per_second = limits->upload_bytes_per_second;
    bandwidth.download_bytes_per_second = limits->download_bytes_per_second;
    return bandwidth;
}

Status service_update_fleet_limits(Service *service, ServiceCall *call,
                                   const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                   Error *error)
{
    const Holdfast__V1__UpdateFleetLimitsRequest *request = (const void *)message;
    unsigned bits = 0;
    char etag[17];
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(check_body("limits", request->limits, error));
    RETURN_IF_ERROR(
        service_mask(request->update_mask, FLEET_MASK, ARRAY_COUNT(FLEET_MASK), &bits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(answer_fleet(call, transaction, true, &response, error));
    const Holdfast__V1__FleetLimits *current = (const void *)response;
    RETURN_IF_ERROR(service_check_etag(call, request->limits->etag, current->etag, error));
    const Holdfast__V1__BandwidthLimits before = bandwidth_of(current);
    const Holdfast__V1__BandwidthLimits body = bandwidth_of(request->limits);
    const Holdfast__V1__BandwidthLimits limits = merge(&before, &body, bits);
    RETURN_IF_ERROR(bandwidth_limits_check("limits", &limits, error));
    service_new_etag(etag);
    RETURN_IF_ERROR(store_limit_fleet(transaction, call->arena, limits.upload_bytes_per_second,
                                      limits.download_bytes_per_second, etag, error));
    RETURN_IF_ERROR(answer_fleet(call, transaction, false, &response, error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "info",
                                        .kind = "fleet.limited",
                                        .message = "The limits of the fleet were changed"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}
