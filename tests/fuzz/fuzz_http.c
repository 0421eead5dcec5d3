// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_http.h"

#include "common/clock.h"
#include "common/http_client.h"
#include "common/limits.h"

#include <pthread.h>
#include <string.h>

#define HEADERS_BYTES_MAX (64 * 1024)
#define PIECE_BYTES 1000

typedef struct Piece {
    const uint8_t *data;
    size_t size;
} Piece;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards what follows
static Piece answers;
static int64_t now_ms = 1000;

Status __wrap_http_client_send(HttpClient *client, const HttpRequest *request,
                               HttpResponse *ret_response, Error *error);
void __wrap_clock_sleep_ms(int64_t duration_ms);
int64_t __wrap_clock_monotonic_ms(void);

void __wrap_clock_sleep_ms(int64_t duration_ms)
{
    (void)pthread_mutex_lock(&mutex);
    now_ms += duration_ms;
    (void)pthread_mutex_unlock(&mutex);
}

int64_t __wrap_clock_monotonic_ms(void)
{
    (void)pthread_mutex_lock(&mutex);
    int64_t now = now_ms;
    (void)pthread_mutex_unlock(&mutex);
    return now;
}

void fuzz_http_answers(const uint8_t *data, size_t size)
{
    (void)pthread_mutex_lock(&mutex);
    answers = (Piece){data, size};
    (void)pthread_mutex_unlock(&mutex);
}

// Takes what is before the end, and the end with it.
static Piece take(Piece *rest, const char *end)
{
    const uint8_t *found =
        rest->size == 0 ? NULL : memmem(rest->data, rest->size, end, strlen(end));
    Piece taken = {rest->data, found == NULL ? rest->size : (size_t)(found - rest->data)};
    size_t step = found == NULL ? rest->size : taken.size + strlen(end);
    *rest = (Piece){rest->data + step, rest->size - step};
    return taken;
}

static int read_status(const Piece *line)
{
    int status = 0;
    for (size_t i = 0; i < line->size && i < 3; i++) {
        status = status * 10 + (line->data[i] - '0') % 10;
    }
    return status < 100 || status > 599 ? 200 : status;
}

// As libcurl gives it: the body of a good answer in pieces to who wants them so.
static Status give_body(const HttpRequest *request, HttpResponse *response, Piece body,
                        Error *error)
{
    if (strcmp(request->method, "HEAD") == 0) {
        return STATUS_OK;
    }
    if (request->on_data == NULL || response->status < 200 || response->status > 299) {
        return buffer_append(&response->body, body.data, body.size)
                   ? STATUS_OK
                   : error_set(error, REASON_EXHAUSTED, "the answer is too large");
    }
    if (body.size > 0 && request->on_answer != NULL &&
        !request->on_answer(request->context, response)) {
        return STATUS_OK;
    }
    for (size_t at = 0; at < body.size; at += PIECE_BYTES) {
        if (!request->on_data(request->context, body.data + at, MIN(body.size - at, PIECE_BYTES))) {
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

Status __wrap_http_client_send(HttpClient *client, const HttpRequest *request,
                               HttpResponse *ret_response, Error *error)
{
    (void)client;
    static const char none[] = "404\n\n";
    (void)pthread_mutex_lock(&mutex);
    Piece rest = answers.size > 0 ? take(&answers, "\n%%\n")
                                  : (Piece){(const uint8_t *)none, sizeof(none) - 1};
    (void)pthread_mutex_unlock(&mutex);
    CLEANUP(http_response_done) HttpResponse response = {0};
    size_t size_max = request->response_bytes_max;
    buffer_init(&response.headers, HEADERS_BYTES_MAX);
    buffer_init(&response.body, size_max > 0 ? size_max : LIMIT_HTTP_RESPONSE_BYTES);
    Piece line = take(&rest, "\n");
    response.status = read_status(&line);
    for (line = take(&rest, "\n"); line.size > 0; line = take(&rest, "\n")) {
        if (!buffer_append(&response.headers, line.data, line.size) ||
            !buffer_append(&response.headers, "\r\n", 2)) {
            return error_set(error, REASON_EXHAUSTED, "the answer's headers are too large");
        }
    }
    (void)http_response_header(&response, "Content-Type", response.content_type,
                               sizeof(response.content_type));
    (void)http_response_header(&response, "ETag", response.etag, sizeof(response.etag));
    (void)http_response_header(&response, "Location", response.location, sizeof(response.location));
    RETURN_IF_ERROR(give_body(request, &response, rest, error));
    *ret_response = response;
    memset(&response, 0, sizeof(response));
    return STATUS_OK;
}
