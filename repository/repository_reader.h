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

// --- file list: entries in byte order of path ---
typedef struct ListReader ListReader;
// `on_node` hears the ref of every node when the walk enters it, root first; NULL is fine. Borrows
// opener.
ListReader *list_reader_new(BlobOpener *opener, const Ref *root, int level,
                            void (*on_node)(void *context, int level, const Ref *ref),
                            void *context);
void list_reader_free(ListReader *reader);
void list_reader_freep(ListReader **reader);
// ret_entry is borrowed until the next call; NULL at the end.
Status list_reader_next(ListReader *reader, const ListEntry **ret_entry, Error *error);

// --- map of one file ---
typedef struct MapReader {
    BlobOpener *opener;
    int64_t size_bytes;
    int64_t extent_count;
    int depth;
    Ref root;
    struct {
        int64_t position; // which node of its level; -1: none
        Ref ref;
        uint8_t *data;
    } levels[MAP_LEVEL_MAX + 1];
} MapReader;
void map_reader_init(MapReader *reader, BlobOpener *opener);
void map_reader_done(MapReader *reader);
void map_reader_open(MapReader *reader,
                     const ListEntry *entry); // entry is an ENTRY_FILE; may be called again
// The ref of extent (level 0) or node `position` of a level <= depth. Cheap when positions ascend.
Status map_reader_get(MapReader *reader, int level, int64_t position, Ref *ret_ref, Error *error);
// The size of an extent: EXTENT_SIZE but for a last, shorter one.
size_t extent_size_at(int64_t size_bytes, int64_t position);
