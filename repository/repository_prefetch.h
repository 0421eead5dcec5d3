// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reads parts of maps ahead, several at once, and gives them back in
// order, so that a store's latency is not paid for each.
#pragma once

#include "repository/map_part.h"

typedef struct PrefetchedPart {
    MapPart part;
    Ref *refs; // of its extents
} PrefetchedPart;

// One thread asks and takes.
typedef struct Prefetch Prefetch;
Status prefetch_new(const ShardScope *scope, int map_fan_out, int thread_count,
                    Prefetch **ret_prefetch, Error *error);
void prefetch_free(Prefetch *prefetch); // NULL is fine
bool prefetch_is_full(Prefetch *prefetch);
bool prefetch_is_empty(Prefetch *prefetch);
void prefetch_ask(Prefetch *prefetch, const MapPart *part); // must not be full
// Waits for the oldest; borrowed until the next call. Must not be empty.
Status prefetch_take(Prefetch *prefetch, const PrefetchedPart **ret_part, Error *error);
