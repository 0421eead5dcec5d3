// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: walking a manifest's file list and the maps of its files, with a node
// per level in memory.
#pragma once

#include "repository/repository_blob.h"

// Reads and decodes one node; the caller's buffer has room for size_max, which bounds the node.
Status node_read(BlobOpener *opener, const Ref *ref, size_t size_max, uint8_t *data,
                 NodeHeader *ret_header, Error *error);
// The ref at `position` of a decoded map or list index node; checked.
Status node_ref(const Ref *node, const uint8_t *data, size_t position, Ref *ret_ref, Error *error);
Status node_is_damaged(const Ref *node, const char *what, Error *error);
// A node of a map that must have so many refs: before it is read, and once it is.
Status map_node_check_ref(const Ref *ref, int64_t ref_count, Error *error);
Status map_node_check(const Ref *ref, const uint8_t *data, int level, Error *error);

// Asks for the roots of the files that come next in a list leaf. Zeros but for what is wished for.
typedef struct LeafAhead {
    int depth_min; // of the maps that are wished for; 0: none
    bool (*is_wanted)(void *context, const ListEntry *entry); // of these; NULL: all
    void *context;
    int map_fan_out;
    size_t next, offset; // of the entry that is looked at next; zeros at a leaf's start
    ListEntry entry;
} LeafAhead;
// `position` is the entry that the walk is at.
void leaf_ahead(LeafAhead *ahead, BlobOpener *opener, const uint8_t *data, size_t size,
                size_t count, size_t position);

// --- file list: entries in byte order of path ---
typedef struct ListReader ListReader;
// `on_node` hears the ref of every node when the walk enters it, root first; NULL is fine. Borrows
// opener; one that reads ahead reads leaves ahead.
ListReader *list_reader_new(BlobOpener *opener, const ManifestRoot *root,
                            void (*on_node)(void *context, int level, const Ref *ref),
                            void *context);
// Has the roots of maps read ahead too: LeafAhead says which.
void list_reader_ask_roots(ListReader *reader, int depth_min,
                           bool (*is_wanted)(void *context, const ListEntry *entry), void *context);
void list_reader_free(ListReader *reader);
void list_reader_freep(ListReader **reader);
// ret_entry is borrowed until the next call; NULL at the end.
Status list_reader_next(ListReader *reader, const ListEntry **ret_entry, Error *error);

// --- map of one file ---
typedef struct MapNode {
    int64_t position; // which node of its level; -1: none
    int64_t asked;    // the first of the nodes below it that was not asked for
    Ref ref;
    uint8_t *data;
} MapNode;

typedef struct MapReader {
    BlobOpener *opener;
    int64_t size_bytes;
    int64_t extent_count;
    int fan_out, depth;
    bool asks_below_only; // map_reader_ask does not look into the next node of level 2
    Ref root;
    MapNode levels[MAP_LEVEL_MAX + 1];
    MapNode next; // of level 2: the one that comes after that of levels
    int64_t next_tried;
} MapReader;
void map_reader_init(MapReader *reader, BlobOpener *opener, int fan_out);
void map_reader_done(MapReader *reader);
void map_reader_open(MapReader *reader,
                     const ListEntry *entry); // entry is an ENTRY_FILE; may be called again
// The ref of extent (level 0) or node `position` of a level <= depth. Cheap when positions ascend.
Status map_reader_get(MapReader *reader, int level, int64_t position, Ref *ret_ref, Error *error);
// The walk is at node `position` of level 1 or 2, and the node above it is at hand: asks for those
// that come next and that `is_wanted` says yes to; NULL: all.
typedef bool (*MapNodeIsWanted)(void *context, int level, int64_t position, const Ref *ref);
void map_reader_ask(MapReader *reader, int level, int64_t position, MapNodeIsWanted is_wanted,
                    void *context);
// The size of an extent: EXTENT_SIZE but for a last, shorter one.
size_t extent_size_at(int64_t size_bytes, int64_t position);
