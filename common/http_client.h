// SPDX-License-Identifier: Apache-2.0
// An HTTP client over libcurl, which only http_client.c includes. One thread at a time per client.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct HttpClient HttpClient;
typedef struct HttpResponse HttpResponse;

typedef struct HttpRequest {
    const char *method; // "GET"
    const char *url;
    const char *const *headers; // NULL-ended "Name: value", or NULL
    const void *body;
    size_t body_size;
    int64_t timeout_ms;      // whole request; 0: none (streams)
    int64_t stall_ms;        // cut when hardly a byte moves for so long; 0: never
    const char *ca_path;     // PEM file to trust, or NULL: the system's
    const char *ca_pem;      // or the PEM text itself
    const char *unix_socket; // connect here instead, or NULL
    bool is_direct;          // through no proxy: addresses that only this machine has
    // Called with each piece of a 2xx answer's body instead of collecting it; false ends the
    // request, which is OK then. For event streams and downloads. The body of any other answer is
    // collected: it says what is wrong.
    bool (*on_data)(void *context, const void *data, size_t size);
    // Called once before the first on_data, with status and headers; false ends the request, too.
    bool (*on_answer)(void *context, const HttpResponse *response);
    void *context;
    size_t response_bytes_max;       // of a collected body; 0: LIMIT_HTTP_RESPONSE_BYTES
    const atomic_bool *is_canceled;  // true ends the request with REASON_CANCELED, or NULL
    const atomic_bool *is_abandoned; // the same, by somebody else
    // Called before each piece of a body is sent and after each that came; blocks for as long as a
    // cap on bandwidth asks. Time spent in it is no stall. Or NULL.
    void (*pace)(void *context, bool is_upload, size_t size);
    void *pace_context;
} HttpRequest;

struct HttpResponse {
    int status;
    char content_type[128];
    char etag[128];
    char location[512];
    Buffer headers; // "Name: value" lines
    Buffer body;
};

HttpClient *http_client_new(void);
void http_client_free(HttpClient *client);
// STATUS_OK means that a whole answer came, of any HTTP status. Not reachable, broken off or
// stalled: REASON_UNAVAILABLE; a certificate that is not trusted: REASON_ENDPOINT_UNTRUSTED; too
// slow: REASON_DEADLINE; over the limit: REASON_EXHAUSTED. Redirects are not followed; proxies of
// the environment are used, but not to the machine itself. The response is initialised by the call
// and must be ended with http_response_done on OK.
Status http_client_send(HttpClient *client, const HttpRequest *request, HttpResponse *ret_response,
                        Error *error);
// The value of a header, whatever its case; false and "" when it is absent, false and cut when it
// does not fit.
bool http_response_header(const HttpResponse *response, const char *name, char *ret_value,
                          size_t ret_size);
void http_response_done(HttpResponse *response);
