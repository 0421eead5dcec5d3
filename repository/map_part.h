// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: a part of a file's map: nodes of level 1 that one worker makes, or that
// are read at once. They lie close together in packs, so that few reads fetch them.
#pragma once

#include "repository/repository_reader.h"

#define MAP_PART_EXTENT_COUNT 512  // that a worker makes; every fan-out is a divisor
#define MAP_READ_EXTENT_COUNT 4096 // that a restore reads at once
#define MAP_PART_NODE_COUNT_MAX (MAP_PART_EXTENT_COUNT / MAP_FAN_OUT)
#define MAP_READ_NODE_COUNT_MAX (MAP_READ_EXTENT_COUNT / MAP_FAN_OUT)
// Of the plain nodes over so many extents.
#define MAP_NODES_SIZE(extent_count)                                                               \
    ((size_t)(extent_count) / MAP_FAN_OUT * NODE_HEADER_SIZE + (size_t)(extent_count)*REF_SIZE)

typedef struct MapPart {
    int64_t first, extent_count; // of the file
    int64_t size_bytes;          // of the file
    size_t node_count;
    Ref nodes[MAP_READ_NODE_COUNT_MAX]; // of level 1; BLOB_ZERO: its extents are zeros
} MapPart;

// The nodes over at most `extent_count` extents from `first` on, of a map that has nodes.
Status map_part_find(MapReader *reader, int64_t first, int64_t extent_count, MapPart *ret_part,
                     Error *error);
// The refs of its extents. `data` has room for MAP_NODES_SIZE, `ret_refs` for extent_count.
Status map_part_read(BlobOpener *opener, int fan_out, const MapPart *part, uint8_t *data,
                     Ref *ret_refs, Error *error);
