// SPDX-License-Identifier: Apache-2.0
// What is in a repository: list, show, diff. No server, no data but lists and maps.
#include "cli/backup_selection.h"
#include "cli/repository_verbs.h"
#include "common/memory.h"
#include "common/text.h"

#include <string.h>

// --- list -------------------------------------------------------------------------------------

typedef struct Unreadable {
    Arena *arena;
    const OfflineOptions *options;
    Json *items;
} Unreadable;

// Backups that cannot be opened are listed too: that they are there, and why not.
static void note_unreadable(void *context, const char *database_id, const char *backup_id,
                            const Error *error)
{
    Unreadable *unreadable = context;
    if (unreadable->options->database != NULL &&
        !text_equal(unreadable->options->database, database_id)) {
        return;
    }
    Json *item = json_new_object();
    json_set_text(item, "backup", backup_id);
    json_set_text(item, "database", "");
    json_set_text(item, "database_id", database_id);
    json_set_text(item, "state", reason_slug(error->reason));
    json_set_text(item, "message", error->message);
    json_add(unreadable->items, item);
}

static Status add_sizes(Repository *repository, const BackupSet *set, Json *item, Error *error)
{
    int64_t size_bytes = 0;
    int64_t stored_bytes = 0;
    int32_t generation = 0;
    for (size_t i = 0; i < set->shard_count; i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CLEANUP(data_key_done) DataKey key = {0};
        Manifest *manifest = NULL;
        RETURN_IF_ERROR(manifest_open(repository, set->database_id, set->shards[i].shard_id,
                                      set->shards[i].manifest_id, arena, &key, &manifest, error));
        size_bytes += manifest->size_bytes;
        stored_bytes += manifest->stored_bytes;
        generation = MAX(generation, manifest->generation);
    }
    json_set_integer(item, "size_bytes", size_bytes);
    json_set_integer(item, "stored_bytes", stored_bytes);
    json_set_integer(item, "generation", generation);
    return STATUS_OK;
}

static const ViewColumn LIST_COLUMNS[] = {
    {"BACKUP", "backup", VIEW_TEXT},
    {"DATABASE", "database", VIEW_TEXT},
    {"ENGINE", "engine", VIEW_TEXT},
    {"CREATED", "created_at", VIEW_TIME},
    {"AGE", "created_at", VIEW_AGO},
    {"SHARDS", "shard_count", VIEW_NUMBER},
    {"GENERATION", "generation", VIEW_NUMBER},
    {"SIZE", "size_bytes", VIEW_BYTES},
    {"STORED", "stored_bytes", VIEW_BYTES},
    {"COMPLETE", "is_complete", VIEW_YES},
    {"STATE", "state", VIEW_TEXT},
    {NULL, NULL, VIEW_TEXT},
};
enum { LIST_SIZES_FIRST = 6, LIST_SIZES_COUNT = 3 }; // what add_sizes finds out

static void print_backups(const Cli *cli, bool has_sizes, const Json *backups)
{
    ViewColumn columns[ARRAY_COUNT(LIST_COLUMNS)];
    size_t left_out = has_sizes ? 0 : LIST_SIZES_COUNT;
    memcpy(columns, LIST_COLUMNS, sizeof(columns));
    memmove(&columns[LIST_SIZES_FIRST], &columns[LIST_SIZES_FIRST + left_out],
            sizeof(columns) - (LIST_SIZES_FIRST + left_out) * sizeof(columns[0]));
    output_table(cli, backups, columns);
}

Status verb_list(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    CLEANUP(json_freep) Json *items = json_new_array();
    Unreadable unreadable = {.arena = cli->arena, .options = options, .items = items};
    BackupSet **sets = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(offline_open(options, NULL, &repository, error));
    RETURN_IF_ERROR(selection_scan(repository, options, cli->arena, note_unreadable, &unreadable,
                                   &sets, &count, error));
    for (size_t i = 0; i < count; i++) {
        Json *item = selection_json(cli->arena, sets[i]);
        json_add(items, item);
        if (!options->has_sizes) {
            continue;
        }
        Error problem = {0};
        if (add_sizes(repository, sets[i], item, &problem) != STATUS_OK) {
            json_set_text(item, "state", reason_slug(problem.reason));
            json_set_text(item, "message", problem.message);
        }
    }
    if (!cli->is_json) {
        print_backups(cli, options->has_sizes, items);
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set(result, "backups", TAKE_PTR(items));
    output_json(result);
    return STATUS_OK;
}

// --- show -------------------------------------------------------------------------------------

static Json *shard_json(Arena *arena, const SetShard *shard, const Manifest *manifest)
{
    Json *json = json_new_object();
    json_set_text(json, "shard", shard->shard_name);
    json_set_text(json, "shard_id", shard->shard_id);
    json_set_text(json, "manifest", shard->manifest_id);
    json_set_text(json, "digest", shard->manifest_digest);
    json_set_text(json, "parent", manifest->parent_id);
    json_set_text(json, "parent_digest", manifest->parent_digest);
    json_set_text(json, "key", manifest->key_id);
    json_set_text(json, "checkpoint", manifest->checkpoint);
    json_set_text(json, "engine_version", manifest->engine_version);
    json_set_integer(json, "generation", manifest->generation);
    json_set_text(json, "created_at", selection_time(arena, manifest->created_us));
    json_set_integer(json, "file_count", manifest->file_count);
    json_set_integer(json, "size_bytes", manifest->size_bytes);
    json_set_integer(json, "new_bytes", manifest->new_bytes);
    json_set_integer(json, "stored_bytes", manifest->stored_bytes);
    return json;
}

static void add_file(void *context, const char *path, int64_t size_bytes, uint32_t mode)
{
    Json *item = json_new_object();
    char mode_text[8];
    (void)snprintf(mode_text, sizeof(mode_text), "%04o", mode & 07777U);
    json_set_text(item, "path", path);
    json_set_integer(item, "size_bytes", size_bytes);
    json_set_text(item, "mode", mode_text);
    json_add(context, item);
}

static Status show_shard(Cli *cli, const OfflineOptions *options, Repository *repository,
                         const BackupSet *set, const SetShard *shard, Json *shards, Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_open(repository, set->database_id, shard->shard_id, shard->manifest_id,
                                  cli->arena, &key, &manifest, error));
    if (!text_equal(manifest->digest, shard->manifest_digest)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of", manifest->id);
    }
    Json *item = shard_json(cli->arena, shard, manifest);
    json_add(shards, item);
    if (options->has_files) {
        Json *files = json_new_array();
        json_set(item, "files", files);
        RETURN_IF_ERROR(repository_list_files(repository, &key, manifest, add_file, files, error));
    }
    return STATUS_OK;
}

static void print_shards(const Cli *cli, const OfflineOptions *options, const Json *shards)
{
    static const ViewColumn columns[] = {
        {"SHARD", "shard", VIEW_TEXT},
        {"GENERATION", "generation", VIEW_NUMBER},
        {"FILES", "file_count", VIEW_NUMBER},
        {"SIZE", "size_bytes", VIEW_BYTES},
        {"NEW", "new_bytes", VIEW_BYTES},
        {"STORED", "stored_bytes", VIEW_BYTES},
        {"VERSION", "engine_version", VIEW_TEXT},
        {"MANIFEST", "manifest", VIEW_TEXT},
        {"PARENT", "parent", VIEW_TEXT},
        {"CHECKPOINT", "checkpoint", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    static const ViewColumn file_columns[] = {
        {"MODE", "mode", VIEW_TEXT},
        {"SIZE", "size_bytes", VIEW_BYTES},
        {"PATH", "path", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    (void)fputc('\n', stdout);
    output_table(cli, shards, columns);
    for (const Json *item = json_first(shards); options->has_files && item != NULL;
         item = json_next(item)) {
        (void)printf("\n%s:\n", output_safe(cli->arena, json_get_text(item, "shard", "")));
        output_table(cli, json_get(item, "files"), file_columns);
    }
}

Status verb_show(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    const BackupSet *set = NULL;
    OfflineOptions one = *options;
    one.backup = options->word_count > 0 ? options->words[0] : options->backup;
    RETURN_IF_ERROR(offline_open(options, NULL, &repository, error));
    RETURN_IF_ERROR(selection_find(repository, &one, cli->arena, &set, error));
    CLEANUP(json_freep) Json *result = selection_json(cli->arena, set);
    CLEANUP(json_freep) Json *shards = json_new_array();
    for (size_t i = 0; i < set->shard_count; i++) {
        if (selection_has_shard(options, &set->shards[i])) {
            RETURN_IF_ERROR(
                show_shard(cli, options, repository, set, &set->shards[i], shards, error));
        }
    }
    if (cli->is_json) {
        json_set(result, "shards", TAKE_PTR(shards));
        output_json(result);
        return STATUS_OK;
    }
    output_details(cli, result);
    print_shards(cli, options, shards);
    return STATUS_OK;
}

// --- diff -------------------------------------------------------------------------------------

typedef struct DiffOutput {
    Json *files;
    int64_t file_count;
} DiffOutput;

static void add_difference(void *context, const FileDifference *difference)
{
    static const char *const words[] = {"same", "changed", "added", "removed"};
    DiffOutput *output = context;
    Json *item = json_new_object();
    json_set_text(item, "change", words[difference->change]);
    json_set_text(item, "path", difference->path);
    json_set_integer(item, "old_size_bytes", difference->old_size_bytes);
    json_set_integer(item, "new_size_bytes", difference->new_size_bytes);
    json_set_integer(item, "changed_bytes", difference->changed_bytes);
    json_add(output->files, item);
    output->file_count++;
}

static const SetShard *find_shard(const BackupSet *set, const char *shard_id)
{
    for (size_t i = 0; i < set->shard_count; i++) {
        if (text_equal(set->shards[i].shard_id, shard_id)) {
            return &set->shards[i];
        }
    }
    return NULL;
}

static Status diff_shard(Cli *cli, Repository *repository, const BackupSet *sets[2],
                         const SetShard *before, const SetShard *after, Json *shards, Error *error)
{
    CLEANUP(data_key_done) DataKey old_key = {0};
    CLEANUP(data_key_done) DataKey new_key = {0};
    Manifest *old_manifest = NULL;
    Manifest *new_manifest = NULL;
    DiffResult difference = {0};
    DiffOutput output = {.files = json_new_array()};
    OfflineProgress progress;
    Json *item = json_new_object();
    json_set_text(item, "shard", after->shard_name);
    json_set_text(item, "shard_id", after->shard_id);
    json_set(item, "files", output.files);
    json_add(shards, item);
    RETURN_IF_ERROR(manifest_open(repository, sets[0]->database_id, before->shard_id,
                                  before->manifest_id, cli->arena, &old_key, &old_manifest, error));
    RETURN_IF_ERROR(manifest_open(repository, sets[1]->database_id, after->shard_id,
                                  after->manifest_id, cli->arena, &new_key, &new_manifest, error));
    offline_progress_begin(&progress, cli, "comparing");
    Status status = repository_diff(repository, &new_key, old_manifest, new_manifest,
                                    offline_progress_callback(&progress), add_difference, &output,
                                    &difference, error);
    offline_progress_end(&progress);
    RETURN_IF_ERROR(status);
    json_set_integer(item, "changed", difference.file_counts[FILE_CHANGED]);
    json_set_integer(item, "added", difference.file_counts[FILE_ADDED]);
    json_set_integer(item, "removed", difference.file_counts[FILE_REMOVED]);
    json_set_integer(item, "same", difference.file_counts[FILE_SAME]);
    json_set_integer(item, "changed_bytes", difference.changed_bytes);
    return STATUS_OK;
}

static void print_diff(const Cli *cli, const Json *shards)
{
    static const ViewColumn columns[] = {
        {"SHARD", "shard", VIEW_TEXT},   {"CHANGED", "changed", VIEW_NUMBER},
        {"ADDED", "added", VIEW_NUMBER}, {"REMOVED", "removed", VIEW_NUMBER},
        {"SAME", "same", VIEW_NUMBER},   {"BYTES", "changed_bytes", VIEW_BYTES},
        {NULL, NULL, VIEW_TEXT},
    };
    static const ViewColumn file_columns[] = {
        {"CHANGE", "change", VIEW_TEXT},
        {"BYTES", "changed_bytes", VIEW_BYTES},
        {"BEFORE", "old_size_bytes", VIEW_BYTES},
        {"AFTER", "new_size_bytes", VIEW_BYTES},
        {"PATH", "path", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    output_table(cli, shards, columns);
    for (const Json *item = json_first(shards); item != NULL; item = json_next(item)) {
        const Json *files = json_get(item, "files");
        if (json_count(files) > 0) {
            (void)printf("\n%s:\n", output_safe(cli->arena, json_get_text(item, "shard", "")));
            output_table(cli, files, file_columns);
        }
    }
}

static Status run_diff(Cli *cli, const OfflineOptions *options, Repository *repository,
                       const BackupSet *sets[2], Json *shards, Error *error)
{
    for (size_t i = 0; i < sets[1]->shard_count; i++) {
        const SetShard *after = &sets[1]->shards[i];
        const SetShard *before = find_shard(sets[0], after->shard_id);
        if (before != NULL && selection_has_shard(options, after) &&
            diff_shard(cli, repository, sets, before, after, shards, error) != STATUS_OK) {
            return error_wrap(error, "shard '%s'", after->shard_name);
        }
    }
    return STATUS_OK;
}

Status verb_diff(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    CLEANUP(json_freep) Json *shards = json_new_array();
    const BackupSet *sets[2] = {NULL, NULL};
    if (options->word_count != 2) {
        return error_set(error, REASON_INVALID, "name the two backups to compare: diff OLD NEW");
    }
    RETURN_IF_ERROR(offline_open(options, NULL, &repository, error));
    for (size_t i = 0; i < 2; i++) {
        OfflineOptions one = *options;
        one.backup = options->words[i];
        RETURN_IF_ERROR(selection_find(repository, &one, cli->arena, &sets[i], error));
    }
    if (!text_equal(sets[0]->database_id, sets[1]->database_id)) {
        return error_set(error, REASON_INVALID, "backups '%s' and '%s' are of different databases",
                         sets[0]->backup_id, sets[1]->backup_id);
    }
    RETURN_IF_ERROR(run_diff(cli, options, repository, sets, shards, error));
    if (!cli->is_json) {
        print_diff(cli, shards);
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "old_backup", sets[0]->backup_id);
    json_set_text(result, "new_backup", sets[1]->backup_id);
    json_set(result, "shards", TAKE_PTR(shards));
    output_json(result);
    return STATUS_OK;
}
