// SPDX-License-Identifier: Apache-2.0
// What backups and restores have in common.
#include "agent/job.h"

#include "common/crypto.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/message_json.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <stdio.h>

#define LOG_MODULE "agent"

static Status open_storage(const Job *job, const Holdfast__V1__RepositoryAccess *access,
                           Storage **ret_storage, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret secret = secret_from_text(access->secret_key);
    StorageOptions options = {
        .location = access->location,
        .access_key_id = access->access_key_id,
        .secret_key = &secret,
        .limits = {.is_canceled = &agent_state_cancel(job->state)->is_requested,
                   .pace = limits_pace,
                   .pace_context = agent_state_limits(job->state)}};
    if (access->object_store != NULL) {
        CLEANUP(json_freep) Json *json = message_to_json(&access->object_store->base);
        Buffer text;
        buffer_init(&text, LIMIT_RPC_MESSAGE_BYTES);
        Status status =
            json_write(json, false, &text)
                ? storage_options_from_json(buffer_text(&text), arena, &options, error)
                : error_set(error, REASON_INVALID, "the assignment's store is too long");
        buffer_done(&text);
        RETURN_IF_ERROR(status);
    }
    return storage_open(&options, ret_storage, error);
}

Status job_repository_open(const Job *job, const Holdfast__V1__RepositoryAccess *access,
                           JobRepository *ret_repository, Error *error)
{
    if (access == NULL || access->data_key.len != AES256_KEY_SIZE) {
        return error_set(error, REASON_INVALID, "the assignment has no usable data key");
    }
    *ret_repository = (JobRepository){0};
    Storage *storage = NULL;
    RETURN_IF_ERROR(open_storage(job, access, &storage, error));
    RETURN_IF_ERROR(repository_open(storage, NULL, &ret_repository->repository, error));
    (void)snprintf(ret_repository->key.id, sizeof(ret_repository->key.id), "%s", access->key_id);
    ret_repository->key.bytes = secret_from_bytes(access->data_key.data, access->data_key.len);
    return STATUS_OK;
}

void job_repository_done(JobRepository *repository)
{
    data_key_done(&repository->key);
    if (repository->repository != NULL) {
        repository_free(repository->repository);
    }
    *repository = (JobRepository){0};
}

Status job_manifest_read(const JobRepository *repository, const char *shard_id,
                         const char *manifest_id, const char *digest, Arena *arena,
                         Manifest **ret_manifest, Error *error)
{
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_read(repository->repository, &repository->key, shard_id, manifest_id,
                                  arena, &manifest, error));
    if (!text_is_empty(digest) && !text_equal(digest, manifest->digest)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that was committed: its digest is %.16s..., "
                         "not %.16s...",
                         manifest_id, manifest->digest, digest);
    }
    *ret_manifest = manifest;
    return STATUS_OK;
}

int64_t job_engine_memory_bytes(const Job *job, int64_t assigned_bytes)
{
    int64_t limit_bytes = agent_state_memory_bytes(job->state);
    return limit_bytes > 0 ? limit_bytes : assigned_bytes;
}

static bool on_progress(void *context, int64_t done_bytes, int64_t total_bytes)
{
    const Job *job = context;
    agent_state_progress(job->state, done_bytes, total_bytes);
    return !atomic_load(&agent_state_cancel(job->state)->is_requested);
}

Progress job_progress(const Job *job)
{
    union {
        const Job *in;
        void *out;
    } context = {.in = job}; // never written through
    return (Progress){.on_progress = on_progress, .context = context.out};
}

const char *job_engine_name(Holdfast__V1__Engine engine)
{
    switch (engine) {
    case HOLDFAST__V1__ENGINE__ENGINE_MARIADB:
        return "mariadb";
    case HOLDFAST__V1__ENGINE__ENGINE_MYSQL:
        return "mysql";
    case HOLDFAST__V1__ENGINE__ENGINE_POSTGRESQL:
        return "postgresql";
    default:
        return "";
    }
}

Status job_check_canceled(const Job *job, Error *error)
{
    if (agent_state_stop_cause(job->state) == STOP_NONE) {
        return STATUS_OK;
    }
    char why[256];
    agent_state_stop_why(job->state, why, sizeof(why));
    return error_set(error, REASON_CANCELED, "stopped: %s", why);
}

void job_failed(const Job *job, const Error *error)
{
    if (agent_state_stop_cause(job->state) != STOP_NONE) {
        return;
    }
    log_error_record(LOG_ERROR, LOG_MODULE, error, "the job failed", NULL);
    agent_state_fail(job->state, error);
}
