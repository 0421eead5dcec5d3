// SPDX-License-Identifier: Apache-2.0
// `holdfast events`: what happened, and what happens.
#pragma once

#include "cli/command.h"

Status events_run(Cli *cli, const Invocation *invocation, Error *error);
