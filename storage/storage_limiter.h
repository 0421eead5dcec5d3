// SPDX-License-Identifier: Apache-2.0
// How many requests may be in flight to one store, learned from it: being throttled halves the
// number, success lets it grow back one by one. Thread-safe. For drivers only.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct StorageLimiter StorageLimiter;

StorageLimiter *storage_limiter_new(int concurrency_max); // starts at the maximum
void storage_limiter_free(StorageLimiter *limiter);       // nobody may hold a place
// Waits for a place, at most wait_ms; false: there was none.
bool storage_limiter_enter(StorageLimiter *limiter, int64_t wait_ms);
typedef enum StorageLimiterOutcome {
    STORAGE_LIMITER_SUCCEEDED,
    STORAGE_LIMITER_FAILED, // says nothing about load
    STORAGE_LIMITER_THROTTLED,
} StorageLimiterOutcome;
// now_ms: of any monotonic clock; halving happens at most once a second, since the requests that
// were under way together are throttled together.
void storage_limiter_leave(StorageLimiter *limiter, StorageLimiterOutcome outcome, int64_t now_ms);
int storage_limiter_limit(StorageLimiter *limiter);
