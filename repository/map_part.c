// SPDX-License-Identifier: Apache-2.0
// Reading the nodes of level 1 of a part, those that lie close together with one read.
#include "repository/map_part.h"

#include <assert.h>
#include <string.h>

Status map_part_find(MapReader *reader, int64_t first, MapPart *ret_part, Error *error)
{
    assert(first % MAP_PART_EXTENT_COUNT == 0 && first < reader->extent_count);
    *ret_part = (MapPart){.first = first, .size_bytes = reader->size_bytes};
    int64_t end = MIN(first + MAP_PART_EXTENT_COUNT, reader->extent_count);
    for (int64_t next = first; next < end; next += reader->fan_out) {
        RETURN_IF_ERROR(map_reader_get(reader, 1, next / reader->fan_out,
                                       &ret_part->nodes[ret_part->node_count++], error));
    }
    return STATUS_OK;
}

int64_t map_part_extent_count(const MapPart *part)
{
    int64_t left = extent_count_of(part->size_bytes) - part->first;
    return MIN(left, MAP_PART_EXTENT_COUNT);
}

// How many extents node `index` names.
static int64_t node_extent_count(int fan_out, const MapPart *part, size_t index)
{
    return MIN(map_part_extent_count(part) - (int64_t)index * fan_out, (int64_t)fan_out);
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

// Reads node `first`, and those after it that one read fetches with it.
static void read_run(BlobOpener *opener, int fan_out, const MapPart *part, size_t first,
                     uint8_t *data, bool *are_read, Error *errors)
{
    BlobRun run = {0};
    for (size_t i = first; i < part->node_count; i++) {
        are_read[i] = are_read[i] || blob_run_add(&run, &part->nodes[i],
                                                  data + i * map_node_size(fan_out), &errors[i]);
    }
    blob_run_read(opener, &run);
}

Status map_part_read(BlobOpener *opener, int fan_out, const MapPart *part, uint8_t *data,
                     Ref *ret_refs, Error *error)
{
    bool are_read[MAP_PART_NODE_COUNT_MAX];
    Error errors[MAP_PART_NODE_COUNT_MAX] = {0};
    memset(ret_refs, 0, MAP_PART_EXTENT_COUNT * sizeof(*ret_refs));
    for (size_t i = 0; i < part->node_count; i++) {
        are_read[i] = part->nodes[i].kind == BLOB_ZERO;
        RETURN_IF_ERROR(
            are_read[i]
                ? STATUS_OK
                : map_node_check_ref(&part->nodes[i], node_extent_count(fan_out, part, i), error));
    }
    for (size_t i = 0; i < part->node_count; i++) {
        if (!are_read[i]) {
            read_run(opener, fan_out, part, i, data, are_read, errors);
        }
    }
    for (size_t i = 0; i < part->node_count; i++) {
        if (errors[i].status != STATUS_OK) {
            *error = errors[i];
            return error->status;
        }
        if (part->nodes[i].kind != BLOB_ZERO) {
            RETURN_IF_ERROR(decode_node(fan_out, part, i, data + i * map_node_size(fan_out),
                                        ret_refs + i * (size_t)fan_out, error));
        }
    }
    return STATUS_OK;
}
