// SPDX-License-Identifier: Apache-2.0
// What is under way, on standard error: one line for each, drawn again in place on a terminal.
// SIGINT and SIGTERM cancel. Thread-safe.
#pragma once

#include "cli/command.h"
#include "repository/repository.h"

#include <stdatomic.h>

typedef struct OfflineProgress OfflineProgress;
struct OfflineProgress {
    const char *label; // borrowed
    bool is_shown;
    int64_t started_ms, done_bytes, total_bytes;
    OfflineProgress *next;
};

void offline_watch_signals(void);
const atomic_bool *offline_cancel(void); // true from the first signal on
// Must stay in place until its end.
void offline_progress_begin(OfflineProgress *progress, const Cli *cli, const char *label);
Progress offline_progress_callback(OfflineProgress *progress);
void offline_progress_end(OfflineProgress *progress);
