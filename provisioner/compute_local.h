// SPDX-License-Identifier: Apache-2.0
// Inside of the local driver: its files and its processes. Nobody else includes it, but its tests.
//
//   <directory>/<instance id>/   0700: made by launch; everything of the instance lives below it
//     launch.json                birth record, written once
//     join.json                  0600: what the agent joins with; holds the secret
//     process.json               who the agent is: pid, start time, boot
//     terminate.json             when it was first asked to end
//     lock                       held by the agent while it lives
//     agent.log                  what it says
//   <log directory>/<id>.log      of instances that are gone, the newest few
//
// A process belongs to an instance when its working directory is inside the instance's, or when its
// stderr is a file there: engines work in their data directory, and a restored server's is
// elsewhere. Neither is shed by changing the process group, and PostgreSQL, which overwrites its
// environment, keeps both.
#pragma once

#include "common/arena.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/process.h"
#include "provisioner/provisioner.h"

#define LOCAL_PATH_SIZE 4096

// --- compute_local_processes.c ---
typedef struct LocalProcess {
    ProcessIdentity identity;
    char instance_id[37];
    bool is_at_root; // its working directory is the instance's itself: the agent, or one of its
                     // tools
} LocalProcess;
// Every living process that belongs to <directory>/<some instance id>, also of directories already
// deleted. `instance_id` NULL: of all instances. Sorted by start time.
Status local_processes_find(const char *directory, const char *instance_id, Arena *arena,
                            LocalProcess **ret_processes, size_t *ret_count, Error *error);
// Signals exactly that process, never another that got its number meanwhile. False: it is gone, or
// no longer inside.
bool local_process_signal(const char *directory, const LocalProcess *process, int signal_number);

// --- compute_local_files.c ---
void local_path(const char *directory, const char *instance_id, const char *name,
                char ret_path[LOCAL_PATH_SIZE]);
Status local_write_join(const char *directory, const LaunchSpec *spec, Error *error);
Status local_write_birth(const char *directory, const char *instance_id,
                         Error *error); // keeps one that is there
int64_t local_read_birth(const char *directory,
                         const char *instance_id); // microseconds; 0: unknown
Status local_write_process(const char *directory, const char *instance_id,
                           const ProcessIdentity *identity, Error *error);
bool local_read_process(const char *directory, const char *instance_id,
                        ProcessIdentity *ret_identity);
// When it was first asked to end: now, if this is the first time.
Status local_mark_terminated(const char *directory, const char *instance_id, int64_t *ret_since_us,
                             bool *ret_is_first, Error *error);
bool local_is_terminated(const char *directory, const char *instance_id);
Status local_read_log(const char *directory, const char *log_directory, const char *instance_id,
                      Buffer *buffer, Error *error);
// Moves the log away (keeping a bounded number of old ones), then removes the directory.
Status local_remove(const char *directory, const char *log_directory, const char *instance_id,
                    Error *error);
