// SPDX-License-Identifier: Apache-2.0
// Restoring with nothing but the repository and its key file.
#include "cli/backup_selection.h"
#include "cli/repository_commands.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: holdfast restore --offline --repository LOCATION --key-file FILE --target DIRECTORY\n"
    "                        [--database NAME] [--backup ID|latest] [--shard NAME]... [--jobs N]\n"
    "                        [--bandwidth BYTES] [--cpus N] [--memory BYTES] [--output json]\n\n"
    "Restores a backup with only the repository and its key file: no server is needed. A whole\n"
    "backup goes to DIRECTORY/<shard>, one directory a shard; a single --shard goes to DIRECTORY\n"
    "itself. DIRECTORY must be empty or not exist. Without --backup it is the newest complete "
    "one.\n"
    "Each directory is exactly that of the stopped engine at the backup's checkpoint. N shards,\n"
    "1 to 8, are restored at a time, by default as many as there are processors; when one fails\n"
    "the others are restored all the same. All together read at most --bandwidth bytes a second,\n"
    "such as 20MiB, and use at most --cpus threads and --memory for buffers.\n";

#define JOB_COUNT_MAX 8
// What all shards together use for buffers.
#define MEMORY_BYTES (2 * REPOSITORY_MEMORY_BYTES)
static_assert(MEMORY_BYTES / JOB_COUNT_MAX >= REPOSITORY_MEMORY_BYTES_MIN, "it is divided");

typedef struct RestoreShard {
    const SetShard *shard;
    const char *name; // of its directory
    const char *directory;
    Arena *arena; // its own: shards are restored side by side
    DataKey key;
    Manifest *manifest;
    MaterializeResult result;
    double seconds;
    bool is_restored;
    Error error;
} RestoreShard;

typedef struct Restore {
    Cli *cli;
    const OfflineOptions *options;
    Repository *repository;
    const BackupSet *set;
    RestoreShard *shards;
    size_t shard_count;
    int job_count;
    int64_t memory_bytes; // of one shard; before count_jobs of all, 0: the default
    Limits *limits;       // shared
    Status (*step)(const struct Restore *restore, RestoreShard *shard, Error *error);
    atomic_size_t next_shard;
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
static const char *directory_name(const BackupSet *set, const SetShard *shard)
{
    const char *name = shard->shard_name;
    bool is_plain = name[0] != '\0' && name[0] != '.' && strlen(name) <= 200;
    for (const char *next = name; *next != '\0'; next++) {
        is_plain = is_plain && *next != '/' && (unsigned char)*next > 0x20 && *next != 0x7f;
    }
    for (size_t i = 0; i < set->shard_count; i++) {
        is_plain =
            is_plain && (&set->shards[i] == shard || !text_equal(set->shards[i].shard_name, name));
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

static Status open_shard(const Restore *restore, RestoreShard *shard, Error *error)
{
    RETURN_IF_ERROR(manifest_open(restore->repository, restore->set->database_id,
                                  shard->shard->shard_id, shard->shard->manifest_id, shard->arena,
                                  &shard->key, &shard->manifest, error));
    if (!text_equal(shard->manifest->digest, shard->shard->manifest_digest)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of",
                         shard->manifest->id);
    }
    return STATUS_OK;
}

static Status restore_shard(const Restore *restore, RestoreShard *shard, Error *error)
{
    OfflineProgress progress;
    int64_t started_ms = clock_monotonic_ms();
    offline_progress_begin(&progress, restore->cli, output_safe(shard->arena, shard->name));
    const MaterializeOptions options = {.limits = restore->limits,
                                        .memory_bytes = restore->memory_bytes,
                                        .progress = offline_progress_callback(&progress)};
    Status status = repository_materialize(restore->repository, &shard->key, shard->manifest,
                                           shard->directory, &options, &shard->result, error);
    offline_progress_end(&progress);
    shard->seconds = (double)(clock_monotonic_ms() - started_ms) / 1000;
    shard->is_restored = status == STATUS_OK;
    return status;
}

// --- side by side -----------------------------------------------------------------------------

static void *run_job(void *argument)
{
    Restore *restore = argument;
    for (;;) {
        size_t index = atomic_fetch_add(&restore->next_shard, 1);
        if (index >= restore->shard_count) {
            return NULL;
        }
        RestoreShard *shard = &restore->shards[index];
        if (shard->error.status == STATUS_OK && atomic_load(offline_cancel())) {
            error_set(&shard->error, REASON_CANCELED, "the restore was canceled");
        }
        if (shard->error.status == STATUS_OK &&
            restore->step(restore, shard, &shard->error) != STATUS_OK) {
            error_wrap(&shard->error, "shard '%s'", shard->shard->shard_name);
        }
    }
}

// Takes a step of every shard that has not failed yet. A shard's failure is the shard's alone.
static void run_step(Restore *restore,
                     Status (*step)(const Restore *restore, RestoreShard *shard, Error *error))
{
    pthread_t threads[JOB_COUNT_MAX];
    int thread_count = 0;
    restore->step = step;
    atomic_store(&restore->next_shard, 0);
    // This thread is one of them; without the others it takes longer.
    while (thread_count < restore->job_count - 1 &&
           pthread_create(&threads[thread_count], NULL, run_job, restore) == 0) {
        thread_count++;
    }
    (void)run_job(restore);
    for (int i = 0; i < thread_count; i++) {
        pthread_join(threads[i], NULL);
    }
}

static Status count_jobs(Restore *restore, Error *error)
{
    int64_t count = sysconf(_SC_NPROCESSORS_ONLN);
    const char *jobs = restore->options->jobs;
    if (jobs != NULL && (!text_to_int64(jobs, &count) || count < 1 || count > JOB_COUNT_MAX)) {
        return error_set(error, REASON_INVALID, "--jobs is 1 to %d, not '%s'", JOB_COUNT_MAX, jobs);
    }
    count = MIN(MIN(count, JOB_COUNT_MAX), (int64_t)restore->shard_count);
    restore->job_count = (int)MAX(count, 1);
    if (restore->memory_bytes > 0) { // asked for: of all
        int64_t room = restore->memory_bytes / REPOSITORY_MEMORY_BYTES_MIN;
        restore->job_count = (int)MIN((int64_t)restore->job_count, room);
        restore->memory_bytes /= restore->job_count;
    } else {
        restore->memory_bytes = MIN(MEMORY_BYTES / restore->job_count, REPOSITORY_MEMORY_BYTES);
    }
    return STATUS_OK;
}

static void choose_shards(Restore *restore)
{
    const OfflineOptions *options = restore->options;
    Arena *arena = restore->cli->arena;
    const BackupSet *set = restore->set;
    restore->shards = mem_alloc_array(MAX(set->shard_count, 1), sizeof(*restore->shards));
    for (size_t i = 0; i < set->shard_count; i++) {
        if (selection_has_shard(options, &set->shards[i])) {
            RestoreShard *shard = &restore->shards[restore->shard_count++];
            shard->shard = &set->shards[i];
            shard->name = directory_name(set, shard->shard);
            shard->directory = options->shard_count == 1
                                   ? options->target
                                   : arena_format(arena, "%s/%s", options->target, shard->name);
            shard->arena = arena_new();
        }
    }
}

// Each restore looks for its own room; here it is that of all together.
static Status check_room(const Restore *restore, Error *error)
{
    int64_t need_bytes = 0;
    int64_t free_bytes = 0;
    for (size_t i = 0; i < restore->shard_count; i++) {
        const RestoreShard *shard = &restore->shards[i];
        need_bytes += shard->error.status == STATUS_OK ? shard->manifest->data_bytes : 0;
    }
    const char *target = restore->options->target;
    RETURN_IF_ERROR(dir_create_all(target, 0700, error));
    RETURN_IF_ERROR(disk_free_bytes(target, &free_bytes, error));
    if (free_bytes < need_bytes) {
        error_set(error, REASON_DISK_FULL, "the restore needs %lld MiB and '%s' has %lld MiB free",
                  (long long)(need_bytes >> 20), target, (long long)(free_bytes >> 20));
        return error_hint(error, "free space there, or restore to a larger disk");
    }
    return STATUS_OK;
}

static Status restore_all(Restore *restore, Error *error)
{
    const OfflineOptions *options = restore->options;
    bool is_empty = false;
    RETURN_IF_ERROR(check_shards(restore, error));
    RETURN_IF_ERROR(dir_is_empty(options->target, &is_empty, error));
    if (!is_empty) {
        (void)error_set(error, REASON_TARGET_NOT_EMPTY, "'%s' is not empty", options->target);
        return error_hint(error, "restore to a directory that does not exist or is empty");
    }
    choose_shards(restore);
    RETURN_IF_ERROR(count_jobs(restore, error));
    run_step(restore, open_shard);
    if (options->shard_count != 1) {
        RETURN_IF_ERROR(check_room(restore, error));
    }
    run_step(restore, restore_shard);
    // Every failure is told; the first is the command's.
    for (size_t i = 0; i < restore->shard_count; i++) {
        const Error *failure = &restore->shards[i].error;
        if (failure->status != STATUS_OK && error->status == STATUS_OK) {
            *error = *failure;
        } else if (failure->status != STATUS_OK) {
            output_error(restore->cli, failure);
        }
    }
    return error->status;
}

static void restore_done(Restore *restore)
{
    for (size_t i = 0; i < restore->shard_count; i++) {
        data_key_done(&restore->shards[i].key);
        arena_free(restore->shards[i].arena);
    }
    mem_free(restore->shards);
}

// --- telling ----------------------------------------------------------------------------------

static Json *shard_json(Arena *arena, const RestoreShard *shard)
{
    const Manifest *manifest = shard->manifest;
    Json *json = json_new_object();
    json_set_text(json, "shard", shard->shard->shard_name);
    json_set_text(json, "directory", shard->directory);
    json_set_integer(json, "size_bytes", shard->result.size_bytes);
    json_set_integer(json, "read_bytes", shard->result.read_bytes);
    json_set_text(json, "duration", arena_format(arena, "%.3fs", shard->seconds));
    json_set_text(json, "checkpoint", manifest->checkpoint);
    json_set_text(json, "engine", manifest->engine);
    json_set_text(json, "engine_version", manifest->engine_version);
    json_set_text(json, "restore_hint", restore_hint(arena, manifest));
    return json;
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

// Takes ownership of `shards`.
static void print_result(const Restore *restore, Json *shards)
{
    static const ViewColumn columns[] = {
        {"SHARD", "shard", VIEW_TEXT},           {"DIRECTORY", "directory", VIEW_TEXT},
        {"SIZE", "size_bytes", VIEW_BYTES},      {"TIME", "duration", VIEW_DURATION},
        {"CHECKPOINT", "checkpoint", VIEW_TEXT}, {NULL, NULL, VIEW_TEXT},
    };
    if (!restore->cli->is_json) {
        output_table(restore->cli, shards, columns);
        if (json_count(shards) > 0) {
            print_hints(restore->cli, shards);
        }
        json_free(shards);
        return;
    }
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "backup", restore->set->backup_id);
    json_set_text(result, "database", restore->set->database_name);
    json_set_boolean(result, "is_complete", restore->set->is_complete);
    json_set(result, "shards", shards);
    output_json(result);
}

static Status run_restore(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(limits_freep) Limits *limits = NULL;
    CLEANUP(repository_freep) Repository *repository = NULL;
    Restore restore = {.cli = cli, .options = options};
    RETURN_IF_ERROR(offline_need(options->target, "--target", error));
    RETURN_IF_ERROR(offline_limits(options, &limits, &restore.memory_bytes, error));
    RETURN_IF_ERROR(offline_open(options, limits, &repository, error));
    RETURN_IF_ERROR(selection_find(repository, options, cli->arena, &restore.set, error));
    restore.repository = repository;
    restore.limits = limits;
    if (!restore.set->is_complete && !cli->is_json) {
        (void)fprintf(stderr, "holdfast: backup %s does not have every shard of its database\n",
                      restore.set->backup_id);
    }
    Status status = restore_all(&restore, error);
    // What was restored beside a failure is complete, and is told.
    Json *shards = json_new_array();
    for (size_t i = 0; i < restore.shard_count; i++) {
        if (restore.shards[i].is_restored) {
            json_add(shards, shard_json(cli->arena, &restore.shards[i]));
        }
    }
    if (status == STATUS_OK || json_count(shards) > 0) {
        print_result(&restore, shards);
    } else {
        json_free(shards);
    }
    restore_done(&restore);
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
