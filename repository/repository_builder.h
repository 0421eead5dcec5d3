// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: building maps and the file list, reusing every node that the parent has.
#pragma once

#include "repository/map_part.h"
#include "repository/repository_pack.h"

// Seals nodes that are new. One thread at a time; several stores may share a PackWriter.
typedef struct NodeStore NodeStore;
NodeStore *node_store_new(const ShardScope *scope, PackWriter *packs); // borrows both
void node_store_free(NodeStore *store);                                // NULL is fine
// One of the candidates when it is this node, else what is stored now.
Status node_store_put(NodeStore *store, const uint8_t *data, size_t size, const Ref *candidates,
                      size_t candidate_count, Ref *ret_ref, Error *error);
// The nodes of level 1 over a part's extents, side by side: each the candidate, when it is that, or
// a new one, or the zero ref. What is left out has its ref already. `data` has room for
// MAP_NODES_SIZE of a part.
typedef struct PartNodes {
    size_t count;
    Ref refs[MAP_PART_NODE_COUNT_MAX];
    bool are_left_out[MAP_PART_NODE_COUNT_MAX];
} PartNodes;
Status node_store_put_part(NodeStore *store, int fan_out, const Ref *extents, size_t extent_count,
                           const Ref *candidates, uint8_t *data, PartNodes *nodes, Error *error);

// The parent's nodes that end where what is added ends; BLOB_ZERO: none there.
typedef struct ParentNodes {
    Ref levels[MAP_LEVEL_MAX + 1];
} ParentNodes;

typedef struct MapBuilder {
    NodeStore *store;
    int64_t extent_count, position;
    int fan_out, depth;
    Ref root;
    size_t counts[MAP_LEVEL_MAX + 1];
    bool are_zero[MAP_LEVEL_MAX + 1];
    uint8_t *nodes[MAP_LEVEL_MAX + 1];
} MapBuilder;
void map_builder_init(MapBuilder *builder, NodeStore *store, int fan_out);
void map_builder_done(MapBuilder *builder);
void map_builder_begin(MapBuilder *builder, int64_t size_bytes);
// The next node of `level`, whole: a file's only extent (0), or a node of the map. What comes after
// must begin where a node of its level does.
Status map_builder_add(MapBuilder *builder, int level, const Ref *added, const ParentNodes *parent,
                       Error *error);
// The root once all extents are in.
void map_builder_end(const MapBuilder *builder, int *ret_depth, Ref *ret_root);

typedef struct ListBuilder ListBuilder;
ListBuilder *list_builder_new(NodeStore *store);
void list_builder_free(ListBuilder *builder);
void list_builder_freep(ListBuilder **builder);
// A node of the parent's list that may come again; a window of the last ones is kept.
void list_builder_offer(void *list_builder, int level, const Ref *ref);
Status list_builder_add(ListBuilder *builder, const ListEntry *entry, Error *error);
Status list_builder_finish(ListBuilder *builder, int *ret_level, Ref *ret_root, Error *error);
