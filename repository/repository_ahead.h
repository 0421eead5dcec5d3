// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reads nodes that a walk is about to come to, several at once, so that a
// store's latency is paid once for many of them.
#pragma once

#include "repository/repository_format.h"

typedef struct ShardScope ShardScope;

// What is asked for in one queue comes in the order in which the walk comes to it; what the walk
// has passed by is dropped.
typedef enum AheadQueue {
    AHEAD_LEAVES, // of file lists
    AHEAD_ROOTS,  // of files' maps
    AHEAD_NODES,  // of level 1, below them
    AHEAD_UPPER_NODES,
    AHEAD_QUEUE_COUNT
} AheadQueue;
#define AHEAD_COUNT 128    // that are kept of each queue
#define AHEAD_STEP 16      // how far a walk asks ahead
#define AHEAD_NODE_STEP 64 // below a map's root, where nodes are small

// One thread asks and takes. Up to 16 threads of its own read; they start when they are needed.
// Memory: 1 MiB a thread, and what was read and not taken.
typedef struct Ahead Ahead;
Ahead *ahead_new(const ShardScope *scope);           // borrows scope
void ahead_free(Ahead *ahead);                       // NULL is fine
bool ahead_has_room(Ahead *ahead, AheadQueue queue); // fewer than AHEAD_STEP are under way
// Only a wish: what is no node, or was asked for already, or finds the queue full, is not read.
// Nodes that lie close together in one pack, and were asked for together, are fetched with one
// read.
void ahead_ask(Ahead *ahead, AheadQueue queue, const Ref *refs, size_t count);
// Waits for a node that was asked for. False: it was not, or nobody has begun to read it. `plain`
// has room for ref->plain_size.
bool ahead_take(Ahead *ahead, const Ref *ref, uint8_t *plain, Status *ret_status, Error *error);
