// SPDX-License-Identifier: Apache-2.0
// Inside of process.c: spawning with a separate stderr. Nobody else includes it.
#pragma once

#include "common/process.h"

// As process_spawn, but stderr goes to error_fd when that is valid.
Status process_spawn_with(const ProcessOptions *options, int error_fd, pid_t *ret_pid,
                          Error *error);
// The state and start time from the text of /proc/PID/stat; false when it is not one.
bool process_parse_stat(const char *text, char *ret_state, uint64_t *ret_start_ticks);
int process_open_pidfd(pid_t pid); // INVALID_FD and errno when there is none
