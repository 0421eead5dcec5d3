// SPDX-License-Identifier: Apache-2.0
// What an operation may use, changeable while it runs.
#include "repository/repository_limits.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define WAIT_STEP_US (INT64_C(100) * 1000)
// Slower transfers would run into time limits; a low limit holds by pauses between them.
#define PACE_BYTES_PER_SECOND_MIN (INT64_C(1024) * 1024)

typedef struct Lane {
    int64_t bytes_per_second; // 0: no limit
    int64_t free_us;          // when what was let through has gone, at that rate
} Lane;

struct Limits {
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    int processor_count;
    int cpu_count, busy_count;
    Lane upload, download;
    Lane paced_upload, paced_download; // within transfers
};

Limits *limits_new(void)
{
    Limits *limits = mem_alloc(sizeof(*limits));
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&limits->mutex, NULL);
    pthread_cond_init(&limits->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    limits->processor_count = count < 1 ? 1 : (int)count;
    limits->cpu_count = limits->processor_count;
    return limits;
}

void limits_free(Limits *limits)
{
    if (limits != NULL) {
        assert(limits->busy_count == 0);
        pthread_mutex_destroy(&limits->mutex);
        pthread_cond_destroy(&limits->changed);
        mem_free(limits);
    }
}

void limits_freep(Limits **limits)
{
    limits_free(*limits);
    *limits = NULL;
}

void limits_set_cpus(Limits *limits, int cpu_count)
{
    pthread_mutex_lock(&limits->mutex);
    limits->cpu_count = cpu_count > 0 ? cpu_count : limits->processor_count;
    pthread_cond_broadcast(&limits->changed);
    pthread_mutex_unlock(&limits->mutex);
}

static int64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// The bytes that are owed stay owed, at the new rate: a higher one works at once, and changing
// it often lets nothing through.
static void set_rate(Lane *lane, int64_t bytes_per_second, int64_t now_us)
{
    double owed_us = lane->free_us > now_us ? (double)(lane->free_us - now_us) : 0;
    double old = (double)lane->bytes_per_second;
    lane->bytes_per_second = MAX(bytes_per_second, 0);
    lane->free_us = 0;
    if (lane->bytes_per_second > 0 && owed_us > 0) {
        lane->free_us = now_us + (int64_t)(owed_us * old / (double)lane->bytes_per_second);
    }
}

static int64_t pace_of(int64_t bytes_per_second)
{
    return bytes_per_second > 0 ? MAX(bytes_per_second, PACE_BYTES_PER_SECOND_MIN) : 0;
}

void limits_set_bandwidth(Limits *limits, int64_t upload_bytes_per_second,
                          int64_t download_bytes_per_second)
{
    pthread_mutex_lock(&limits->mutex);
    int64_t now_us = monotonic_us();
    set_rate(&limits->upload, upload_bytes_per_second, now_us);
    set_rate(&limits->download, download_bytes_per_second, now_us);
    set_rate(&limits->paced_upload, pace_of(upload_bytes_per_second), now_us);
    set_rate(&limits->paced_download, pace_of(download_bytes_per_second), now_us);
    pthread_cond_broadcast(&limits->changed);
    pthread_mutex_unlock(&limits->mutex);
}

void limits_enter(Limits *limits)
{
    pthread_mutex_lock(&limits->mutex);
    while (limits->busy_count >= limits->cpu_count) {
        pthread_cond_wait(&limits->changed, &limits->mutex);
    }
    limits->busy_count++;
    pthread_mutex_unlock(&limits->mutex);
}

void limits_leave(Limits *limits)
{
    pthread_mutex_lock(&limits->mutex);
    assert(limits->busy_count > 0);
    limits->busy_count--;
    pthread_cond_broadcast(&limits->changed);
    pthread_mutex_unlock(&limits->mutex);
}

// Waits for one step at most.
static bool try_lane(Limits *limits, Lane *lane, size_t size)
{
    pthread_mutex_lock(&limits->mutex);
    int64_t now_us = monotonic_us();
    bool is_free = lane->bytes_per_second == 0 || lane->free_us <= now_us;
    if (lane->bytes_per_second > 0 && is_free) {
        double seconds = (double)size / (double)lane->bytes_per_second;
        lane->free_us = now_us + (int64_t)(seconds * 1e6);
    } else if (!is_free) {
        int64_t until_us = MIN(lane->free_us, now_us + WAIT_STEP_US);
        struct timespec until = {.tv_sec = until_us / 1000000,
                                 .tv_nsec = until_us % 1000000 * 1000};
        (void)pthread_cond_timedwait(&limits->changed, &limits->mutex, &until);
    }
    pthread_mutex_unlock(&limits->mutex);
    return is_free;
}

static void wait_lane(Limits *limits, Lane *lane, size_t size, const atomic_bool *is_stopping)
{
    while (!atomic_load(is_stopping) && !try_lane(limits, lane, size)) {
    }
}

void limits_wait_upload(Limits *limits, size_t size, const atomic_bool *is_stopping)
{
    wait_lane(limits, &limits->upload, size, is_stopping);
}

void limits_wait_download(Limits *limits, size_t size, const atomic_bool *is_stopping)
{
    wait_lane(limits, &limits->download, size, is_stopping);
}

bool limits_try_download(Limits *limits, size_t size)
{
    return try_lane(limits, &limits->download, size);
}

void limits_pace(void *context, bool is_upload, size_t size)
{
    Limits *limits = context;
    while (!try_lane(limits, is_upload ? &limits->paced_upload : &limits->paced_download, size)) {
    }
}
