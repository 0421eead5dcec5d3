// SPDX-License-Identifier: Apache-2.0
// Commands on databases and policies whose answers are shown in their own way.
#pragma once

#include "cli/command.h"

Status database_probe_run(Cli *cli, const Invocation *invocation, Error *error);
Status policy_preview_run(Cli *cli, const Invocation *invocation, Error *error);
