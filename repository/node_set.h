// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: a set of map and list nodes. Memory: 16 to 64 bytes for a node. One
// thread at a time.
#pragma once

#include "repository/repository_format.h"

#define NODE_KEY_SIZE HASH_SIZE // it is keyed, so nobody can aim at a collision

typedef struct NodeSet {
    uint8_t (*nodes)[NODE_KEY_SIZE]; // open addressing; all zero: free
    size_t count, slot_count;
} NodeSet;

// Zeros are an empty set.
void node_set_done(NodeSet *set);
bool node_set_add(NodeSet *set, const Ref *ref); // true: it was not in there
bool node_set_has(const NodeSet *set, const Ref *ref);
