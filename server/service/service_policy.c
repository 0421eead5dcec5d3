// SPDX-License-Identifier: Apache-2.0
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/resource_limits.h"
#include "server/service/service_internal.h"
#include "server/store/store_database.h"
#include "server/store/store_event.h"
#include "server/store/store_policy.h"
#include "server/store/store_repository.h"

#include <string.h>

#define DESCRIPTOR (&holdfast__v1__policy__descriptor)
#define FULL_READ_EVERY_DEFAULT 10
#define FULL_READ_EVERY_MAX 1000
#define STAGGER_SECONDS_MAX 86400
#define US_PER_SECOND INT64_C(1000000)
#define KEEP_COUNT_MAX 100000
#define KEEP_FOR_SECONDS_MAX (100LL * 366 * 86400)

static Status retention_from_message(const Holdfast__V1__Retention *retention, StorePolicy *row,
                                     Error *error)
{
    static const Holdfast__V1__Retention NONE = HOLDFAST__V1__RETENTION__INIT;
    retention = retention != NULL ? retention : &NONE;
    const struct {
        const char *field;
        int32_t count;
        int *ret_count;
    } keeps[] = {{"keep_last", retention->keep_last, &row->keep_last},
                 {"keep_hourly", retention->keep_hourly, &row->keep_hourly},
                 {"keep_daily", retention->keep_daily, &row->keep_daily},
                 {"keep_weekly", retention->keep_weekly, &row->keep_weekly},
                 {"keep_monthly", retention->keep_monthly, &row->keep_monthly},
                 {"keep_yearly", retention->keep_yearly, &row->keep_yearly}};
    for (size_t i = 0; i < ARRAY_COUNT(keeps); i++) {
        if (keeps[i].count < 0 || keeps[i].count > KEEP_COUNT_MAX) {
            error_set(error, REASON_INVALID, "%s is %d", keeps[i].field, keeps[i].count);
            error_field(error, "policy.retention.%s", keeps[i].field);
            return error_hint(error, "use 0 (no such rule) to %d", KEEP_COUNT_MAX);
        }
        *keeps[i].ret_count = keeps[i].count;
    }
    return check_duration("policy.retention.keep_for", retention->keep_for, 0, KEEP_FOR_SECONDS_MAX,
                          0, &row->keep_for_us, error);
}

// The same for a policy for ever, and even over the window for many: a hash of the id.
static int64_t delay_of(const char *policy_id, int64_t window_us)
{
    uint8_t digest[SHA256_SIZE];
    uint64_t number = 0;
    int64_t window_seconds = window_us / US_PER_SECOND;
    if (window_seconds == 0) {
        return 0;
    }
    crypto_sha256(policy_id, strlen(policy_id), digest);
    for (size_t i = 0; i < sizeof(number); i++) {
        number = number << 8 | digest[i];
    }
    return (int64_t)(number % (uint64_t)window_seconds) * US_PER_SECOND;
}

static Status stagger_from_message(const Google__Protobuf__Duration *stagger, StorePolicy *row,
                                   Error *error)
{
    RETURN_IF_ERROR(check_duration("policy.stagger", stagger, 0, STAGGER_SECONDS_MAX, 0,
                                   &row->stagger_us, error));
    if (row->stagger_us % US_PER_SECOND != 0) {
        error_set(error, REASON_INVALID, "the stagger is not in whole seconds");
        error_field(error, "policy.stagger");
        return error_hint(error, "for example 1800s, to spread over half an hour");
    }
    row->stagger_delay_us = delay_of(row->id, row->stagger_us);
    return STATUS_OK;
}

// Checks what a policy is to be and computes its next slot. `row` has id and database_id already.
static Status policy_from_message(Service *service, ServiceCall *call,
                                  StoreTransaction *transaction, const Holdfast__V1__Policy *body,
                                  StorePolicy *row, Error *error)
{
    RETURN_IF_ERROR(check_name("policy.repository", body->repository, error));
    row->name = body->name;
    row->schedule = body->schedule;
    row->time_zone = text_is_empty(body->time_zone) ? "UTC" : body->time_zone;
    row->is_paused = body->is_paused;
    row->full_read_every =
        body->full_read_every != 0 ? body->full_read_every : FULL_READ_EVERY_DEFAULT;
    if (row->full_read_every < 1 || row->full_read_every > FULL_READ_EVERY_MAX) {
        error_set(error, REASON_INVALID, "full_read_every is %d", row->full_read_every);
        error_field(error, "policy.full_read_every");
        return error_hint(error, "use 1 (every backup reads everything) to %d; left out it is %d",
                          FULL_READ_EVERY_MAX, FULL_READ_EVERY_DEFAULT);
    }
    char *etag = arena_alloc(call->arena, 17);
    service_new_etag(etag);
    row->etag = etag;
    RETURN_IF_ERROR(retention_from_message(body->retention, row, error));
    RETURN_IF_ERROR(stagger_from_message(body->stagger, row, error));
    RETURN_IF_ERROR(resource_limits_check("policy.limits", body->limits, error));
    row->limits = limits_to_json(call->arena, (const void *)body->limits);
    RETURN_IF_ERROR(store_repository_use(transaction, call->arena, "policy.repository",
                                         body->repository, &row->repository_id, error));
    int64_t now_us = 0;
    RETURN_IF_ERROR(store_now(transaction, &now_us, error));
    // The first one that starts after now.
    Status status = schedule_next(service->time_zones, transaction, row->schedule, row->time_zone,
                                  now_us - row->stagger_delay_us, &row->next_us, error);
    if (status != STATUS_OK && error->field[0] != '\0') {
        Error cause = *error;
        error_field(error, "policy.%s", cause.field);
    }
    return status;
}

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *database,
                     const char *name, ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_policy_get(transaction, call->arena, database, name, false, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

static void add_event(StoreTransaction *transaction, const char *kind, const char *database,
                      const char *policy_id, const char *message)
{
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = kind,
                                                     .database = database,
                                                     .subject_id = policy_id,
                                                     .message = message});
}

Status service_create_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__CreatePolicyRequest *request = (const void *)message;
    const Holdfast__V1__Policy *body = request->policy;
    char id[UUID_TEXT_SIZE];
    crypto_uuid(id);
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_body("policy", body, error));
    RETURN_IF_ERROR(check_name("policy.name", body->name, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows database;
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &database, error));
    StorePolicy row = {.id = id, .database_id = store_value(&database, 0, "id")};
    RETURN_IF_ERROR(policy_from_message(service, call, transaction, body, &row, error));
    RETURN_IF_ERROR(store_policy_add(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, request->database, row.name, &response, error));
    if (request->validate_only) {
        *ret_response = response;
        return STATUS_OK;
    }
    add_event(transaction, "policy.created", request->database, id, "A policy was added");
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                          ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetPolicyRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_name("policy", request->policy, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->database, request->policy, ret_response, error);
}

Status service_list_policies(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListPoliciesRequest *request = (const void *)message;
    bool is_all = text_is_empty(request->database) || text_equal(request->database, "-");
    const char *database = is_all ? "" : request->database;
    PageRequest list = {.list = arena_format(call->arena, "policies %s", database),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 2,
                        .response = &holdfast__v1__list_policies_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    const char *database_id = NULL;
    RETURN_IF_ERROR(service_list_begin(service, call, database, &transaction, &database_id, error));
    RETURN_IF_ERROR(store_policy_list(transaction, call->arena, database_id, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

enum {
    MASK_SCHEDULE = 1,
    MASK_TIME_ZONE = 2,
    MASK_REPOSITORY = 4,
    MASK_PAUSED = 8,
    MASK_KEEP_LAST = 16,
    MASK_KEEP_FOR = 32,
    MASK_KEEP_HOURLY = 64,
    MASK_KEEP_DAILY = 128,
    MASK_KEEP_WEEKLY = 256,
    MASK_KEEP_MONTHLY = 512,
    MASK_KEEP_YEARLY = 1024,
    MASK_FULL_READ = 2048,
    MASK_STAGGER = 4096,
    MASK_UPLOAD = 8192,
    MASK_DOWNLOAD = 16384,
    MASK_CPUS = 32768,
    MASK_MEMORY = 65536,
    MASK_LIMITS = MASK_UPLOAD | MASK_DOWNLOAD | MASK_CPUS | MASK_MEMORY,
    MASK_RETENTION = MASK_KEEP_LAST | MASK_KEEP_FOR | MASK_KEEP_HOURLY | MASK_KEEP_DAILY |
                     MASK_KEEP_WEEKLY | MASK_KEEP_MONTHLY | MASK_KEEP_YEARLY
};
static const MaskField MASK[] = {{"database", 0},
                                 {"name", 0},
                                 {"etag", 0},
                                 {"schedule", MASK_SCHEDULE},
                                 {"time_zone", MASK_TIME_ZONE},
                                 {"repository", MASK_REPOSITORY},
                                 {"retention", MASK_RETENTION},
                                 {"retention.keep_last", MASK_KEEP_LAST},
                                 {"retention.keep_for", MASK_KEEP_FOR},
                                 {"retention.keep_hourly", MASK_KEEP_HOURLY},
                                 {"retention.keep_daily", MASK_KEEP_DAILY},
                                 {"retention.keep_weekly", MASK_KEEP_WEEKLY},
                                 {"retention.keep_monthly", MASK_KEEP_MONTHLY},
                                 {"retention.keep_yearly", MASK_KEEP_YEARLY},
                                 {"is_paused", MASK_PAUSED},
                                 {"full_read_every", MASK_FULL_READ},
                                 {"stagger", MASK_STAGGER},
                                 {"limits", MASK_LIMITS},
                                 {"limits.upload_bytes_per_second", MASK_UPLOAD},
                                 {"limits.download_bytes_per_second", MASK_DOWNLOAD},
                                 {"limits.cpu_count", MASK_CPUS},
                                 {"limits.memory_bytes", MASK_MEMORY}};

static void merge_retention(Holdfast__V1__Retention *retention, const Holdfast__V1__Retention *body,
                            unsigned bits)
{
    Holdfast__V1__Retention none = HOLDFAST__V1__RETENTION__INIT;
    body = body != NULL ? body : &none;
    const struct {
        unsigned bit;
        int32_t from, *to;
    } counts[] = {{MASK_KEEP_LAST, body->keep_last, &retention->keep_last},
                  {MASK_KEEP_HOURLY, body->keep_hourly, &retention->keep_hourly},
                  {MASK_KEEP_DAILY, body->keep_daily, &retention->keep_daily},
                  {MASK_KEEP_WEEKLY, body->keep_weekly, &retention->keep_weekly},
                  {MASK_KEEP_MONTHLY, body->keep_monthly, &retention->keep_monthly},
                  {MASK_KEEP_YEARLY, body->keep_yearly, &retention->keep_yearly}};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        *counts[i].to = (bits & counts[i].bit) != 0 ? counts[i].from : *counts[i].to;
    }
    retention->keep_for = (bits & MASK_KEEP_FOR) != 0 ? body->keep_for : retention->keep_for;
}

static void merge_limits(Holdfast__V1__ResourceLimits *limits,
                         const Holdfast__V1__ResourceLimits *body, unsigned bits)
{
    static const Holdfast__V1__ResourceLimits NONE = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    body = body != NULL ? body : &NONE;
    if ((bits & MASK_UPLOAD) != 0) {
        limits->upload_bytes_per_second = body->upload_bytes_per_second;
    }
    if ((bits & MASK_DOWNLOAD) != 0) {
        limits->download_bytes_per_second = body->download_bytes_per_second;
    }
    limits->cpu_count = (bits & MASK_CPUS) != 0 ? body->cpu_count : limits->cpu_count;
    limits->memory_bytes = (bits & MASK_MEMORY) != 0 ? body->memory_bytes : limits->memory_bytes;
}

static void merge(Holdfast__V1__Policy *policy, const Holdfast__V1__Policy *body, unsigned bits)
{
    policy->schedule = (bits & MASK_SCHEDULE) != 0 ? body->schedule : policy->schedule;
    policy->time_zone = (bits & MASK_TIME_ZONE) != 0 ? body->time_zone : policy->time_zone;
    policy->repository = (bits & MASK_REPOSITORY) != 0 ? body->repository : policy->repository;
    policy->is_paused = (bits & MASK_PAUSED) != 0 ? body->is_paused : policy->is_paused;
    policy->full_read_every =
        (bits & MASK_FULL_READ) != 0 ? body->full_read_every : policy->full_read_every;
    policy->stagger = (bits & MASK_STAGGER) != 0 ? body->stagger : policy->stagger;
    merge_retention(policy->retention, body->retention, bits);
    merge_limits(policy->limits, body->limits, bits);
}

typedef struct PolicyChange {
    const char *database, *policy, *etag;
    const Holdfast__V1__Policy *body;
    unsigned bits;
    const char *event, *sentence;
} PolicyChange;

static Status change_policy(Service *service, ServiceCall *call, const PolicyChange *change,
                            ProtobufCMessage **ret_response, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(store_policy_get(transaction, call->arena, change->database, change->policy,
                                     true, &current, error));
    RETURN_IF_ERROR(
        service_check_etag(call, change->etag, store_value(&current, 0, "etag"), error));
    ProtobufCMessage *message = NULL;
    RETURN_IF_ERROR(service_answer_one(call, &current, DESCRIPTOR, &message, error));
    Holdfast__V1__Policy *policy = (Holdfast__V1__Policy *)message;
    if (policy->limits == NULL) {
        policy->limits =
            (void *)message_new(call->arena, &holdfast__v1__resource_limits__descriptor);
    }
    merge(policy, change->body, change->bits);
    StorePolicy row = {.id = store_value(&current, 0, "id"),
                       .database_id = store_value(&current, 0, "database_id")};
    RETURN_IF_ERROR(policy_from_message(service, call, transaction, policy, &row, error));
    // A slot that is due but not yet taken must not get lost by a change of something else.
    bool is_due_kept = text_equal(row.schedule, store_value(&current, 0, "schedule")) &&
                       text_equal(row.time_zone, store_value(&current, 0, "time_zone")) &&
                       row.is_paused == store_boolean(&current, 0, "is_paused");
    RETURN_IF_ERROR(store_policy_update(transaction, call->arena, &row, is_due_kept, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, change->database, change->policy, &response, error));
    add_event(transaction, change->event, change->database, row.id, change->sentence);
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_update_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__UpdatePolicyRequest *request = (const void *)message;
    const Holdfast__V1__Policy *body = request->policy;
    PolicyChange change = {.event = "policy.updated", .sentence = "A policy was changed"};
    RETURN_IF_ERROR(check_body("policy", body, error));
    RETURN_IF_ERROR(check_name("policy.database", body->database, error));
    RETURN_IF_ERROR(check_name("policy.name", body->name, error));
    RETURN_IF_ERROR(
        service_mask(request->update_mask, MASK, ARRAY_COUNT(MASK), &change.bits, error));
    change.database = body->database;
    change.policy = body->name;
    change.etag = body->etag;
    change.body = body;
    return change_policy(service, call, &change, ret_response, error);
}

Status service_pause_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__PausePolicyRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_name("policy", request->policy, error));
    Holdfast__V1__Policy body = HOLDFAST__V1__POLICY__INIT;
    body.is_paused = true;
    PolicyChange change = {.database = request->database,
                           .policy = request->policy,
                           .body = &body,
                           .bits = MASK_PAUSED,
                           .event = "policy.paused",
                           .sentence = "A policy was paused"};
    return change_policy(service, call, &change, ret_response, error);
}

Status service_resume_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ResumePolicyRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_name("policy", request->policy, error));
    Holdfast__V1__Policy body = HOLDFAST__V1__POLICY__INIT;
    PolicyChange change = {.database = request->database,
                           .policy = request->policy,
                           .body = &body,
                           .bits = MASK_PAUSED,
                           .event = "policy.resumed",
                           .sentence = "A policy was resumed; it goes on with the next slot"};
    return change_policy(service, call, &change, ret_response, error);
}

Status service_delete_policy(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                             ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__DeletePolicyRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_name("policy", request->policy, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(store_policy_get(transaction, call->arena, request->database, request->policy,
                                     true, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, "", store_value(&current, 0, "etag"), error));
    const char *id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(store_policy_delete(transaction, call->arena, id, error));
    add_event(transaction, "policy.deleted", request->database, id,
              "A policy was deleted; its backups stay until they are deleted by hand");
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}
