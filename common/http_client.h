// SPDX-License-Identifier: Apache-2.0
// An HTTP client over libcurl, which only http_client.c includes. One thread at a time per client.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdint.h>

typedef struct HttpClient HttpClient;

typedef struct HttpRequest {
    const char *method; // "GET"
    const char *url;
    const char *const *headers; // NULL-ended "Name: value", or NULL
    const void *body;
    size_t body_size;
    int64_t timeout_ms;      // whole request; 0: none (streams)
    const char *ca_path;     // PEM file to trust, or NULL: the system's
    const char *unix_socket; // connect here instead, or NULL
    // Called with each piece of a 2xx answer's body instead of collecting it; false ends the
    // request, which is OK then. For event streams and downloads. The body of any other answer is
    // collected: it says what is wrong.
    bool (*on_data)(void *context, const void *data, size_t size);
    void *context;
} HttpRequest;

typedef struct HttpResponse {
    int status;
    char content_type[128];
    char etag[128];
    char location[512];
    Buffer headers; // "Name: value" lines
    Buffer body;
} HttpResponse;

HttpClient *http_client_new(void);
void http_client_free(HttpClient *client);
// STATUS_OK means that an answer came, of any HTTP status. Not reachable: REASON_UNAVAILABLE; too
// slow: REASON_DEADLINE; over LIMIT_HTTP_RESPONSE_BYTES: REASON_EXHAUSTED. Redirects are not
// followed. The response is initialised by the call and must be ended with http_response_done on
// OK.
Status http_client_send(HttpClient *client, const HttpRequest *request, HttpResponse *ret_response,
                        Error *error);
// The value of a header, whatever its case; false and "" when it is absent, false and cut when it
// does not fit.
bool http_response_header(const HttpResponse *response, const char *name, char *ret_value,
                          size_t ret_size);
void http_response_done(HttpResponse *response);
