// SPDX-License-Identifier: Apache-2.0
// From path, query and body to the request message of an RPC.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "server/http/http_routes.h"

#include <protobuf-c/protobuf-c.h>

typedef struct HttpPair {
    const char *name;
    const char *value; // NULL: "?name" without "="
} HttpPair;

typedef struct HttpInput {
    const char *body;
    size_t body_size;
    const HttpPair *query;
    size_t query_count;
} HttpInput;

// Everything that is not understood is an error with the field's path.
Status http_request_message(Arena *arena, const HttpMatch *match, const HttpInput *input,
                            const ProtobufCMessageDescriptor *descriptor,
                            ProtobufCMessage **ret_message, Error *error);

// Makes the error's field a path into the body: the client knows nothing of the request's field
// that its body fills.
void http_request_name_field(const HttpRoute *route, Error *error);
