// SPDX-License-Identifier: Apache-2.0
// The agent's life on an instance, from the join to the exit code.
#pragma once

#include "common/error.h"

// Returns the program's exit code: 0 when the work is done or the server said stop, else the
// status' (common/status.def).
int agent_run(const char *instance_directory);
