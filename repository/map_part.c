// SPDX-License-Identifier: Apache-2.0
// Reading the nodes of level 1 of a part in the order in which they lie in packs, so that those
// that lie close together come with one read.
#include "repository/map_part.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

Status map_part_find(MapReader *reader, int64_t first, int64_t extent_count, MapPart *ret_part,
                     Error *error)
{
    assert(extent_count <= MAP_READ_EXTENT_COUNT && first % MAP_PART_EXTENT_COUNT == 0);
    int64_t end = MIN(first + extent_count, reader->extent_count);
    *ret_part =
        (MapPart){.first = first, .extent_count = end - first, .size_bytes = reader->size_bytes};
    for (int64_t next = first; next < end; next += reader->fan_out) {
        RETURN_IF_ERROR(map_reader_get(reader, 1, next / reader->fan_out,
                                       &ret_part->nodes[ret_part->node_count++], error));
    }
    return STATUS_OK;
}

// How many extents node `index` names.
static int64_t node_extent_count(int fan_out, const MapPart *part, size_t index)
{
    return MIN(part->extent_count - (int64_t)index * fan_out, (int64_t)fan_out);
}

static Status decode_node(int fan_out, const MapPart *part, size_t index, const uint8_t *data,
                          Ref *refs, Error *error)
{
    const Ref *node = &part->nodes[index];
    int64_t first = part->first + (int64_t)index * fan_out;
    int64_t count = node_extent_count(fan_out, part, index);
    RETURN_IF_ERROR(map_node_check(node, data, 1, error));
    for (int64_t i = 0; i < count; i++) {
        RETURN_IF_ERROR(node_ref(node, data, (size_t)i, &refs[i], error));
        size_t size = extent_size_at(part->size_bytes, first + i);
        if (refs[i].kind != BLOB_ZERO &&
            (refs[i].kind != BLOB_EXTENT || refs[i].plain_size != size)) {
            return node_is_damaged(node, "has an entry that does not fit its file", error);
        }
    }
    return STATUS_OK;
}

// Reads the nodes where they lie, each to its place in `data`.
static Status read_nodes(BlobOpener *opener, int fan_out, const MapPart *part, uint8_t *data,
                         Error *error)
{
    const Ref *order[MAP_READ_NODE_COUNT_MAX];
    size_t count = 0;
    for (size_t i = 0; i < part->node_count; i++) {
        const Ref *node = &part->nodes[i];
        if (node->kind != BLOB_ZERO) {
            int64_t ref_count = node_extent_count(fan_out, part, i);
            RETURN_IF_ERROR(map_node_check_ref(node, ref_count, error));
            order[count++] = node;
        }
    }
    qsort(order, count, sizeof(*order), ref_compare_places);
    Error failure = {0}; // of any of them
    for (size_t i = 0; i < count;) {
        BlobRun run = {0};
        for (; i < count; i++) {
            size_t index = (size_t)(order[i] - part->nodes);
            if (!blob_run_add(&run, order[i], data + index * map_node_size(fan_out), &failure)) {
                break;
            }
        }
        blob_run_read(opener, &run);
        if (failure.status != STATUS_OK) {
            *error = failure;
            return failure.status;
        }
    }
    return STATUS_OK;
}

Status map_part_read(BlobOpener *opener, int fan_out, const MapPart *part, uint8_t *data,
                     Ref *ret_refs, Error *error)
{
    RETURN_IF_ERROR(read_nodes(opener, fan_out, part, data, error));
    memset(ret_refs, 0, (size_t)part->extent_count * sizeof(*ret_refs));
    for (size_t i = 0; i < part->node_count; i++) {
        if (part->nodes[i].kind != BLOB_ZERO) {
            RETURN_IF_ERROR(decode_node(fan_out, part, i, data + i * map_node_size(fan_out),
                                        ret_refs + i * (size_t)fan_out, error));
        }
    }
    return STATUS_OK;
}
