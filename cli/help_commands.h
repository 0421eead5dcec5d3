// SPDX-License-Identifier: Apache-2.0
// Commands about the client itself: help, completion, version.
#pragma once

#include "cli/command.h"

#include <stdio.h>

Status help_run(Cli *cli, const Invocation *invocation, Error *error);
Status completion_run(Cli *cli, const Invocation *invocation, Error *error);
Status version_run(Cli *cli, const Invocation *invocation, Error *error);

void help_print_all(FILE *file);
void help_print_group(FILE *file, const char *group);
void help_print_command(FILE *file, const Command *command);
