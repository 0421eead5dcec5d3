// SPDX-License-Identifier: Apache-2.0
// Commands on backups and restores that are more than one call.
#pragma once

#include "cli/command.h"

Status backup_start_run(Cli *cli, const Invocation *invocation, Error *error);
Status backup_show_run(Cli *cli, const Invocation *invocation, Error *error);
Status backup_watch_run(Cli *cli, const Invocation *invocation, Error *error);
Status restore_create_run(Cli *cli, const Invocation *invocation, Error *error);
Status restore_watch_run(Cli *cli, const Invocation *invocation, Error *error);
