// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: building maps and the file list, reusing every node that the parent has.
#pragma once

#include "repository/repository_pack.h"
#include "repository/repository_reader.h"

// Seals nodes that are new. One thread at a time; several stores may share a PackWriter.
typedef struct NodeStore NodeStore;
NodeStore *node_store_new(const ShardScope *scope, PackWriter *packs); // borrows both
void node_store_free(NodeStore *store);                                // NULL is fine
// One of the candidates when it is this node, else what is stored now.
Status node_store_put(NodeStore *store, const uint8_t *data, size_t size, const Ref *candidates,
                      size_t candidate_count, Ref *ret_ref, Error *error);
// The node of level 1 over these extents, or the zero ref; `node` has room for it.
Status node_store_put_extents(NodeStore *store, const Ref *extents, size_t count,
                              const Ref *candidate, uint8_t *node, Ref *ret_ref, Error *error);

// The parent's nodes that end where what is added ends; BLOB_ZERO: none there.
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
