// SPDX-License-Identifier: Apache-2.0
// Whether a database can be brought back within its recovery point objective, and why that is the
// answer. Pure.
#pragma once

#include "holdfast/v1/types.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

#define PROTECTION_REASON_SIZE 256

typedef struct ProtectionFacts {
    int64_t now_us;
    int64_t objective_us;
    int64_t last_restorable_us; // 0: no restorable backup
    int64_t next_run_us;        // 0: none planned
    int64_t running_since_us;   // 0: no backup runs
    int64_t predicted_us;       // how long a backup takes; 0: not known yet
    int shard_count;
    const char *uncovered_shard; // a shard that the newest restorable backup does not have, or NULL
    bool is_last_failed;         // the newest finished backup failed
    const char *last_failure;    // why, or NULL
} ProtectionFacts;

Holdfast__V1__Protection protection_of(const ProtectionFacts *facts,
                                       char ret_reason[PROTECTION_REASON_SIZE]);
