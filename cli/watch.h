// SPDX-License-Identifier: Apache-2.0
// Waiting for a backup or a restore: progress bars on a terminal, plain lines elsewhere (on
// standard error with
// --output json), and the outcome as a Status, so that the exit code says how it ended.
#pragma once

#include "cli/cli.h"

typedef struct WatchKind {
    const char *word; // "backup"
    const char *path; // "/v1/backups"
    const char
        *shards_path; // "shards": a list of its own below the object; NULL: within the object
    const char *const *final_states; // NULL-ended
} WatchKind;

extern const WatchKind WATCH_BACKUP;
extern const WatchKind WATCH_RESTORE;

// Prints the object at the end as JSON when asked for. A server that cannot be reached is waited
// for a while.
Status watch_run(Cli *cli, const WatchKind *kind, const char *id, Error *error);
