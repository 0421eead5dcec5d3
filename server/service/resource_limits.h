// SPDX-License-Identifier: Apache-2.0
// Limits of what runs may use: checked, kept, and divided among those that run. Pure functions.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "holdfast/v1/types.pb-c.h"
#include "server/store/store_limits.h"

#define LIMIT_BANDWIDTH_MAX (INT64_C(1) << 40) // bytes a second
#define LIMIT_CPU_COUNT_MAX 1024
#define LIMIT_MEMORY_MAX (INT64_C(1) << 40) // bytes

// REASON_INVALID with the field ("policy.limits.cpu_count" for the prefix "policy.limits"). NULL is
// right: no limits.
Status resource_limits_check(const char *prefix, const Holdfast__V1__ResourceLimits *limits,
                             Error *error);
Status bandwidth_limits_check(const char *prefix, const Holdfast__V1__BandwidthLimits *limits,
                              Error *error);
// As they are kept: the API's JSON without what is 0, so that one set of limits laid over another
// replaces what it has. NULL when nothing is left. `limits` may be NULL.
const char *limits_to_json(Arena *arena, const ProtobufCMessage *limits);

// The part of one user: the smallest of the equal parts of each cap, at least 1; 0: no limit.
int64_t bandwidth_share(const BandwidthCap *caps, size_t count);
