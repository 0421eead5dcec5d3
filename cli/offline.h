// SPDX-License-Identifier: Apache-2.0
// Which command lines work on a repository itself, without a server.
#pragma once

#include <stdbool.h>

// `repository check|init|create-key ...`, `repository list|show ... --repository LOCATION`,
// `restore --offline ...`.
bool offline_is_meant(int argument_count, char **arguments);
int offline_run(int argument_count, char **arguments); // the exit code
