// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "rpc"

#include "server/rpc/rpc_face.h"

#include "api/descriptors.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/rpc/rpc_server.h"
#include "common/text.h"
#include "server/rpc/event_streams.h"

#include <assert.h>
#include <string.h>

struct RpcFace {
    Service *service;
    EventStreams *streams;
    RpcServer *server;
};

// As in the REST face, an ETag may come in quotes, and "*" is any.
static const char *plain_etag(Arena *arena, const char *value)
{
    size_t size = strlen(value);
    if (text_equal(value, "*")) {
        return "";
    }
    if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
        return arena_string_n(arena, value + 1, size - 2);
    }
    return value;
}

static void fill_call(ServiceCall *call, Arena *arena, const RpcRequestInfo *info)
{
    call->arena = arena;
    call->authorization = info->authorization;
    call->idempotency_key = info->idempotency_key;
    call->if_match = plain_etag(arena, info->if_match);
    call->request_id = info->request_id;
}

static void log_failure(const RpcRequestInfo *info, const Error *error)
{
    log_error_record(LOG_INFO, LOG_MODULE, error, "rpc failed", "method", info->method,
                     "request_id", info->request_id, NULL);
}

static Status on_unary(void *context, Arena *arena, const RpcRequestInfo *info,
                       const ProtobufCMessage *request, ProtobufCMessage **ret_response,
                       Error *error)
{
    RpcFace *face = context;
    const ServiceMethod *method = service_method_find(strrchr(info->method, '/') + 1);
    assert(method != NULL); // only methods of the table are served
    ServiceCall call = {0};
    fill_call(&call, arena, info);
    Status status = service_call(face->service, method, &call, request, ret_response, error);
    if (status != STATUS_OK) {
        log_failure(info, error);
    }
    return status;
}

static Status on_events_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                             const ProtobufCMessage *request, void **ret_state, Error *error)
{
    RpcFace *face = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ServiceCall service_call = {0};
    fill_call(&service_call, arena, info);
    EventStream *stream = NULL;
    Status status =
        event_stream_open(face->streams, call, &service_call,
                          (const Holdfast__V1__StreamEventsRequest *)request, &stream, error);
    if (status != STATUS_OK) {
        log_failure(info, error);
        return status;
    }
    *ret_state = stream;
    return STATUS_OK;
}

static void on_events_close(void *context, void *state, RpcCall *call)
{
    (void)context;
    (void)call;
    event_stream_close(state);
}

static RpcMethod *make_methods(size_t *ret_count)
{
    size_t count = 0;
    const ServiceMethod *methods = service_methods(&count);
    RpcMethod *made = mem_alloc_array(count + 1, sizeof(*made));
    for (size_t i = 0; i < count; i++) {
        made[i] = (RpcMethod){.name = methods[i].full_name,
                              .kind = RPC_UNARY,
                              .request = methods[i].request,
                              .on_unary = on_unary};
    }
    made[count] = (RpcMethod){.name = "/holdfast.v1.Holdfast/StreamEvents",
                              .kind = RPC_SERVER_STREAM,
                              .request = &holdfast__v1__stream_events_request__descriptor,
                              .on_open = on_events_open,
                              .on_close = on_events_close};
    *ret_count = count + 1;
    return made;
}

Status rpc_face_start(const RpcFaceOptions *options, RpcFace **ret_face, Error *error)
{
    RpcFace *face = mem_alloc(sizeof(*face));
    face->service = options->service;
    face->streams = event_streams_new(options->service);
    size_t count = 0;
    CLEANUP_FREE RpcMethod *methods = make_methods(&count);
    RpcServerOptions server_options = {
        .address = options->address,
        .certificate_pem = options->certificate_pem,
        .key_pem = options->key_pem,
        .thread_count = options->thread_count,
        .methods = methods,
        .method_count = count,
        .context = face,
        .descriptors = api_descriptors,
        .descriptors_size = api_descriptors_size,
    };
    Status status = rpc_server_start(&server_options, &face->server, error);
    if (status != STATUS_OK) {
        rpc_face_free(face);
        return status;
    }
    *ret_face = face;
    return STATUS_OK;
}

int rpc_face_port(const RpcFace *face)
{
    return rpc_server_port(face->server);
}

void rpc_face_set_healthy(RpcFace *face, bool is_healthy)
{
    rpc_server_set_healthy(face->server, is_healthy);
}

void rpc_face_stop(RpcFace *face, int grace_ms)
{
    event_streams_stop(face->streams);
    rpc_server_stop(face->server, grace_ms);
}

void rpc_face_free(RpcFace *face)
{
    if (face == NULL) {
        return;
    }
    if (face->server != NULL) {
        rpc_face_stop(face, 0);
        rpc_server_free(face->server);
    }
    event_streams_free(face->streams);
    mem_free(face);
}
