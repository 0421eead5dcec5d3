// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: one call of a key management service, a small JSON document each way.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

#define KEY_SERVICE_HEADER_COUNT_MAX 16

typedef struct KeyServiceCall {
    const char *url;
    const char *ca_path; // PEM file to trust, or NULL
    const char *body;    // secret: it is wiped by nobody here
    // Fills a NULL-ended list of "Name: value"; asked anew for each try. REASON_... ends the call.
    Status (*prepare)(void *context, Arena *arena,
                      const char *headers[KEY_SERVICE_HEADER_COUNT_MAX + 1], Error *error);
    // Whether an answer that is no success may be another one next time, besides 429 and 5xx.
    bool (*is_passing)(void *context, int http_status, const Json *answer);
    void *context;
} KeyServiceCall;

// Some tries within about half a minute. OK: an answer came; of a failure the JSON may be NULL, of
// a success it is not. ret_json is the caller's. REASON_UNAVAILABLE, REASON_DEADLINE.
Status key_service_call(const KeyServiceCall *call, int *ret_http_status, Json **ret_json,
                        Error *error);
