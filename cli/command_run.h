// SPDX-License-Identifier: Apache-2.0
// Commands that are one REST call, as their row in the table says.
#pragma once

#include "cli/command.h"

Status command_run(Cli *cli, const Invocation *invocation, Error *error);

// For commands with code of their own.
char *command_path(Cli *cli, const Invocation *invocation); // with the arguments put in
// The JSON body that the arguments and options make; the caller frees it.
Status command_body(const Invocation *invocation, Json **ret_body, Error *error);
const char *command_query(Cli *cli, const Invocation *invocation); // NULL: none
// Every item of a paged list, at most `limit` of them, in one array under the list's key:
// {"backups": [...]}.
Status command_list(Cli *cli, const char *path, const char *query, const char *list_key, int limit,
                    Json **ret_list, bool *ret_has_more, Error *error);
// --limit, or what the command's row says.
Status command_limit(const Invocation *invocation, int *ret_limit, Error *error);
Json *command_copy_json(const Json *json);
