// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: which packs, and which blobs of them, the manifests of one shard reach.
// Memory: some 250 bytes for a pack, a bit for a blob (at most 4 KiB a pack), 16 bytes for a map
// node.
#pragma once

#include "repository/manifest_object.h"
#include "repository/node_set.h"
#include "repository/repository_reader.h"

typedef struct ReachedPack {
    PackName name;
    const ShardScope *scope;            // of the first manifest that reaches it
    char manifest_id[MANIFEST_ID_SIZE]; // that manifest
    uint8_t *bits;                      // which blobs are reached
    size_t bits_size;
    int64_t live_bytes;     // of the reached blobs, as stored
    uint8_t fold[REF_SIZE]; // exclusive-or of their refs, to compare with what the pack itself says
    bool is_doubled;    // merged from parts that share blobs: live_bytes and fold count them twice
    bool is_seen;       // for the caller
    int64_t seen_bytes; // for the caller
    bool is_reported;
} ReachedPack;

typedef struct Reach Reach;
// `on_damage` hears of each node that cannot be read, and the walk goes on without it; NULL: it
// ends the walk.
Reach *reach_new(void (*on_damage)(void *context, const char *object, const Error *problem),
                 void *context);
void reach_free(Reach *reach);
void reach_freep(Reach **reach);
// Adds everything that a manifest reaches. `scope` is kept until reach_free.
Status reach_add(Reach *reach, const ShardScope *scope, const Manifest *manifest, Error *error);
// Adds what `manifest` reaches and `base`, another manifest of the shard, does not: what differs at
// the same place of the same file. A blob that base has elsewhere may be added too. Costs what
// differs, whatever there is. `scope` and `base_scope` have the manifests' data keys.
Status reach_add_difference(Reach *reach, const ShardScope *scope, const Manifest *manifest,
                            const ShardScope *base_scope, const Manifest *base, Error *error);
// By hand: what follows is of this manifest; one ref; one pack of another reach.
void reach_begin(Reach *reach, const ShardScope *scope, const char *manifest_id);
ReachedPack *reach_mark(Reach *reach, const Ref *ref);
void reach_merge(Reach *reach, const ReachedPack *from);
int64_t reach_live_bytes(const Reach *reach);                      // of all packs
ReachedPack *reach_find(const Reach *reach, const PackName *name); // NULL: not reached
// All of them, in no order: index from 0, NULL at the end.
ReachedPack *reach_at(const Reach *reach, size_t index);
bool reached_blob(const ReachedPack *pack, uint32_t index);
size_t reached_blob_count(const ReachedPack *pack);
