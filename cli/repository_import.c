// SPDX-License-Identifier: Apache-2.0
#include "cli/repository_import.h"

#include "cli/cli_output.h"
#include "cli/command_run.h"

static void add(Json *total, const Json *answer, const char *field)
{
    json_set_integer(total, field,
                     json_get_integer(total, field, 0) + json_get_integer(answer, field, 0));
}

static void print_skipped(const Cli *cli, const Json *answer)
{
    const Json *skipped = json_get(answer, "skipped");
    for (const Json *item = json_first(skipped); item != NULL; item = json_next(item)) {
        (void)fprintf(stderr, "holdfast: not imported: %s\n",
                      output_safe(cli->arena, json_text(item, "")));
    }
}

Status repository_import_run(Cli *cli, const Invocation *invocation, Error *error)
{
    CLEANUP(json_freep) Json *total = json_new_object();
    const char *path = command_path(cli, invocation);
    for (bool is_complete = false; !is_complete;) {
        CLEANUP(json_freep) Json *answer = NULL;
        const CliRequest request = {.method = "POST", .path = path};
        RETURN_IF_ERROR(cli_call(cli, &request, &answer, error));
        add(total, answer, "database_count");
        add(total, answer, "shard_count");
        add(total, answer, "backup_count");
        is_complete = json_get_boolean(answer, "is_complete", true);
        if (is_complete) {
            json_set_integer(total, "skipped_count", json_get_integer(answer, "skipped_count", 0));
            print_skipped(cli, answer);
        }
    }
    if (cli->is_json) {
        output_json(total);
    } else {
        output_details(cli, total);
    }
    return STATUS_OK;
}
