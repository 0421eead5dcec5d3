// SPDX-License-Identifier: Apache-2.0
#include "cli/backup_selection.h"

#include "common/clock.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

const char *selection_time(Arena *arena, int64_t time_us)
{
    char text[TIME_TEXT_SIZE];
    time_format(time_us, text);
    return arena_string(arena, text);
}

bool selection_has_shard(const OfflineOptions *options, const SetShard *shard)
{
    for (size_t i = 0; i < options->shard_count; i++) {
        if (text_equal(options->shards[i], shard->shard_name) ||
            text_equal(options->shards[i], shard->shard_id)) {
            return true;
        }
    }
    return options->shard_count == 0;
}

Json *selection_json(Arena *arena, const BackupSet *set)
{
    Json *json = json_new_object();
    json_set_text(json, "backup", set->backup_id);
    json_set_text(json, "database", set->database_name);
    json_set_text(json, "database_id", set->database_id);
    json_set_text(json, "engine", set->engine);
    json_set_text(json, "created_at", selection_time(arena, set->created_us));
    json_set_boolean(json, "is_complete", set->is_complete);
    json_set_integer(json, "shard_count", (int64_t)set->shard_count);
    json_set_text(json, "state", "ready");
    return json;
}

typedef struct Skipped {
    const OfflineOptions *options;
    int64_t count;
} Skipped;

// One that cannot be opened must not keep the others from being used; but it is told.
static void tell_unreadable(void *context, const char *database_id, const char *backup_id,
                            const Error *error)
{
    Skipped *skipped = context;
    skipped->count++;
    if (skipped->count <= 3) {
        (void)fprintf(stderr, "holdfast: backup %s of database %s cannot be read: %s\n", backup_id,
                      database_id, error->message);
    }
}

Status selection_list(Repository *repository, const OfflineOptions *options, Arena *arena,
                      BackupSet ***ret_sets, size_t *ret_count, Error *error)
{
    Skipped skipped = {.options = options};
    Status status = selection_scan(repository, options, arena, tell_unreadable, &skipped, ret_sets,
                                   ret_count, error);
    if (skipped.count > 3) {
        (void)fprintf(stderr, "holdfast: and %lld more; holdfast repository list shows them\n",
                      (long long)(skipped.count - 3));
    }
    return status;
}

typedef struct ScanHook {
    void (*on_unreadable)(void *context, const char *database_id, const char *backup_id,
                          const Error *error);
    void *context;
    size_t count;
    Error first;
} ScanHook;

static void hear_unreadable(void *context, const char *database_id, const char *backup_id,
                            const Error *error)
{
    ScanHook *hook = context;
    hook->first = hook->count++ == 0 ? *error : hook->first;
    hook->on_unreadable(hook->context, database_id, backup_id, error);
}

Status selection_scan(Repository *repository, const OfflineOptions *options, Arena *arena,
                      void (*on_unreadable)(void *context, const char *database_id,
                                            const char *backup_id, const Error *error),
                      void *context, BackupSet ***ret_sets, size_t *ret_count, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    size_t kept = 0;
    ScanHook hook = {.on_unreadable = on_unreadable, .context = context};
    RETURN_IF_ERROR(
        backup_set_scan(repository, arena, hear_unreadable, &hook, &sets, &count, error));
    for (size_t i = 0; i < count; i++) {
        if (options->database == NULL || text_equal(sets[i]->database_name, options->database) ||
            text_equal(sets[i]->database_id, options->database)) {
            sets[kept++] = sets[i];
        }
    }
    if (options->database != NULL && kept == 0 && hook.count > 0) {
        *error = hook.first; // what it is about is perhaps just what cannot be read
        return error_wrap(error, "the repository has no readable backup of database '%s'",
                          options->database);
    }
    if (options->database != NULL && kept == 0 && count > 0) {
        (void)error_set(error, REASON_NOT_FOUND, "the repository has no backup of database '%s'",
                        options->database);
        return error_hint(error, "see what it has with: holdfast repository list --repository %s",
                          options->repository);
    }
    *ret_sets = sets;
    *ret_count = kept;
    return STATUS_OK;
}

static Status find_by_id(BackupSet **sets, size_t count, const char *id, const BackupSet **ret_set,
                         Error *error)
{
    const BackupSet *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!text_has_prefix(sets[i]->backup_id, id)) {
            continue;
        }
        if (found != NULL) {
            return error_set(error, REASON_INVALID, "'%s' is the start of more than one backup",
                             id);
        }
        found = sets[i];
    }
    if (found == NULL) {
        (void)error_set(error, REASON_NOT_FOUND, "there is no backup '%s'", id);
        return error_hint(error, "holdfast repository list shows the backups there are");
    }
    *ret_set = found;
    return STATUS_OK;
}

static Status find_latest(BackupSet **sets, size_t count, const BackupSet **ret_set, Error *error)
{
    const BackupSet *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!text_equal(sets[i]->database_id, sets[0]->database_id)) {
            (void)error_set(error, REASON_INVALID,
                            "the repository has backups of several databases");
            return error_hint(error, "name one: --database '%s' or --database '%s'",
                              sets[0]->database_name, sets[i]->database_name);
        }
        found = sets[i]->is_complete ? sets[i] : found; // oldest first, so the last one stays
    }
    if (found == NULL) {
        (void)error_set(error, REASON_NOT_FOUND, "there is no complete backup");
        return error_hint(error,
                          "name an incomplete one with --backup ID; holdfast repository list "
                          "shows the backups there are");
    }
    *ret_set = found;
    return STATUS_OK;
}

Status selection_find(Repository *repository, const OfflineOptions *options, Arena *arena,
                      const BackupSet **ret_set, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(selection_list(repository, options, arena, &sets, &count, error));
    if (text_is_empty(options->backup) || text_equal(options->backup, "latest")) {
        return find_latest(sets, count, ret_set, error);
    }
    return find_by_id(sets, count, options->backup, ret_set, error);
}
