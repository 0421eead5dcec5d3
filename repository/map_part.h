// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the part of a file's map that one worker makes, and that is read at
// once. Its nodes are written side by side, so that one read fetches them.
#pragma once

#include "repository/repository_reader.h"

#define MAP_PART_EXTENT_COUNT 512 // of which every fan-out is a divisor
#define MAP_PART_NODE_COUNT_MAX (MAP_PART_EXTENT_COUNT / MAP_FAN_OUT)
#define MAP_PART_DATA_SIZE                                                                         \
    ((size_t)MAP_PART_NODE_COUNT_MAX * NODE_HEADER_SIZE + (size_t)MAP_PART_EXTENT_COUNT * REF_SIZE)

typedef struct MapPart {
    int64_t first;      // extent of the file, a multiple of MAP_PART_EXTENT_COUNT
    int64_t size_bytes; // of the file
    size_t node_count;
    Ref nodes[MAP_PART_NODE_COUNT_MAX]; // of level 1; BLOB_ZERO: its extents are zeros
} MapPart;

// The nodes of the part that starts at `first`, of a map that has nodes.
Status map_part_find(MapReader *reader, int64_t first, MapPart *ret_part, Error *error);
int64_t map_part_extent_count(const MapPart *part);
// The refs of its extents. `data` has room for MAP_PART_DATA_SIZE, `ret_refs` for
// MAP_PART_EXTENT_COUNT.
Status map_part_read(BlobOpener *opener, int fan_out, const MapPart *part, uint8_t *data,
                     Ref *ret_refs, Error *error);
