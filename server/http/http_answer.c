// SPDX-License-Identifier: Apache-2.0
// Answers: messages as JSON, errors as RFC 9457 problems, and the headers that all of them have.
#define LOG_MODULE "http"

#include "common/json.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "server/http/http_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PROBLEM_BYTES_MAX (16 * 1024)

void http_answer_header(HttpExchange *exchange, const char *name, const char *value)
{
    (void)MHD_add_response_header(exchange->response, name, value);
}

void http_answer_bytes(HttpExchange *exchange, unsigned status, const char *content_type,
                       Buffer *bytes)
{
    assert(exchange->response == NULL);
    size_t size = bytes->size;
    if (size == 0) {
        exchange->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    } else {
        exchange->response = MHD_create_response_from_buffer_with_free_callback(
            size, buffer_take_text(bytes), mem_free);
    }
    exchange->status = status;
    if (content_type != NULL) {
        http_answer_header(exchange, "Content-Type", content_type);
    }
    http_answer_header(exchange, "X-Request-Id", exchange->request_id);
    http_answer_header(exchange, "X-Content-Type-Options", "nosniff");
    http_answer_header(exchange, "Cache-Control", "no-store");
}

void http_answer_text(HttpExchange *exchange, unsigned status, const char *text)
{
    Buffer bytes = {0};
    buffer_init(&bytes, PROBLEM_BYTES_MAX);
    (void)buffer_append_text(&bytes, text);
    http_answer_bytes(exchange, status, "text/plain; charset=utf-8", &bytes);
    buffer_done(&bytes);
}

static void answer_json(HttpExchange *exchange, unsigned status, const char *content_type,
                        const Json *json)
{
    Buffer bytes = {0};
    buffer_init(&bytes, LIMIT_HTTP_RESPONSE_BYTES);
    bool has_fit = json_write(json, false, &bytes);
    if (has_fit) {
        http_answer_bytes(exchange, status, content_type, &bytes);
    } else {
        Error error = {0};
        (void)error_set(&error, REASON_EXHAUSTED, "the answer is too large");
        (void)error_hint(&error, "ask for smaller pages");
        http_answer_problem(exchange, &error);
    }
    buffer_done(&bytes);
}

void http_answer_message(HttpExchange *exchange, unsigned status, const ProtobufCMessage *message)
{
    if (status == MHD_HTTP_NO_CONTENT) {
        Buffer nothing = {0};
        buffer_init(&nothing, 1);
        http_answer_bytes(exchange, status, NULL, &nothing);
    } else {
        CLEANUP(json_freep) Json *json = message_to_json(message);
        answer_json(exchange, status, "application/json", json);
    }
    char quoted[sizeof(exchange->call.etag) + 2];
    if (exchange->call.etag[0] != '\0') {
        (void)snprintf(quoted, sizeof(quoted), "\"%s\"", exchange->call.etag);
        http_answer_header(exchange, "ETag", quoted);
    }
    if (exchange->call.is_replayed) {
        http_answer_header(exchange, "Idempotency-Replayed", "true");
    }
}

static void log_problem(const HttpExchange *exchange, unsigned status, const Error *error)
{
    char code[8];
    (void)snprintf(code, sizeof(code), "%u", status);
    log_error_record(status >= 500 ? LOG_WARNING : LOG_INFO, LOG_MODULE, error, "request failed",
                     "method", exchange->method, "path", exchange->path, "http_status", code,
                     "request_id", exchange->request_id, NULL);
}

void http_answer_problem_as(HttpExchange *exchange, unsigned status, Error *error)
{
    log_problem(exchange, status, error);
    char type[96];
    (void)snprintf(type, sizeof(type), "urn:holdfast:problem:%s", reason_slug(error->reason));
    CLEANUP(json_freep) Json *problem = json_new_object();
    json_set_text(problem, "type", type);
    json_set_text(problem, "title", reason_title(error->reason));
    json_set_integer(problem, "status", status);
    json_set_text(problem, "detail", error->message);
    if (error->hint[0] != '\0') {
        json_set_text(problem, "hint", error->hint);
    }
    if (error->field[0] != '\0') {
        json_set_text(problem, "field", error->field);
    }
    json_set_text(problem, "request_id", exchange->request_id);
    Buffer bytes = {0};
    buffer_init(&bytes, PROBLEM_BYTES_MAX);
    (void)json_write(problem, false, &bytes);
    http_answer_bytes(exchange, status, "application/problem+json", &bytes);
    buffer_done(&bytes);
    if (status == MHD_HTTP_UNAUTHORIZED) {
        http_answer_header(exchange, "WWW-Authenticate", "Bearer");
    }
}

void http_answer_problem(HttpExchange *exchange, Error *error)
{
    http_answer_problem_as(exchange, (unsigned)reason_http(error->reason), error);
}
