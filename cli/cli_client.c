// SPDX-License-Identifier: Apache-2.0
// REST calls: addresses, the token, retries, and problems turned into errors.
#include "cli/cli.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define CALL_TIMEOUT_MS 60000
#define TRY_COUNT_MAX 4
#define RETRY_MS 250 // doubles with every try
#define BODY_BYTES_MAX (8 * 1024 * 1024)
#define PROBLEM_PREFIX "urn:holdfast:problem:"

char *cli_escape(Arena *arena, const char *text)
{
    size_t size = strlen(text);
    char *result = arena_alloc(arena, size * 3 + 1);
    size_t at = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (isalnum(byte) || strchr("-._~", byte) != NULL) {
            result[at++] = (char)byte;
        } else {
            at += (size_t)snprintf(result + at, 4, "%%%02X", byte);
        }
    }
    result[at] = '\0';
    return result;
}

const char *cli_query_add(Arena *arena, const char *query, const char *key, const char *value)
{
    return arena_format(arena, "%s%s%s=%s", query == NULL ? "" : query, query == NULL ? "" : "&",
                        key, cli_escape(arena, value));
}

// The generic reason for an HTTP status, when the answer is not one of ours (a proxy's, say).
static Reason reason_from_http(int http)
{
    switch (http) {
    case 400:
        return REASON_INVALID;
    case 401:
        return REASON_UNAUTHENTICATED;
    case 403:
        return REASON_FORBIDDEN;
    case 404:
        return REASON_NOT_FOUND;
    case 409:
        return REASON_PRECONDITION;
    case 412:
        return REASON_ETAG_MISMATCH;
    case 413:
        return REASON_BODY_TOO_LARGE;
    case 429:
        return REASON_EXHAUSTED;
    case 501:
        return REASON_UNIMPLEMENTED;
    case 502:
    case 503:
        return REASON_UNAVAILABLE;
    case 504:
        return REASON_DEADLINE;
    default:
        return REASON_INTERNAL;
    }
}

static Status problem_to_error(const HttpResponse *response, Error *error)
{
    CLEANUP(json_freep) Json *problem = NULL;
    Error ignored = {0};
    if (json_parse(buffer_text(&response->body), response->body.size, &problem, &ignored) !=
        STATUS_OK) {
        return error_set(error, reason_from_http(response->status),
                         "the server answered with HTTP status %d", response->status);
    }
    const char *type = json_get_text(problem, "type", "");
    Reason reason = reason_from_http(response->status);
    if (text_has_prefix(type, PROBLEM_PREFIX)) {
        Reason named = reason_from_slug(type + strlen(PROBLEM_PREFIX));
        // An unknown slug is a newer server's: the HTTP status says enough.
        reason = named == REASON_INTERNAL ? reason : named;
    }
    const char *detail = json_get_text(problem, "detail", NULL);
    (void)error_set(error, reason, "%s",
                    detail != NULL ? detail : json_get_text(problem, "title", "the call failed"));
    const char *field = json_get_text(problem, "field", "");
    if (*field != '\0') {
        (void)error_field(error, "%s", field);
    }
    const char *hint = json_get_text(problem, "hint", "");
    if (*hint != '\0') {
        (void)error_hint(error, "%s", hint);
    } else if (error->status == STATUS_UNAUTHENTICATED) {
        (void)error_hint(error, "give a token with --token-file or HOLDFAST_TOKEN_FILE");
    }
    return error->status;
}

// Header lines in the arena, NULL-ended. The token's line is a copy that lives as long as the
// arena: the program's end.
static const char **make_headers(Cli *cli, const CliRequest *request, const char *accept)
{
    const char **headers = arena_alloc_array(cli->arena, 8, sizeof(*headers));
    size_t count = 0;
    headers[count++] = accept;
    if (cli->token.size > 0) {
        headers[count++] =
            arena_format(cli->arena, "Authorization: Bearer %s", secret_text(&cli->token));
    }
    if (request->body != NULL) {
        headers[count++] = "Content-Type: application/json";
    }
    if (text_equal(request->method, "POST")) {
        char key[UUID_TEXT_SIZE];
        crypto_uuid(key);
        headers[count++] = arena_format(cli->arena, "Idempotency-Key: %s", key);
    }
    if (request->header != NULL) {
        headers[count++] = request->header;
    }
    headers[count] = NULL;
    return headers;
}

static char *make_url(Cli *cli, const char *path, const char *query)
{
    return arena_format(cli->arena, "%s%s%s%s", cli->server, path, query == NULL ? "" : "?",
                        query == NULL ? "" : query);
}

static Status try_call(Cli *cli, const HttpRequest *http_request, Json **ret_json, Error *error)
{
    HttpResponse response = {0};
    if (http_client_send(cli->http, http_request, &response, error) != STATUS_OK) {
        (void)error_hint(error,
                         "is holdfastd running at %s? --server or HOLDFAST_SERVER names "
                         "another one",
                         cli->server);
        return error->status;
    }
    Status status = STATUS_OK;
    if (response.status < 200 || response.status > 299) {
        status = problem_to_error(&response, error);
    } else if (response.body.size == 0) {
        *ret_json = NULL;
    } else {
        status = json_parse(buffer_text(&response.body), response.body.size, ret_json, error);
        if (status != STATUS_OK) {
            (void)error_wrap(error, "the server's answer");
            (void)error_hint(error, "is %s a Holdfast server?", cli->server);
        }
    }
    http_response_done(&response);
    return status;
}

Status cli_call(Cli *cli, const CliRequest *request, Json **ret_json, Error *error)
{
    assert(request->method != NULL);
    assert(request->path != NULL);
    CLEANUP(buffer_done) Buffer body;
    buffer_init(&body, BODY_BYTES_MAX);
    if (request->body != NULL && !json_write(request->body, false, &body)) {
        return error_set(error, REASON_BODY_TOO_LARGE, "the request is over %d bytes",
                         BODY_BYTES_MAX);
    }
    const HttpRequest http_request = {
        .method = request->method,
        .url = make_url(cli, request->path, request->query),
        .headers = make_headers(cli, request, "Accept: application/json"),
        .body = request->body == NULL ? NULL : body.data,
        .body_size = body.size,
        .timeout_ms = CALL_TIMEOUT_MS,
        .ca_path = cli->ca_path,
    };
    // POST carries an idempotency key and the other methods are idempotent: all of them may be
    // repeated.
    Status status = STATUS_OK;
    for (int i = 0; i < TRY_COUNT_MAX; i++) {
        if (i > 0) {
            clock_sleep_ms((int64_t)RETRY_MS << (i - 1));
        }
        error_clear(error);
        status = try_call(cli, &http_request, ret_json, error);
        if (error->reason != REASON_UNAVAILABLE && error->reason != REASON_DATABASE_UNREACHABLE) {
            break;
        }
    }
    return status;
}

Status cli_get(Cli *cli, const char *path, const char *query, Json **ret_json, Error *error)
{
    const CliRequest request = {.method = "GET", .path = path, .query = query};
    return cli_call(cli, &request, ret_json, error);
}

Status cli_stream(Cli *cli, const char *path, const char *query,
                  bool (*on_data)(void *context, const void *data, size_t size), void *context,
                  Error *error)
{
    const CliRequest request = {.method = "GET", .path = path, .query = query};
    const HttpRequest http_request = {
        .method = "GET",
        .url = make_url(cli, path, query),
        .headers = make_headers(cli, &request, "Accept: text/event-stream"),
        .ca_path = cli->ca_path,
        .on_data = on_data,
        .context = context,
    };
    HttpResponse response = {0};
    RETURN_IF_ERROR(http_client_send(cli->http, &http_request, &response, error));
    Status status = response.status == 200 ? STATUS_OK : problem_to_error(&response, error);
    http_response_done(&response);
    return status;
}
