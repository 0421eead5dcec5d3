// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reads map nodes of level 1 ahead, several at once, and gives them back
// in order, so that a store's latency is not paid for each.
#pragma once

#include "repository/repository_reader.h"

typedef struct PrefetchedNode {
    Ref node;           // BLOB_ZERO: its extents are zeros
    int64_t first;      // extent of the file
    int64_t size_bytes; // of the file
    size_t count;       // of refs
    Ref refs[NODE_REF_COUNT_MAX];
} PrefetchedNode;

// One thread asks and takes.
typedef struct Prefetch Prefetch;
Status prefetch_new(const ShardScope *scope, int thread_count, Prefetch **ret_prefetch,
                    Error *error);
void prefetch_free(Prefetch *prefetch); // NULL is fine
bool prefetch_is_full(Prefetch *prefetch);
bool prefetch_is_empty(Prefetch *prefetch);
// Must not be full. `node` is of level 1 and covers the file's extents from `first`.
void prefetch_ask(Prefetch *prefetch, const Ref *node, int64_t first, int64_t size_bytes);
// Waits for the oldest; borrowed until the next call. Must not be empty.
Status prefetch_take(Prefetch *prefetch, const PrefetchedNode **ret_node, Error *error);
