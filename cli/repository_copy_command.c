// SPDX-License-Identifier: Apache-2.0
// Copying backups to another repository, sealed anew.
#include "cli/backup_selection.h"
#include "cli/repository_verbs.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <stdlib.h>
#include <string.h>

typedef struct CopyRun {
    Cli *cli;
    const OfflineOptions *options;
    Repository *source, *target;
    BackupSet **target_sets; // that were there at the start, by id
    size_t target_count;
    Limits *limits;
    int64_t memory_bytes;
    Json *backups;
    int64_t copied_count, stored_bytes, read_bytes;
} CopyRun;

static int compare_ids(const void *a, const void *b)
{
    const BackupSet *left = *(const BackupSet *const *)a;
    const BackupSet *right = *(const BackupSet *const *)b;
    int order = strcmp(left->backup_id, right->backup_id);
    return order != 0 ? order : strcmp(left->database_id, right->database_id);
}

// The target's set of a backup; NULL: it had none at the start.
static BackupSet *find_there(const CopyRun *run, const BackupSet *set)
{
    BackupSet **found = run->target_count == 0 ? NULL
                                               : bsearch(&set, run->target_sets, run->target_count,
                                                         sizeof(*run->target_sets), compare_ids);
    return found == NULL ? NULL : *found;
}

static Status copy_one(CopyRun *run, const BackupSet *set, BackupSet **last, Error *error)
{
    OfflineProgress progress;
    CopyResult result = {0};
    CopyOptions options = {
        .set = set, .parent = *last, .limits = run->limits, .memory_bytes = run->memory_bytes};
    BackupSet *there = find_there(run, set);
    if (there != NULL) {
        *last = there; // it was read already
        result.is_there_already = true;
    } else {
        offline_progress_begin(&progress, run->cli, set->backup_id);
        options.progress = offline_progress_callback(&progress);
        Status status = repository_copy_backup(run->source, run->target, &options, run->cli->arena,
                                               last, &result, error);
        offline_progress_end(&progress);
        if (status != STATUS_OK) {
            return error_wrap(error, "copying backup %s", set->backup_id);
        }
    }
    Json *item = selection_json(run->cli->arena, set);
    json_set_text(item, "state", result.is_there_already ? "there already" : "copied");
    json_set_integer(item, "stored_bytes", result.stored_bytes);
    json_add(run->backups, item);
    run->copied_count += result.is_there_already ? 0 : 1;
    run->stored_bytes += result.stored_bytes;
    run->read_bytes += result.read_bytes;
    return STATUS_OK;
}

// What the target has that was made before a backup: the newest of its database, or NULL.
static BackupSet *find_before(const CopyRun *run, const BackupSet *set)
{
    BackupSet *before = NULL;
    for (size_t i = 0; i < run->target_count; i++) {
        BackupSet *other = run->target_sets[i];
        if (text_equal(other->database_id, set->database_id) &&
            other->created_us < set->created_us &&
            (before == NULL || other->created_us >= before->created_us)) {
            before = other;
        }
    }
    return before;
}

// Oldest first, database by database, so that each can refer to the one before.
static Status copy_all(CopyRun *run, BackupSet **sets, size_t count, Error *error)
{
    for (size_t first = 0; first < count; first++) {
        BackupSet *last = sets[first] == NULL ? NULL : find_before(run, sets[first]);
        for (size_t i = first; sets[first] != NULL && i < count; i++) {
            if (sets[i] == NULL || !text_equal(sets[i]->database_id, sets[first]->database_id)) {
                continue;
            }
            RETURN_IF_ERROR(copy_one(run, sets[i], &last, error));
            sets[i] = i == first ? sets[i] : NULL;
        }
    }
    return STATUS_OK;
}

static Status open_target(const OfflineOptions *options, Limits *limits, Repository **ret_target,
                          Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(offline_need(options->to, "--to", error));
    RETURN_IF_ERROR(offline_need(options->to_key_file, "--to-key-file", error));
    RETURN_IF_ERROR(key_wrapper_open(options->to_key_file, &wrapper, error));
    RETURN_IF_ERROR(offline_open_storage(&options->to_store, options->to, limits, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), ret_target, error);
}

static Status choose(CopyRun *run, BackupSet ***ret_sets, size_t *ret_count, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    if (run->options->word_count == 0 && run->options->backup == NULL) {
        return selection_list(run->source, run->options, run->cli->arena, ret_sets, ret_count,
                              error);
    }
    const BackupSet *one = NULL;
    OfflineOptions options = *run->options;
    options.backup = options.word_count > 0 ? options.words[0] : options.backup;
    RETURN_IF_ERROR(selection_find(run->source, &options, run->cli->arena, &one, error));
    RETURN_IF_ERROR(
        selection_list(run->source, run->options, run->cli->arena, &sets, &count, error));
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (text_equal(sets[i]->backup_id, one->backup_id)) {
            sets[kept++] = sets[i];
        }
    }
    *ret_sets = sets;
    *ret_count = kept;
    return STATUS_OK;
}

static void pass_over(void *context, const char *database_id, const char *backup_id,
                      const Error *error)
{
    // It is no parent for anything; should it be copied again, that says what is wrong.
    (void)context, (void)database_id, (void)backup_id, (void)error;
}

static void print_copy(const CopyRun *run, Status status)
{
    static const ViewColumn columns[] = {
        {"BACKUP", "backup", VIEW_TEXT},        {"DATABASE", "database", VIEW_TEXT},
        {"CREATED", "created_at", VIEW_TIME},   {"COPY", "state", VIEW_TEXT},
        {"STORED", "stored_bytes", VIEW_BYTES}, {NULL, NULL, VIEW_TEXT},
    };
    if (!run->cli->is_json && status != STATUS_OK && json_count(run->backups) == 0) {
        json_free(run->backups); // the error says it all
        return;
    }
    if (!run->cli->is_json) {
        output_table(run->cli, run->backups, columns);
        json_free(run->backups);
        return;
    }
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_integer(result, "copied_count", run->copied_count);
    json_set_integer(result, "stored_bytes", run->stored_bytes);
    json_set_integer(result, "read_bytes", run->read_bytes);
    json_set(result, "backups", run->backups);
    output_json(result);
}

Status verb_copy(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(limits_freep) Limits *limits = NULL;
    CLEANUP(repository_freep) Repository *source = NULL;
    CLEANUP(repository_freep) Repository *target = NULL;
    BackupSet **sets = NULL;
    size_t count = 0;
    int64_t memory_bytes = 0;
    RETURN_IF_ERROR(offline_limits(options, &limits, &memory_bytes, error));
    RETURN_IF_ERROR(offline_open(options, limits, &source, error));
    RETURN_IF_ERROR(open_target(options, limits, &target, error));
    if (text_equal(repository_id(source), repository_id(target))) {
        return error_set(error, REASON_INVALID, "--to is the repository itself");
    }
    CopyRun run = {.cli = cli,
                   .options = options,
                   .source = source,
                   .target = target,
                   .limits = limits,
                   .memory_bytes = memory_bytes,
                   .backups = json_new_array()};
    Status status = choose(&run, &sets, &count, error);
    if (status == STATUS_OK) {
        status = backup_set_scan(target, cli->arena, pass_over, NULL, &run.target_sets,
                                 &run.target_count, error);
    }
    if (status == STATUS_OK) {
        if (run.target_count > 0) {
            qsort(run.target_sets, run.target_count, sizeof(*run.target_sets), compare_ids);
        }
        status = copy_all(&run, sets, count, error);
    }
    print_copy(&run, status);
    return status;
}
