// SPDX-License-Identifier: Apache-2.0
// Inside of server/worker: one function for each kind of work. Nobody else includes it, but the
// tests.
//
// A step looks at its subject, does what is to be done now and says when to look again. It may be
// repeated, run late, or be run by another server after this one died in the middle: what it does
// outside the store (launch, terminate, write or remove objects) is idempotent, and comes before
// the row that says it was done, or after the row that says it is meant.
#pragma once

#include "common/arena.h"
#include "server/service/time_zones.h"
#include "server/store/store_instance.h"
#include "server/store/store_work.h"
#include "server/worker/worker.h"

#define WORK_DONE (-1)

typedef struct WorkStep {
    Worker *worker;
    const WorkerOptions *options;
    const WorkItem *item;
    Arena *arena; // of this step
} WorkStep;

// ret_next_ms: WORK_DONE, or when to look again. An error: looked at again with a growing delay.
typedef Status (*WorkFunction)(const WorkStep *step, int64_t *ret_next_ms, Error *error);

Status work_backup(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_restore(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_instance_place(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_instance(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_sweep(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_forget_source(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_housekeeping(const WorkStep *step, int64_t *ret_next_ms, Error *error);
Status work_retention(const WorkStep *step, int64_t *ret_next_ms, Error *error);
// Fires the policies that are due. Not a work item: policy_due is claimed itself. Says how many it
// looked at.
Status work_policy(const WorkerOptions *options, TimeZones *zones, int *ret_count, Error *error);

// The join secret of an instance, the same whoever derives it, and its hash.
Secret worker_join_secret(const WorkerOptions *options, const char *instance_id);
void worker_join_secret_hash(const WorkerOptions *options, const char *instance_id,
                             uint8_t *ret_hash);

// Things that a sweep saw that should not be there, from one sweep to the next. work_sweep.c's own;
// one sweep at a time.
typedef struct SweepMemory SweepMemory;
SweepMemory *worker_sweep_memory(Worker *worker);
SweepMemory *sweep_memory_new(void);
void sweep_memory_free(SweepMemory *memory);

// It should run and does not: its destruction is asked for, and who wanted it is woken.
Status worker_lose_instance(const WorkStep *step, const InstanceRow *row, Error *error);

// A failure while working, with what it was about; an error is logged once, here.
void worker_log_failure(const WorkItem *item, const Error *error);
