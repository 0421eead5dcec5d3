// SPDX-License-Identifier: Apache-2.0
// ProbeDatabase: the agent's own eyes on every source, some at a time. The server itself never
// speaks to a source.
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/process.h"
#include "common/text.h"
#include "server/service/credential_seal.h"
#include "server/service/service_database.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROBE_COUNT_AT_ONCE 8
#define PROBE_TIMEOUT_MS 20000
#define PROBE_OUTPUT_SIZE_MAX (256 * 1024)

typedef struct Probe {
    const char *shard;
    char *input; // JSON with the password; wiped
    Buffer output;
    Status status;
    Error error;
} Probe;

typedef struct ProbeRun {
    const char *program;
    Probe *probes;
    size_t count;
    pthread_mutex_t mutex;
    size_t next;
} ProbeRun;

static Status input_of(Service *service, Arena *arena, const StoreRows *rows, int row,
                       char **ret_input, Error *error)
{
    size_t size;
    const uint8_t *sealed = store_bytes(rows, row, "password_sealed", arena, &size);
    CLEANUP(secret_done) Secret password = {0};
    RETURN_IF_ERROR(credential_unseal(service->secret_key, store_value(rows, row, "credential_id"),
                                      sealed, size, &password, error));
    CLEANUP(json_freep) Json *json = json_new_object();
    static const char *const TEXTS[] = {"shard",    "engine",   "host",
                                        "username", "tls_mode", "tls_ca"};
    for (size_t i = 0; i < ARRAY_COUNT(TEXTS); i++) {
        json_set_text(json, TEXTS[i], store_value(rows, row, TEXTS[i]));
    }
    json_set_integer(json, "port", store_integer(rows, row, "port", 0));
    json_set_text(json, "password", secret_text(&password));
    Buffer buffer;
    buffer_init(&buffer, PROBE_OUTPUT_SIZE_MAX);
    bool is_written = json_write(json, false, &buffer);
    *ret_input = buffer_take_text(&buffer);
    buffer_done(&buffer);
    return is_written ? STATUS_OK : error_set(error, REASON_INTERNAL, "a source is too large");
}

// The password goes through memory that has no name: not the arguments, not the environment, not a
// file.
static Status open_input(const char *text, int *ret_fd, Error *error)
{
    CLEANUP(fd_closep) int fd = memfd_create("probe", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, REASON_EXHAUSTED, errno, "making the probe's input");
    }
    RETURN_IF_ERROR(file_write_all(fd, text, strlen(text), error));
    if (lseek(fd, 0, SEEK_SET) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "making the probe's input");
    }
    *ret_fd = fd;
    fd = INVALID_FD;
    return STATUS_OK;
}

static Status run_probe(const char *program, Probe *probe, Error *error)
{
    CLEANUP(fd_closep) int input_fd = INVALID_FD;
    RETURN_IF_ERROR(open_input(probe->input, &input_fd, error));
    const char *const arguments[] = {program, "--probe", NULL};
    ProcessOptions options = {.arguments = arguments, .input_fd = input_fd};
    return process_run(&options, PROBE_TIMEOUT_MS, REASON_SOURCE_UNREACHABLE, &probe->output,
                       error);
}

static void *probe_main(void *argument)
{
    ProbeRun *run = argument;
    for (;;) {
        pthread_mutex_lock(&run->mutex);
        size_t index = run->next < run->count ? run->next++ : run->count;
        pthread_mutex_unlock(&run->mutex);
        if (index == run->count) {
            return NULL;
        }
        Probe *probe = &run->probes[index];
        probe->status = run_probe(run->program, probe, &probe->error);
    }
}

static void run_all(ProbeRun *run)
{
    pthread_t threads[PROBE_COUNT_AT_ONCE];
    size_t thread_count = 0;
    pthread_mutex_init(&run->mutex, NULL);
    while (thread_count + 1 < MIN(run->count, PROBE_COUNT_AT_ONCE) &&
           pthread_create(&threads[thread_count], NULL, probe_main, run) == 0) {
        thread_count++;
    }
    probe_main(run); // this thread is one of them
    for (size_t i = 0; i < thread_count; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_mutex_destroy(&run->mutex);
}

static Holdfast__V1__ProbeResult *failed_result(Arena *arena, const char *reason,
                                                const char *message, const char *cure)
{
    Holdfast__V1__ProbeProblem *problem =
        (Holdfast__V1__ProbeProblem *)message_new(arena, &holdfast__v1__probe_problem__descriptor);
    problem->reason = arena_string(arena, reason);
    problem->message = arena_string(arena, message);
    problem->cure = arena_string(arena, cure);
    Holdfast__V1__ProbeResult *result =
        (Holdfast__V1__ProbeResult *)message_new(arena, &holdfast__v1__probe_result__descriptor);
    result->problems = arena_alloc(arena, sizeof(*result->problems));
    result->problems[0] = problem;
    result->n_problems = 1;
    return result;
}

static Holdfast__V1__ProbeResult *result_of(Arena *arena, const Probe *probe)
{
    Error error = probe->error;
    CLEANUP(json_freep) Json *json = NULL;
    Error ignored = {0};
    bool is_json =
        json_parse(buffer_text(&probe->output), probe->output.size, &json, &ignored) == STATUS_OK;
    Holdfast__V1__ProbeResult *result = NULL;
    if (probe->status == STATUS_OK) {
        ProtobufCMessage *message = NULL;
        if (is_json && message_from_json(arena, &holdfast__v1__probe_result__descriptor, json,
                                         &message, &error) == STATUS_OK) {
            result = (Holdfast__V1__ProbeResult *)message;
        } else {
            error_set(&error, REASON_INTERNAL, "the probe's answer cannot be read");
        }
    } else if (is_json && json_get_text(json, "reason", NULL) != NULL) {
        result = failed_result(arena, json_get_text(json, "reason", ""),
                               json_get_text(json, "message", ""), json_get_text(json, "hint", ""));
    }
    if (result == NULL) {
        result = failed_result(arena, reason_slug(error.reason), error.message, error.hint);
    }
    result->shard = arena_string(arena, probe->shard);
    return result;
}

static void probes_free(Probe *probes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        secret_wipe_text(probes[i].input);
        mem_free(probes[i].input);
        buffer_done(&probes[i].output);
    }
    mem_free(probes);
}

static Status prepare(Service *service, ServiceCall *call, const char *database, ProbeRun *run,
                      Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    const char *database_id = NULL;
    StoreRows rows;
    RETURN_IF_ERROR(store_database_id(transaction, call->arena, database, &database_id, error));
    RETURN_IF_ERROR(store_shard_sources(transaction, call->arena, database_id, &rows, error));
    if (rows.count == 0) {
        error_set(error, REASON_NO_SHARDS, "database '%s' has no shards", database);
        return error_hint(error, "add its shards first");
    }
    run->probes = mem_alloc_array((size_t)rows.count, sizeof(*run->probes));
    for (int row = 0; row < rows.count; row++) {
        Probe *probe = &run->probes[run->count++];
        probe->shard = store_value(&rows, row, "shard");
        buffer_init(&probe->output, PROBE_OUTPUT_SIZE_MAX);
        RETURN_IF_ERROR(input_of(service, call->arena, &rows, row, &probe->input, error));
    }
    return STATUS_OK;
}

Status service_probe_database(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ProbeDatabaseRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    if (text_is_empty(service->agent_program)) {
        error_set(error, REASON_PRECONDITION, "this server has no agent program to probe with");
        return error_hint(error, "install holdfast-agent beside holdfastd, or set its path");
    }
    ProbeRun run = {.program = service->agent_program};
    Status status = prepare(service, call, request->database, &run, error);
    if (status == STATUS_OK) {
        run_all(&run);
        Holdfast__V1__ProbeDatabaseResponse *response =
            (Holdfast__V1__ProbeDatabaseResponse *)message_new(
                call->arena, &holdfast__v1__probe_database_response__descriptor);
        response->results = arena_alloc_array(call->arena, run.count, sizeof(*response->results));
        for (; response->n_results < run.count; response->n_results++) {
            response->results[response->n_results] =
                result_of(call->arena, &run.probes[response->n_results]);
        }
        *ret_response = &response->base;
    }
    probes_free(run.probes, run.count);
    return status;
}
