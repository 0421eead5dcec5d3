// SPDX-License-Identifier: Apache-2.0
// The use cases: every RPC of the public contract once, for both faces. Thread-safe; a call blocks
// for database queries.
#pragma once

#include "common/arena.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/secret.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Service Service;
typedef struct ServiceClaim ServiceClaim;
typedef struct Storage Storage;
typedef struct StorageOptions StorageOptions;
typedef struct Store Store;

typedef enum Role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN } Role;

typedef struct ServiceOptions {
    Store *store;          // borrowed
    const char *server_id; // this replica
    bool is_embedded;
    const Secret *secret_key;  // seals credentials at rest; borrowed
    const char *agent_program; // holdfast-agent, run as a child for probes
    int64_t idempotency_keep_ms;
    // How options become a Storage: composition code knows the drivers.
    Status (*open_storage)(const StorageOptions *options, Storage **ret_storage, Error *error);
} ServiceOptions;

// One request, whichever face it came through.
typedef struct ServiceCall {
    Arena *arena;
    const char *authorization;   // "Bearer ..."
    const char *idempotency_key; // "" for none
    const char *if_match;        // "" for none
    const char *request_id;
    // Outputs.
    char etag[80];     // of the resource in the response, without quotes, or ""
    bool is_replayed;  // the answer is that of an earlier call with the same idempotency key
    char token_id[37]; // who called
    Role role;
    ServiceClaim *claim; // service.c's own
} ServiceCall;

typedef struct ServiceMethod {
    const char *name;      // "GetBackup"
    const char *full_name; // "/holdfast.v1.Holdfast/GetBackup"
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    Role role;
    bool is_mutation;
    Status (*handle)(Service *service, ServiceCall *call, const ProtobufCMessage *request,
                     ProtobufCMessage **ret_response, Error *error);
} ServiceMethod;

Status service_new(const ServiceOptions *options, Service **ret_service, Error *error);
void service_free(Service *service);

// Table made from methods.def.
const ServiceMethod *service_methods(size_t *ret_count);
const ServiceMethod *service_method_find(const char *name);

// Everything around a handler: who calls (UNAUTHENTICATED), may it (FORBIDDEN), idempotency, then
// the handler. The response is in the call's arena.
Status service_call(Service *service, const ServiceMethod *method, ServiceCall *call,
                    const ProtobufCMessage *request, ProtobufCMessage **ret_response, Error *error);
// Only who calls and whether the role suffices; for streams and static admin pages.
Status service_authorize(Service *service, ServiceCall *call, Role role, Error *error);

// Makes the admin token when there is none, and writes it to `path` (mode 0600); an existing file's
// token is registered again (so a file survives a new database). Returns whether it was made now.
Status service_ensure_admin_token(Service *service, const char *path, bool *ret_is_new,
                                  Error *error);

// Prometheus text. Needs no token (like health), holds no secrets.
Status service_metrics(Service *service, Buffer *buffer, Error *error);
// OK when the database answers.
Status service_ready(Service *service, Error *error);
