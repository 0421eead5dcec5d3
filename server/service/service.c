// SPDX-License-Identifier: Apache-2.0
// The frame around every handler: who calls, may it, has it been answered already.
#include "server/service/service.h"

#define LOG_MODULE "service"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/service/service_metrics.h"
#include "server/store/store_token.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

// Longer than a handler can take: a claim this old belongs to a server that died.
#define CLAIM_STALE_MS 120000
#define BEARER "Bearer "

struct ServiceClaim {
    StoreIdempotencyKey key;
    char claim_id[UUID_TEXT_SIZE];
    uint8_t request_hash[SHA256_SIZE];
    bool is_answered;
};

static const ServiceMethod METHODS[] = {
#define METHOD(method, snake, request_snake, response_snake, least_role, mutation)                 \
    {.name = #method,                                                                              \
     .full_name = "/holdfast.v1.Holdfast/" #method,                                                \
     .request = &holdfast__v1__##request_snake##__descriptor,                                      \
     .response = &holdfast__v1__##response_snake##__descriptor,                                    \
     .role = ROLE_##least_role,                                                                    \
     .is_mutation = (mutation),                                                                    \
     .handle = service_##snake},
#include "server/service/methods.def"
#undef METHOD
};

const ServiceMethod *service_methods(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(METHODS);
    return METHODS;
}

const ServiceMethod *service_method_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(METHODS); i++) {
        if (text_equal(METHODS[i].name, name)) {
            return &METHODS[i];
        }
    }
    return NULL;
}

Status service_new(const ServiceOptions *options, Service **ret_service, Error *error)
{
    assert(options->store != NULL);
    assert(options->open_storage != NULL);
    assert(options->secret_key != NULL && options->secret_key->size > 0);
    Service *service = mem_alloc(sizeof(*service));
    service->store = options->store;
    service->server_id = string_copy(options->server_id);
    service->agent_program = string_copy(options->agent_program);
    service->is_embedded = options->is_embedded;
    service->idempotency_keep_ms = options->idempotency_keep_ms;
    service->started_us = clock_now_us();
    service->open_storage = options->open_storage;
    service->secret_key = options->secret_key;
    static const char LABEL[] = "holdfast page token";
    crypto_hkdf(options->secret_key->data, options->secret_key->size, LABEL, sizeof(LABEL) - 1,
                service->page_key, sizeof(service->page_key));
    service->time_zones = time_zones_new();
    service->metrics_cache = metrics_cache_new();
    Status status = event_hub_new(service->store, &service->event_hub, error);
    if (status != STATUS_OK) {
        service_free(service);
        return status;
    }
    *ret_service = service;
    return STATUS_OK;
}

void service_free(Service *service)
{
    if (service == NULL) {
        return;
    }
    event_hub_free(service->event_hub);
    time_zones_free(service->time_zones);
    metrics_cache_free(service->metrics_cache);
    mem_free(service->server_id);
    mem_free(service->agent_program);
    explicit_bzero(service->page_key, sizeof(service->page_key));
    mem_free(service);
}

static Role role_from_text(const char *text)
{
    if (text_equal(text, "admin")) {
        return ROLE_ADMIN;
    }
    if (text_equal(text, "operator")) {
        return ROLE_OPERATOR;
    }
    return text_equal(text, "viewer") ? ROLE_VIEWER : ROLE_NONE;
}

static const char *role_text(Role role)
{
    static const char *const TEXTS[] = {"none", "viewer", "operator", "admin"};
    return TEXTS[role];
}

static Status unauthenticated(Error *error, const char *message)
{
    error_set(error, REASON_UNAUTHENTICATED, "%s", message);
    return error_hint(error, "send the header 'Authorization: Bearer <token>'; the first server "
                             "writes an admin token to its data directory");
}

Status service_authorize(Service *service, ServiceCall *call, Role role, Error *error)
{
    const char *header = call->authorization;
    // The scheme's name is case-insensitive: RFC 9110, section 11.1.
    if (text_is_empty(header) || strncasecmp(header, BEARER, strlen(BEARER)) != 0) {
        return unauthenticated(error, "no token was sent");
    }
    const char *token = header + strlen(BEARER);
    uint8_t hash[SHA256_SIZE];
    crypto_sha256(token, strlen(token), hash);
    StoreToken *found = NULL;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
        RETURN_IF_ERROR(store_token_find(transaction, call->arena, hash, &found, error));
    }
    if (found == NULL) {
        return unauthenticated(error, "the token is not known");
    }
    if (!found->is_valid) {
        return unauthenticated(error, "the token has expired or was revoked");
    }
    call->role = role_from_text(found->role);
    snprintf(call->token_id, sizeof(call->token_id), "%s", found->id);
    if (call->role < role) {
        error_set(error, REASON_FORBIDDEN, "this needs the role '%s', the token has '%s'",
                  role_text(role), found->role);
        return error_hint(error, "use a token with the role '%s'", role_text(role));
    }
    return STATUS_OK;
}

static void hash_request(const ServiceMethod *method, Arena *arena, const ProtobufCMessage *request,
                         uint8_t ret_hash[SHA256_SIZE])
{
    size_t name_size = strlen(method->name) + 1;
    size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *text = arena_alloc(arena, name_size + size);
    memcpy(text, method->name, name_size);
    protobuf_c_message_pack(request, text + name_size);
    crypto_sha256(text, name_size + size, ret_hash);
    explicit_bzero(text, name_size + size); // may hold a password
}

static void set_etag(ServiceCall *call, const ProtobufCMessage *response)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(response->descriptor, "etag");
    call->etag[0] = '\0';
    if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING) {
        const char *etag =
            *(const char *const *)((const void *)((const uint8_t *)response + field->offset));
        snprintf(call->etag, sizeof(call->etag), "%s", etag);
    }
}

// Whether the call has been answered already; else it is claimed.
static Status claim(Service *service, const ServiceMethod *method, ServiceCall *call,
                    const ProtobufCMessage *request, ProtobufCMessage **ret_answer, Error *error)
{
    RETURN_IF_ERROR(check_key(call, error));
    ServiceClaim *mine = arena_alloc(call->arena, sizeof(*mine));
    crypto_uuid(mine->claim_id);
    hash_request(method, call->arena, request, mine->request_hash);
    mine->key = (StoreIdempotencyKey){.token_id = call->token_id,
                                      .key = call->idempotency_key,
                                      .method = method->name,
                                      .request_hash = mine->request_hash,
                                      .claim_id = mine->claim_id,
                                      .stale_ms = CLAIM_STALE_MS,
                                      .keep_ms = service->idempotency_keep_ms};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreClaim outcome;
    const uint8_t *answer;
    size_t answer_size;
    RETURN_IF_ERROR(store_idempotency_claim(transaction, call->arena, &mine->key, &outcome, &answer,
                                            &answer_size, error));
    switch (outcome) {
    case STORE_CLAIM_OURS:
        call->claim = mine;
        return store_commit(&transaction, error);
    case STORE_CLAIM_ANSWERED:
        call->is_replayed = true;
        return message_unpack(call->arena, method->response, answer, answer_size, ret_answer,
                              error);
    case STORE_CLAIM_MISMATCH:
        error_set(error, REASON_IDEMPOTENCY_MISMATCH,
                  "the idempotency key was used with another request before");
        return error_hint(error, "use a new key for a new request; a key belongs to one request");
    case STORE_CLAIM_BUSY:
    default:
        error_set(error, REASON_CONFLICT, "a request with this idempotency key is under way");
        return error_hint(error, "repeat it in a second with the same key to get its answer");
    }
}

static void release(Service *service, ServiceCall *call)
{
    // Failing to is no harm: the claim becomes stale.
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    if (store_begin(service->store, &transaction, &error) == STATUS_OK &&
        store_idempotency_release(transaction, call->arena, &call->claim->key, &error) ==
            STATUS_OK) {
        (void)store_commit(&transaction, &error);
    }
}

Status service_finish(Service *service, ServiceCall *call, StoreTransaction **transaction,
                      ProtobufCMessage *response, ProtobufCMessage **ret_response, Error *error)
{
    (void)service;
    if (call->claim != NULL) {
        size_t size = protobuf_c_message_get_packed_size(response);
        uint8_t *packed = arena_alloc(call->arena, size + 1);
        protobuf_c_message_pack(response, packed);
        RETURN_IF_ERROR(store_idempotency_answer(*transaction, call->arena, &call->claim->key,
                                                 packed, size, error));
        call->claim->is_answered = true;
    }
    RETURN_IF_ERROR(store_commit(transaction, error));
    *ret_response = response;
    return STATUS_OK;
}

// What went wrong inside is for the log; the caller gets no SQL, and does not learn where the
// database is.
static Status hide_internal(const ServiceMethod *method, const ServiceCall *call, Error *error)
{
    if (error->reason != REASON_INTERNAL && error->reason != REASON_DATABASE_UNREACHABLE) {
        return error->status;
    }
    const char *request_id = call->request_id != NULL ? call->request_id : "";
    if (error->reason == REASON_DATABASE_UNREACHABLE) {
        log_error_record(LOG_WARNING, LOG_MODULE, error, "a request found no database", "method",
                         method->name, "request_id", request_id, NULL);
        error_set(error, REASON_DATABASE_UNREACHABLE, "Holdfast's PostgreSQL cannot be reached");
        return error_hint(error, "try again; the server's log has the cause");
    }
    log_error_record(LOG_ERROR, LOG_MODULE, error, "a request failed inside", "method",
                     method->name, "request_id", request_id, NULL);
    error_set(error, REASON_INTERNAL, "something went wrong inside Holdfast");
    return error_hint(error, "the server's log has the cause under request id '%s'", request_id);
}

Status service_call(Service *service, const ServiceMethod *method, ServiceCall *call,
                    const ProtobufCMessage *request, ProtobufCMessage **ret_response, Error *error)
{
    assert(request->descriptor == method->request);
    call->claim = NULL;
    call->is_replayed = false;
    ProtobufCMessage *response = NULL;
    Status status = service_authorize(service, call, method->role, error);
    if (status == STATUS_OK && method->is_mutation && !text_is_empty(call->idempotency_key)) {
        status = claim(service, method, call, request, &response, error);
    }
    if (status == STATUS_OK && response == NULL) {
        status = method->handle(service, call, request, &response, error);
        // Also after a commit whose outcome is not known: an answer that is there stays.
        if (call->claim != NULL && (status != STATUS_OK || !call->claim->is_answered)) {
            release(service, call);
        }
    }
    if (status != STATUS_OK) {
        return hide_internal(method, call, error);
    }
    assert(response != NULL && response->descriptor == method->response);
    set_etag(call, response);
    *ret_response = response;
    return STATUS_OK;
}

Status service_ready(Service *service, Error *error)
{
    return store_ping(service->store, error);
}
