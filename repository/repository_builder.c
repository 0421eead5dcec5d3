// SPDX-License-Identifier: Apache-2.0
// Merkle nodes from the bottom up. A node's bytes depend only on what it names, so an unchanged
// region makes the parent's node again, which is then named instead of stored.
#include "repository/repository_builder.h"

#include "common/memory.h"
#include "repository/repository_compressor.h"

#include <assert.h>
#include <string.h>

#define NODE_COMPRESSION_LEVEL 1
// The publisher reads the parent's list ahead by at most its queue of items, which is shorter.
#define WINDOW_COUNT 256
// A list leaf ends after a path whose digest starts below this, or when it is full: 128 entries on
// average. So a file more or less changes its own leaf and no other.
#define LEAF_END_DIGEST_BELOW 2

struct NodeStore {
    const ShardScope *scope;
    PackWriter *packs;
    PackSealer *sealer;
    Compressor *compressor;
    uint8_t *packed;
};

NodeStore *node_store_new(const ShardScope *scope, PackWriter *packs)
{
    NodeStore *store = mem_alloc(sizeof(*store));
    store->scope = scope;
    store->packs = packs;
    store->sealer = pack_sealer_new(scope);
    store->compressor = compressor_new(NODE_COMPRESSION_LEVEL);
    store->packed = mem_alloc(BLOB_SIZE_MAX);
    return store;
}

void node_store_free(NodeStore *store)
{
    if (store != NULL) {
        pack_sealer_free(store->sealer);
        compressor_free(store->compressor);
        mem_free(store->packed);
        mem_free(store);
    }
}

// False: it is one of the candidates. Else `blob` is what is to be stored as `ref`; `packed` has
// room for `size`.
static bool prepare(NodeStore *store, const uint8_t *data, size_t size, const Ref *candidates,
                    size_t candidate_count, uint8_t *packed, PackBlob *blob, Ref *ref)
{
    *ref = (Ref){.kind = BLOB_NODE, .plain_size = (uint32_t)size, .encoding = ENCODING_ZSTD};
    node_hash(store->scope, data, size, ref->hash);
    for (size_t i = 0; i < candidate_count; i++) {
        if (ref_has_hash(&candidates[i], ref)) {
            *ref = candidates[i];
            return false;
        }
    }
    *blob = (PackBlob){.ref = ref, .content = packed};
    blob->size = compressor_pack(store->compressor, data, size, packed);
    if (blob->size == 0) {
        ref->encoding = ENCODING_RAW;
        blob->content = data;
        blob->size = size;
    }
    return true;
}

Status node_store_put(NodeStore *store, const uint8_t *data, size_t size, const Ref *candidates,
                      size_t candidate_count, Ref *ret_ref, Error *error)
{
    PackBlob blob;
    return prepare(store, data, size, candidates, candidate_count, store->packed, &blob, ret_ref)
               ? pack_writer_add(store->packs, store->sealer, &blob, 1, error)
               : STATUS_OK;
}

// False: it has nothing but zero refs.
static bool encode_node(const Ref *extents, size_t count, uint8_t *node)
{
    bool is_zero = true;
    node_header_encode(NODE_MAP, 1, count, node);
    for (size_t i = 0; i < count; i++) {
        ref_encode(&extents[i], node + NODE_HEADER_SIZE + i * REF_SIZE);
        is_zero = is_zero && extents[i].kind == BLOB_ZERO;
    }
    return !is_zero;
}

Status node_store_put_part(NodeStore *store, int fan_out, const Ref *extents, size_t extent_count,
                           const Ref *candidates, uint8_t *data, PartNodes *nodes, Error *error)
{
    PackBlob blobs[MAP_PART_NODE_COUNT_MAX];
    size_t blob_count = 0;
    for (size_t i = 0; i < nodes->count; i++) {
        if (nodes->are_left_out[i]) {
            continue;
        }
        size_t first = i * (size_t)fan_out;
        size_t count = MIN(extent_count - first, (size_t)fan_out);
        size_t offset = i * map_node_size(fan_out);
        nodes->refs[i] = (Ref){0};
        if (encode_node(extents + first, count, data + offset) &&
            prepare(store, data + offset, map_node_size((int64_t)count), &candidates[i], 1,
                    store->packed + offset, &blobs[blob_count], &nodes->refs[i])) {
            blob_count++;
        }
    }
    return blob_count == 0 ? STATUS_OK
                           : pack_writer_add(store->packs, store->sealer, blobs, blob_count, error);
}

// --- map --------------------------------------------------------------------------------------

void map_builder_init(MapBuilder *builder, NodeStore *store, int fan_out)
{
    *builder = (MapBuilder){.store = store, .fan_out = fan_out};
    for (int level = 1; level <= MAP_LEVEL_MAX; level++) {
        builder->nodes[level] = mem_alloc(map_node_size(fan_out));
    }
}

void map_builder_done(MapBuilder *builder)
{
    for (int level = 1; level <= MAP_LEVEL_MAX; level++) {
        mem_free(builder->nodes[level]);
        builder->nodes[level] = NULL;
    }
}

void map_builder_begin(MapBuilder *builder, int64_t size_bytes)
{
    builder->extent_count = extent_count_of(size_bytes);
    builder->depth = map_depth(builder->fan_out, builder->extent_count);
    builder->position = 0;
    builder->root = (Ref){0};
    for (int level = 0; level <= MAP_LEVEL_MAX; level++) {
        builder->counts[level] = 0;
        builder->are_zero[level] = true;
    }
}

Status map_builder_add(MapBuilder *builder, int level, const Ref *added, const ParentNodes *parent,
                       Error *error)
{
    assert(level <= builder->depth);
    int64_t span = map_span(builder->fan_out, level);
    assert(builder->position < builder->extent_count && builder->position % span == 0);
    builder->position = MIN(builder->position + span, builder->extent_count);
    bool is_last = builder->position == builder->extent_count;
    Ref ref = *added;
    for (level++; level <= builder->depth; level++) {
        size_t *count = &builder->counts[level];
        uint8_t *node = builder->nodes[level];
        ref_encode(&ref, node + NODE_HEADER_SIZE + *count * REF_SIZE);
        builder->are_zero[level] = builder->are_zero[level] && ref.kind == BLOB_ZERO;
        (*count)++;
        if (*count < (size_t)builder->fan_out && !is_last) {
            return STATUS_OK;
        }
        if (builder->are_zero[level]) {
            ref = (Ref){0};
        } else {
            node_header_encode(NODE_MAP, level, *count, node);
            RETURN_IF_ERROR(node_store_put(builder->store, node, map_node_size((int64_t)*count),
                                           &parent->levels[level], 1, &ref, error));
        }
        *count = 0;
        builder->are_zero[level] = true;
    }
    builder->root = ref;
    return STATUS_OK;
}

void map_builder_end(const MapBuilder *builder, int *ret_depth, Ref *ret_root)
{
    assert(builder->position == builder->extent_count);
    *ret_depth = builder->depth;
    *ret_root = builder->root;
}

// --- file list --------------------------------------------------------------------------------

struct ListBuilder {
    NodeStore *store;
    Buffer leaf;
    size_t leaf_count;
    size_t counts[LIST_LEVEL_MAX + 1];
    uint8_t *nodes[LIST_LEVEL_MAX + 1];
    Ref windows[LIST_LEVEL_MAX + 1][WINDOW_COUNT];
    size_t window_next[LIST_LEVEL_MAX + 1];
};

ListBuilder *list_builder_new(NodeStore *store)
{
    ListBuilder *builder = mem_alloc(sizeof(*builder));
    builder->store = store;
    buffer_init(&builder->leaf, LIST_LEAF_SIZE_MAX);
    for (int level = 1; level <= LIST_LEVEL_MAX; level++) {
        builder->nodes[level] = mem_alloc(LIST_INDEX_SIZE_MAX);
    }
    return builder;
}

void list_builder_free(ListBuilder *builder)
{
    if (builder == NULL) {
        return;
    }
    buffer_done(&builder->leaf);
    for (int level = 1; level <= LIST_LEVEL_MAX; level++) {
        mem_free(builder->nodes[level]);
    }
    mem_free(builder);
}

void list_builder_freep(ListBuilder **builder)
{
    list_builder_free(*builder);
    *builder = NULL;
}

void list_builder_offer(void *list_builder, int level, const Ref *ref)
{
    ListBuilder *builder = list_builder;
    size_t *next = &builder->window_next[level];
    builder->windows[level][*next] = *ref;
    *next = (*next + 1) % WINDOW_COUNT;
}

static Status list_put(ListBuilder *builder, int level, const uint8_t *data, size_t size,
                       Ref *ret_ref, Error *error)
{
    return node_store_put(builder->store, data, size, builder->windows[level], WINDOW_COUNT,
                          ret_ref, error);
}

static Status list_put_index(ListBuilder *builder, int level, Ref *ret_ref, Error *error)
{
    size_t count = builder->counts[level];
    node_header_encode(NODE_LIST_INDEX, level, count, builder->nodes[level]);
    builder->counts[level] = 0;
    return list_put(builder, level, builder->nodes[level], NODE_HEADER_SIZE + count * REF_SIZE,
                    ret_ref, error);
}

// Adds a node's ref to the level above, ending what becomes full.
static Status list_add_ref(ListBuilder *builder, int level, Ref ref, Error *error)
{
    for (; level <= LIST_LEVEL_MAX; level++) {
        if (builder->counts[level] < LIST_COUNT_MAX) {
            ref_encode(&ref, builder->nodes[level] + NODE_HEADER_SIZE +
                                 builder->counts[level]++ * REF_SIZE);
            return STATUS_OK;
        }
        // Full: it becomes a ref of the level above, and starts again with this one.
        Ref full;
        RETURN_IF_ERROR(list_put_index(builder, level, &full, error));
        ref_encode(&ref, builder->nodes[level] + NODE_HEADER_SIZE);
        builder->counts[level] = 1;
        ref = full;
    }
    return error_set(error, REASON_EXHAUSTED, "there are too many files for one backup");
}

static Status list_end_leaf(ListBuilder *builder, Error *error)
{
    Ref ref;
    node_header_encode(NODE_LIST_LEAF, 0, builder->leaf_count, builder->leaf.data);
    RETURN_IF_ERROR(list_put(builder, 0, builder->leaf.data, builder->leaf.size, &ref, error));
    buffer_clear(&builder->leaf);
    builder->leaf_count = 0;
    return list_add_ref(builder, 1, ref, error);
}

static void list_begin_leaf(ListBuilder *builder)
{
    static const uint8_t header[NODE_HEADER_SIZE] = {0};
    if (builder->leaf.size == 0) {
        buffer_append(&builder->leaf, header, sizeof(header));
    }
}

Status list_builder_add(ListBuilder *builder, const ListEntry *entry, Error *error)
{
    if (builder->leaf.size + LIST_ENTRY_SIZE_MAX > LIST_LEAF_SIZE_MAX) {
        RETURN_IF_ERROR(list_end_leaf(builder, error));
    }
    list_begin_leaf(builder);
    list_entry_encode(entry, &builder->leaf);
    assert(!builder->leaf.is_overflowed);
    builder->leaf_count++;
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(entry->path, strlen(entry->path), digest);
    if (digest[0] < LEAF_END_DIGEST_BELOW || builder->leaf_count == LIST_COUNT_MAX) {
        return list_end_leaf(builder, error);
    }
    return STATUS_OK;
}

Status list_builder_finish(ListBuilder *builder, int *ret_level, Ref *ret_root, Error *error)
{
    bool is_empty = builder->counts[1] == 0 && builder->counts[2] == 0 && builder->counts[3] == 0;
    if (builder->leaf_count > 0 || is_empty) {
        list_begin_leaf(builder);
        RETURN_IF_ERROR(list_end_leaf(builder, error));
    }
    // The lowest level with everything in one ref is the root's.
    for (int level = 1; level <= LIST_LEVEL_MAX; level++) {
        bool is_top = true;
        for (int above = level + 1; above <= LIST_LEVEL_MAX; above++) {
            is_top = is_top && builder->counts[above] == 0;
        }
        if (is_top && builder->counts[level] == 1) {
            bool is_ref = ref_decode(builder->nodes[level] + NODE_HEADER_SIZE, ret_root);
            assert(is_ref);
            *ret_level = level - 1;
            return STATUS_OK;
        }
        Ref ref;
        RETURN_IF_ERROR(list_put_index(builder, level, &ref, error));
        if (level == LIST_LEVEL_MAX) {
            *ret_level = level;
            *ret_root = ref;
            return STATUS_OK;
        }
        RETURN_IF_ERROR(list_add_ref(builder, level + 1, ref, error));
    }
    return error_set(error, REASON_INTERNAL, "the file list has no root");
}
