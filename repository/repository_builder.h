// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: building maps and the file list, reusing every node that the parent has.
#pragma once

#include "repository/repository_pack.h"
#include "repository/repository_reader.h"

// Seals nodes that are new. One thread at a time.
typedef struct NodeStore NodeStore;
NodeStore *node_store_new(const ShardScope *scope, PackWriter *packs); // borrows both
void node_store_free(NodeStore *store);
void node_store_freep(NodeStore **store);

// The parent's nodes that end at the same extent as ours may; BLOB_ZERO: none there.
typedef struct ParentNodes {
    Ref levels[MAP_LEVEL_MAX + 1];
} ParentNodes;

typedef struct MapBuilder {
    NodeStore *store;
    int64_t extent_count, position;
    int depth;
    Ref root;
    size_t counts[MAP_LEVEL_MAX + 1];
    bool are_zero[MAP_LEVEL_MAX + 1];
    uint8_t *nodes[MAP_LEVEL_MAX + 1];
} MapBuilder;
void map_builder_init(MapBuilder *builder, NodeStore *store);
void map_builder_done(MapBuilder *builder);
void map_builder_begin(MapBuilder *builder, int64_t size_bytes);
Status map_builder_add(MapBuilder *builder, const Ref *extent, const ParentNodes *parent,
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
