// SPDX-License-Identifier: Apache-2.0
// What the files of this folder share; nobody else includes this.
#pragma once

#include "common/rpc/rpc_client.h"
#include "common/rpc/rpc_server.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define RPC_METADATA_BYTES_MAX (16 * 1024)
#define RPC_QUEUE_COUNT_MAX 256 // messages waiting in one call
#define RPC_STREAMS_PER_CONNECTION 256
#define RPC_TRAILING_COUNT_MAX 4

// In initial metadata: a stream was accepted. A refused one has no initial metadata of its own.
#define RPC_METADATA_STREAM "holdfast-stream"
#define RPC_METADATA_REASON "holdfast-reason"
#define RPC_METADATA_FIELD "holdfast-field"
#define RPC_METADATA_HINT "holdfast-hint"
#define RPC_METADATA_REQUEST_ID "holdfast-request-id"

// ---- rpc_wire.c: bytes, metadata, time and errors ----

void rpc_library_init(void); // grpc_init with our log function; pairs with grpc_shutdown
grpc_arg rpc_integer_argument(const char *key, int value);
grpc_arg rpc_string_argument(const char *key, const char *value);
gpr_timespec rpc_deadline(int64_t timeout_ms); // negative: never

grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message);
Status rpc_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                  grpc_byte_buffer *buffer, ProtobufCMessage **ret_message, Error *error);
bool rpc_slice_equal(grpc_slice slice, const char *text);
char *rpc_slice_text(Arena *arena, grpc_slice slice);
// "" when there is none; the first of several.
const char *rpc_metadata_text(Arena *arena, const grpc_metadata_array *metadata, const char *key);
// Percent-encoded, as header values must be printable ASCII; the slice is the caller's to unref.
grpc_slice rpc_encode_value(const char *text);
void rpc_decode_value(char *text);

// The server's story of a failed call as an Error.
Status rpc_error_from_status(Error *error, const char *address, grpc_status_code code,
                             grpc_slice details, const grpc_metadata_array *trailing);

// ---- rpc_server.c ----

typedef struct RpcHealth RpcHealth;
typedef struct RpcReflection RpcReflection;

typedef struct RpcRoute {
    RpcMethod method;
    void *context;
} RpcRoute;

struct RpcServer {
    grpc_server *server;
    grpc_completion_queue *queue; // everything of every call; all threads wait on it
    grpc_completion_queue *stop_queue;
    pthread_t *threads;
    int thread_count;
    RpcRoute *routes; // immutable after start
    size_t route_count;
    RpcHealth *health;
    RpcReflection *reflection;
    int port;
    bool is_stopped;
    pthread_mutex_t mutex;          // guards call_count
    pthread_cond_t all_calls_ended; // call_count has become 0
    size_t call_count; // RpcCalls with events to come, accepted or waiting for a client
};

const RpcRoute *rpc_server_find_route(const RpcServer *server, grpc_slice method);
void rpc_server_call_ended(RpcServer *server);

// ---- rpc_call.c ----

typedef struct RpcTag {
    void (*on_event)(RpcCall *call, bool is_ok);
    RpcCall *call;
} RpcTag;

// Waits for one more client.
void rpc_call_request(RpcServer *server);
// What a thread of the server does with an event of its queue.
void rpc_call_dispatch(RpcTag *tag, bool is_ok);

// ---- rpc_health.c and rpc_reflection.c: services in terms of our own RpcMethod ----

RpcHealth *rpc_health_new(const RpcServer *server);
void rpc_health_free(RpcHealth *health);
void rpc_health_set(RpcHealth *health, bool is_healthy);
void rpc_health_end_watches(RpcHealth *health);
const RpcMethod *rpc_health_methods(size_t *ret_count);

Status rpc_reflection_new(const uint8_t *descriptors, size_t descriptors_size,
                          const RpcServer *server, RpcReflection **ret_reflection, Error *error);
void rpc_reflection_free(RpcReflection *reflection);
const RpcMethod *rpc_reflection_methods(size_t *ret_count);

// ---- rpc_client.c ----

struct RpcClient {
    char *address;
    char *root_pem;
    char *server_name;
    Secret authorization;
    int64_t keepalive_ms;
    grpc_channel *channel;
    bool must_reconnect; // the last call found the connection dead
};

// A channel that is not waiting out a failure: gRPC would answer from its memory of the last
// attempt.
grpc_channel *rpc_client_channel(RpcClient *client);
// Fills at most one entry; returns the count. The slices are the caller's to unref.
size_t rpc_client_metadata(const RpcClient *client, grpc_metadata *ret_metadata);
