// SPDX-License-Identifier: Apache-2.0
// What instances that are gone may have left at a shard's source (replication slots) is removed, so
// that a dead agent never fills a primary's disk. The agent program does it, as a child: the
// engines' clients are there.
#define LOG_MODULE "worker"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "server/service/credential_seal.h"
#include "server/store/store_agent.h"
#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/worker/worker_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TIMEOUT_MS 30000
#define TRIES_MAX                                                                                  \
    8 // a source that cannot be reached for that long: the next backup cleans up there

typedef struct Request {
    AgentSource *source; // NULL: nothing to do
    const char **alive;
    size_t alive_count;
} Request;

static Status read_request(const WorkStep *step, Request *ret_request, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_agent_source(transaction, step->arena, step->item->subject_id,
                                       &ret_request->source, error));
    RETURN_IF_ERROR(store_instance_alive_of_shard(transaction, step->arena, step->item->subject_id,
                                                  &ret_request->alive, &ret_request->alive_count,
                                                  error));
    return store_commit(&transaction, error);
}

static Status write_input(const WorkStep *step, const Request *request, Buffer *buffer,
                          Error *error)
{
    const AgentSource *source = request->source;
    CLEANUP(secret_done) Secret password = {0};
    RETURN_IF_ERROR(credential_unseal(step->options->secret_key, source->credential_id,
                                      source->password_sealed, source->password_sealed_size,
                                      &password, error));
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_text(json, "engine", source->engine);
    json_set_text(json, "host", source->host);
    json_set_integer(json, "port", source->port);
    json_set_text(json, "username", source->username);
    json_set_text(json, "password", secret_text(&password));
    json_set_text(json, "tls_mode", source->tls_mode);
    json_set_text(json, "tls_ca", source->tls_ca);
    json_set_text(json, "shard_id", step->item->subject_id);
    Json *alive = json_new_array();
    for (size_t i = 0; i < request->alive_count; i++) {
        json_add(alive, json_new_text(request->alive[i]));
    }
    json_set(json, "alive", alive);
    if (!json_write(json, false, buffer)) {
        return error_set(error, REASON_EXHAUSTED, "too many instances of one shard");
    }
    return STATUS_OK;
}

// In memory, not on disk: the password is in it.
static Status open_input(const Buffer *buffer, int *ret_fd, Error *error)
{
    CLEANUP(fd_closep) int fd = memfd_create("source", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "memfd_create");
    }
    RETURN_IF_ERROR(file_write_all(fd, buffer->data, buffer->size, error));
    if (lseek(fd, 0, SEEK_SET) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "lseek");
    }
    *ret_fd = fd;
    fd = INVALID_FD;
    return STATUS_OK;
}

static Status run_agent(const WorkStep *step, const Request *request, Error *error)
{
    Buffer input;
    Buffer output;
    CLEANUP(fd_closep) int fd = INVALID_FD;
    buffer_init(&input, 1024 * 1024);
    buffer_init(&output, 65536);
    Status status = write_input(step, request, &input, error);
    status = status != STATUS_OK ? status : open_input(&input, &fd, error);
    if (status == STATUS_OK) {
        const char *flag = request->source->is_shard_deleted ? "--forget-source" : "--clean-source";
        const char *arguments[] = {step->options->agent_program, flag, NULL};
        ProcessOptions options = {.arguments = arguments, .input_fd = fd};
        status = process_run(&options, TIMEOUT_MS, REASON_SOURCE_UNREACHABLE, &output, error);
    }
    CLEANUP(json_freep) Json *answer = NULL;
    Error ignored = {0};
    if (status != STATUS_OK && output.size > 0 &&
        json_parse(buffer_text(&output), output.size, &answer, &ignored) == STATUS_OK) {
        error_set(error, REASON_SOURCE_UNREACHABLE, "%s",
                  json_get_text(answer, "message", "no message"));
    }
    if (input.data != NULL) {
        explicit_bzero(input.data, input.size);
    }
    buffer_done(&input);
    buffer_done(&output);
    return status;
}

Status work_forget_source(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    Request request = {0};
    *ret_next_ms = WORK_DONE;
    RETURN_IF_ERROR(read_request(step, &request, error));
    if (request.source == NULL) {
        return STATUS_OK;
    }
    Status status = run_agent(step, &request, error);
    if (status == STATUS_OK) {
        return STATUS_OK;
    }
    if (step->item->tries + 1 < TRIES_MAX) {
        return error_wrap(error, "cleaning up at a source");
    }
    log_error_record(LOG_WARNING, LOG_MODULE, error,
                     "a source could not be cleaned up; the shard's next backup does it", "shard",
                     step->item->subject_id, NULL);
    error_clear(error);
    return STATUS_OK;
}
