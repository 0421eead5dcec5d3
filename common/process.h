// SPDX-License-Identifier: Apache-2.0
// Child processes by posix_spawn (gRPC forbids fork without exec). Thread-safe.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ProcessOptions {
    const char *const
        *arguments; // NULL-ended; arguments[0] is looked up in PATH unless it has a slash
    const char *const *environment; // NULL-ended "KEY=value" added to ours, or NULL; secrets go
                                    // here, never in arguments
    const char *directory;          // working directory, or NULL
    const char *output_path; // stdout and stderr are appended to this file, or NULL: inherited
    int input_fd;            // becomes stdin when > 0, else /dev/null
    int output_fd;           // becomes stdout when > 0 (stderr still goes to output_path)
    int keep_fd;             // stays open in the child under the same number when > 0
    bool new_session;        // setsid: its own process group, survives our terminal
} ProcessOptions;

Status process_spawn(const ProcessOptions *options, pid_t *ret_pid, Error *error);
// Waits at most timeout_ms (-1: for ever). ret_done is false when it still runs. ret_code is the
// exit code, or 128 + signal.
Status process_wait(pid_t pid, int64_t timeout_ms, bool *ret_done, int *ret_code, Error *error);
// SIGTERM (or `polite_signal`), then SIGKILL after grace_ms; reaps. Fine when it has ended already.
void process_stop(pid_t pid, int polite_signal, int64_t grace_ms);
// Runs to the end, at most timeout_ms (REASON_DEADLINE); stdout is collected (up to the buffer's
// limit), stderr's tail (1 KiB) is in the error when the exit code is not 0: REASON `otherwise`.
// EXHAUSTED when SIGKILL or SIGTERM ended it: that says nothing of what it was asked.
Status process_run(const ProcessOptions *options, int64_t timeout_ms, Reason otherwise,
                   Buffer *output, Error *error);
bool program_find(const char *const *candidates,
                  char ret_path[4096]); // NULL-ended list of names or absolute paths

// Who a pid is: the kernel reuses numbers, so identity is pid + start time (clock ticks since boot)
// + boot id.
typedef struct ProcessIdentity {
    pid_t pid;
    uint64_t start_ticks;
    char boot_id[37];
} ProcessIdentity;
bool process_identify(pid_t pid,
                      ProcessIdentity *ret_identity); // false when there is no such process
bool process_is_alive(
    const ProcessIdentity *identity); // false for another process of that number, and for zombies
