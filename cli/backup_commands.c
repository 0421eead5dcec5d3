// SPDX-License-Identifier: Apache-2.0
#include "cli/backup_commands.h"

#include "cli/cli_output.h"
#include "cli/command_run.h"
#include "cli/watch.h"
#include "common/limits.h"
#include "common/text.h"

#include <stdio.h>

// Creates the thing, and either waits for its end or says how to.
static Status start(Cli *cli, const Invocation *invocation, const Json *body, const WatchKind *kind,
                    Error *error)
{
    const CliRequest request = {
        .method = "POST", .path = command_path(cli, invocation), .body = body};
    CLEANUP(json_freep) Json *answer = NULL;
    RETURN_IF_ERROR(cli_call(cli, &request, &answer, error));
    const char *id = json_get_text(answer, "id", "");
    if (invocation_has(invocation, "wait")) {
        return watch_run(cli, kind, id, error);
    }
    if (cli->is_json) {
        output_json(answer);
    } else {
        (void)printf("%s %s of %s started; to see it: holdfast %s watch %s\n", kind->word,
                     output_safe(cli->arena, id),
                     output_safe(cli->arena, json_get_text(answer, "database", "")), kind->word,
                     output_safe(cli->arena, id));
    }
    return STATUS_OK;
}

Status backup_start_run(Cli *cli, const Invocation *invocation, Error *error)
{
    CLEANUP(json_freep) Json *body = NULL;
    RETURN_IF_ERROR(command_body(invocation, &body, error));
    return start(cli, invocation, body, &WATCH_BACKUP, error);
}

Status backup_show_run(Cli *cli, const Invocation *invocation, Error *error)
{
    char *path = command_path(cli, invocation);
    CLEANUP(json_freep) Json *backup = NULL;
    CLEANUP(json_freep) Json *list = NULL;
    bool has_more = false;
    RETURN_IF_ERROR(cli_get(cli, path, NULL, &backup, error));
    RETURN_IF_ERROR(command_list(cli, arena_format(cli->arena, "%s/shards", path), NULL, "shards",
                                 LIMIT_SHARD_COUNT, &list, &has_more, error));
    if (cli->is_json) {
        Json *both = json_new_object();
        json_set(both, "backup", backup);
        json_set(both, "shards", command_copy_json(json_get(list, "shards")));
        backup = NULL;
        output_json(both);
        json_free(both);
        return STATUS_OK;
    }
    output_details(cli, backup);
    (void)printf("\n");
    output_table(cli, json_get(list, "shards"), invocation->command->columns);
    return STATUS_OK;
}

Status backup_watch_run(Cli *cli, const Invocation *invocation, Error *error)
{
    return watch_run(cli, &WATCH_BACKUP, invocation_argument(invocation, 0), error);
}

Status restore_create_run(Cli *cli, const Invocation *invocation, Error *error)
{
    bool has_database = invocation_has(invocation, "database");
    if (has_database == invocation_has(invocation, "backup")) {
        return error_set(error, REASON_INVALID, "one of --database and --backup is needed");
    }
    bool is_server = invocation_has(invocation, "first-port");
    if (!is_server && !invocation_has(invocation, "directory")) {
        (void)error_set(error, REASON_INVALID, "it is not said where to restore to");
        return error_hint(error, "--directory for data directories, --first-port for servers");
    }
    CLEANUP(json_freep) Json *body = NULL;
    RETURN_IF_ERROR(command_body(invocation, &body, error));
    json_set_text(body, "mode", is_server ? "server" : "directory");
    return start(cli, invocation, body, &WATCH_RESTORE, error);
}

Status restore_watch_run(Cli *cli, const Invocation *invocation, Error *error)
{
    return watch_run(cli, &WATCH_RESTORE, invocation_argument(invocation, 0), error);
}
