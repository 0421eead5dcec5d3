// SPDX-License-Identifier: Apache-2.0
// A restore of one shard into a directory that a person named, and then either a server on a port
// or nothing more. The files are written beside the target and renamed, so that the target is
// either absent or whole; it stays marked as ours until the server has taken the restore, so that
// another try can tell the remains of a lost one from somebody's data.
#include "agent/job.h"
#include "agent/restore_target.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MODULE "agent"
#define ALIVE_CHECK_MS 1000

typedef struct RestoreJob {
    const Job *job;
    const Holdfast__V1__RestoreAssignment *assignment;
    Arena *arena;
    JobRepository repository;
    Manifest *manifest;
    Engine *engine;
    const char *directory; // the target; our own, gone with the instance, when none was named
    const char *partial_directory; // where the files are written first; "": the target itself
    bool is_ours;                  // the target was filled by us: a failure empties it again
    int64_t restore_ms, start_ms, size_bytes;
} RestoreJob;

// --- the directory ------------------------------------------------------------------------------

// Whose the target is while it is being filled.
static const char *restore_owner(const RestoreJob *restore)
{
    return arena_format(restore->arena, "restore %s shard %s", restore->assignment->restore_id,
                        restore->assignment->shard_id);
}

static bool is_target_a_persons(const RestoreJob *restore)
{
    return !text_equal(restore->directory, restore->job->instance->data_directory);
}

// A target on a file system of its own cannot be renamed onto; it is filled in place.
static bool can_be_renamed_onto(const char *directory, const char *parent)
{
    struct stat target = {0};
    struct stat above = {0};
    if (stat(directory, &target) != 0) {
        return errno == ENOENT;
    }
    return stat(parent, &above) == 0 && target.st_dev == above.st_dev;
}

// Asked of the kernel, because device numbers do not tell: two mounts of one file system share them
// and cannot be renamed between. The mounts are compared before the names are looked up (rename(2):
// EXDEV), so that a name that is not there asks without changing anything.
static bool can_be_renamed_between(const RestoreJob *restore, const char *parent)
{
    const Instance *instance = restore->job->instance;
    const char *from = arena_format(restore->arena, "%s/not-there", instance->work_directory);
    const char *to = arena_format(restore->arena, "%s/.%s", parent, instance->instance_id);
    return rename(from, to) != 0 && errno == ENOENT;
}

static Status restore_choose_partial(RestoreJob *restore, Error *error)
{
    const char *own = restore->job->instance->data_directory;
    restore->partial_directory = "";
    if (!is_target_a_persons(restore)) {
        return STATUS_OK;
    }
    char *target = arena_string(restore->arena, restore->directory);
    size_t size = strlen(target);
    while (size > 1 && target[size - 1] == '/') {
        target[--size] = '\0';
    }
    char *parent = arena_string(restore->arena, target);
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
    RETURN_IF_ERROR(dir_create_all(parent, 0700, error));
    if (!can_be_renamed_onto(restore->directory, parent) || access(parent, W_OK) != 0) {
        return STATUS_OK;
    }
    restore->partial_directory = can_be_renamed_between(restore, parent)
                                     ? own
                                     : arena_format(restore->arena, "%s.holdfast-partial-%s",
                                                    target, restore->assignment->restore_id);
    return dir_remove_all(restore->partial_directory, error); // of an earlier try
}

static Status restore_move_into_place(RestoreJob *restore, Error *error)
{
    if (text_is_empty(restore->partial_directory)) {
        return STATUS_OK;
    }
    const char *directory = restore->directory;
    // Marked before it gets the name: what has the name and is not ours is never marked.
    RETURN_IF_ERROR(restore_target_unmark(restore->partial_directory, error)); // one backed up
    RETURN_IF_ERROR(restore_target_mark(restore->partial_directory, restore_owner(restore), error));
    restore->is_ours = true;
    if (rename(restore->partial_directory, directory) != 0) {
        restore->is_ours = false;
        if (errno == ENOTEMPTY || errno == EEXIST) {
            return error_set(error, REASON_TARGET_NOT_EMPTY,
                             "the target '%s' was filled by somebody else meanwhile", directory);
        }
        return error_set_errno(error, REASON_INTERNAL, errno, "moving the files to '%s'",
                               directory);
    }
    return STATUS_OK;
}

static void restore_remove_remains(RestoreJob *restore, Reason reason)
{
    Error error = {0};
    if (!text_is_empty(restore->partial_directory) &&
        dir_remove_all(restore->partial_directory, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "a partial restore stays, ignoring it",
                         NULL);
    }
    if (!restore->is_ours) {
        return;
    }
    // Filled by somebody else between our look and the first write: only the mark is ours.
    Status status = reason == REASON_TARGET_NOT_EMPTY
                        ? restore_target_unmark(restore->directory, &error)
                        : restore_target_empty(restore->directory, &error);
    if (status != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "a failed restore stays, ignoring it",
                         NULL);
    }
    (void)rmdir(restore->directory); // stays when it is a mount point, or not empty
}

static Status restore_files(RestoreJob *restore, Error *error)
{
    const Holdfast__V1__RestoreAssignment *assignment = restore->assignment;
    agent_state_phase(restore->job->state, HOLDFAST__V1__PHASE__PHASE_RESTORE, NULL);
    int64_t started_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(restore_target_prepare(restore->directory, restore_owner(restore), error));
    RETURN_IF_ERROR(
        job_repository_open(restore->job, assignment->repository, &restore->repository, error));
    RETURN_IF_ERROR(job_manifest_read(&restore->repository, assignment->shard_id,
                                      assignment->manifest_id, assignment->manifest_digest,
                                      restore->arena, &restore->manifest, error));
    RETURN_IF_ERROR(restore_choose_partial(restore, error));
    const bool is_in_place = text_is_empty(restore->partial_directory);
    if (is_in_place && is_target_a_persons(restore)) {
        RETURN_IF_ERROR(restore_target_mark(restore->directory, restore_owner(restore), error));
    }
    restore->is_ours = is_in_place;
    const DataDirectoryRequest request = {
        .repository = restore->repository.repository,
        .key = &restore->repository.key,
        .manifest = restore->manifest,
        .directory = is_in_place ? restore->directory : restore->partial_directory,
        .limits = agent_state_limits(restore->job->state),
        .memory_bytes = agent_state_memory_bytes(restore->job->state),
        .progress = job_progress(restore->job),
    };
    MaterializeResult result = {0};
    // A restore is for keeps: it is written out whatever provider backups use.
    RETURN_IF_ERROR(data_directory_materialize.provide(&request, &result, error));
    restore->size_bytes = result.size_bytes;
    RETURN_IF_ERROR(restore_move_into_place(restore, error));
    restore->restore_ms = clock_monotonic_ms() - started_ms;
    return STATUS_OK;
}

// --- the engine ---------------------------------------------------------------------------------

static Status restore_serve(RestoreJob *restore, Error *error)
{
    const Holdfast__V1__RestoreAssignment *assignment = restore->assignment;
    agent_state_phase(restore->job->state, HOLDFAST__V1__PHASE__PHASE_START, NULL);
    const EngineOptions options = {
        .engine = restore->manifest->engine,
        .data_directory = restore->directory,
        .work_directory = restore->job->instance->work_directory,
        .instance_id = restore->job->instance->instance_id,
        .shard_id = assignment->shard_id,
        .program_directory = restore->job->program_directory,
        .memory_bytes = job_engine_memory_bytes(restore->job, assignment->memory_bytes),
        .agent_program = restore->job->instance->agent_program,
        .cancel = agent_state_cancel(restore->job->state),
    };
    const EngineSource no_source = {
        .host = "", .port = 0, .username = "", .password = {0}, .tls_mode = "disable"};
    RETURN_IF_ERROR(engine_open(&options, &no_source, &restore->engine, error));
    return engine_serve(restore->engine, restore->manifest->engine_version,
                        restore->manifest->engine_state, assignment->port, &restore->start_ms,
                        error);
}

static Status restore_stay(RestoreJob *restore, Error *error)
{
    while (!agent_state_wait_stop(restore->job->state, ALIVE_CHECK_MS)) {
        RETURN_IF_ERROR(engine_check_alive(restore->engine, error));
    }
    return STATUS_OK;
}

static Status restore_execute(RestoreJob *restore, Error *error)
{
    RETURN_IF_ERROR(restore_files(restore, error));
    RETURN_IF_ERROR(job_check_canceled(restore->job, error));
    RETURN_IF_ERROR(restore_serve(restore, error));
    const Holdfast__V1__RestoreAssignment *assignment = restore->assignment;
    if (assignment->port == 0) { // all done: nothing of ours may hold on to the directory
        engine_close(restore->engine);
        restore->engine = NULL;
    }
    Holdfast__V1__RestoreDone done = HOLDFAST__V1__RESTORE_DONE__INIT;
    done.size_bytes = restore->size_bytes;
    done.restore_ms = restore->restore_ms;
    done.start_ms = restore->start_ms;
    done.port = assignment->port;
    // Once it is said, the server may have taken it, and then it is the person's: never removed.
    // The mark stays until that is known, for the try that comes when we are lost before.
    restore->is_ours = false;
    agent_state_restore_done(restore->job->state, &done);
    RETURN_IF_ERROR(agent_state_wait_restore(restore->job->state, error));
    RETURN_IF_ERROR(restore_target_unmark(restore->directory, error));
    return assignment->port == 0 ? STATUS_OK : restore_stay(restore, error);
}

Status job_restore_run(const Job *job, const Holdfast__V1__RestoreAssignment *assignment,
                       Error *error)
{
    RestoreJob restore = {
        .job = job, .assignment = assignment, .arena = arena_new(), .partial_directory = ""};
    // Servers may do without a place of their own: they are looked at and stopped.
    bool is_ours = assignment->port > 0 && text_is_empty(assignment->directory);
    restore.directory = is_ours ? job->instance->data_directory : assignment->directory;
    log_info("restore begins", "restore", assignment->restore_id, "shard", assignment->shard_name,
             "manifest", assignment->manifest_id, "directory", restore.directory, NULL);
    Status status = restore_execute(&restore, error);
    if (status != STATUS_OK) {
        job_failed(job, error);
    }
    engine_close(restore.engine);
    if (status != STATUS_OK) {
        restore_remove_remains(&restore, error->reason);
    }
    job_repository_done(&restore.repository);
    arena_free(restore.arena);
    return status;
}
