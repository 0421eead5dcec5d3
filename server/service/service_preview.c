// SPDX-License-Identifier: Apache-2.0
// Previews: what a schedule and a retention rule would do, without doing it.
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/retention.h"
#include "server/service/service_internal.h"
#include "server/store/store_backup.h"
#include "server/store/store_policy.h"
#include "server/store/store_work_retention.h"

#define RUN_COUNT_DEFAULT 5
#define RUN_COUNT_MAX 100
#define STAGGER_DELAY_SECONDS_MAX 86400
#define US_PER_SECOND INT64_C(1000000)
// The years for which PostgreSQL's time zones and our microseconds surely hold.
#define FROM_SECONDS_MIN INT64_C(0)          // 1970
#define FROM_SECONDS_MAX INT64_C(7258118400) // 2200

static Status read_from(const Holdfast__V1__PreviewScheduleRequest *request,
                        StoreTransaction *transaction, int64_t *ret_from_us, Error *error)
{
    const Google__Protobuf__Timestamp *from = request->from;
    if (from == NULL) {
        return store_now(transaction, ret_from_us, error);
    }
    if (from->seconds < FROM_SECONDS_MIN || from->seconds > FROM_SECONDS_MAX || from->nanos < 0 ||
        from->nanos > 999999999) {
        error_set(error, REASON_INVALID, "'from' is out of range");
        error_field(error, "from");
        return error_hint(error, "use a time between 1970 and 2200");
    }
    *ret_from_us = from->seconds * US_PER_SECOND + from->nanos / 1000;
    return STATUS_OK;
}

Status service_preview_schedule(Service *service, ServiceCall *call,
                                const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                Error *error)
{
    const Holdfast__V1__PreviewScheduleRequest *request = (const void *)message;
    const char *zone = text_is_empty(request->time_zone) ? "UTC" : request->time_zone;
    if (request->count < 0 || request->count > RUN_COUNT_MAX) {
        error_set(error, REASON_INVALID, "count is %d", request->count);
        error_field(error, "count");
        return error_hint(error, "use 1 to %d; left out it is %d", RUN_COUNT_MAX,
                          RUN_COUNT_DEFAULT);
    }
    size_t count = request->count == 0 ? RUN_COUNT_DEFAULT : (size_t)request->count;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    int64_t slot_us = 0;
    int64_t delay_us = 0;
    RETURN_IF_ERROR(check_duration("stagger_delay", request->stagger_delay, 0,
                                   STAGGER_DELAY_SECONDS_MAX, 0, &delay_us, error));
    RETURN_IF_ERROR(read_from(request, transaction, &slot_us, error));
    slot_us -= delay_us;
    Holdfast__V1__PreviewScheduleResponse *response =
        (Holdfast__V1__PreviewScheduleResponse *)message_new(
            call->arena, &holdfast__v1__preview_schedule_response__descriptor);
    response->runs = arena_alloc_array(call->arena, count, sizeof(*response->runs));
    while (response->n_runs < count) {
        RETURN_IF_ERROR(schedule_next(service->time_zones, transaction, request->schedule, zone,
                                      slot_us, &slot_us, error));
        response->runs[response->n_runs++] = service_timestamp(call->arena, slot_us + delay_us);
    }
    *ret_response = &response->base;
    return STATUS_OK;
}

static Holdfast__V1__RetentionVerdict *verdict_message(Arena *arena, const RetentionBackup *backup)
{
    Holdfast__V1__RetentionVerdict *verdict = (Holdfast__V1__RetentionVerdict *)message_new(
        arena, &holdfast__v1__retention_verdict__descriptor);
    verdict->backup_id = arena_string(arena, backup->id);
    verdict->checkpoint_at = service_timestamp(arena, backup->checkpoint_us);
    verdict->is_kept = backup->is_kept;
    verdict->why = arena_string(arena, backup->why);
    verdict->stored_bytes = backup->stored_bytes;
    verdict->kept_by = arena_alloc_array(arena, RETENTION_KEEPER_COUNT, sizeof(char *));
    for (RetentionKeeper keeper = 0; keeper < RETENTION_KEEPER_COUNT; keeper++) {
        if ((backup->kept_by & (1U << keeper)) != 0) {
            verdict->kept_by[verdict->n_kept_by++] =
                arena_string(arena, retention_keeper_word(keeper));
        }
    }
    return verdict;
}

Status service_preview_retention(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__PreviewRetentionRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_name("policy", request->policy, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows policy;
    StoreRows rows;
    int64_t now_us = 0;
    RETURN_IF_ERROR(store_policy_get(transaction, call->arena, request->database, request->policy,
                                     false, &policy, error));
    const char *policy_id = store_value(&policy, 0, "id");
    RETURN_IF_ERROR(store_retention_rule(transaction, call->arena, policy_id, &policy, error));
    RETURN_IF_ERROR(store_backup_retention(transaction, call->arena, policy_id, &rows, error));
    RETURN_IF_ERROR(store_now(transaction, &now_us, error));
    RetentionRule rule = retention_rule(&policy, 0);
    RetentionBackup *backups = retention_backups(&rows, call->arena);
    retention_decide(call->arena, &rule, now_us, backups, (size_t)rows.count);
    Holdfast__V1__PreviewRetentionResponse *response =
        (Holdfast__V1__PreviewRetentionResponse *)message_new(
            call->arena, &holdfast__v1__preview_retention_response__descriptor);
    response->n_verdicts = (size_t)rows.count;
    response->verdicts =
        arena_alloc_array(call->arena, response->n_verdicts + 1, sizeof(*response->verdicts));
    for (size_t i = 0; i < response->n_verdicts; i++) {
        response->verdicts[i] = verdict_message(call->arena, &backups[i]);
    }
    *ret_response = &response->base;
    return STATUS_OK;
}
