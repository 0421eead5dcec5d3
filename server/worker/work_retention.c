// SPDX-License-Identifier: Apache-2.0
// Retention decides over backups; the clean-up removes what no kept backup needs, also what dead
// attempts left. Both run for one database at a time, after every backup whatever became of it, and
// every hour.
//
// Order of a removal: the row says 'deleting' (nobody starts from it or restores it any more), then
// the set objects go (nobody finds it in the repository any more), then manifests and packs, and
// last the row says 'deleted'. Killed anywhere, the next run goes on: the row still says
// 'deleting', and removing what is gone already is fine. The same goes for objects that the store
// keeps locked: the backup stays 'deleting', says so, and is tried again.
#define LOG_MODULE "worker"
#include "common/buffer.h"
#include "common/log.h"
#include "common/text.h"
#include "server/service/retention.h"
#include "server/store/store_backup.h"
#include "server/store/store_policy.h"
#include "server/store/store_repository.h"
#include "server/store/store_work_retention.h"
#include "server/worker/worker_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define US_PER_SECOND INT64_C(1000000)
#define LOCK_RETRY_US (24 * 3600 * US_PER_SECOND) // when the store does not say until when

// One database in one repository.
typedef struct Cleanup {
    const char *database_id;
    RetentionPlace place;
    Repository *repository;
    DataKey key;
    const char **deleting; // backups that are to go; those whose set is locked are at the end
    size_t deleting_count;
    size_t gone_count; // of them, those whose sets are gone
    RetentionSweep sweep;
    // What the store keeps locked.
    int64_t locked_count, locked_until_us;
} Cleanup;

// "{uuid,uuid}", PostgreSQL's array text.
static const char *id_array(Arena *arena, const char *const *ids, size_t count)
{
    Buffer text;
    buffer_init(&text, 64 * (count + 1));
    (void)buffer_append_text(&text, "{"); // the limit has room for all
    for (size_t i = 0; i < count; i++) {
        (void)buffer_append_format(&text, "%s%s", i == 0 ? "" : ",", ids[i]);
    }
    (void)buffer_append_text(&text, "}");
    const char *array = arena_string(arena, buffer_text(&text));
    buffer_done(&text);
    return array;
}

static void count_locked(Cleanup *cleanup, int64_t count, int64_t until_us)
{
    cleanup->locked_count += count;
    if (until_us > 0 && (cleanup->locked_until_us == 0 || until_us < cleanup->locked_until_us)) {
        cleanup->locked_until_us = until_us;
    }
}

// --- sets -------------------------------------------------------------------------------------

// A backup whose set stays is found by everybody, so its manifests and packs stay too.
static Status remove_sets(const WorkStep *step, Cleanup *cleanup, Error *error)
{
    size_t count = cleanup->deleting_count;
    const char **ids = cleanup->deleting;
    bool *are_locked = arena_alloc_array(step->arena, count + 1, sizeof(*are_locked));
    const char **locked = arena_alloc_array(step->arena, count + 1, sizeof(*locked));
    size_t locked_count = 0;
    RETURN_IF_ERROR(backup_set_remove_many(cleanup->repository, cleanup->database_id, ids, count,
                                           are_locked, error));
    for (size_t i = 0; i < count; i++) {
        if (are_locked[i]) {
            locked[locked_count++] = ids[i];
        } else {
            ids[cleanup->gone_count++] = ids[i];
        }
    }
    memcpy(ids + cleanup->gone_count, locked, locked_count * sizeof(*locked));
    count_locked(cleanup, (int64_t)locked_count, 0);
    return STATUS_OK;
}

// --- shards -----------------------------------------------------------------------------------

// Also after a failure: what the repository's stored_bytes shrinks by.
static Status record_sweep(const WorkStep *step, const Cleanup *cleanup,
                           const RetentionShard *shard, const RetentionKeep *keep,
                           const SweepResult *result, bool is_done, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    if (result->removed_bytes != 0) {
        RETURN_IF_ERROR(store_repository_add_removed(
            transaction, step->arena, cleanup->place.repository_id, result->removed_bytes, error));
    }
    if (is_done) {
        int64_t retry_us = 0;
        if (result->locked_count > 0) {
            retry_us = result->locked_until_us > keep->now_us ? result->locked_until_us
                                                              : keep->now_us + LOCK_RETRY_US;
        }
        RETURN_IF_ERROR(store_retention_swept(transaction, step->arena, shard->id,
                                              cleanup->place.repository_id, keep->now_us,
                                              shard->is_thorough, retry_us, error));
    }
    return store_commit(&transaction, error);
}

static void log_sweep(const char *shard_id, const SweepResult *result)
{
    char removed[32];
    char locked[32];
    (void)snprintf(removed, sizeof(removed), "%lld", (long long)result->removed_bytes);
    (void)snprintf(locked, sizeof(locked), "%lld", (long long)result->locked_count);
    if (result->removed_count + result->compacted_count > 0) {
        log_info("objects that no backup needs were removed", "shard", shard_id, "bytes", removed,
                 NULL);
    }
    if (result->locked_count > 0) {
        log_warning("the store keeps objects that no backup needs; they are tried again", "shard",
                    shard_id, "objects", locked, NULL);
    }
}

static Status sweep_shard(const WorkStep *step, Cleanup *cleanup, const RetentionShard *shard,
                          Error *error)
{
    RetentionKeep keep = {0};
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_keep(transaction, step->arena, shard->id, &cleanup->sweep,
                                             &keep, error));
        RETURN_IF_ERROR(
            store_commit(&transaction, error)); // none is open while objects are removed
    }
    SweepOptions options = {.shard_id = shard->id,
                            .keep = keep.manifest_ids,
                            .keep_count = keep.manifest_count,
                            .protect_epoch_min = keep.protect_epoch,
                            .abandoned = keep.abandoned,
                            .abandoned_count = keep.abandoned_count,
                            .now_us = keep.now_us,
                            .grace_us = cleanup->sweep.grace_ms * 1000,
                            .is_thorough = shard->is_thorough};
    SweepResult result;
    Status status =
        repository_sweep_shard(cleanup->repository, &cleanup->key, &options, &result, error);
    Error ignored = {0};
    Error *record_error = status == STATUS_OK ? error : &ignored; // the first one is the story
    Status record_status =
        record_sweep(step, cleanup, shard, &keep, &result, status == STATUS_OK, record_error);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(record_status);
    log_sweep(shard->id, &result);
    count_locked(cleanup, result.locked_count, result.locked_until_us);
    return STATUS_OK;
}

static Status sweep_shards(const WorkStep *step, Cleanup *cleanup, Error *error)
{
    RetentionShard *shards = NULL;
    size_t count = 0;
    cleanup->sweep =
        (RetentionSweep){.database_id = cleanup->database_id,
                         .repository_id = cleanup->place.repository_id,
                         .gone = id_array(step->arena, cleanup->deleting, cleanup->gone_count),
                         .grace_ms = step->options->orphan_grace_ms};
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_shards(transaction, step->arena, &cleanup->sweep, &shards,
                                               &count, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    for (size_t i = 0; i < count && cleanup->repository != NULL; i++) {
        RETURN_IF_ERROR(sweep_shard(step, cleanup, &shards[i], error));
    }
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

static const char *locked_message(Arena *arena, const Cleanup *cleanup)
{
    if (cleanup->locked_until_us == 0) {
        return "the store keeps some of its objects for now; they are tried again every day";
    }
    char date[32];
    struct tm parts;
    time_t seconds = (time_t)(cleanup->locked_until_us / US_PER_SECOND);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    return arena_format(arena,
                        "the store keeps some of its objects until %s; then they are tried "
                        "again",
                        date);
}

// Backups are deleted when nothing is left that was theirs; which of the locked objects were whose
// is not known, so all of them wait.
static Status finish(const WorkStep *step, const Cleanup *cleanup, Error *error)
{
    size_t done_count = cleanup->locked_count == 0 ? cleanup->gone_count : 0;
    size_t wait_count = cleanup->deleting_count - done_count;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    if (done_count > 0) {
        RETURN_IF_ERROR(store_retention_deleted(
            transaction, step->arena, id_array(step->arena, cleanup->deleting, done_count), error));
    }
    if (wait_count > 0) {
        RETURN_IF_ERROR(store_retention_locked(
            transaction, step->arena,
            id_array(step->arena, cleanup->deleting + done_count, wait_count),
            locked_message(step->arena, cleanup), error));
    }
    return store_commit(&transaction, error);
}

// A database's first backup may have failed before there was a key: then there is nothing to remove
// either. Where backups are to go whose keys were destroyed, any key will do: a sweep that keeps
// nothing opens nothing.
static Status open_place(const WorkStep *step, Cleanup *cleanup, bool *ret_is_empty, Error *error)
{
    RETURN_IF_ERROR(repository_cache_get(step->options->repositories, cleanup->place.repository_id,
                                         &cleanup->place.address, cleanup->place.key_file,
                                         &cleanup->repository, error));
    Status status = repository_data_key(cleanup->repository, cleanup->database_id,
                                        cleanup->deleting_count > 0, &cleanup->key, error);
    *ret_is_empty = status != STATUS_OK &&
                    (error->reason == REASON_KEY_MISSING || error->reason == REASON_NOT_FOUND);
    if (*ret_is_empty) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

static Status read_deleting(const WorkStep *step, Cleanup *cleanup, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_retention_deleting(transaction, step->arena, cleanup->database_id,
                                             cleanup->place.repository_id, &cleanup->deleting,
                                             &cleanup->deleting_count, error));
    return store_commit(&transaction, error);
}

static Status remove_stale(const WorkStep *step, const Cleanup *cleanup, Error *error)
{
    bool is_due = false;
    int64_t removed_count = 0;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_claim_stale(transaction, step->arena,
                                                    cleanup->place.repository_id, &is_due, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    return is_due ? storage_remove_stale(repository_storage(cleanup->repository), &removed_count,
                                         error)
                  : STATUS_OK;
}

static Status clean_up_place(const WorkStep *step, Cleanup *cleanup, Error *error)
{
    bool is_empty = false;
    RETURN_IF_ERROR(read_deleting(step, cleanup, error));
    RETURN_IF_ERROR(open_place(step, cleanup, &is_empty, error));
    if (is_empty) {
        cleanup->repository = NULL;
        cleanup->gone_count = cleanup->deleting_count;
    } else {
        RETURN_IF_ERROR(remove_sets(step, cleanup, error));
    }
    RETURN_IF_ERROR(sweep_shards(step, cleanup, error));
    if (!is_empty) {
        RETURN_IF_ERROR(remove_stale(step, cleanup, error));
    }
    return cleanup->deleting_count > 0 ? finish(step, cleanup, error) : STATUS_OK;
}

static Status clean_up(const WorkStep *step, const RetentionPlace *place, Error *error)
{
    Cleanup cleanup = {.database_id = step->item->subject_id, .place = *place};
    Status status = clean_up_place(step, &cleanup, error);
    data_key_done(&cleanup.key);
    return status;
}

// --- verdicts ---------------------------------------------------------------------------------

static Status delete_backup(const WorkStep *step, const RetentionBackup *backup, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreBackupDeletion outcome = STORE_BACKUP_DELETION_BEGUN;
    const char *user_id = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_backup_delete(transaction, step->arena, backup->id, backup->why, &outcome,
                                        &user_id, error));
    if (outcome != STORE_BACKUP_DELETION_BEGUN) {
        log_info("a backup that retention lets go is still used", "backup", backup->id, "user",
                 user_id, NULL);
        return STATUS_OK; // the next round sees it again
    }
    return store_commit(&transaction, error);
}

// Only backups of the policy's own can go, so no other policy has a say.
static Status apply_policy(const WorkStep *step, const StoreRows *policies, int row, Error *error)
{
    StoreRows rows;
    int64_t now_us = 0;
    RetentionRule rule = retention_rule(policies, row);
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_backup_retention(transaction, step->arena,
                                               store_value(policies, row, "id"), &rows, error));
        RETURN_IF_ERROR(store_now(transaction, &now_us, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    RetentionBackup *backups = retention_backups(&rows, step->arena);
    retention_decide(step->arena, &rule, now_us, backups, (size_t)rows.count);
    for (int i = 0; i < rows.count; i++) {
        if (!backups[i].is_kept) {
            RETURN_IF_ERROR(delete_backup(step, &backups[i], error));
        }
    }
    return STATUS_OK;
}

static Status apply_policies(const WorkStep *step, Error *error)
{
    StoreRows policies;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_policies(transaction, step->arena, step->item->subject_id,
                                                 &policies, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    for (int row = 0; row < policies.count; row++) {
        RETURN_IF_ERROR(apply_policy(step, &policies, row, error));
    }
    return STATUS_OK;
}

Status work_retention(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    RetentionPlace *places = NULL;
    size_t count = 0;
    *ret_next_ms = WORK_DONE;
    RETURN_IF_ERROR(apply_policies(step, error));
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_places(transaction, step->arena, step->item->subject_id,
                                               &places, &count, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    for (size_t i = 0; i < count; i++) {
        RETURN_IF_ERROR(clean_up(step, &places[i], error));
    }
    return STATUS_OK;
}
