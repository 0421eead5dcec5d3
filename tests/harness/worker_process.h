// SPDX-License-Identifier: Apache-2.0
// A worker that is a process of its own, and dies by kill -9 at a chosen commit of a step. The test
// program is the worker's program too; it is linked with --wrap for the steps and for store_commit.
#pragma once

#include "tests/harness/worker_fixture.h"

// Where: just before or just after the n-th commit that a step of the worker makes (1 ...). What a
// step does outside of the store comes between two commits, so the two sides of each are all the
// places that differ. 0: nowhere.
typedef struct CrashPlace {
    int commit;
    bool is_after;
} CrashPlace;

// main calls this first: does not return when this process is to be a worker.
void worker_process_main(int argument_count, char **arguments);

// A worker that dies at the place, and then others that do not, until it is stopped.
typedef struct WorkerProcess WorkerProcess;
WorkerProcess *worker_process_start(WorkerFixture *fixture, CrashPlace place);
// Kills it. True: the place was reached.
bool worker_process_stop(WorkerProcess *process);

// The same for what the test's agents say, without dying: the n-th commit (1 ...) made by the
// calling thread between begin and end fails, before or after it took effect. True: it was reached.
void session_fault_begin(CrashPlace place);
bool session_fault_end(void);
