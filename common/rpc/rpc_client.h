// SPDX-License-Identifier: Apache-2.0
// A gRPC client: blocking unary calls and one blocking-style stream. A stream may be sent to by one
// thread and received from by another at the same time; everything else is one thread at a time.
#pragma once

#include "common/arena.h"
#include "common/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct RpcClient RpcClient;
typedef struct RpcStream RpcStream;

typedef struct RpcClientOptions {
    const char *address;       // "host:port"
    const char *root_pem;      // the certificate to trust (pinned), or NULL: plaintext
    const char *server_name;   // the name in that certificate when it is not the host, or NULL
    const char *authorization; // metadata value, or NULL; secret
    int64_t keepalive_ms;      // HTTP/2 pings, 0: none
} RpcClientOptions;

Status rpc_client_new(const RpcClientOptions *options, RpcClient **ret_client, Error *error);
void rpc_client_free(RpcClient *client);
Status rpc_client_call(RpcClient *client, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *response_descriptor, int64_t timeout_ms,
                       Arena *arena, ProtobufCMessage **ret_response, Error *error);

// Opens a bidirectional stream; returns once the connection is up or timeout_ms passed
// (REASON_UNAVAILABLE).
Status rpc_stream_open(RpcClient *client, const char *method, int64_t timeout_ms,
                       RpcStream **ret_stream, Error *error);
// Blocks until the message is written to the transport or the stream is over.
Status rpc_stream_send(RpcStream *stream, const ProtobufCMessage *message, Error *error);
// Waits at most timeout_ms: ret_message is NULL on OK when none came in time. When the stream is
// over: the server's status as the error (REASON_UNAVAILABLE for OK too: streams of ours do not end
// well by themselves).
Status rpc_stream_receive(RpcStream *stream, const ProtobufCMessageDescriptor *descriptor,
                          int64_t timeout_ms, Arena *arena, ProtobufCMessage **ret_message,
                          Error *error);
void rpc_stream_close(RpcStream *stream); // cancels what is under way and frees
