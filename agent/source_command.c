// SPDX-License-Identifier: Apache-2.0
#include "agent/source_command.h"

#include "agent/engine/engine.h"
#include "common/buffer.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "holdfast/v1/types.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROBE_TIMEOUT_MS 15000
#define REQUEST_BYTES_MAX (1024 * 1024)

typedef struct SourceRequest {
    Json *json;
    const char *engine, *shard, *shard_id;
    EngineSource source; // password owned, the rest borrowed from json
} SourceRequest;

static Status read_stdin(Buffer *buffer, Error *error)
{
    char block[8192];
    while (true) {
        ssize_t size = read(STDIN_FILENO, block, sizeof(block));
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "reading stdin");
        }
        if (size == 0) {
            explicit_bzero(block, sizeof(block));
            return STATUS_OK;
        }
        if (!buffer_append(buffer, block, (size_t)size)) {
            return error_set(error, REASON_BODY_TOO_LARGE, "the request is over %d bytes",
                             REQUEST_BYTES_MAX);
        }
    }
}

static Status read_request(SourceRequest *ret_request, Error *error)
{
    Buffer text;
    buffer_init(&text, REQUEST_BYTES_MAX);
    Status status = read_stdin(&text, error);
    if (status == STATUS_OK) {
        status = json_parse(buffer_text(&text), text.size, &ret_request->json, error);
    }
    if (text.data != NULL) {
        explicit_bzero(text.data, text.size);
    }
    buffer_done(&text);
    RETURN_IF_ERROR(status);
    const Json *json = ret_request->json;
    ret_request->engine = json_get_text(json, "engine", "");
    ret_request->shard = json_get_text(json, "shard", "");
    ret_request->shard_id = json_get_text(json, "shard_id", "");
    const char *tls_ca = json_get_text(json, "tls_ca", "");
    const char *tls_mode = json_get_text(json, "tls_mode", "");
    ret_request->source = (EngineSource){
        .host = json_get_text(json, "host", ""),
        .port = (int)json_get_integer(json, "port", 0),
        .username = json_get_text(json, "username", ""),
        .password = secret_from_text(json_get_text(json, "password", "")),
        .tls_mode = *tls_mode == '\0' ? "prefer" : tls_mode,
        .tls_ca_pem = *tls_ca == '\0' ? NULL : tls_ca,
    };
    if (*ret_request->engine == '\0' || *ret_request->source.host == '\0' ||
        ret_request->source.port < 1 || ret_request->source.port > 65535) {
        return error_set(error, REASON_INVALID, "engine, host and port are needed");
    }
    return STATUS_OK;
}

static void request_done(SourceRequest *request)
{
    secret_done(&request->source.password);
    json_free(request->json);
}

static void print_json(Json *json)
{
    Buffer text;
    buffer_init(&text, REQUEST_BYTES_MAX);
    (void)json_write(json, false, &text);
    (void)printf("%s\n", buffer_text(&text));
    buffer_done(&text);
    json_free(json);
}

static void fill_problems(Arena *arena, EngineInfo *info, Holdfast__V1__ProbeResult *result)
{
    result->n_problems = info->problem_count;
    result->problems = arena_alloc_array(arena, info->problem_count + 1, sizeof(*result->problems));
    for (size_t i = 0; i < info->problem_count; i++) {
        Holdfast__V1__ProbeProblem *problem = (Holdfast__V1__ProbeProblem *)message_new(
            arena, &holdfast__v1__probe_problem__descriptor);
        problem->reason = arena_string(arena, reason_slug(info->problems[i].reason));
        problem->message = info->problems[i].message;
        problem->cure = info->problems[i].cure;
        result->problems[i] = problem;
    }
}

static Status probe(const SourceRequest *request, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    EngineInfo *info = arena_alloc(arena, sizeof(*info));
    RETURN_IF_ERROR(engine_probe(request->engine, &request->source, PROBE_TIMEOUT_MS, info, error));
    Holdfast__V1__ProbeResult *result =
        (Holdfast__V1__ProbeResult *)message_new(arena, &holdfast__v1__probe_result__descriptor);
    result->shard = arena_string(arena, request->shard);
    result->is_ready = info->problem_count == 0;
    result->version = info->version;
    result->server_identity = info->server_identity;
    result->position = info->position;
    result->size_bytes = info->size_bytes;
    result->has_page_checksums = info->has_page_checksums;
    fill_problems(arena, info, result);
    print_json(message_to_json(&result->base));
    return STATUS_OK;
}

static Status clean(const SourceRequest *request, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Json *list = json_get(request->json, "alive");
    if (*request->shard_id == '\0' || list == NULL || json_type(list) != JSON_ARRAY) {
        return error_set(error, REASON_INVALID, "shard_id and alive are needed");
    }
    const char **alive = arena_alloc_array(arena, json_count(list) + 1, sizeof(*alive));
    size_t count = 0;
    for (const Json *item = json_first(list); item != NULL; item = json_next(item)) {
        alive[count] = json_text(item, "");
        count++;
    }
    int removed = 0;
    RETURN_IF_ERROR(engine_clean_source(request->engine, &request->source, request->shard_id, alive,
                                        &removed, error));
    Json *answer = json_new_object();
    json_set_integer(answer, "removed", removed);
    print_json(answer);
    return STATUS_OK;
}

static Status forget(const SourceRequest *request, Error *error)
{
    if (*request->shard_id == '\0') {
        return error_set(error, REASON_INVALID, "shard_id is needed");
    }
    RETURN_IF_ERROR(
        engine_forget_source(request->engine, &request->source, request->shard_id, error));
    print_json(json_new_object());
    return STATUS_OK;
}

int source_command_run(const char *flag)
{
    SourceRequest request = {0};
    Error error = {0};
    Status status = read_request(&request, &error);
    if (status == STATUS_OK) {
        status = text_equal(flag, "--probe")          ? probe(&request, &error)
                 : text_equal(flag, "--clean-source") ? clean(&request, &error)
                                                      : forget(&request, &error);
    }
    request_done(&request);
    if (status != STATUS_OK) {
        Json *answer = json_new_object();
        json_set_text(answer, "reason", reason_slug(error.reason));
        json_set_text(answer, "message", error.message);
        json_set_text(answer, "hint", error.hint);
        print_json(answer);
    }
    return status_exit_code(status);
}
