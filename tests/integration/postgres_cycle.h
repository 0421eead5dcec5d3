// SPDX-License-Identifier: Apache-2.0
// One backup of a scratch PostgreSQL server through the engine's interface, step by step, with a
// plain copy of the layout's files in the place of the repository.
#pragma once

#include "agent/engine/engine.h"
#include "recorder/recorder.h"
#include "tests/harness/scratch_postgres.h"

#define CYCLE_SHARD "0192f3a4-0000-7000-8000-000000000001"

typedef struct Cycle {
    char *data, *work, *published; // directories
    char *instance_id;
    char *state;   // the manifest's engine state
    char *version; // the manifest's
    EngineSource source;
    Cancel cancel;
    Engine *engine; // NULL after the end
    Checkpoint checkpoint;
    int64_t received_bytes;
    int checked_file_count;
    char *table_path;
    Recorder *recorder;           // begins with a parent
    const char *parent_directory; // its published files; borrowed; or NULL
} Cycle;

Cycle *cycle_new(const char *directory, int number, const ScratchPostgres *source,
                 const char *agent_program);
// The same over TLS: the source is "localhost" and must prove it with this authority.
Cycle *cycle_new_verified(const char *directory, int number, const ScratchPostgres *source,
                          const char *agent_program, const char *authority_pem);
void cycle_free(Cycle *cycle); // closes the engine; NULL is fine
// Seeds or adopts, starts and follows; waits until caught up; takes a checkpoint; replays, stops,
// publishes, commits.
void cycle_begin(Cycle *cycle, const Cycle *parent);
void cycle_wait_ready(Cycle *cycle); // caught up with where the source was a few seconds ago
// Until the copy has everything that the server has written by now.
void cycle_wait_replayed(Cycle *cycle, const ScratchPostgres *server);
void cycle_take(Cycle *cycle);
void cycle_finish(Cycle *cycle);
void cycle_run(Cycle *cycle, const Cycle *parent); // all of it
// From a parent to ready, or the first failure.
Status cycle_try_replay(Cycle *cycle, Error *error); // to the checkpoint taken
Status cycle_try_ready(Cycle *cycle, const Cycle *parent, Error *error);

EngineSource cycle_source(const ScratchPostgres *server); // the password is the caller's
Engine *cycle_open_restore(const Cycle *cycle, const char *data, const char *work,
                           const char *agent_program);
void cycle_copy_tree(const char *from, const char *to);
int cycle_timeline(const Cycle *cycle); // that its engine state says
// Checks the pages of what was published; false: names the bad one.
bool cycle_check_pages(const Cycle *cycle, char ret_file[256], int64_t *ret_page);
int64_t cycle_changed_bytes(const Cycle *parent, const Cycle *cycle); // in pieces of 64 KiB
bool cycle_try_sql(const ScratchPostgres *server, const char *sql);   // false: it did not work out
// A scratch server with the tables `mark` and `load`.
ScratchPostgres *cycle_new_primary(const char *directory, const char *name, const char *settings);
// Serves the published files and compares the rows of `mark`, as the role `reader` of the source
// sees them.
void cycle_assert_marks(const Cycle *cycle, const char *expected);

// For main(): true when the program is to end with that code: it was the launcher of a child, or
// PostgreSQL is missing.
bool cycle_prepare(int argc, char **argv, int *ret_exit_code);
const char *cycle_program(void); // this test program, which is also the launcher of engine children
