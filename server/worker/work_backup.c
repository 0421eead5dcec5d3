// SPDX-License-Identifier: Apache-2.0
// A backup's run: attempts for its shards, the barrier, the end. Every look reads the run whole and
// does what is to be done now.
//
// Why in this order: an attempt and its instance's intent are one transaction, before anything is
// launched. The set object is written before the row says so, and its content depends on committed
// rows alone: written twice it is the same. The run is closed last, when its instances are observed
// gone, so that whatever is killed in between, the row still says that there is something to do.
#define LOG_MODULE "worker"
#include "common/crypto.h"
#include "common/log.h"
#include "common/text.h"
#include "server/service/attempt_sequel.h"
#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/store/store_work_backup.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <string.h>

#define LAUNCH_TIMEOUT_MS 120000
#define LOOK_MS 2000
#define CAPACITY_LOOK_MS 1000
#define CAPACITY_PATIENCE_MS                                                                       \
    15000 // ready shards wait this long for others that find no place to run
#define SET_TRIES_MAX 8

static bool is_state(const ShardRun *shard, const char *state)
{
    return text_equal(shard->state, state);
}

static bool is_open(const ShardRun *shard)
{
    return is_state(shard, "pending") || is_state(shard, "running");
}

static bool has_running_attempt(const ShardRun *shard)
{
    return is_state(shard, "running") && text_equal(shard->attempt_state, "running");
}

static size_t count_state(const BackupRun *run, const char *state)
{
    size_t count = 0;
    for (size_t i = 0; i < run->shard_count; i++) {
        count += is_state(&run->shards[i], state) ? 1 : 0;
    }
    return count;
}

// --- attempts that are over ---

typedef struct Loss {
    const char *state;
    Reason reason;
    const char *message;
} Loss;

static bool is_lost(const WorkerOptions *options, const ShardRun *shard, Loss *ret_loss)
{
    *ret_loss = (Loss){.state = "lost", .reason = REASON_INSTANCE_LOST};
    if (!shard->is_instance_alive || text_equal(shard->instance_state, "destroying")) {
        ret_loss->message = text_is_empty(shard->instance_message) ? "the instance disappeared"
                                                                   : shard->instance_message;
        return true;
    }
    if (!shard->is_joined && shard->is_home_away) {
        ret_loss->message = "the server that was to launch the instance went away";
        return true;
    }
    if (!shard->is_joined && shard->silence_ms > LAUNCH_TIMEOUT_MS) {
        *ret_loss = (Loss){.state = "failed",
                           .reason = REASON_LAUNCH_FAILED,
                           .message = "the instance did not join in time"};
        return true;
    }
    if (shard->is_joined && shard->silence_ms > options->attempt_lease_ms) {
        ret_loss->reason = REASON_LEASE_LOST;
        ret_loss->message = "the agent was not heard from for too long";
        return true;
    }
    return false;
}

static Status end_attempt(StoreTransaction *transaction, const ShardRun *shard, const Loss *loss,
                          AttemptSequel sequel, Error *error)
{
    bool is_ended = false;
    AttemptEnd end = {.attempt_id = shard->attempt_id,
                      .state = loss->state,
                      .reason = reason_slug(loss->reason),
                      .message = loss->message,
                      .sequel = sequel};
    log_info("an attempt is over", "attempt", shard->attempt_id, "state", loss->state, "why",
             loss->message, NULL);
    return store_attempt_end(transaction, &end, &is_ended, error);
}

static Status end_lost(const WorkStep *step, StoreTransaction *transaction, const BackupRun *run,
                       bool *ret_is_changed, Error *error)
{
    for (size_t i = 0; i < run->shard_count; i++) {
        const ShardRun *shard = &run->shards[i];
        Loss loss = {0};
        if (!has_running_attempt(shard) || !is_lost(step->options, shard, &loss)) {
            continue;
        }
        AttemptSequel sequel = attempt_sequel(reason_slug(loss.reason), shard->is_seed,
                                              shard->attempt_count, shard->plain_failure_count + 1);
        RETURN_IF_ERROR(end_attempt(transaction, shard, &loss, sequel, error));
        *ret_is_changed = true;
    }
    return STATUS_OK;
}

static Status cancel_all(StoreTransaction *transaction, const BackupRun *run, bool *ret_is_changed,
                         Error *error)
{
    const Loss canceled = {
        .state = "canceled", .reason = REASON_CANCELED, .message = "the backup was canceled"};
    for (size_t i = 0; i < run->shard_count; i++) {
        const ShardRun *shard = &run->shards[i];
        if (has_running_attempt(shard)) {
            RETURN_IF_ERROR(end_attempt(transaction, shard, &canceled, ATTEMPT_CANCEL, error));
            *ret_is_changed = true;
        } else if (is_open(shard)) {
            RETURN_IF_ERROR(store_shard_backup_end(transaction, shard->shard_backup_id, "canceled",
                                                   reason_slug(REASON_CANCELED), canceled.message,
                                                   error));
            *ret_is_changed = true;
        }
    }
    return STATUS_OK;
}

// --- attempts that begin ---

static Status start_attempt(const WorkStep *step, StoreTransaction *transaction,
                            const BackupRun *run, const ShardRun *shard, Error *error)
{
    char attempt_id[UUID_TEXT_SIZE];
    char instance_id[UUID_TEXT_SIZE];
    uint8_t hash[SHA256_SIZE];
    crypto_uuid(attempt_id);
    crypto_uuid(instance_id);
    worker_join_secret_hash(step->options, instance_id, hash);
    AttemptStart start = {
        .attempt_id = attempt_id, .instance_id = instance_id, .join_secret_hash = hash};
    log_info("an attempt begins", "backup", run->id, "database", run->database_name, "shard",
             shard->shard_name, "attempt", attempt_id, "instance", instance_id, NULL);
    return store_attempt_start(transaction, run, shard, &start, error);
}

static int64_t backoff_left_ms(const ShardRun *shard)
{
    if (shard->attempt_id == NULL || shard->attempt_ended_age_ms < 0) {
        return 0;
    }
    int64_t left_ms = attempt_backoff_ms(shard->attempt_reason, shard->attempt_count) -
                      shard->attempt_ended_age_ms;
    return MAX(left_ms, 0);
}

typedef struct Starts {
    bool is_changed, is_blocked; // blocked: the limit of instances is reached
    int64_t next_ms;
} Starts;

static Status start_pending(const WorkStep *step, StoreTransaction *transaction,
                            const BackupRun *run, Starts *ret_starts, Error *error)
{
    int alive = -1;
    for (size_t i = 0; i < run->shard_count; i++) {
        const ShardRun *shard = &run->shards[i];
        bool is_waiting = is_state(shard, "pending") ||
                          (is_state(shard, "running") && !has_running_attempt(shard));
        if (!is_waiting) {
            continue;
        }
        int64_t left_ms = backoff_left_ms(shard);
        if (left_ms > 0) {
            ret_starts->next_ms = MIN(ret_starts->next_ms, left_ms + 10);
            continue;
        }
        if (alive < 0) {
            RETURN_IF_ERROR(store_instance_plan_lock(transaction, error));
            RETURN_IF_ERROR(store_instance_count(transaction, &alive, error));
        }
        if (alive >= step->options->instance_count_max) {
            ret_starts->is_blocked = true;
            ret_starts->next_ms = MIN(ret_starts->next_ms, CAPACITY_LOOK_MS);
            break;
        }
        RETURN_IF_ERROR(start_attempt(step, transaction, run, shard, error));
        ret_starts->is_changed = true;
        alive++;
    }
    return STATUS_OK;
}

// --- the barrier ---

typedef struct Readiness {
    size_t running, ready, pending, without_position;
    int64_t oldest_ready_ms, newest_ready_ms;
} Readiness;

static Readiness readiness_of(const BackupRun *run)
{
    Readiness readiness = {.newest_ready_ms = INT64_MAX};
    for (size_t i = 0; i < run->shard_count; i++) {
        const ShardRun *shard = &run->shards[i];
        if (!is_open(shard)) {
            continue;
        }
        if (!has_running_attempt(shard)) {
            readiness.pending++;
            continue;
        }
        readiness.running++;
        if (shard->is_ready) {
            readiness.ready++;
            readiness.oldest_ready_ms = MAX(readiness.oldest_ready_ms, shard->ready_age_ms);
            readiness.newest_ready_ms = MIN(readiness.newest_ready_ms, shard->ready_age_ms);
            bool is_in_barrier = shard->ready_age_ms >= run->barrier_age_ms;
            readiness.without_position += is_in_barrier && !shard->has_checkpoint ? 1 : 0;
        }
    }
    return readiness;
}

static void add_barrier_warning(StoreTransaction *transaction, const BackupRun *run,
                                const char *message)
{
    store_event_add(transaction, &(StoreEventFields){.severity = "warning",
                                                     .kind = "backup.barrier_timeout",
                                                     .database = run->database_name,
                                                     .backup_id = run->id,
                                                     .message = message});
}

static Status look_at_barrier(const WorkStep *step, StoreTransaction *transaction,
                              const BackupRun *run, bool is_blocked, Error *error)
{
    Readiness readiness = readiness_of(run);
    if (text_equal(run->barrier, "taking")) {
        return readiness.without_position == 0
                   ? store_backup_run_barrier(transaction, run, "taken", error)
                   : STATUS_OK;
    }
    if (!text_equal(run->barrier, "waiting") || readiness.ready == 0) {
        return STATUS_OK;
    }
    bool are_running_ready = readiness.ready == readiness.running;
    if (are_running_ready && readiness.pending == 0) {
        return store_backup_run_barrier(transaction, run, "taking", error);
    }
    if (readiness.oldest_ready_ms >= step->options->barrier_timeout_ms) {
        add_barrier_warning(
            transaction, run,
            arena_format(step->arena,
                         "%zu of %zu shards were not ready for the checkpoint in time; the "
                         "others do not wait for them any longer",
                         readiness.running - readiness.ready + readiness.pending,
                         readiness.running + readiness.pending));
        return store_backup_run_barrier(transaction, run, "taking", error);
    }
    // Shards that are ready hold the places that the others need: waiting would be for ever.
    if (are_running_ready && is_blocked && readiness.newest_ready_ms >= CAPACITY_PATIENCE_MS) {
        add_barrier_warning(
            transaction, run,
            "the limit of instances is too low for all shards at once; those that are "
            "ready take their checkpoints first");
        return store_backup_run_barrier(transaction, run, "taking", error);
    }
    return STATUS_OK;
}

// --- the end ---

static Status write_set(const WorkStep *step, const BackupRun *run, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    CLEANUP(data_key_done) DataKey key = {0};
    SetShardRow *rows = NULL;
    size_t count = 0;
    RepositoryPlace place = {0};
    Repository *repository = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_backup_set_shards(transaction, step->arena, run->id, &rows, &count, error));
    RETURN_IF_ERROR(
        store_repository_place(transaction, step->arena, run->repository_id, &place, error));
    RETURN_IF_ERROR(
        store_commit(&transaction, error)); // no transaction is open while objects are written
    RETURN_IF_ERROR(repository_cache_get(step->options->repositories, place.id, &place.address,
                                         place.key_file, &repository, error));
    RETURN_IF_ERROR(repository_data_key(repository, run->database_id, false, &key, error));
    SetShard *shards = arena_alloc_array(step->arena, count + 1, sizeof(*shards));
    for (size_t i = 0; i < count; i++) {
        shards[i].shard_name = rows[i].shard_name;
        shards[i].checkpoint = rows[i].checkpoint;
        memcpy(shards[i].shard_id, rows[i].shard_id, strnlen(rows[i].shard_id, 36));
        memcpy(shards[i].manifest_id, rows[i].manifest_id,
               strnlen(rows[i].manifest_id, sizeof(shards[i].manifest_id) - 1));
        memcpy(shards[i].manifest_digest, rows[i].manifest_digest,
               strnlen(rows[i].manifest_digest, sizeof(shards[i].manifest_digest) - 1));
    }
    // The time is the backup's, not now: written again after a kill it must be the same object.
    BackupSet set = {.database_name = run->database_name,
                     .engine = run->engine,
                     .created_us = run->created_us,
                     .is_complete = count == run->shard_count,
                     .shards = shards,
                     .shard_count = count};
    memcpy(set.backup_id, run->id, 36);
    memcpy(set.database_id, run->database_id, 36);
    memcpy(set.key_id, key.id, sizeof(set.key_id));
    RETURN_IF_ERROR(backup_set_write(repository, &key, &set, error));
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_backup_run_set_written(transaction, run->id, error));
    return store_commit(&transaction, error);
}

typedef struct Ending {
    const char *state, *reason, *message;
} Ending;

static Ending ending_of(const WorkStep *step, const BackupRun *run)
{
    size_t committed = count_state(run, "committed");
    if (committed == run->shard_count) {
        return (Ending){.state = "succeeded", .reason = "", .message = ""};
    }
    if (run->is_cancel_requested) {
        return (Ending){.state = "canceled",
                        .reason = reason_slug(REASON_CANCELED),
                        .message = "it was canceled on request"};
    }
    const ShardRun *failed = NULL;
    for (size_t i = 0; i < run->shard_count && failed == NULL; i++) {
        failed = is_state(&run->shards[i], "failed") ? &run->shards[i] : NULL;
    }
    if (failed == NULL) {
        return (Ending){.state = "failed",
                        .reason = reason_slug(REASON_INTERNAL),
                        .message = "it has no shards"};
    }
    return (Ending){.state = "failed",
                    .reason = failed->reason,
                    .message = arena_format(step->arena, "%zu of %zu shards failed; shard %s: %s",
                                            run->shard_count - committed, run->shard_count,
                                            failed->shard_name, failed->message)};
}

static Status close_run(const WorkStep *step, Ending ending, int64_t *ret_next_ms, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    BackupRun *run = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_backup_run_lock(transaction, step->arena, step->item->subject_id, &run, error));
    if (run == NULL || run->waiting_instance_count > 0) {
        *ret_next_ms = run == NULL ? WORK_DONE : LOOK_MS; // woken when they are gone
        return STATUS_OK;
    }
    if (run->away_instance_count > 0) {
        store_event_add(
            transaction,
            &(StoreEventFields){.severity = "warning",
                                .kind = "instance.unobserved",
                                .database = run->database_name,
                                .backup_id = run->id,
                                .message = "instances of this backup run at a server that is away; "
                                           "they are cleared when it is back"});
    }
    RETURN_IF_ERROR(store_backup_run_finish(transaction, run, ending.state, ending.reason,
                                            ending.message, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_info("a backup has ended", "backup", run->id, "database", run->database_name, "state",
             ending.state, "why", ending.message, NULL);
    *ret_next_ms = WORK_DONE;
    return STATUS_OK;
}

static Status end_run(const WorkStep *step, const BackupRun *run, int64_t *ret_next_ms,
                      Error *error)
{
    Ending ending = ending_of(step, run);
    if (!run->is_set_written && count_state(run, "committed") > 0) {
        Status status = write_set(step, run, error);
        bool is_final = step->item->tries >= SET_TRIES_MAX;
        if (status != STATUS_OK && !is_final) {
            return error_wrap(error, "writing the backup's set object");
        }
        if (status != STATUS_OK) {
            ending = (Ending){.state = "failed",
                              .reason = reason_slug(error->reason),
                              .message = arena_format(step->arena,
                                                      "its set object could not be written: %s",
                                                      error->message)};
            error_clear(error);
        }
    }
    return close_run(step, ending, ret_next_ms, error);
}

// --- the look ---

static Status look(const WorkStep *step, StoreTransaction *transaction, const BackupRun *run,
                   int64_t *ret_next_ms, Error *error)
{
    bool is_changed = false;
    Starts starts = {.next_ms = LOOK_MS};
    if (text_equal(run->state, "pending")) {
        RETURN_IF_ERROR(store_backup_run_start(transaction, run, error));
    }
    if (run->is_cancel_requested) {
        RETURN_IF_ERROR(cancel_all(transaction, run, &is_changed, error));
    } else {
        RETURN_IF_ERROR(end_lost(step, transaction, run, &is_changed, error));
        if (!is_changed) {
            RETURN_IF_ERROR(start_pending(step, transaction, run, &starts, error));
            RETURN_IF_ERROR(look_at_barrier(step, transaction, run, starts.is_blocked, error));
        }
    }
    // What was changed is looked at anew, from the store.
    *ret_next_ms = is_changed ? 0 : starts.next_ms;
    return STATUS_OK;
}

Status work_backup(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    BackupRun *run = NULL;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_backup_run_lock(transaction, step->arena, step->item->subject_id, &run, error));
    if (run == NULL || !(text_equal(run->state, "pending") || text_equal(run->state, "running"))) {
        *ret_next_ms = WORK_DONE;
        return STATUS_OK;
    }
    bool is_over = count_state(run, "pending") == 0 && count_state(run, "running") == 0;
    if (!is_over) {
        RETURN_IF_ERROR(look(step, transaction, run, ret_next_ms, error));
        return store_commit(&transaction, error);
    }
    store_rollback(&transaction);
    return end_run(step, run, ret_next_ms, error);
}
