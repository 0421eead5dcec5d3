// SPDX-License-Identifier: Apache-2.0
#include "cli/repository_commands.h"

#include "cli/backup_selection.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <string.h>
#include <unistd.h>

typedef struct RepositoryVerb {
    const char *name;
    Status (*run)(Cli *cli, const OfflineOptions *options, Error *error);
    const char *usage;
} RepositoryVerb;

static void set_id(Json *object, const Repository *repository)
{
    json_set_text(object, "repository_id", repository_id(repository));
}

static void print_object(const Cli *cli, const Json *object)
{
    if (cli->is_json) {
        output_json(object);
    } else {
        output_details(cli, object);
    }
}

static Status run_create_key(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    RETURN_IF_ERROR(key_location_check(options->key_file, error));
    if (!key_location_is_file(options->key_file)) {
        error_set(error, REASON_INVALID, "'%s' is not a file", options->key_file);
        return error_hint(error, "a service's keys are made with the service's own tools");
    }
    RETURN_IF_ERROR(key_file_create(key_location_path(options->key_file), error));
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &wrapper, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "key_file", options->key_file);
    json_set_text(result, "fingerprint", key_wrapper_id(wrapper));
    print_object(cli, result);
    if (!cli->is_json) {
        (void)printf(
            "\nKeep a copy of this file in another safe place, away from the backups: without it "
            "nobody can read them.\n");
    }
    return STATUS_OK;
}

static Status run_init(Cli *cli, const OfflineOptions *options, Error *error)
{
    RETURN_IF_ERROR(offline_need(options->repository, "--repository", error));
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    CLEANUP(repository_freep) Repository *repository = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &wrapper, error));
    RETURN_IF_ERROR(storage_open(options->repository, &storage, error));
    RETURN_IF_ERROR(repository_create(storage, TAKE_PTR(wrapper), &repository, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    set_id(result, repository);
    json_set_text(result, "location", storage_describe(repository_storage(repository)));
    json_set_text(result, "key_fingerprint", key_wrapper_id(repository_wrapper(repository)));
    print_object(cli, result);
    return STATUS_OK;
}

// --- check ------------------------------------------------------------------------------------

typedef struct CheckOutput {
    Cli *cli;
    OfflineProgress *progress;
    Json *problems;
} CheckOutput;

static void on_problem(void *context, const char *object, const Error *problem)
{
    CheckOutput *output = context;
    Json *item = json_new_object();
    json_set_text(item, "object", object);
    json_set_text(item, "reason", reason_slug(problem->reason));
    json_set_text(item, "message", problem->message);
    json_set_text(item, "hint", problem->hint);
    json_add(output->problems, item);
    if (!output->cli->is_json) {
        offline_progress_end(output->progress);
        (void)printf("%s%s%s: %s\n", colour_begin(output->cli, COLOUR_RED),
                     reason_slug(problem->reason), colour_end(output->cli, COLOUR_RED),
                     output_safe(output->cli->arena, problem->message));
    }
}

static Json *report_json(const CheckReport *report)
{
    Json *json = json_new_object();
    json_set_integer(json, "backups", report->set_count);
    json_set_integer(json, "shard_backups", report->manifest_count);
    json_set_integer(json, "objects", report->object_count);
    json_set_integer(json, "extents", report->extent_count);
    json_set_integer(json, "read_bytes", report->read_bytes);
    json_set_integer(json, "orphans", report->orphan_count);
    json_set_integer(json, "orphan_bytes", report->orphan_bytes);
    json_set_integer(json, "problem_count", report->problem_count);
    return json;
}

static Status run_check(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    RETURN_IF_ERROR(offline_open(options, &repository, error));
    OfflineProgress progress;
    CheckReport report = {0};
    CheckOutput output = {.cli = cli, .progress = &progress, .problems = json_new_array()};
    offline_progress_begin(&progress, cli, "checking");
    Status status = repository_check(repository, offline_progress_callback(&progress), on_problem,
                                     &output, &report, error);
    offline_progress_end(&progress);
    CLEANUP(json_freep) Json *result = report_json(&report);
    if (cli->is_json) {
        json_set(result, "problems", output.problems);
    } else {
        json_free(output.problems);
    }
    RETURN_IF_ERROR(status);
    print_object(cli, result);
    if (report.problem_count > 0) {
        (void)error_set(error, REASON_OBJECT_CORRUPT, "the repository has %lld problems",
                        (long long)report.problem_count);
        return error_hint(error,
                          "bring the named objects back from a copy of the repository; backups "
                          "that do not need them still restore");
    }
    if (!cli->is_json) {
        (void)printf("%sEverything that a backup needs is there and sound.%s\n",
                     colour_begin(cli, COLOUR_GREEN), colour_end(cli, COLOUR_GREEN));
    }
    return STATUS_OK;
}

// --- list and show ----------------------------------------------------------------------------

static Json *set_json(Arena *arena, const BackupSet *set)
{
    Json *json = json_new_object();
    json_set_text(json, "backup", set->backup_id);
    json_set_text(json, "database", set->database_name);
    json_set_text(json, "database_id", set->database_id);
    json_set_text(json, "engine", set->engine);
    json_set_text(json, "created_at", selection_time(arena, set->created_us));
    json_set_boolean(json, "is_complete", set->is_complete);
    json_set_integer(json, "shard_count", (int64_t)set->shard_count);
    return json;
}

static Status run_list(Cli *cli, const OfflineOptions *options, Error *error)
{
    static const ViewColumn columns[] = {
        {"BACKUP", "backup", VIEW_TEXT},
        {"DATABASE", "database", VIEW_TEXT},
        {"ENGINE", "engine", VIEW_TEXT},
        {"CREATED", "created_at", VIEW_TIME},
        {"SHARDS", "shard_count", VIEW_NUMBER},
        {"COMPLETE", "is_complete", VIEW_YES},
        {NULL, NULL, VIEW_TEXT},
    };
    CLEANUP(repository_freep) Repository *repository = NULL;
    BackupSet **sets = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(offline_open(options, &repository, error));
    RETURN_IF_ERROR(selection_list(repository, options, cli->arena, &sets, &count, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    Json *items = json_new_array();
    for (size_t i = 0; i < count; i++) {
        json_add(items, set_json(cli->arena, sets[i]));
    }
    if (!cli->is_json) {
        output_table(cli, items, columns);
    }
    json_set(result, "backups", items);
    if (cli->is_json) {
        output_json(result);
    }
    return STATUS_OK;
}

static Status shard_json(Repository *repository, Arena *arena, const BackupSet *set,
                         const SetShard *shard, Json **ret_json, Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_open(repository, set->database_id, shard->shard_id, shard->manifest_id,
                                  arena, &key, &manifest, error));
    Json *json = json_new_object();
    json_set_text(json, "shard", shard->shard_name);
    json_set_text(json, "shard_id", shard->shard_id);
    json_set_text(json, "manifest", shard->manifest_id);
    json_set_text(json, "checkpoint", manifest->checkpoint);
    json_set_text(json, "engine_version", manifest->engine_version);
    json_set_integer(json, "generation", manifest->generation);
    json_set_text(json, "created_at", selection_time(arena, manifest->created_us));
    json_set_integer(json, "file_count", manifest->file_count);
    json_set_integer(json, "size_bytes", manifest->size_bytes);
    json_set_integer(json, "new_bytes", manifest->new_bytes);
    json_set_integer(json, "stored_bytes", manifest->stored_bytes);
    *ret_json = json;
    return STATUS_OK;
}

static Status run_show(Cli *cli, const OfflineOptions *options, Error *error)
{
    static const ViewColumn columns[] = {
        {"SHARD", "shard", VIEW_TEXT},
        {"GENERATION", "generation", VIEW_NUMBER},
        {"FILES", "file_count", VIEW_NUMBER},
        {"SIZE", "size_bytes", VIEW_BYTES},
        {"NEW", "new_bytes", VIEW_BYTES},
        {"STORED", "stored_bytes", VIEW_BYTES},
        {"VERSION", "engine_version", VIEW_TEXT},
        {"CHECKPOINT", "checkpoint", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    CLEANUP(repository_freep) Repository *repository = NULL;
    const BackupSet *set = NULL;
    RETURN_IF_ERROR(offline_open(options, &repository, error));
    RETURN_IF_ERROR(selection_find(repository, options, cli->arena, &set, error));
    CLEANUP(json_freep) Json *result = set_json(cli->arena, set);
    CLEANUP(json_freep) Json *shards = json_new_array();
    for (size_t i = 0; i < set->shard_count; i++) {
        Json *item = NULL;
        RETURN_IF_ERROR(shard_json(repository, cli->arena, set, &set->shards[i], &item, error));
        json_add(shards, item);
    }
    if (cli->is_json) {
        json_set(result, "shards", TAKE_PTR(shards));
        output_json(result);
        return STATUS_OK;
    }
    output_details(cli, result);
    (void)fputc('\n', stdout);
    output_table(cli, shards, columns);
    return STATUS_OK;
}

// --- the group --------------------------------------------------------------------------------

static const RepositoryVerb VERBS[] = {
    {"create-key", run_create_key,
     "usage: holdfast repository create-key --key-file FILE\n\n"
     "Makes a key file, which a repository is created with and which its backups cannot be read\n"
     "without. An existing file is never overwritten.\n"},
    {"init", run_init,
     "usage: holdfast repository init --repository LOCATION --key-file FILE\n\n"
     "Creates an empty repository at LOCATION, a directory or file:///directory.\n"},
    {"check", run_check,
     "usage: holdfast repository check --repository LOCATION --key-file FILE [--output json]\n\n"
     "Reads and verifies everything that every backup needs: each object is there, is what was\n"
     "written, and belongs where it is. Exit code 10 when something is not.\n"},
    {"list", run_list,
     "usage: holdfast repository list --repository LOCATION --key-file FILE [--database NAME]\n"
     "                                [--output json]\n\n"
     "Lists the backups in a repository, oldest first.\n"},
    {"show", run_show,
     "usage: holdfast repository show --repository LOCATION --key-file FILE [--database NAME]\n"
     "                                [--backup ID] [--output json]\n\n"
     "Shows a backup and its shards; without --backup, or with 'latest', the newest complete "
     "one.\n"},
};

int repository_command(int argument_count, char **arguments)
{
    Error error = {0};
    OfflineOptions options = {0};
    Cli cli = {.arena = arena_new()};
    const char *name = argument_count > 2 ? arguments[2] : "";
    const RepositoryVerb *verb = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(VERBS); i++) {
        verb = text_equal(VERBS[i].name, name) ? &VERBS[i] : verb;
    }
    Status status = STATUS_OK;
    if (verb == NULL) {
        status =
            error_set(&error, REASON_INVALID, "there is no offline command 'repository %s'", name);
    } else {
        status = offline_parse(argument_count, arguments, 3, &options, &error);
    }
    if (status == STATUS_OK && options.is_help) {
        (void)fputs(verb->usage, stdout);
    } else if (status == STATUS_OK) {
        cli.is_json = options.is_json;
        cli.is_terminal = isatty(STDOUT_FILENO) == 1;
        cli.has_color = cli.is_terminal;
        offline_watch_signals();
        status = verb->run(&cli, &options, &error);
    }
    int code = offline_result(&cli, status, &error);
    arena_free(cli.arena);
    return code;
}
