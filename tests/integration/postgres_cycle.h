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

// What nearly every test begins with: a directory, and in it a server with the tables `mark` and
// `load`, which the role `reader` may look at.
typedef struct CycleSite {
    char *directory;
    ScratchPostgres *primary;
    int cycle_count;
} CycleSite;
CycleSite cycle_site_new(const char *settings); // further lines of postgresql.conf
void cycle_site_done(CycleSite *site);
// Another such server in the same directory.
ScratchPostgres *cycle_site_server(const CycleSite *site, const char *name);

Cycle *cycle_new(CycleSite *site);
Cycle *cycle_new_from(CycleSite *site, const ScratchPostgres *source);
// In another directory, under a number of its own.
Cycle *cycle_new_in(const char *directory, int number, const ScratchPostgres *source);
// Over TLS: the source is "localhost" and must prove it with this authority.
Cycle *cycle_new_verified(CycleSite *site, const char *authority_pem);
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
Engine *cycle_open_restore(const Cycle *cycle, const char *data, const char *work);
void cycle_copy_tree(const char *from, const char *to);
int cycle_timeline(const Cycle *cycle); // that its engine state says
// Checks the pages of what was published; false: names the bad one.
bool cycle_check_pages(const Cycle *cycle, char ret_file[256], int64_t *ret_page);
int64_t cycle_changed_bytes(const Cycle *parent, const Cycle *cycle); // in pieces of 64 KiB
bool cycle_try_sql(const ScratchPostgres *server, const char *sql);   // false: it did not work out
// Serves the published files and compares the rows of `mark`, as the role `reader` of the source
// sees them.
void cycle_assert_marks(const Cycle *cycle, const char *expected);

// A small disk for what does not fit, empty at first.
const char *cycle_small_disk(void);

// For main(): true when the program is to end with that code: it was the launcher of a child, or
// PostgreSQL is missing.
bool cycle_prepare(int argc, char **argv, int *ret_exit_code);
const char *cycle_program(void); // this test program, which is also the launcher of engine children
