// SPDX-License-Identifier: Apache-2.0
#include "cli/backup_selection.h"

#include "common/clock.h"
#include "common/text.h"

#include <string.h>

const char *selection_time(Arena *arena, int64_t time_us)
{
    char text[TIME_TEXT_SIZE];
    time_format(time_us, text);
    return arena_string(arena, text);
}

Status selection_list(Repository *repository, const OfflineOptions *options, Arena *arena,
                      BackupSet ***ret_sets, size_t *ret_count, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(backup_set_list(repository, arena, &sets, &count, error));
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (options->database == NULL || text_equal(sets[i]->database_name, options->database) ||
            text_equal(sets[i]->database_id, options->database)) {
            sets[kept++] = sets[i];
        }
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
