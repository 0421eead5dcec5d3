// SPDX-License-Identifier: Apache-2.0
// Calls that gRPC core renamed over the years, under one name each. CMakeLists.txt finds out which
// ones this gRPC has; the older are those of 1.30 (Ubuntu 22.04).
#pragma once

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdbool.h>
#include <stddef.h>

static inline grpc_channel *rpc_channel_plain(const char *address, const grpc_channel_args *list)
{
#if HOLDFAST_GRPC_HAS_CHANNEL_CREATE
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(address, credentials, list);
    grpc_channel_credentials_release(credentials);
    return channel;
#else
    return grpc_insecure_channel_create(address, list, NULL);
#endif
}

static inline grpc_channel *rpc_channel_secure(const char *address,
                                               grpc_channel_credentials *credentials,
                                               const grpc_channel_args *list)
{
#if HOLDFAST_GRPC_HAS_CHANNEL_CREATE
    return grpc_channel_create(address, credentials, list);
#else
    return grpc_secure_channel_create(credentials, address, list, NULL);
#endif
}

// The port listened on; 0: none.
static inline int rpc_listen_plain(grpc_server *server, const char *address)
{
#if HOLDFAST_GRPC_HAS_SERVER_ADD_HTTP2_PORT
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server, address, credentials);
    grpc_server_credentials_release(credentials);
    return port;
#else
    return grpc_server_add_insecure_http2_port(server, address);
#endif
}

static inline int rpc_listen_secure(grpc_server *server, const char *address,
                                    grpc_server_credentials *credentials)
{
#if HOLDFAST_GRPC_HAS_SERVER_ADD_HTTP2_PORT
    return grpc_server_add_http2_port(server, address, credentials);
#else
    return grpc_server_add_secure_http2_port(server, address, credentials);
#endif
}

// Did gRPC end the call, rather than the peer its messages? The older one cannot say; then the end
// of a call that is over already is taken for the end of its messages, and the answer to it goes
// nowhere.
static inline bool rpc_call_was_broken(const grpc_call *call)
{
#if HOLDFAST_GRPC_HAS_CALL_FAILED_BEFORE_RECV_MESSAGE
    return grpc_call_failed_before_recv_message(call) != 0;
#else
    (void)call;
    return false;
#endif
}
