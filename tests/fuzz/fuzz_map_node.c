// SPDX-License-Identifier: Apache-2.0
// Nodes of maps and file lists, with their refs and entries. Input: a node.
#include "common/memory.h"
#include "repository/repository_format.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

// What is a possible ref is written as the same bytes.
static void read_ref(const uint8_t *data)
{
    Ref ref;
    uint8_t again[REF_SIZE];
    if (ref_decode(data, &ref)) {
        ref_encode(&ref, again);
        assert(memcmp(again, data, REF_SIZE) == 0);
        assert(ref.plain_size <= BLOB_SIZE_MAX && ref.stored_size <= PACK_SIZE_MAX);
    }
}

static void read_entries(int map_fan_out, const uint8_t *data, size_t size)
{
    CLEANUP(buffer_done) Buffer again = {0};
    CLEANUP_FREE ListEntry *entry = mem_alloc(sizeof(*entry));
    buffer_init(&again, LIST_ENTRY_SIZE_MAX);
    for (size_t offset = 0; offset < size;) {
        size_t begin = offset;
        if (!list_entry_decode(map_fan_out, data, size, &offset, entry)) {
            return;
        }
        assert(offset > begin && offset <= size);
        assert(list_path_is_valid(entry->path));
        buffer_clear(&again);
        list_entry_encode(entry, &again);
        assert(again.size == offset - begin && memcmp(again.data, data + begin, again.size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    NodeHeader header;
    if (!node_header_decode(data, size, &header)) {
        return 0;
    }
    const uint8_t *rest = data + NODE_HEADER_SIZE;
    size_t rest_size = size - NODE_HEADER_SIZE;
    if (header.type == NODE_LIST_LEAF) {
        read_entries(MAP_FAN_OUT, rest, rest_size);
        read_entries(MAP_FAN_OUT_MAX, rest, rest_size);
    } else {
        assert(header.count <= MAX(MAP_FAN_OUT_MAX, LIST_COUNT_MAX));
        for (size_t i = 0; i < header.count; i++) {
            assert((i + 1) * REF_SIZE <= rest_size);
            read_ref(rest + i * REF_SIZE);
        }
    }
    return 0;
}
