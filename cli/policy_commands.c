// SPDX-License-Identifier: Apache-2.0
#include "cli/policy_commands.h"

#include "cli/cli_output.h"
#include "cli/command_run.h"
#include "common/text.h"

#include <stdio.h>

static const ViewColumn PROBE_COLUMNS[] = {
    {"SHARD", "shard", VIEW_TEXT},
    {"READY", "is_ready", VIEW_STATE},
    {"VERSION", "version", VIEW_TEXT},
    {"SIZE", "size_bytes", VIEW_BYTES},
    {"POSITION", "position", VIEW_TEXT},
    {"PAGE CHECKSUMS", "has_page_checksums", VIEW_YES},
    {NULL, NULL, VIEW_TEXT},
};

static void print_problems(const Cli *cli, const Json *results)
{
    for (const Json *result = json_first(results); result != NULL; result = json_next(result)) {
        const Json *problems = json_get(result, "problems");
        for (const Json *problem = json_first(problems); problem != NULL;
             problem = json_next(problem)) {
            (void)printf("\n%sshard %s: %s%s\n", colour_begin(cli, COLOUR_RED),
                         output_safe(cli->arena, json_get_text(result, "shard", "")),
                         output_safe(cli->arena, json_get_text(problem, "message", "")),
                         colour_end(cli, COLOUR_RED));
            const char *cure = json_get_text(problem, "cure", "");
            if (*cure != '\0') {
                (void)printf("  cure: %s\n", output_safe(cli->arena, cure));
            }
        }
    }
}

// The first problem of all is the command's outcome.
static Status probe_outcome(const Json *results, Error *error)
{
    for (const Json *result = json_first(results); result != NULL; result = json_next(result)) {
        if (json_get_boolean(result, "is_ready", false)) {
            continue;
        }
        const Json *problem = json_first(json_get(result, "problems"));
        Reason reason = reason_from_slug(json_get_text(problem, "reason", ""));
        return error_set(error, reason, "shard '%s' is not ready to be backed up",
                         json_get_text(result, "shard", ""));
    }
    return STATUS_OK;
}

Status database_probe_run(Cli *cli, const Invocation *invocation, Error *error)
{
    const CliRequest request = {.method = "POST", .path = command_path(cli, invocation)};
    CLEANUP(json_freep) Json *answer = NULL;
    RETURN_IF_ERROR(cli_call(cli, &request, &answer, error));
    const Json *results = json_get(answer, "results");
    if (cli->is_json) {
        output_json(answer);
    } else {
        output_table(cli, results, PROBE_COLUMNS);
        print_problems(cli, results);
    }
    return probe_outcome(results, error);
}

// The schedule of a policy that exists; options take precedence.
static Status add_schedule_of_policy(Cli *cli, const Invocation *invocation, Json *body,
                                     Error *error)
{
    const char *database = invocation_argument(invocation, 0);
    const char *policy = invocation_argument(invocation, 1);
    if (policy == NULL) {
        return error_set(error, REASON_INVALID, "POLICY is missing");
    }
    const char *path =
        arena_format(cli->arena, "/v1/databases/%s/policies/%s", cli_escape(cli->arena, database),
                     cli_escape(cli->arena, policy));
    CLEANUP(json_freep) Json *found = NULL;
    RETURN_IF_ERROR(cli_get(cli, path, NULL, &found, error));
    static const char *const fields[] = {"schedule", "time_zone", "stagger_delay"};
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        const char *value = json_get_text(found, fields[i], "");
        if (json_get(body, fields[i]) == NULL && *value != '\0') {
            json_set_text(body, fields[i], value);
        }
    }
    return STATUS_OK;
}

Status policy_preview_run(Cli *cli, const Invocation *invocation, Error *error)
{
    CLEANUP(json_freep) Json *body = NULL;
    RETURN_IF_ERROR(command_body(invocation, &body, error));
    if (invocation_argument(invocation, 0) != NULL) {
        RETURN_IF_ERROR(add_schedule_of_policy(cli, invocation, body, error));
    } else if (json_get(body, "schedule") == NULL) {
        (void)error_set(error, REASON_INVALID, "a policy or a schedule is needed");
        return error_hint(error, "for example: holdfast policy preview --schedule '*/5 * * * *'");
    }
    const CliRequest request = {.method = "POST", .path = "/v1/schedules/preview", .body = body};
    CLEANUP(json_freep) Json *answer = NULL;
    RETURN_IF_ERROR(cli_call(cli, &request, &answer, error));
    if (cli->is_json) {
        output_json(answer);
        return STATUS_OK;
    }
    const Json *runs = json_get(answer, "runs");
    for (const Json *run = json_first(runs); run != NULL; run = json_next(run)) {
        (void)printf("%s  %s  (%s)\n", output_value(cli->arena, run, VIEW_TEXT),
                     output_value(cli->arena, run, VIEW_TIME),
                     output_value(cli->arena, run, VIEW_AGO));
    }
    return STATUS_OK;
}
