// SPDX-License-Identifier: Apache-2.0
// A gRPC server over gRPC core's C API, which only this folder sees. Thread-safe where it says so.
//
// Unary handlers run on the server's own threads (rpc_server_options.thread_count) and may block
// for a database query. Streams are event driven: on_message and on_close are called one at a time
// per call; rpc_call_send and rpc_call_finish may be called from any thread between on_open and
// on_close. The standard health and reflection services are always served.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

typedef struct RpcServer RpcServer;
typedef struct RpcCall RpcCall;

typedef enum RpcKind { RPC_UNARY, RPC_SERVER_STREAM, RPC_BIDI_STREAM } RpcKind;

// What a handler may know of the caller.
typedef struct RpcRequestInfo {
    const char *method;          // "/holdfast.v1.Holdfast/GetBackup"
    const char *authorization;   // the header's value, or ""; secret: never log it
    const char *idempotency_key; // metadata "idempotency-key", or ""
    const char *if_match;        // metadata "if-match", or ""
    const char *request_id;      // metadata "x-request-id", or one we made
    const char *peer;            // "ipv4:127.0.0.1:4711"
} RpcRequestInfo;

typedef struct RpcMethod {
    const char *name; // "/holdfast.v1.Holdfast/GetBackup"
    RpcKind kind;
    const ProtobufCMessageDescriptor *request;
    // RPC_UNARY: the response lives in the arena. A non-OK status is sent with the error's message
    // and the reason's slug in trailing metadata ("holdfast-reason", "holdfast-field",
    // "holdfast-hint", "holdfast-request-id").
    Status (*on_unary)(void *context, Arena *arena, const RpcRequestInfo *info,
                       const ProtobufCMessage *request, ProtobufCMessage **ret_response,
                       Error *error);
    // Streams. on_open: a non-OK status refuses the call; *ret_state is handed to the others. For
    // RPC_SERVER_STREAM `request` is the one request; for RPC_BIDI_STREAM it is NULL.
    Status (*on_open)(void *context, RpcCall *call, const RpcRequestInfo *info,
                      const ProtobufCMessage *request, void **ret_state, Error *error);
    // `message` is borrowed for the call. A non-OK status ends the call with it.
    Status (*on_message)(void *context, void *state, RpcCall *call, const ProtobufCMessage *message,
                         Error *error);
    // The call is over, for whatever reason; nothing may be sent any more. Called exactly once
    // after on_open succeeded.
    void (*on_close)(void *context, void *state, RpcCall *call);
} RpcMethod;

typedef struct RpcServerOptions {
    const char *address;         // "127.0.0.1:8081"; port 0 takes a free one
    const char *certificate_pem; // NULL: plaintext
    const Secret *key_pem;
    int thread_count;
    const RpcMethod *methods;
    size_t method_count;
    void *context;
    const uint8_t *descriptors; // a FileDescriptorSet for reflection, or NULL
    size_t descriptors_size;
} RpcServerOptions;

// Binding fails with REASON_PORT_IN_USE (ports are never shared silently).
Status rpc_server_start(const RpcServerOptions *options, RpcServer **ret_server, Error *error);
int rpc_server_port(const RpcServer *server);
void rpc_server_set_healthy(RpcServer *server,
                            bool is_healthy); // what grpc.health.v1 says; thread-safe
// Stops accepting, waits at most grace_ms for calls to end, cancels the rest, joins the threads.
// All on_close have run.
void rpc_server_stop(RpcServer *server, int grace_ms);
void rpc_server_free(RpcServer *server);

// Queues a message (copied by packing). False: the call is over or the queue is full (256
// messages). Thread-safe.
bool rpc_call_send(RpcCall *call, const ProtobufCMessage *message);
// Ends the call after what is queued has been sent. Thread-safe; the second and later calls do
// nothing.
void rpc_call_finish(RpcCall *call, Status status, const char *message);
// Keep a call's memory beyond on_close, to send from another thread safely.
RpcCall *rpc_call_ref(RpcCall *call);
void rpc_call_unref(RpcCall *call);
