// SPDX-License-Identifier: Apache-2.0
// A restore's run: an instance for each shard, another one when it is lost; servers are kept until
// somebody stops them. Written as work_backup.c is: every look reads the run whole; the state is
// final only when the instances are observed gone.
#define LOG_MODULE "worker"
#include "common/crypto.h"
#include "common/log.h"
#include "common/text.h"
#include "server/service/attempt_sequel.h"
#include "server/store/store_instance.h"
#include "server/store/store_work_restore.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <string.h>

#define LAUNCH_TIMEOUT_MS 120000
#define LOOK_MS 2000
#define SERVING_LOOK_MS 5000
#define ATTEMPT_COUNT_MAX_OF_RESTORE 5
// From an agent's deadman to the end of its engine, and some more for clocks.
#define DEADMAN_SLACK_MS 30000

static bool is_state(const RestoreShardRun *shard, const char *state)
{
    return text_equal(shard->state, state);
}

static bool is_open(const RestoreShardRun *shard)
{
    return is_state(shard, "pending") || is_state(shard, "running");
}

static bool has_instance(const RestoreShardRun *shard)
{
    return shard->instance_id != NULL && shard->is_instance_alive;
}

static size_t count_state(const RestoreRun *run, const char *state)
{
    size_t count = 0;
    for (size_t i = 0; i < run->shard_count; i++) {
        count += is_state(&run->shards[i], state) ? 1 : 0;
    }
    return count;
}

// Why the shard's instance is lost, or NULL.
static const char *loss_of(const WorkerOptions *options, const RestoreShardRun *shard)
{
    if (shard->instance_id == NULL || !(is_state(shard, "running") || is_state(shard, "serving"))) {
        return NULL;
    }
    if (!shard->is_instance_alive || text_equal(shard->instance_state, "destroying")) {
        return text_is_empty(shard->instance_message) ? "the instance disappeared"
                                                      : shard->instance_message;
    }
    if (!shard->is_joined && (shard->is_home_away || shard->silence_ms > LAUNCH_TIMEOUT_MS)) {
        return "the instance did not join in time";
    }
    if (shard->is_joined && shard->silence_ms > options->attempt_lease_ms) {
        return "the agent was not heard from for too long";
    }
    return NULL;
}

// A shard that was served may have been written to: bringing the backup back once more would undo
// that in silence, so a person must decide.
static Status replace_or_fail(const WorkStep *step, StoreTransaction *transaction,
                              const RestoreRun *run, const RestoreShardRun *shard, const char *why,
                              Error *error)
{
    const char *reason = reason_slug(REASON_INSTANCE_LOST);
    if (is_state(shard, "serving")) {
        return store_restore_shard_set_state(
            transaction, shard->id, "failed", reason,
            arena_format(step->arena, "%s; its server is gone, its files are as it left them", why),
            error);
    }
    if (shard->attempt_count >= ATTEMPT_COUNT_MAX_OF_RESTORE) {
        return store_restore_shard_set_state(transaction, shard->id, "failed", reason,
                                             arena_format(step->arena,
                                                          "%s (try %lld, the last one)", why,
                                                          (long long)shard->attempt_count),
                                             error);
    }
    return store_restore_shard_retry(transaction, run, shard, reason, why,
                                     attempt_backoff_ms(reason, shard->attempt_count), error);
}

// The try before must be over: two of them may not write one directory. Where its end cannot be
// observed, because its machine is away, the agent's deadman has ended it by then.
static bool may_start(const WorkStep *step, const RestoreShardRun *shard)
{
    if (shard->retry_left_ms > 0) {
        return false;
    }
    bool is_surely_dead =
        shard->is_home_away && shard->silence_ms > step->options->deadman_ms + DEADMAN_SLACK_MS;
    return !has_instance(shard) || is_surely_dead;
}

static Status end_lost(const WorkStep *step, StoreTransaction *transaction, const RestoreRun *run,
                       bool *ret_is_changed, Error *error)
{
    for (size_t i = 0; i < run->shard_count; i++) {
        const RestoreShardRun *shard = &run->shards[i];
        const char *why = loss_of(step->options, shard);
        if (why == NULL) {
            continue;
        }
        RETURN_IF_ERROR(replace_or_fail(step, transaction, run, shard, why, error));
        RETURN_IF_ERROR(
            store_instance_request_destroy(transaction, shard->instance_id, why, error));
        *ret_is_changed = true;
    }
    return STATUS_OK;
}

static Status start_pending(const WorkStep *step, StoreTransaction *transaction,
                            const RestoreRun *run, int64_t *next_ms, Error *error)
{
    int alive = -1;
    for (size_t i = 0; i < run->shard_count; i++) {
        const RestoreShardRun *shard = &run->shards[i];
        char instance_id[UUID_TEXT_SIZE];
        uint8_t hash[SHA256_SIZE];
        if (!is_state(shard, "pending")) {
            continue;
        }
        if (!may_start(step, shard)) {
            *next_ms =
                shard->retry_left_ms > 0 ? MIN(*next_ms, shard->retry_left_ms + 10) : *next_ms;
            continue;
        }
        if (alive < 0) {
            RETURN_IF_ERROR(store_instance_plan_lock(transaction, error));
            RETURN_IF_ERROR(store_instance_count(transaction, &alive, error));
        }
        if (alive >= step->options->instance_count_max) {
            return STATUS_OK;
        }
        crypto_uuid(instance_id);
        worker_join_secret_hash(step->options, instance_id, hash);
        RETURN_IF_ERROR(
            store_restore_shard_start(transaction, run, shard, instance_id, hash, error));
        alive++;
    }
    return STATUS_OK;
}

// Whoever has done its work, or shall not any more, goes.
static Status destroy_done(StoreTransaction *transaction, const RestoreRun *run,
                           bool are_servers_wanted, Error *error)
{
    for (size_t i = 0; i < run->shard_count; i++) {
        const RestoreShardRun *shard = &run->shards[i];
        bool is_wanted = is_open(shard) || (is_state(shard, "serving") && are_servers_wanted);
        if (has_instance(shard) && !is_wanted && !text_equal(shard->instance_state, "destroying")) {
            RETURN_IF_ERROR(store_instance_request_destroy(transaction, shard->instance_id,
                                                           "its restore is done", error));
        }
    }
    return STATUS_OK;
}

static Status stop_all(StoreTransaction *transaction, const RestoreRun *run, Error *error)
{
    for (size_t i = 0; i < run->shard_count; i++) {
        const RestoreShardRun *shard = &run->shards[i];
        if (is_open(shard)) {
            RETURN_IF_ERROR(store_restore_shard_set_state(transaction, shard->id, "canceled",
                                                          reason_slug(REASON_CANCELED),
                                                          "the restore was stopped", error));
        } else if (is_state(shard, "serving")) {
            RETURN_IF_ERROR(
                store_restore_shard_set_state(transaction, shard->id, "succeeded", "", "", error));
        }
        if (has_instance(shard)) {
            RETURN_IF_ERROR(store_instance_request_destroy(transaction, shard->instance_id,
                                                           "the restore was stopped", error));
        }
    }
    return STATUS_OK;
}

static bool has_instances(const RestoreRun *run)
{
    for (size_t i = 0; i < run->shard_count; i++) {
        if (has_instance(&run->shards[i]) && !run->shards[i].is_home_away) {
            return true;
        }
    }
    return false;
}

static Status finish(const WorkStep *step, StoreTransaction *transaction, const RestoreRun *run,
                     Error *error)
{
    const RestoreShardRun *failed = NULL;
    for (size_t i = 0; i < run->shard_count && failed == NULL; i++) {
        failed = is_state(&run->shards[i], "failed") ? &run->shards[i] : NULL;
    }
    if (failed != NULL) {
        const char *message =
            arena_format(step->arena, "shard %s: %s", failed->shard_name, failed->message);
        return store_restore_run_set_state(transaction, run, "failed", failed->reason, message,
                                           error);
    }
    if (count_state(run, "canceled") > 0) {
        return store_restore_run_set_state(transaction, run, "canceled",
                                           reason_slug(REASON_CANCELED),
                                           "it was stopped before it was done", error);
    }
    return store_restore_run_set_state(transaction, run, "succeeded", "", "", error);
}

static Status look(const WorkStep *step, StoreTransaction *transaction, const RestoreRun *run,
                   int64_t *ret_next_ms, Error *error)
{
    bool is_changed = false;
    size_t open = count_state(run, "pending") + count_state(run, "running");
    size_t serving = count_state(run, "serving");
    *ret_next_ms = LOOK_MS;
    if (run->is_stop_requested && open + serving > 0) {
        *ret_next_ms = 0;
        return stop_all(transaction, run, error);
    }
    RETURN_IF_ERROR(end_lost(step, transaction, run, &is_changed, error));
    if (is_changed) {
        *ret_next_ms = 0;
        return STATUS_OK;
    }
    if (open > 0) {
        RETURN_IF_ERROR(store_restore_run_set_state(transaction, run, "running", "", "", error));
        RETURN_IF_ERROR(start_pending(step, transaction, run, ret_next_ms, error));
        return destroy_done(transaction, run, true, error);
    }
    bool are_servers_wanted = serving > 0 && count_state(run, "failed") == 0;
    RETURN_IF_ERROR(destroy_done(transaction, run, are_servers_wanted, error));
    if (are_servers_wanted) {
        *ret_next_ms = SERVING_LOOK_MS;
        return store_restore_run_set_state(transaction, run, "serving", "", "", error);
    }
    if (has_instances(run)) {
        return STATUS_OK; // woken when they are gone
    }
    *ret_next_ms = WORK_DONE;
    return finish(step, transaction, run, error);
}

Status work_restore(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RestoreRun *run = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_restore_run_lock(transaction, step->arena, step->item->subject_id, &run, error));
    bool is_over = run == NULL || text_equal(run->state, "succeeded") ||
                   text_equal(run->state, "failed") || text_equal(run->state, "canceled");
    if (is_over) {
        *ret_next_ms = WORK_DONE;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(look(step, transaction, run, ret_next_ms, error));
    return store_commit(&transaction, error);
}
