// SPDX-License-Identifier: Apache-2.0
#include "repository/key_service.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/http_client.h"
#include "common/memory.h"

#include <string.h>

#define TRY_COUNT_MAX 5
#define TRY_TIMEOUT_MS 10000
#define BACKOFF_MS 100
#define BACKOFF_MS_MAX 3000
#define ANSWER_BYTES_MAX (64 * 1024)

// Full jitter: anything up to twice as long each time.
static void back_off(int try_count)
{
    uint32_t random = 0;
    int64_t most_ms = BACKOFF_MS;
    for (int i = 1; i < try_count && most_ms < BACKOFF_MS_MAX; i++) {
        most_ms *= 2;
    }
    crypto_random(&random, sizeof(random));
    clock_sleep_ms(1 + random % MIN(most_ms, BACKOFF_MS_MAX));
}

static Status one_try(const KeyServiceCall *call, HttpClient *client, HttpResponse *ret_response,
                      Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *headers[KEY_SERVICE_HEADER_COUNT_MAX + 1] = {NULL};
    RETURN_IF_ERROR(call->prepare(call->context, arena, headers, error));
    const HttpRequest request = {.method = "POST",
                                 .url = call->url,
                                 .headers = headers,
                                 .body = call->body,
                                 .body_size = strlen(call->body),
                                 .timeout_ms = TRY_TIMEOUT_MS,
                                 .ca_path = call->ca_path};
    return http_client_send(client, &request, ret_response, error);
}

static bool is_success(int http_status)
{
    return http_status >= 200 && http_status < 300;
}

static Status parse(const KeyServiceCall *call, const HttpResponse *response, Json **ret_json,
                    Error *error)
{
    Error ignored = {0};
    *ret_json = NULL;
    if (response->body.size <= ANSWER_BYTES_MAX) {
        (void)json_parse(buffer_text(&response->body), response->body.size, ret_json, &ignored);
    }
    if (*ret_json == NULL && is_success(response->status)) {
        return error_set(error, REASON_UNAVAILABLE, "%.200s did not answer in JSON", call->url);
    }
    return STATUS_OK;
}

static void freep(HttpClient **client)
{
    http_client_free(*client);
}

Status key_service_call(const KeyServiceCall *call, int *ret_http_status, Json **ret_json,
                        Error *error)
{
    CLEANUP(freep) HttpClient *client = http_client_new();
    for (int try_count = 1;; try_count++) {
        CLEANUP(http_response_done) HttpResponse response = {0};
        CLEANUP(json_freep) Json *json = NULL;
        bool is_last = try_count == TRY_COUNT_MAX;
        Status status = one_try(call, client, &response, error);
        if (status == STATUS_OK) {
            status = parse(call, &response, &json, error);
        }
        bool is_passing = status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE_EXCEEDED;
        if (status == STATUS_OK) {
            is_passing = response.status == 429 || response.status >= 500 ||
                         (!is_success(response.status) &&
                          call->is_passing(call->context, response.status, json));
        }
        if (!is_passing || is_last) {
            *ret_http_status = response.status;
            *ret_json = status == STATUS_OK ? TAKE_PTR(json) : NULL;
            return status;
        }
        error_clear(error);
        back_off(try_count);
    }
}
