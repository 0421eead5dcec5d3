// SPDX-License-Identifier: Apache-2.0
// grpc.health.v1.Health: one state for the whole server, for Check and for those who Watch.
#include "common/memory.h"
#include "common/message_json.h"
#include "common/rpc/rpc_internal.h"
#include "common/text.h"
#include "grpc/health/v1/health.pb-c.h"

#include <string.h>

typedef Grpc__Health__V1__HealthCheckRequest CheckRequest;
typedef Grpc__Health__V1__HealthCheckResponse CheckResponse;

typedef struct Watch Watch;
struct Watch {
    Watch *next;
    Watch **link; // what points at this one
    RpcCall *call;
};

struct RpcHealth {
    const RpcServer *server;
    pthread_mutex_t mutex; // guards all below, and the order of what watches are sent
    bool is_healthy;
    Watch *watches;
};

RpcHealth *rpc_health_new(const RpcServer *server)
{
    RpcHealth *health = mem_alloc(sizeof(*health));
    health->server = server;
    health->is_healthy = true;
    (void)pthread_mutex_init(&health->mutex, NULL);
    return health;
}

void rpc_health_free(RpcHealth *health)
{
    if (health == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&health->mutex);
    mem_free(health);
}

// "" is the server as a whole; otherwise "package.Service" of one of our methods.
static bool is_known_service(const RpcServer *server, const char *service)
{
    size_t size = strlen(service);
    if (size == 0) {
        return true;
    }
    for (size_t i = 0; i < server->route_count; i++) {
        const char *name = server->routes[i].method.name;
        if (strncmp(name + 1, service, size) == 0 && name[1 + size] == '/') {
            return true;
        }
    }
    return false;
}

static void send_state(RpcCall *call, bool is_healthy)
{
    CheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = is_healthy
                          ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                          : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    (void)rpc_call_send(call, &response.base);
}

void rpc_health_set(RpcHealth *health, bool is_healthy)
{
    (void)pthread_mutex_lock(&health->mutex);
    if (health->is_healthy != is_healthy) {
        health->is_healthy = is_healthy;
        for (Watch *watch = health->watches; watch != NULL; watch = watch->next) {
            send_state(watch->call, is_healthy);
        }
    }
    (void)pthread_mutex_unlock(&health->mutex);
}

void rpc_health_end_watches(RpcHealth *health)
{
    (void)pthread_mutex_lock(&health->mutex);
    for (Watch *watch = health->watches; watch != NULL; watch = watch->next) {
        rpc_call_finish(watch->call, STATUS_UNAVAILABLE, "the server stops");
    }
    (void)pthread_mutex_unlock(&health->mutex);
}

static Status on_check(void *context, Arena *arena, const RpcRequestInfo *info,
                       const ProtobufCMessage *request, ProtobufCMessage **ret_response,
                       Error *error)
{
    (void)info;
    RpcHealth *health = context;
    const char *service = ((const CheckRequest *)request)->service;
    if (!is_known_service(health->server, service)) {
        return error_set(error, REASON_NOT_FOUND, "there is no service '%s'", service);
    }
    CheckResponse *response =
        (CheckResponse *)message_new(arena, &grpc__health__v1__health_check_response__descriptor);
    (void)pthread_mutex_lock(&health->mutex);
    response->status = health->is_healthy
                           ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                           : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    (void)pthread_mutex_unlock(&health->mutex);
    *ret_response = &response->base;
    return STATUS_OK;
}

static Status on_watch_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                            const ProtobufCMessage *request, void **ret_state, Error *error)
{
    (void)info;
    (void)error;
    RpcHealth *health = context;
    if (!is_known_service(health->server, ((const CheckRequest *)request)->service)) {
        // The standard wants this instead of an error: the service might come later.
        CheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
        response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
        (void)rpc_call_send(call, &response.base);
        *ret_state = NULL;
        return STATUS_OK;
    }
    Watch *watch = mem_alloc(sizeof(*watch));
    watch->call = call;
    (void)pthread_mutex_lock(&health->mutex);
    watch->next = health->watches;
    watch->link = &health->watches;
    if (watch->next != NULL) {
        watch->next->link = &watch->next;
    }
    health->watches = watch;
    send_state(call, health->is_healthy);
    (void)pthread_mutex_unlock(&health->mutex);
    *ret_state = watch;
    return STATUS_OK;
}

static void on_watch_close(void *context, void *state, RpcCall *call)
{
    (void)call;
    RpcHealth *health = context;
    Watch *watch = state;
    if (watch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&health->mutex);
    *watch->link = watch->next;
    if (watch->next != NULL) {
        watch->next->link = watch->link;
    }
    (void)pthread_mutex_unlock(&health->mutex);
    mem_free(watch);
}

static const RpcMethod METHODS[] = {
    {.name = "/grpc.health.v1.Health/Check",
     .kind = RPC_UNARY,
     .request = &grpc__health__v1__health_check_request__descriptor,
     .on_unary = on_check},
    {.name = "/grpc.health.v1.Health/Watch",
     .kind = RPC_SERVER_STREAM,
     .request = &grpc__health__v1__health_check_request__descriptor,
     .on_open = on_watch_open,
     .on_close = on_watch_close},
};

const RpcMethod *rpc_health_methods(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(METHODS);
    return METHODS;
}
