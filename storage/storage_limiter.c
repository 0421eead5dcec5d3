// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_limiter.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#define HALVING_INTERVAL_MS 1000

struct StorageLimiter {
    pthread_mutex_t mutex; // guards everything below
    pthread_cond_t has_place;
    double limit; // 1 .. limit_max; grows by parts of one
    double limit_max;
    int in_flight;
    int64_t halved_ms;
    bool was_halved;
};

StorageLimiter *storage_limiter_new(int concurrency_max)
{
    assert(concurrency_max > 0);
    StorageLimiter *limiter = mem_alloc(sizeof(*limiter));
    pthread_condattr_t attributes;
    (void)pthread_mutex_init(&limiter->mutex, NULL); // these cannot fail on Linux
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&limiter->has_place, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    limiter->limit = concurrency_max;
    limiter->limit_max = concurrency_max;
    return limiter;
}

void storage_limiter_free(StorageLimiter *limiter)
{
    if (limiter == NULL) {
        return;
    }
    assert(limiter->in_flight == 0);
    (void)pthread_cond_destroy(&limiter->has_place);
    (void)pthread_mutex_destroy(&limiter->mutex);
    mem_free(limiter);
}

bool storage_limiter_enter(StorageLimiter *limiter, int64_t wait_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int result = 0;
    (void)pthread_mutex_lock(&limiter->mutex);
    while (limiter->in_flight >= (int)limiter->limit && result == 0) {
        result = pthread_cond_timedwait(&limiter->has_place, &limiter->mutex, &until);
    }
    bool has_place = limiter->in_flight < (int)limiter->limit;
    limiter->in_flight += has_place ? 1 : 0;
    (void)pthread_mutex_unlock(&limiter->mutex);
    return has_place;
}

void storage_limiter_leave(StorageLimiter *limiter, StorageLimiterOutcome outcome, int64_t now_ms)
{
    (void)pthread_mutex_lock(&limiter->mutex);
    assert(limiter->in_flight > 0);
    limiter->in_flight--;
    bool may_halve = !limiter->was_halved || now_ms - limiter->halved_ms >= HALVING_INTERVAL_MS;
    if (outcome == STORAGE_LIMITER_SUCCEEDED && limiter->limit < limiter->limit_max) {
        limiter->limit += 1 / limiter->limit; // one more after a full round
        limiter->limit = limiter->limit < limiter->limit_max ? limiter->limit : limiter->limit_max;
    } else if (outcome == STORAGE_LIMITER_THROTTLED && may_halve) {
        limiter->limit = limiter->limit / 2 < 1 ? 1 : limiter->limit / 2;
        limiter->halved_ms = now_ms;
        limiter->was_halved = true;
    }
    (void)pthread_cond_broadcast(&limiter->has_place);
    (void)pthread_mutex_unlock(&limiter->mutex);
}

int storage_limiter_limit(StorageLimiter *limiter)
{
    (void)pthread_mutex_lock(&limiter->mutex);
    int limit = (int)limiter->limit;
    (void)pthread_mutex_unlock(&limiter->mutex);
    return limit;
}
