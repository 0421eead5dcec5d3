// SPDX-License-Identifier: Apache-2.0
#include "common/job_ring.h"

#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

struct JobRing {
    JobRingOptions options;
    pthread_t threads[JOB_RING_THREAD_COUNT_MAX];
    int thread_count;
    uint8_t *places;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t asked, done;
    bool *are_done;
    uint64_t ask_count, claim_count, take_count; // the first and the last change by one thread only
    bool is_ending;
};

static void *place_of(const JobRing *ring, uint64_t index)
{
    return ring->places + index % ring->options.place_count * ring->options.job_size;
}

static void *run_thread(void *argument)
{
    JobRing *ring = argument;
    const JobRingOptions *options = &ring->options;
    void *own = NULL;
    pthread_mutex_lock(&ring->mutex);
    while (!ring->is_ending) {
        if (ring->claim_count == ring->ask_count) {
            pthread_cond_wait(&ring->asked, &ring->mutex);
            continue;
        }
        uint64_t index = ring->claim_count++;
        pthread_mutex_unlock(&ring->mutex);
        if (own == NULL && options->thread_new != NULL) {
            own = options->thread_new(options->context);
        }
        options->run(options->context, own, place_of(ring, index));
        pthread_mutex_lock(&ring->mutex);
        ring->are_done[index % options->place_count] = true;
        pthread_cond_signal(&ring->done);
    }
    pthread_mutex_unlock(&ring->mutex);
    if (own != NULL) {
        options->thread_free(own);
    }
    return NULL;
}

Status job_ring_new(const JobRingOptions *options, JobRing **ret_ring, Error *error)
{
    assert(options->thread_count > 0 && options->thread_count <= JOB_RING_THREAD_COUNT_MAX);
    assert(options->place_count >= 2);
    JobRing *ring = mem_alloc(sizeof(*ring));
    ring->options = *options;
    ring->places = mem_alloc_array(options->place_count, options->job_size);
    ring->are_done = mem_alloc_array(options->place_count, sizeof(*ring->are_done));
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&ring->mutex, NULL);
    pthread_cond_init(&ring->asked, NULL);
    pthread_cond_init(&ring->done, &attributes);
    pthread_condattr_destroy(&attributes);
    for (int i = 0; i < options->thread_count; i++) {
        if (pthread_create(&ring->threads[i], NULL, run_thread, ring) != 0) {
            job_ring_free(ring);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        ring->thread_count++;
    }
    *ret_ring = ring;
    return STATUS_OK;
}

void job_ring_free(JobRing *ring)
{
    if (ring == NULL) {
        return;
    }
    pthread_mutex_lock(&ring->mutex);
    ring->is_ending = true;
    pthread_cond_broadcast(&ring->asked);
    pthread_mutex_unlock(&ring->mutex);
    for (int i = 0; i < ring->thread_count; i++) {
        pthread_join(ring->threads[i], NULL);
    }
    for (size_t i = 0; ring->options.job_done != NULL && i < ring->options.place_count; i++) {
        ring->options.job_done(place_of(ring, i));
    }
    pthread_mutex_destroy(&ring->mutex);
    pthread_cond_destroy(&ring->asked);
    pthread_cond_destroy(&ring->done);
    mem_free(ring->places);
    mem_free(ring->are_done);
    mem_free(ring);
}

bool job_ring_is_full(const JobRing *ring)
{
    // The job that was taken last is borrowed, so one place is kept free.
    return ring->ask_count - ring->take_count >= ring->options.place_count - 1;
}

bool job_ring_is_empty(const JobRing *ring)
{
    return ring->ask_count == ring->take_count;
}

void *job_ring_next(JobRing *ring)
{
    assert(!job_ring_is_full(ring));
    return place_of(ring, ring->ask_count);
}

void job_ring_ask(JobRing *ring)
{
    assert(!job_ring_is_full(ring));
    pthread_mutex_lock(&ring->mutex);
    ring->are_done[ring->ask_count++ % ring->options.place_count] = false;
    pthread_cond_signal(&ring->asked);
    pthread_mutex_unlock(&ring->mutex);
}

void *job_ring_take(JobRing *ring, int64_t wait_ms)
{
    assert(!job_ring_is_empty(ring));
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&ring->mutex);
    const bool *is_done = &ring->are_done[ring->take_count % ring->options.place_count];
    int failed = 0;
    while (!*is_done && failed != ETIMEDOUT) {
        failed = pthread_cond_timedwait(&ring->done, &ring->mutex, &until);
    }
    void *job = *is_done ? place_of(ring, ring->take_count++) : NULL;
    pthread_mutex_unlock(&ring->mutex);
    return job;
}
