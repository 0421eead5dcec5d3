// SPDX-License-Identifier: Apache-2.0
// What comes after an attempt that failed: the fallbacks of a backup, as one table. Pure.
#pragma once

#include "common/error.h"
#include "server/store/store_work_backup.h"

#define ATTEMPT_PLAIN_FAILURE_MAX                                                                  \
    3 // the same way again, at most; losing a machine says nothing of the shard and does not count
#define ATTEMPT_COUNT_MAX 10 // of any kind

// The reason's slug may be one that this version does not know. Counts include the attempt that
// failed.
AttemptSequel attempt_sequel(const char *reason_slug, bool is_seed, int64_t attempt_count,
                             int64_t plain_failure_count);
// How long to wait before the next attempt after so many (0: none).
int64_t attempt_backoff_ms(const char *reason_slug, int64_t attempt_count);
