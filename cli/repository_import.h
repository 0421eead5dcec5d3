// SPDX-License-Identifier: Apache-2.0
// `holdfast repository rebuild-catalogue`: calls until everything is imported.
#pragma once

#include "cli/command.h"

Status repository_import_run(Cli *cli, const Invocation *invocation, Error *error);
