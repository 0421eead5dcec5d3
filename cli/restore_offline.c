// SPDX-License-Identifier: Apache-2.0
// Restoring with nothing but the repository and its key file.
#include "cli/backup_selection.h"
#include "cli/repository_commands.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: holdfast restore --offline --repository LOCATION --key-file FILE --target DIRECTORY\n"
    "                        [--database NAME] [--backup ID|latest] [--shard NAME]... [--output "
    "json]\n\n"
    "Restores a backup with only the repository and its key file: no server is needed. A whole\n"
    "backup goes to DIRECTORY/<shard>, one directory a shard; a single --shard goes to DIRECTORY\n"
    "itself. DIRECTORY must be empty or not exist. Without --backup it is the newest complete "
    "one.\n"
    "Each directory is exactly that of the stopped engine at the backup's checkpoint.\n";

typedef struct Restore {
    Cli *cli;
    const OfflineOptions *options;
    Repository *repository;
    const BackupSet *set;
    Json *shards;
} Restore;

// Every --shard must be there, before anything is written.
static Status check_shards(const Restore *restore, Error *error)
{
    for (size_t i = 0; i < restore->options->shard_count; i++) {
        const char *name = restore->options->shards[i];
        bool is_there = false;
        for (size_t shard = 0; shard < restore->set->shard_count; shard++) {
            is_there = is_there || text_equal(restore->set->shards[shard].shard_name, name) ||
                       text_equal(restore->set->shards[shard].shard_id, name);
        }
        if (!is_there) {
            (void)error_set(error, REASON_NOT_FOUND, "backup '%s' has no shard '%s'",
                            restore->set->backup_id, name);
            return error_hint(error, "holdfast repository show --backup %s lists its shards",
                              restore->set->backup_id);
        }
    }
    return STATUS_OK;
}

// A shard's name is outside data: it names a directory only when it can be nothing else.
static const char *directory_name(const SetShard *shard)
{
    const char *name = shard->shard_name;
    bool is_plain = name[0] != '\0' && name[0] != '.' && strlen(name) <= 200;
    for (const char *next = name; *next != '\0'; next++) {
        is_plain = is_plain && *next != '/' && (unsigned char)*next > 0x20 && *next != 0x7f;
    }
    return is_plain ? name : shard->shard_id;
}

static const char *restore_hint(Arena *arena, const Manifest *manifest)
{
    Error error = {0};
    CLEANUP(json_freep) Json *state = NULL;
    if (json_parse(manifest->engine_state, strlen(manifest->engine_state), &state, &error) !=
        STATUS_OK) {
        return "";
    }
    return arena_string(arena, json_get_text(state, "restore_hint", ""));
}

static Status restore_shard(Restore *restore, const SetShard *shard, const char *directory,
                            Error *error)
{
    Arena *arena = restore->cli->arena;
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_open(restore->repository, restore->set->database_id, shard->shard_id,
                                  shard->manifest_id, arena, &key, &manifest, error));
    if (!text_equal(manifest->digest, shard->manifest_digest)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of", manifest->id);
    }
    OfflineProgress progress;
    MaterializeResult result = {0};
    int64_t started_ms = clock_monotonic_ms();
    offline_progress_begin(&progress, restore->cli, output_safe(arena, directory_name(shard)));
    const MaterializeOptions options = {.progress = offline_progress_callback(&progress)};
    Status status = repository_materialize(restore->repository, &key, manifest, directory, &options,
                                           &result, error);
    offline_progress_end(&progress);
    RETURN_IF_ERROR(status);
    double seconds = (double)(clock_monotonic_ms() - started_ms) / 1000;
    Json *json = json_new_object();
    json_set_text(json, "shard", shard->shard_name);
    json_set_text(json, "directory", directory);
    json_set_integer(json, "size_bytes", result.size_bytes);
    json_set_integer(json, "read_bytes", result.read_bytes);
    json_set_text(json, "duration", arena_format(arena, "%.3fs", seconds));
    json_set_text(json, "checkpoint", manifest->checkpoint);
    json_set_text(json, "engine", manifest->engine);
    json_set_text(json, "engine_version", manifest->engine_version);
    json_set_text(json, "restore_hint", restore_hint(arena, manifest));
    json_add(restore->shards, json);
    return STATUS_OK;
}

static Status restore_all(Restore *restore, Error *error)
{
    const OfflineOptions *options = restore->options;
    bool is_single = options->shard_count == 1;
    bool is_empty = false;
    RETURN_IF_ERROR(check_shards(restore, error));
    RETURN_IF_ERROR(dir_is_empty(options->target, &is_empty, error));
    if (!is_empty) {
        (void)error_set(error, REASON_TARGET_NOT_EMPTY, "'%s' is not empty", options->target);
        return error_hint(error, "restore to a directory that does not exist or is empty");
    }
    for (size_t i = 0; i < restore->set->shard_count; i++) {
        const SetShard *shard = &restore->set->shards[i];
        if (!selection_has_shard(options, shard)) {
            continue;
        }
        const char *directory = is_single ? options->target
                                          : arena_format(restore->cli->arena, "%s/%s",
                                                         options->target, directory_name(shard));
        if (restore_shard(restore, shard, directory, error) != STATUS_OK) {
            return error_wrap(error, "shard '%s'", shard->shard_name);
        }
    }
    return STATUS_OK;
}

static void print_hints(const Cli *cli, const Json *shards)
{
    const char *previous = "";
    for (const Json *item = json_first(shards); item != NULL; item = json_next(item)) {
        const char *hint = json_get_text(item, "restore_hint", "");
        if (hint[0] != '\0' && !text_equal(hint, previous)) {
            (void)printf("\n%sNext:%s %s\n", colour_begin(cli, COLOUR_BOLD),
                         colour_end(cli, COLOUR_BOLD), output_safe(cli->arena, hint));
        }
        previous = hint;
    }
    (void)printf(
        "\nThe files belong to the user who restored them: give them to the engine's user first "
        "(chown -R).\n");
}

static void print_result(const Restore *restore)
{
    static const ViewColumn columns[] = {
        {"SHARD", "shard", VIEW_TEXT},           {"DIRECTORY", "directory", VIEW_TEXT},
        {"SIZE", "size_bytes", VIEW_BYTES},      {"TIME", "duration", VIEW_DURATION},
        {"CHECKPOINT", "checkpoint", VIEW_TEXT}, {NULL, NULL, VIEW_TEXT},
    };
    if (!restore->cli->is_json) {
        output_table(restore->cli, restore->shards, columns);
        if (json_count(restore->shards) > 0) {
            print_hints(restore->cli, restore->shards);
        }
        json_free(restore->shards);
        return;
    }
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "backup", restore->set->backup_id);
    json_set_text(result, "database", restore->set->database_name);
    json_set_boolean(result, "is_complete", restore->set->is_complete);
    json_set(result, "shards", restore->shards);
    output_json(result);
}

static Status run_restore(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    Restore restore = {.cli = cli, .options = options};
    RETURN_IF_ERROR(offline_need(options->target, "--target", error));
    RETURN_IF_ERROR(offline_open(options, &repository, error));
    RETURN_IF_ERROR(selection_find(repository, options, cli->arena, &restore.set, error));
    restore.repository = repository;
    restore.shards = json_new_array();
    if (!restore.set->is_complete && !cli->is_json) {
        (void)fprintf(stderr, "holdfast: backup %s does not have every shard of its database\n",
                      restore.set->backup_id);
    }
    Status status = restore_all(&restore, error);
    // What was restored before a failure is complete, and is told.
    if (status == STATUS_OK || json_count(restore.shards) > 0) {
        print_result(&restore);
    } else {
        json_free(restore.shards);
    }
    return status;
}

int restore_offline_command(int argument_count, char **arguments)
{
    Error error = {0};
    OfflineOptions options = {0};
    Cli cli = {.arena = arena_new()};
    Status status = offline_parse(argument_count, arguments, 2, &options, &error);
    if (status == STATUS_OK && options.is_help) {
        (void)fputs(USAGE, stdout);
    } else if (status == STATUS_OK) {
        cli.is_json = options.is_json;
        cli.is_terminal = isatty(STDOUT_FILENO) == 1;
        cli.has_color = cli.is_terminal;
        offline_watch_signals();
        status = run_restore(&cli, &options, &error);
    }
    int code = offline_result(&cli, status, &error);
    arena_free(cli.arena);
    return code;
}
