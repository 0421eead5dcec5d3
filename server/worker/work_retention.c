// SPDX-License-Identifier: Apache-2.0
// Retention decides over backups; the clean-up removes what no kept backup needs, also what dead
// attempts left.
//
// Order of a removal: the row says 'deleting' (nobody starts from it or restores it any more), then
// the set objects go (nobody finds it in the repository any more), then manifests and packs, and
// last the row says 'deleted'. Killed anywhere, the next run goes on: the row still says
// 'deleting', and removing what is gone already is fine.
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

#include <assert.h>
#include <stdio.h>
#include <string.h>

// One database in one repository.
typedef struct Cleanup {
    const char *database_id;
    RetentionPlace place;
    const char **gone; // backups that are being deleted
    size_t gone_count;
    const char **shards;
    size_t shard_count;
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

static Status read_cleanup(const WorkStep *step, Cleanup *cleanup, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_retention_deleting(transaction, step->arena, cleanup->database_id,
                                             cleanup->place.repository_id, &cleanup->gone,
                                             &cleanup->gone_count, error));
    RETURN_IF_ERROR(store_retention_shards(transaction, step->arena, cleanup->database_id,
                                           cleanup->place.repository_id, &cleanup->shards,
                                           &cleanup->shard_count, error));
    return store_commit(&transaction, error);
}

// What the repository's stored_bytes shrinks by.
static Status record_removed(const WorkStep *step, const Cleanup *cleanup, int64_t removed_bytes,
                             Error *error)
{
    if (removed_bytes == 0) {
        return STATUS_OK;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_repository_add_removed(
        transaction, step->arena, cleanup->place.repository_id, removed_bytes, error));
    return store_commit(&transaction, error);
}

static Status sweep_shard(const WorkStep *step, const Cleanup *cleanup, Repository *repository,
                          const DataKey *key, const char *shard_id, Error *error)
{
    const char **keep = NULL;
    size_t keep_count = 0;
    int64_t protect_epoch = 0;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(
            store_retention_keep(transaction, step->arena, shard_id, cleanup->place.repository_id,
                                 id_array(step->arena, cleanup->gone, cleanup->gone_count), &keep,
                                 &keep_count, &protect_epoch, error));
        RETURN_IF_ERROR(
            store_commit(&transaction, error)); // none is open while objects are removed
    }
    SweepOptions options = {.shard_id = shard_id,
                            .keep = keep,
                            .keep_count = keep_count,
                            .protect_epoch_min =
                                protect_epoch > UINT32_MAX ? UINT32_MAX : (uint32_t)protect_epoch};
    SweepResult result = {0};
    RETURN_IF_ERROR(repository_sweep_shard(repository, key, &options, &result, error));
    if (result.removed_count + result.compacted_count > 0) {
        char removed[32];
        (void)snprintf(removed, sizeof(removed), "%lld", (long long)result.removed_bytes);
        log_info("objects that no backup needs were removed", "shard", shard_id, "bytes", removed,
                 NULL);
    }
    return record_removed(step, cleanup, result.removed_bytes, error);
}

static Status mark_deleted(const WorkStep *step, const Cleanup *cleanup, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    for (size_t i = 0; i < cleanup->gone_count; i++) {
        RETURN_IF_ERROR(store_retention_deleted(transaction, cleanup->gone[i], error));
    }
    return store_commit(&transaction, error);
}

// A database's first backup may have failed before there was a key: then there is nothing to remove
// either.
static Status open_place(const WorkStep *step, const Cleanup *cleanup, Repository **ret_repository,
                         DataKey *ret_key, bool *ret_is_empty, Error *error)
{
    RETURN_IF_ERROR(repository_cache_get(step->options->repositories, cleanup->place.repository_id,
                                         cleanup->place.location, cleanup->place.key_file,
                                         ret_repository, error));
    Status status =
        repository_data_key(*ret_repository, cleanup->database_id, false, ret_key, error);
    *ret_is_empty = status != STATUS_OK &&
                    (error->reason == REASON_KEY_MISSING || error->reason == REASON_NOT_FOUND);
    if (*ret_is_empty) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

static Status clean_up(const WorkStep *step, const char *database_id, const RetentionPlace *place,
                       Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Cleanup cleanup = {.database_id = database_id, .place = *place};
    Repository *repository = NULL;
    bool is_empty = false;
    RETURN_IF_ERROR(read_cleanup(step, &cleanup, error));
    if (cleanup.gone_count == 0 && cleanup.shard_count == 0) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(open_place(step, &cleanup, &repository, &key, &is_empty, error));
    for (size_t i = 0; i < cleanup.gone_count && !is_empty; i++) {
        RETURN_IF_ERROR(backup_set_remove(repository, database_id, cleanup.gone[i], error));
    }
    for (size_t i = 0; i < cleanup.shard_count && !is_empty; i++) {
        RETURN_IF_ERROR(sweep_shard(step, &cleanup, repository, &key, cleanup.shards[i], error));
    }
    if (!is_empty) {
        int64_t removed_count = 0;
        RETURN_IF_ERROR(
            storage_remove_stale(repository_storage(repository), &removed_count, error));
    }
    return mark_deleted(step, &cleanup, error);
}

Status work_backup_delete(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    const char *database_id = NULL;
    const char *repository_id = NULL;
    RetentionPlace *places = NULL;
    size_t count = 0;
    *ret_next_ms = WORK_DONE;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
        RETURN_IF_ERROR(store_retention_place_of(transaction, step->arena, step->item->subject_id,
                                                 &database_id, &repository_id, error));
        if (database_id == NULL) {
            return STATUS_OK; // done with another one
        }
        RETURN_IF_ERROR(
            store_retention_places(transaction, step->arena, database_id, &places, &count, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    for (size_t i = 0; i < count; i++) {
        if (text_equal(places[i].repository_id, repository_id)) {
            RETURN_IF_ERROR(clean_up(step, database_id, &places[i], error));
        }
    }
    return STATUS_OK;
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
        RETURN_IF_ERROR(clean_up(step, step->item->subject_id, &places[i], error));
    }
    return STATUS_OK;
}
