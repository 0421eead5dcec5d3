// SPDX-License-Identifier: Apache-2.0
// The public service over gRPC: every method of the service's table, and the event stream. One
// thread at a time.
#pragma once

#include "common/error.h"
#include "common/secret.h"
#include "server/service/service.h"

typedef struct RpcFace RpcFace;

typedef struct RpcFaceOptions {
    Service *service; // borrowed
    const char *address;
    const char *certificate_pem; // NULL: plaintext
    const Secret *key_pem;
    int thread_count;
} RpcFaceOptions;

Status rpc_face_start(const RpcFaceOptions *options, RpcFace **ret_face, Error *error);
int rpc_face_port(const RpcFace *face);
void rpc_face_set_healthy(RpcFace *face, bool is_healthy); // thread-safe
void rpc_face_stop(RpcFace *face, int grace_ms);           // ends event streams at once
void rpc_face_free(RpcFace *face);
