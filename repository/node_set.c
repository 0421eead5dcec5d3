// SPDX-License-Identifier: Apache-2.0
#include "repository/node_set.h"

#include "common/memory.h"

#include <string.h>

void node_set_done(NodeSet *set)
{
    mem_free(set->nodes);
    *set = (NodeSet){0};
}

static size_t find_slot(const NodeSet *set, const uint8_t *key)
{
    size_t slot = get_u64(key) & (set->slot_count - 1);
    while (!memory_is_zero(set->nodes[slot], NODE_KEY_SIZE) &&
           memcmp(set->nodes[slot], key, NODE_KEY_SIZE) != 0) {
        slot = (slot + 1) & (set->slot_count - 1);
    }
    return slot;
}

static void grow(NodeSet *set)
{
    NodeSet old = *set;
    set->slot_count = old.slot_count == 0 ? 64 : 2 * old.slot_count;
    set->nodes = mem_alloc_array(set->slot_count, NODE_KEY_SIZE);
    for (size_t i = 0; i < old.slot_count; i++) {
        if (!memory_is_zero(old.nodes[i], NODE_KEY_SIZE)) {
            memcpy(set->nodes[find_slot(set, old.nodes[i])], old.nodes[i], NODE_KEY_SIZE);
        }
    }
    mem_free(old.nodes);
}

bool node_set_add(NodeSet *set, const Ref *ref)
{
    if (2 * (set->count + 1) > set->slot_count) {
        grow(set);
    }
    size_t slot = find_slot(set, ref->hash);
    if (!memory_is_zero(set->nodes[slot], NODE_KEY_SIZE)) {
        return false;
    }
    memcpy(set->nodes[slot], ref->hash, NODE_KEY_SIZE);
    set->count++;
    return true;
}

bool node_set_has(const NodeSet *set, const Ref *ref)
{
    return set->slot_count > 0 &&
           !memory_is_zero(set->nodes[find_slot(set, ref->hash)], NODE_KEY_SIZE);
}
