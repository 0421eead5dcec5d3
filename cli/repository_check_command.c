// SPDX-License-Identifier: Apache-2.0
// Checking a repository, also in several goes.
#include "cli/repository_verbs.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_BYTES_MAX 65536

typedef struct CheckRun {
    Cli *cli;
    const OfflineOptions *options;
    const char *repository_id;
    OfflineProgress progress;
    Json *problems;
    CheckReport before; // of the goes before this one
    char after_shard_id[64];
    Status state_status;
    Error state_error;
} CheckRun;

static void on_problem(void *context, const char *object, const Error *problem)
{
    CheckRun *run = context;
    Json *item = json_new_object();
    json_set_text(item, "object", object);
    json_set_text(item, "reason", reason_slug(problem->reason));
    json_set_text(item, "message", problem->message);
    json_set_text(item, "hint", problem->hint);
    json_add(run->problems, item);
    if (!run->cli->is_json) {
        offline_progress_end(&run->progress);
        (void)printf("%s%s%s: %s\n", colour_begin(run->cli, COLOUR_RED),
                     reason_slug(problem->reason), colour_end(run->cli, COLOUR_RED),
                     output_safe(run->cli->arena, problem->message));
    }
}

// --- where a check was stopped ----------------------------------------------------------------

typedef struct CheckCount {
    const char *name;
    int64_t *value;
    bool is_of_shards; // else it is counted again each time
} CheckCount;

#define CHECK_COUNT_COUNT 8

static void counts_of(CheckReport *report, CheckCount counts[CHECK_COUNT_COUNT])
{
    const CheckCount all[CHECK_COUNT_COUNT] = {
        {"backups", &report->set_count, false},    {"shard_backups", &report->manifest_count, true},
        {"objects", &report->object_count, true},  {"extents", &report->extent_count, true},
        {"read_bytes", &report->read_bytes, true}, {"unread_packs", &report->unread_count, true},
        {"orphans", &report->orphan_count, false}, {"orphan_bytes", &report->orphan_bytes, false},
    };
    memcpy(counts, all, sizeof(all));
}

static Status read_state(CheckRun *run, Error *error)
{
    const char *path = run->options->state_file;
    CLEANUP_FREE char *text = NULL;
    CLEANUP(json_freep) Json *state = NULL;
    CheckCount counts[CHECK_COUNT_COUNT];
    size_t size = 0;
    if (path == NULL || access(path, F_OK) != 0) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(file_read(path, STATE_BYTES_MAX, &text, &size, error));
    if (json_parse(text, size, &state, error) != STATUS_OK ||
        !text_equal(json_get_text(state, "repository_id", ""), run->repository_id)) {
        error_set(error, REASON_PRECONDITION, "'%s' is not the state of a check of this repository",
                  path);
        return error_hint(error, "name another file, or remove it");
    }
    counts_of(&run->before, counts);
    for (size_t i = 0; i < CHECK_COUNT_COUNT; i++) {
        *counts[i].value = counts[i].is_of_shards ? json_get_integer(state, counts[i].name, 0) : 0;
    }
    run->before.problem_count = json_get_integer(state, "problem_count", 0);
    (void)snprintf(run->after_shard_id, sizeof(run->after_shard_id), "%s",
                   json_get_text(state, "shard_id", ""));
    return STATUS_OK;
}

static Json *report_json(const CheckRun *run, const CheckReport *report)
{
    Json *json = json_new_object();
    CheckReport now = *report;
    CheckReport before = run->before;
    CheckCount counts[CHECK_COUNT_COUNT];
    CheckCount old_counts[CHECK_COUNT_COUNT];
    counts_of(&now, counts);
    counts_of(&before, old_counts);
    for (size_t i = 0; i < CHECK_COUNT_COUNT; i++) {
        json_set_integer(json, counts[i].name, *counts[i].value + *old_counts[i].value);
    }
    json_set_integer(json, "problem_count", now.problem_count + before.problem_count);
    return json;
}

static void on_shard(void *context, const char *shard_id, const CheckReport *report)
{
    CheckRun *run = context;
    const char *path = run->options->state_file;
    if (path == NULL || run->state_status != STATUS_OK) {
        return;
    }
    CheckReport shards = *report;
    shards.object_count -= report->set_count; // sets are read anew each time
    CLEANUP(json_freep) Json *state = report_json(run, &shards);
    CLEANUP(buffer_done) Buffer text = {0};
    json_set_text(state, "repository_id", run->repository_id);
    json_set_text(state, "shard_id", shard_id);
    buffer_init(&text, STATE_BYTES_MAX);
    (void)json_write(state, true, &text); // fits
    run->state_status = file_write_atomic(path, text.data, text.size, 0600, &run->state_error);
}

// --- the command ------------------------------------------------------------------------------

static Status sample_of(const OfflineOptions *options, int *ret_percent, Error *error)
{
    int64_t percent = 0;
    *ret_percent = 0;
    if (options->sample == NULL) {
        return STATUS_OK;
    }
    if (!text_to_int64(options->sample, &percent) || percent < 1 || percent > 100) {
        return error_set(error, REASON_INVALID, "--sample is 1 to 100, not '%s'", options->sample);
    }
    *ret_percent = percent == 100 ? 0 : (int)percent;
    return STATUS_OK;
}

static Status judge(const Cli *cli, const Json *result, Error *error)
{
    int64_t problem_count = json_get_integer(result, "problem_count", 0);
    if (problem_count > 0) {
        (void)error_set(error, REASON_OBJECT_CORRUPT, "the repository has %lld problems",
                        (long long)problem_count);
        return error_hint(error,
                          "bring the named objects back from a copy of the repository; backups "
                          "that do not need them still restore");
    }
    if (!cli->is_json) {
        (void)printf("%s%s%s\n", colour_begin(cli, COLOUR_GREEN),
                     json_get_integer(result, "unread_packs", 0) > 0
                         ? "Everything that a backup needs is there; what was read of it is sound."
                         : "Everything that a backup needs is there and sound.",
                     colour_end(cli, COLOUR_GREEN));
    }
    return STATUS_OK;
}

Status verb_check(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(limits_freep) Limits *limits = NULL;
    CLEANUP(repository_freep) Repository *repository = NULL;
    CheckReport report = {0};
    CheckOptions check = {.on_problem = on_problem, .on_shard = on_shard};
    CheckRun run = {.cli = cli, .options = options};
    RETURN_IF_ERROR(sample_of(options, &check.sample_percent, error));
    RETURN_IF_ERROR(offline_limits(options, &limits, &check.memory_bytes, error));
    check.limits = limits;
    RETURN_IF_ERROR(offline_open(options, limits, &repository, error));
    run.repository_id = repository_id(repository);
    RETURN_IF_ERROR(read_state(&run, error));
    run.problems = json_new_array();
    offline_progress_begin(&run.progress, cli, "checking");
    check.context = &run;
    check.progress = offline_progress_callback(&run.progress);
    check.after_shard_id = run.after_shard_id[0] == '\0' ? NULL : run.after_shard_id;
    Status status = repository_check_with(repository, &check, &report, error);
    offline_progress_end(&run.progress);
    CLEANUP(json_freep) Json *result = report_json(&run, &report);
    if (cli->is_json) {
        json_set(result, "problems", run.problems);
    } else {
        json_free(run.problems);
    }
    RETURN_IF_ERROR(status);
    if (run.state_status != STATUS_OK) {
        *error = run.state_error;
        return error_wrap(error, "keeping how far the check came");
    }
    if (options->state_file != NULL) {
        (void)unlink(options->state_file); // it came to its end
    }
    verb_print(cli, result);
    return judge(cli, result, error);
}
