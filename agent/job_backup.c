// SPDX-License-Identifier: Apache-2.0
// A backup of one shard, phase by phase (DESIGN, "Life of a backup"). Straight down: every step
// either succeeds or names why it did not, and the server decides what comes next.
#include "agent/job.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LOG_MODULE "agent"
#define PROBE_TIMEOUT_MS 30000
#define POSITION_WAIT_MS 1000
#define CATCH_UP_WAIT_MS 200
#define REPLAY_STALL_MS (5 * 60 * 1000)
#define COMPRESSION_LEVEL_DEFAULT 1

typedef struct BackupJob {
    const Job *job;
    const Holdfast__V1__BackupAssignment *assignment;
    const char *engine_name;
    Arena *arena;
    JobRepository repository,
        parent_repository; // the latter only when the parent's key is another one
    Manifest *parent;      // NULL: a seed
    NodeCache *node_cache; // of the parent; or NULL
    Recorder *recorder;    // begins once the parent is restored
    EngineSource source;
    EngineInfo info;
    Engine *engine;
    Checkpoint checkpoint;
    const char *engine_state;
    Manifest *manifest; // what was published
    atomic_llong pages_checked;
    int64_t received_bytes, restore_ms, start_ms, replay_ms;
} BackupJob;

// An EngineFile's check, counted.
typedef struct CountedCheck {
    const EngineFile *file;
    BackupJob *backup;
    uint32_t page_size;
} CountedCheck;

static bool is_seed(const BackupJob *backup)
{
    return text_is_empty(backup->assignment->parent_manifest_id);
}

static void on_engine_progress(void *context, const EngineProgress *progress)
{
    BackupJob *backup = context;
    backup->received_bytes = MAX(backup->received_bytes, progress->received_bytes);
    agent_state_progress(backup->job->state, progress->done_bytes, progress->total_bytes);
    agent_state_received(backup->job->state, progress->received_bytes, progress->position);
}

// --- before the first byte ----------------------------------------------------------------------

static Status backup_prepare_source(BackupJob *backup, Error *error)
{
    const Holdfast__V1__EngineSourceAccess *access = backup->assignment->source;
    if (access == NULL || access->source == NULL) {
        return error_set(error, REASON_INVALID, "the assignment names no source");
    }
    backup->engine_name = job_engine_name(access->engine);
    backup->source = (EngineSource){
        .host = access->source->host,
        .port = access->source->port,
        .username = access->username,
        .password = secret_from_text(access->password),
        .tls_mode = text_is_empty(access->source->tls_mode) ? "prefer" : access->source->tls_mode,
        .tls_ca_pem = text_is_empty(access->source->tls_ca) ? NULL : access->source->tls_ca,
    };
    secret_wipe_text(access->password);
    return STATUS_OK;
}

// What the source lacks is found before anything is moved.
static Status backup_probe(BackupJob *backup, Error *error)
{
    RETURN_IF_ERROR(
        engine_probe(backup->engine_name, &backup->source, PROBE_TIMEOUT_MS, &backup->info, error));
    if (backup->info.problem_count == 0) {
        return STATUS_OK;
    }
    const EngineProblem *problem = &backup->info.problems[0];
    if (backup->info.problem_count == 1) {
        (void)error_set(error, problem->reason, "%s", problem->message);
    } else {
        (void)error_set(error, problem->reason, "%s (and %zu more: probe the database)",
                        problem->message, backup->info.problem_count - 1);
    }
    return error_hint(error, "%s", problem->cure);
}

// Dead instances may have left something at the source that holds its logs. Failing to remove it
// must not keep this backup from running; the next one tries again.
static void backup_clean_after_the_dead(BackupJob *backup)
{
    const Holdfast__V1__BackupAssignment *assignment = backup->assignment;
    size_t count = assignment->n_alive_instance_ids;
    const char **alive = arena_alloc_array(backup->arena, count + 2, sizeof(*alive));
    for (size_t i = 0; i < count; i++) {
        alive[i] = assignment->alive_instance_ids[i];
    }
    alive[count] = backup->job->instance->instance_id;
    Error error = {0};
    int removed = 0;
    if (engine_clean_source(backup->engine_name, &backup->source, assignment->shard_id, alive,
                            &removed, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error,
                         "the remains of dead instances could not be removed, ignoring it", NULL);
    } else if (removed > 0) {
        log_info("remains of dead instances were removed from the source", NULL);
    }
}

static void backup_make_recorder(BackupJob *backup)
{
    const Instance *instance = backup->job->instance;
    const char *table = arena_format(backup->arena, "%s/recorder", instance->work_directory);
    backup->recorder = recorder_new(instance->agent_program, table);
}

static Status backup_open(BackupJob *backup, Error *error)
{
    const Holdfast__V1__BackupAssignment *assignment = backup->assignment;
    RETURN_IF_ERROR(
        job_repository_open(backup->job, assignment->repository, &backup->repository, error));
    if (assignment->parent_repository != NULL) {
        RETURN_IF_ERROR(job_repository_open(backup->job, assignment->parent_repository,
                                            &backup->parent_repository, error));
    }
    RETURN_IF_ERROR(backup_probe(backup, error));
    RETURN_IF_ERROR(job_check_canceled(backup->job, error));
    backup_clean_after_the_dead(backup);
    backup_make_recorder(backup);
    const EngineOptions options = {
        .engine = backup->engine_name,
        .data_directory = backup->job->instance->data_directory,
        .work_directory = backup->job->instance->work_directory,
        .instance_id = backup->job->instance->instance_id,
        .shard_id = assignment->shard_id,
        .program_directory = backup->job->program_directory,
        .memory_bytes = job_engine_memory_bytes(backup->job, assignment->memory_bytes),
        .agent_program = backup->job->instance->agent_program,
        .cancel = agent_state_cancel(backup->job->state),
        .lineage_id = repository_id(backup->repository.repository),
        .recorder = backup->recorder,
    };
    return engine_open(&options, &backup->source, &backup->engine, error);
}

// --- seed or restore, and replay ----------------------------------------------------------------

// The repository's data is at fault, not the way there: then the parent is no parent.
static Status name_parent_failure(const BackupJob *backup, Error *error)
{
    if (error->status != STATUS_DATA_LOSS && error->reason != REASON_NOT_FOUND) {
        return error->status;
    }
    Error cause = *error;
    return error_set(
        error, REASON_PARENT_UNRESTORABLE, "manifest '%s' does not restore (%s): %.1200s",
        backup->assignment->parent_manifest_id, reason_slug(cause.reason), cause.message);
}

// From here on it is known what is written. Without that, everything is read at the end.
static void backup_begin_recording(BackupJob *backup)
{
    Error error = {0};
    if (recorder_begin(backup->recorder, backup->job->instance->data_directory, &error) !=
        STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error,
                         "writes are not recorded, everything will be read", NULL);
    } else if (recorder_library_path(backup->recorder) == NULL) {
        log_warning("the recorder's library is not installed beside the agent: changed files will "
                    "be read in full",
                    "library", RECORDER_LIBRARY_NAME, NULL);
    }
}

static Status backup_restore_parent(BackupJob *backup, Error *error)
{
    const Holdfast__V1__BackupAssignment *assignment = backup->assignment;
    const JobRepository *repository = backup->parent_repository.repository != NULL
                                          ? &backup->parent_repository
                                          : &backup->repository;
    int64_t started_ms = clock_monotonic_ms();
    if (job_manifest_read(repository, assignment->shard_id, assignment->parent_manifest_id,
                          assignment->parent_manifest_digest, backup->arena, &backup->parent,
                          error) != STATUS_OK) {
        return name_parent_failure(backup, error);
    }
    Error cache_error = {0};
    if (node_cache_new(backup->job->instance->directory, &backup->node_cache, &cache_error) !=
        STATUS_OK) {
        log_warning("the parent's maps will be fetched twice", "error", cache_error.message, NULL);
    }
    const DataDirectoryRequest request = {
        .repository = repository->repository,
        .key = &repository->key,
        .manifest = backup->parent,
        .directory = backup->job->instance->data_directory,
        .limits = agent_state_limits(backup->job->state),
        .memory_bytes = agent_state_memory_bytes(backup->job->state),
        .is_scratch = true,
        .node_cache = backup->node_cache,
        .progress = job_progress(backup->job),
    };
    MaterializeResult result = {0};
    if (backup->job->provider->provide(&request, &result, error) != STATUS_OK) {
        return name_parent_failure(backup, error);
    }
    backup->restore_ms = clock_monotonic_ms() - started_ms;
    backup_begin_recording(backup);
    return engine_adopt(backup->engine, backup->parent->engine_version,
                        backup->parent->engine_state, error);
}

static Status backup_start(BackupJob *backup, Error *error)
{
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_START, NULL);
    int64_t started_ms = clock_monotonic_ms();
    Status status = engine_start(backup->engine, error);
    if (status != STATUS_OK) {
        if (is_seed(backup) && error->reason == REASON_PARENT_UNRESTORABLE) {
            Error cause = *error; // there is no parent: what was just copied does not start
            return error_set(error, REASON_ENGINE_FAILED, "%s", cause.message);
        }
        return status;
    }
    backup->start_ms = is_seed(backup) ? 0 : clock_monotonic_ms() - started_ms;
    return STATUS_OK;
}

// One look at where replay is. A position that stands still while there is something to replay is
// an error one day.
static Status backup_look(BackupJob *backup, EngineProgress *progress, bool *ret_is_caught_up,
                          Error *error)
{
    RETURN_IF_ERROR(job_check_canceled(backup->job, error));
    *progress = (EngineProgress){.done_bytes = -1, .total_bytes = -1, .received_bytes = -1};
    RETURN_IF_ERROR(engine_position(backup->engine, progress, ret_is_caught_up, error));
    on_engine_progress(backup, progress);
    return STATUS_OK;
}

static Status backup_catch_up(BackupJob *backup, Error *error)
{
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_REPLAY, NULL);
    int64_t started_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(engine_follow(backup->engine, error));
    EngineProgress progress = {0};
    EngineProgress last = {0};
    int64_t moved_ms = clock_monotonic_ms();
    bool is_caught_up = false;
    while (true) {
        RETURN_IF_ERROR(backup_look(backup, &progress, &is_caught_up, error));
        if (is_caught_up) {
            break;
        }
        if (progress.done_bytes != last.done_bytes ||
            !text_equal(progress.position, last.position)) {
            moved_ms = clock_monotonic_ms();
            last = progress;
        } else if (clock_monotonic_ms() - moved_ms > REPLAY_STALL_MS) {
            return error_set(error, REASON_REPLAY_STALLED,
                             "replay has not moved from '%.200s' for %d seconds", progress.position,
                             REPLAY_STALL_MS / 1000);
        }
        (void)agent_state_wait_stop(backup->job->state, CATCH_UP_WAIT_MS);
    }
    backup->replay_ms = clock_monotonic_ms() - started_ms;
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_READY, progress.position);
    return STATUS_OK;
}

// --- the checkpoint -----------------------------------------------------------------------------

// Follows on until the server says where to stop, so that the checkpoint is never far.
static Status backup_wait_for_order(BackupJob *backup, CheckpointOrder *ret_order, Error *error)
{
    while (true) {
        *ret_order = agent_state_wait_checkpoint(backup->job->state, POSITION_WAIT_MS);
        if (ret_order->kind != CHECKPOINT_ORDER_NONE) {
            return STATUS_OK;
        }
        EngineProgress progress = {0};
        bool is_caught_up = false;
        RETURN_IF_ERROR(backup_look(backup, &progress, &is_caught_up, error));
    }
}

static Status backup_reach_checkpoint(BackupJob *backup, Error *error)
{
    CheckpointOrder order;
    RETURN_IF_ERROR(backup_wait_for_order(backup, &order, error));
    backup->checkpoint = order.checkpoint;
    if (order.kind == CHECKPOINT_ORDER_TAKE) {
        // At once: the skew between the shards is what passes here.
        RETURN_IF_ERROR(engine_checkpoint_take(backup->engine, order.checkpoint.name,
                                               &backup->checkpoint, error));
        agent_state_checkpoint_taken(backup->job->state, &backup->checkpoint);
    }
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_CHECKPOINT,
                      backup->checkpoint.position);
    int64_t started_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(engine_replay_to(backup->engine, &backup->checkpoint, REPLAY_STALL_MS,
                                     on_engine_progress, backup, error));
    backup->replay_ms += clock_monotonic_ms() - started_ms;
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_STOP, NULL);
    return engine_stop(backup->engine, backup->arena, &backup->engine_state, error);
}

// --- publish and commit -------------------------------------------------------------------------

static uint32_t page_size_of(const BackupJob *backup, const EngineFile *file)
{
    if (file->page_size_bytes > 0) {
        return file->page_size_bytes;
    }
    return text_equal(backup->engine_name, "postgresql") ? 8192 : 16384;
}

static bool check_counted(void *context, const uint8_t *data, size_t size, int64_t offset,
                          int64_t *bad_page)
{
    CountedCheck *counted = context;
    if (!counted->file->check(counted->file->context, data, size, offset, bad_page)) {
        return false;
    }
    atomic_fetch_add(&counted->backup->pages_checked,
                     (long long)((size + counted->page_size - 1) / counted->page_size));
    return true;
}

static bool is_written(void *context, int64_t offset, int64_t size)
{
    return recorder_view_is_written(context, offset, size);
}

static SourceFile *backup_source_files(BackupJob *backup, const EngineLayout *layout)
{
    RecorderView *views = arena_alloc_array(backup->arena, layout->file_count + 1, sizeof(*views));
    SourceFile *files = arena_alloc_array(backup->arena, layout->file_count + 1, sizeof(*files));
    CountedCheck *checks =
        arena_alloc_array(backup->arena, layout->file_count + 1, sizeof(*checks));
    for (size_t i = 0; i < layout->file_count; i++) {
        const EngineFile *file = &layout->files[i];
        checks[i] =
            (CountedCheck){.file = file, .backup = backup, .page_size = page_size_of(backup, file)};
        recorder_view(backup->recorder, file->path, &views[i]);
        files[i] = (SourceFile){
            .path = file->path,
            .size_bytes = file->size_bytes,
            .mode = file->mode,
            .check = file->check != NULL ? check_counted : NULL,
            .context = &checks[i],
            .is_written = is_written,
            .written_context = &views[i],
        };
    }
    return files;
}

static Manifest backup_manifest(const BackupJob *backup)
{
    const Holdfast__V1__BackupAssignment *assignment = backup->assignment;
    Manifest manifest = {
        .database_name = assignment->database_name,
        .shard_name = assignment->shard_name,
        .engine = backup->engine_name,
        .engine_version = backup->info.version,
        .checkpoint = backup->checkpoint.position,
        .engine_state = backup->engine_state,
        .parent_id = assignment->parent_manifest_id,
        .parent_digest = backup->parent != NULL ? backup->parent->digest : "",
        .generation = assignment->generation,
        .created_us = clock_now_us(),
    };
    (void)snprintf(manifest.repository_id, sizeof(manifest.repository_id), "%s",
                   repository_id(backup->repository.repository));
    (void)snprintf(manifest.database_id, sizeof(manifest.database_id), "%s",
                   assignment->database_id);
    (void)snprintf(manifest.shard_id, sizeof(manifest.shard_id), "%s", assignment->shard_id);
    (void)snprintf(manifest.key_id, sizeof(manifest.key_id), "%s", backup->repository.key.id);
    return manifest;
}

// Only a full read can find that the recorder missed something; the backup is right even so.
static void backup_report_recorder(const BackupJob *backup)
{
    char read[24], missed[24];
    (void)snprintf(read, sizeof(read), "%lld", (long long)backup->manifest->read_bytes);
    (void)snprintf(missed, sizeof(missed), "%lld", (long long)backup->manifest->unrecorded_bytes);
    const char *state = recorder_state_name(recorder_state(backup->recorder));
    if (backup->manifest->unrecorded_bytes > 0) {
        log_error("the recorder missed writes that a full read found; it is not to be trusted",
                  "unrecorded_bytes", missed, "recorder", state, NULL);
    } else {
        log_info("published", "read_bytes", read, "recorder", state, NULL);
    }
}

// The epoch of the first attempt at this shard backup; 0: this is it.
static uint32_t resume_epoch(const Holdfast__V1__BackupAssignment *assignment)
{
    bool has_earlier = assignment->resume_epoch > 0 && assignment->resume_epoch < assignment->epoch;
    return has_earlier ? (uint32_t)assignment->resume_epoch : 0;
}

static Status backup_publish(BackupJob *backup, Error *error)
{
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_PUBLISH, NULL);
    if (backup->assignment->epoch < 0 || backup->assignment->epoch > UINT32_MAX) {
        return error_set(error, REASON_INVALID, "the epoch is out of range");
    }
    EngineLayout layout = {0};
    RETURN_IF_ERROR(engine_layout(backup->engine, backup->arena, &layout, error));
    const PublishOptions options = {
        .directory = backup->job->instance->data_directory,
        .files = backup_source_files(backup, &layout),
        .file_count = layout.file_count,
        .directories = layout.directories,
        .directory_count = layout.directory_count,
        .epoch = (uint32_t)backup->assignment->epoch,
        .parent = backup->parent,
        .manifest = backup_manifest(backup),
        .compression_level = backup->assignment->compression_level > 0
                                 ? backup->assignment->compression_level
                                 : COMPRESSION_LEVEL_DEFAULT,
        .reads_everything = backup->assignment->reads_everything,
        .resume_epoch_min = resume_epoch(backup->assignment),
        .resume_epoch_max = (uint32_t)backup->assignment->epoch - 1,
        .limits = agent_state_limits(backup->job->state),
        .memory_bytes = agent_state_memory_bytes(backup->job->state),
        .node_cache = backup->node_cache,
        .progress = job_progress(backup->job),
    };
    RETURN_IF_ERROR(repository_publish(backup->repository.repository, &backup->repository.key,
                                       &options, backup->arena, &backup->manifest, error));
    backup_report_recorder(backup);
    return STATUS_OK;
}

static Status backup_commit(BackupJob *backup, Error *error)
{
    agent_state_phase(backup->job->state, HOLDFAST__V1__PHASE__PHASE_COMMIT, NULL);
    const Manifest *manifest = backup->manifest;
    Holdfast__V1__CommitRequest request = HOLDFAST__V1__COMMIT_REQUEST__INIT;
    request.manifest_id = arena_string(backup->arena, manifest->id);
    request.manifest_digest = arena_string(backup->arena, manifest->digest);
    request.size_bytes = manifest->size_bytes;
    request.new_bytes = manifest->new_bytes;
    request.stored_bytes = manifest->stored_bytes;
    request.received_bytes = backup->received_bytes;
    request.pages_checked = atomic_load(&backup->pages_checked);
    request.read_bytes = manifest->read_bytes;
    request.unrecorded_bytes = manifest->unrecorded_bytes;
    request.reads_everything = backup->assignment->reads_everything;
    request.checkpoint = backup->checkpoint.position;
    request.engine_version = backup->info.version;
    request.parent_restore_ms = backup->restore_ms;
    request.parent_start_ms = backup->start_ms;
    request.replay_ms = backup->replay_ms;
    agent_state_commit(backup->job->state, &request);
    RETURN_IF_ERROR(agent_state_wait_commit(backup->job->state, error));
    log_info("committed", "manifest", manifest->id, NULL);
    Error late = {0};
    if (engine_committed(backup->engine, &late) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &late,
                         "the source could not be told of the commit; it keeps logs for longer",
                         NULL);
    }
    return STATUS_OK;
}

// --- all of it ----------------------------------------------------------------------------------

static Status backup_execute(BackupJob *backup, Error *error)
{
    agent_state_phase(backup->job->state,
                      is_seed(backup) ? HOLDFAST__V1__PHASE__PHASE_SEED
                                      : HOLDFAST__V1__PHASE__PHASE_RESTORE,
                      NULL);
    RETURN_IF_ERROR(backup_prepare_source(backup, error));
    RETURN_IF_ERROR(backup_open(backup, error));
    if (is_seed(backup)) {
        RETURN_IF_ERROR(engine_seed(backup->engine, on_engine_progress, backup, error));
    } else {
        RETURN_IF_ERROR(backup_restore_parent(backup, error));
    }
    RETURN_IF_ERROR(backup_start(backup, error));
    RETURN_IF_ERROR(backup_catch_up(backup, error));
    RETURN_IF_ERROR(backup_reach_checkpoint(backup, error));
    RETURN_IF_ERROR(backup_publish(backup, error));
    return backup_commit(backup, error);
}

Status job_backup_run(const Job *job, const Holdfast__V1__BackupAssignment *assignment,
                      Error *error)
{
    BackupJob backup = {.job = job, .assignment = assignment, .arena = arena_new()};
    atomic_init(&backup.pages_checked, 0);
    log_info("backup begins", "database", assignment->database_name, "shard",
             assignment->shard_name, "attempt", assignment->attempt_id, "parent",
             assignment->parent_manifest_id, NULL);
    Status status = backup_execute(&backup, error);
    if (status != STATUS_OK && error->reason != REASON_LEASE_LOST) {
        job_failed(job, error); // before the cleaning, which may take its time
    }
    engine_close(backup.engine);
    node_cache_free(backup.node_cache);
    recorder_free(backup.recorder);
    job_repository_done(&backup.parent_repository);
    job_repository_done(&backup.repository);
    secret_done(&backup.source.password);
    arena_free(backup.arena);
    return status;
}
