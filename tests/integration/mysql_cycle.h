// SPDX-License-Identifier: Apache-2.0
// One backup of a MariaDB or MySQL shard as the agent makes it, in a few calls, for the tests of
// the MySQL family.
#pragma once

#include "agent/engine/engine.h"
#include "recorder/recorder.h"
#include "tests/harness/scratch_mysql.h"

#include <stdbool.h>
#include <stdint.h>

// What a finished backup is: the files of the layout in a directory, and what the manifest would
// hold.
typedef struct CycleBackup {
    char directory[512];
    char version[64];
    char engine_state[8192];
    Checkpoint checkpoint;
    int64_t received_bytes; // from the source
    int64_t size_bytes;
    int64_t changed_bytes;       // in extents, against the parent; whole size for a seed
    int64_t checked_pages_files; // files that had a page check
} CycleBackup;

typedef struct Cycle {
    ScratchMysql *source;
    const char *launcher;
    char *root; // directories are made below it
    int count;
    Cancel cancel;
    const char *tls_mode; // NULL: "prefer"
    const char *tls_ca_pem;
    int64_t divide_bytes;          // of the engine's options
    const char *program_directory; // NULL: the usual one
} Cycle;

typedef struct CycleRun {
    Cycle *cycle;
    Engine *engine;
    const CycleBackup *parent; // or NULL
    char data_directory[512];
    char work_directory[512];
    int64_t received_bytes;
    char table_path[512];
    Recorder *recorder; // of every run with a parent
} CycleRun;

// Opens an engine on a fresh directory: seeded, or with the parent's files; started.
Status cycle_begin(Cycle *cycle, const CycleBackup *parent, CycleRun *ret_run, Error *error);
// Follows and waits until it has caught up.
Status cycle_catch_up(CycleRun *run, Error *error);
// Replays to the checkpoint, stops, checks every page, copies the layout's files into a new backup.
Status cycle_finish(CycleRun *run, const Checkpoint *checkpoint, CycleBackup *ret_backup,
                    Error *error);
void cycle_end(CycleRun *run); // closes the engine and removes its directories
// All of it; fails the test on an error.
void cycle_backup(Cycle *cycle, const CycleBackup *parent, CycleBackup *ret_backup);
// Serves a copy of the backup on a free port.
Status cycle_serve(Cycle *cycle, const CycleBackup *backup, int *ret_port, CycleRun *ret_run,
                   Error *error);
void cycle_copy_tree(const char *from, const char *to);
