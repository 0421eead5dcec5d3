// SPDX-License-Identifier: Apache-2.0
// Jobs that threads do side by side, in any order, and that one thread takes back in the order in
// which it asked for them. The places of the jobs are the ring's; what they hold is the caller's.
#pragma once

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOB_RING_THREAD_COUNT_MAX 32

typedef struct JobRing JobRing;
typedef struct JobRingOptions {
    size_t job_size, place_count; // 2 places or more
    int thread_count;             // 1 to JOB_RING_THREAD_COUNT_MAX
    // Of each thread's own, from its first job to its end; NULL: it needs nothing.
    void *(*thread_new)(void *context);
    void (*thread_free)(void *thread);
    void (*run)(void *context, void *thread, void *job);
    void (*job_done)(void *job); // frees what a place holds, in job_ring_free; NULL: nothing
    void *context;
} JobRingOptions;

Status job_ring_new(const JobRingOptions *options, JobRing **ret_ring, Error *error);
// Waits for the jobs that are being done; those that nobody has begun are dropped. NULL is fine.
void job_ring_free(JobRing *ring);

// --- by one thread ---
bool job_ring_is_full(const JobRing *ring);
bool job_ring_is_empty(const JobRing *ring); // nothing is to be taken
// The place of the next job, zeroed or as its last job left it; may be filled in until it is asked.
void *job_ring_next(JobRing *ring);
void job_ring_ask(JobRing *ring);
// The oldest, borrowed until the next is taken; NULL: it was not done within wait_ms.
void *job_ring_take(JobRing *ring, int64_t wait_ms);
