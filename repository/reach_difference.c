// SPDX-License-Identifier: Apache-2.0
// What a manifest reaches that another one does not, by walking both side by side: equal nodes are
// not entered, and those that differ are read ahead, in both. Of the file list, the nodes' names
// say what is shared: a path is in one leaf, so a path of a leaf that base does not have can only
// be in leaves of base that the manifest does not have.
#include "common/memory.h"
#include "repository/repository_reach.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// A node of base's list. All but the leaves' content is in memory.
typedef struct ListNode {
    Ref ref;
    int level;
    size_t first_child, child_count; // in the same array
    bool is_shared;                  // the manifest has it, with everything below
} ListNode;

// A file of one of base's leaves that are not shared.
typedef struct BaseFile {
    const char *path;
    int64_t size_bytes;
    int depth;
    Ref root;
} BaseFile;

typedef struct Difference {
    Reach *reach;
    Arena *arena;
    BlobOpener *opener, *base_opener;
    MapReader map, base_map;
    bool has_base_file;
    ListNode *nodes;
    size_t node_count, node_capacity;
    size_t *by_hash;  // indices of nodes
    Ref *base_leaves; // that the manifest does not have
    size_t base_leaf_count, base_leaf_capacity;
    BaseFile *files; // in order of path
    size_t file_count, file_capacity;
    Ref *leaves; // of the manifest, that base does not have
    size_t leaf_count, leaf_capacity;
    ListEntry *entry;
} Difference;

static bool is_same_blob(const Ref *a, const Ref *b)
{
    return ref_has_hash(a, b) && pack_name_equal(&a->pack, &b->pack) && a->index == b->index;
}

// Makes room for one more item.
static void *grow(void *items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return items;
    }
    *capacity = *capacity == 0 ? 16 : 2 * *capacity;
    return mem_realloc_array(items, *capacity, item_size);
}

// Reads a node of a list into memory of the caller.
static Status read_list_node(BlobOpener *opener, const Ref *ref, int level, uint8_t **ret_data,
                             size_t *ret_count, Error *error)
{
    size_t size_max = level == 0 ? LIST_LEAF_SIZE_MAX : LIST_INDEX_SIZE_MAX;
    NodeHeader header;
    if (ref->plain_size > size_max) {
        return node_is_damaged(ref, "is too large", error);
    }
    CLEANUP_FREE uint8_t *data = mem_alloc(ref->plain_size);
    RETURN_IF_ERROR(node_read(opener, ref, ref->plain_size, data, &header, error));
    if (header.level != level || header.type != (level == 0 ? NODE_LIST_LEAF : NODE_LIST_INDEX)) {
        return node_is_damaged(ref, "is not of the file list's level", error);
    }
    *ret_data = TAKE_PTR(data);
    *ret_count = header.count;
    return STATUS_OK;
}

static Status list_child(const Ref *ref, const uint8_t *data, size_t index, Ref *ret_child,
                         Error *error)
{
    RETURN_IF_ERROR(node_ref(ref, data, index, ret_child, error));
    return ret_child->kind == BLOB_NODE
               ? STATUS_OK
               : node_is_damaged(ref, "has an entry that is no node", error);
}

// --- base's list ------------------------------------------------------------------------------

static void add_node(Difference *difference, const Ref *ref, int level)
{
    difference->nodes = grow(difference->nodes, difference->node_count, &difference->node_capacity,
                             sizeof(*difference->nodes));
    difference->nodes[difference->node_count++] = (ListNode){.ref = *ref, .level = level};
}

static int compare_hashes(const void *left, const void *right, void *context)
{
    const ListNode *nodes = context;
    return memcmp(nodes[*(const size_t *)left].ref.hash, nodes[*(const size_t *)right].ref.hash,
                  HASH_SIZE);
}

// Level by level, so that the children of a node lie side by side.
static Status read_base_nodes(Difference *difference, const ManifestRoot *root, Error *error)
{
    add_node(difference, &root->ref, root->level);
    for (size_t i = 0; i < difference->node_count; i++) {
        const Ref ref = difference->nodes[i].ref;
        int level = difference->nodes[i].level;
        if (level == 0) {
            continue;
        }
        CLEANUP_FREE uint8_t *data = NULL;
        size_t count = 0;
        RETURN_IF_ERROR(read_list_node(difference->base_opener, &ref, level, &data, &count, error));
        difference->nodes[i].first_child = difference->node_count;
        difference->nodes[i].child_count = count;
        for (size_t child = 0; child < count; child++) {
            Ref child_ref;
            RETURN_IF_ERROR(list_child(&ref, data, child, &child_ref, error));
            add_node(difference, &child_ref, level - 1);
        }
    }
    difference->by_hash = mem_alloc_array(difference->node_count, sizeof(size_t));
    for (size_t i = 0; i < difference->node_count; i++) {
        difference->by_hash[i] = i;
    }
    qsort_r(difference->by_hash, difference->node_count, sizeof(size_t), compare_hashes,
            difference->nodes);
    return STATUS_OK;
}

static ListNode *find_node(const Difference *difference, const Ref *ref)
{
    size_t low = 0;
    size_t high = difference->node_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        ListNode *node = &difference->nodes[difference->by_hash[middle]];
        int order = memcmp(node->ref.hash, ref->hash, HASH_SIZE);
        if (order == 0) {
            return node;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static Status read_base_leaf(Difference *difference, const Ref *ref, Error *error)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t count = 0;
    size_t offset = NODE_HEADER_SIZE;
    ListEntry *entry = difference->entry;
    RETURN_IF_ERROR(read_list_node(difference->base_opener, ref, 0, &data, &count, error));
    for (size_t i = 0; i < count; i++) {
        if (!list_entry_decode(difference->base_map.fan_out, data, ref->plain_size, &offset,
                               entry)) {
            return node_is_damaged(ref, "has an impossible entry", error);
        }
        if (entry->kind != ENTRY_FILE || entry->root.kind == BLOB_ZERO) {
            continue;
        }
        difference->files = grow(difference->files, difference->file_count,
                                 &difference->file_capacity, sizeof(*difference->files));
        difference->files[difference->file_count++] =
            (BaseFile){.path = arena_string(difference->arena, entry->path),
                       .size_bytes = entry->size_bytes,
                       .depth = entry->depth,
                       .root = entry->root};
    }
    return STATUS_OK;
}

static void find_base_leaves(Difference *difference, size_t node_index)
{
    const ListNode *node = &difference->nodes[node_index];
    if (node->is_shared) {
        return;
    }
    if (node->level == 0) {
        difference->base_leaves =
            grow(difference->base_leaves, difference->base_leaf_count,
                 &difference->base_leaf_capacity, sizeof(*difference->base_leaves));
        difference->base_leaves[difference->base_leaf_count++] = node->ref;
    }
    for (size_t child = 0; child < node->child_count; child++) {
        find_base_leaves(difference, node->first_child + child);
    }
}

// Before leaf `index` is read: asks for it and for some that follow.
static void ask_leaves(BlobOpener *opener, const Ref *leaves, size_t count, size_t index)
{
    if (index % AHEAD_STEP == 0) {
        blob_ask(opener, AHEAD_LEAVES, &leaves[index], MIN(count - index, AHEAD_STEP));
    }
}

static Status read_base_files(Difference *difference, Error *error)
{
    find_base_leaves(difference, 0);
    for (size_t i = 0; i < difference->base_leaf_count; i++) {
        ask_leaves(difference->base_opener, difference->base_leaves, difference->base_leaf_count,
                   i);
        RETURN_IF_ERROR(read_base_leaf(difference, &difference->base_leaves[i], error));
    }
    return STATUS_OK;
}

static const BaseFile *find_file(const Difference *difference, const char *path)
{
    size_t low = 0;
    size_t high = difference->file_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(difference->files[middle].path, path);
        if (order == 0) {
            return &difference->files[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// --- the manifest -----------------------------------------------------------------------------

static Status walk_list(Difference *difference, const Ref *ref, int level, Error *error)
{
    ListNode *same = find_node(difference, ref);
    if (same != NULL && same->level == level) {
        same->is_shared = true;
        if (!is_same_blob(&same->ref, ref)) {
            reach_mark(difference->reach, ref); // stored twice; what is below is the same
        }
        return STATUS_OK;
    }
    reach_mark(difference->reach, ref);
    if (level == 0) {
        difference->leaves = grow(difference->leaves, difference->leaf_count,
                                  &difference->leaf_capacity, sizeof(*difference->leaves));
        difference->leaves[difference->leaf_count++] = *ref;
        return STATUS_OK;
    }
    CLEANUP_FREE uint8_t *data = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(read_list_node(difference->opener, ref, level, &data, &count, error));
    for (size_t i = 0; i < count; i++) {
        Ref child;
        RETURN_IF_ERROR(list_child(ref, data, i, &child, error));
        RETURN_IF_ERROR(walk_list(difference, &child, level - 1, error));
    }
    return STATUS_OK;
}

static bool base_has(const Difference *difference, int level, int64_t position)
{
    const MapReader *base = &difference->base_map;
    return difference->has_base_file && level <= base->depth &&
           position < map_width(base->fan_out, base->extent_count, level);
}

// Of nodes below one that both walks have at hand.
static bool is_other_than(MapReader *reader, int level, int64_t position, const Ref *ref)
{
    Ref other;
    Error error = {0}; // the walk itself says so, when it comes to it
    return map_reader_get(reader, level, position, &other, &error) == STATUS_OK &&
           other.kind != BLOB_ZERO && !is_same_blob(&other, ref);
}

static bool is_new(void *context, int level, int64_t position, const Ref *ref)
{
    Difference *difference = context;
    return !base_has(difference, level, position) ||
           is_other_than(&difference->base_map, level, position, ref);
}

static bool is_replaced(void *context, int level, int64_t position, const Ref *ref)
{
    Difference *difference = context;
    return is_other_than(&difference->map, level, position, ref);
}

// The walk enters a node that differs from base's, whose own was looked at.
static void ask_differences(Difference *difference, int level, int64_t position)
{
    map_reader_ask(&difference->map, level, position, is_new, difference);
    if (base_has(difference, level, position) &&
        difference->map.fan_out == difference->base_map.fan_out) {
        map_reader_ask(&difference->base_map, level, position, is_replaced, difference);
    }
}

// Level and position say the same extents in both, however deep the maps are. Where their fan-outs
// differ, only extents are found to be shared: a blob that both have is the same wherever it is.
static Status walk_map(Difference *difference, int level, int64_t position, Error *error)
{
    Ref ref;
    Ref base_ref;
    RETURN_IF_ERROR(map_reader_get(&difference->map, level, position, &ref, error));
    if (ref.kind == BLOB_ZERO) {
        return STATUS_OK;
    }
    if (base_has(difference, level, position)) {
        RETURN_IF_ERROR(map_reader_get(&difference->base_map, level, position, &base_ref, error));
        if (is_same_blob(&base_ref, &ref)) {
            return STATUS_OK;
        }
    }
    reach_mark(difference->reach, &ref);
    if (level == 0) {
        return STATUS_OK;
    }
    ask_differences(difference, level, position);
    const int fan_out = difference->map.fan_out;
    int64_t width = map_width(fan_out, difference->map.extent_count, level - 1);
    int64_t end = MIN(width, (position + 1) * fan_out);
    for (int64_t child = position * fan_out; child < end; child++) {
        RETURN_IF_ERROR(walk_map(difference, level - 1, child, error));
    }
    return STATUS_OK;
}

static Status walk_file(Difference *difference, const ListEntry *entry, Error *error)
{
    const BaseFile *base = find_file(difference, entry->path);
    difference->has_base_file = base != NULL;
    map_reader_open(&difference->map, entry);
    int depth = entry->depth;
    if (base != NULL) {
        ListEntry *scratch = difference->entry; // entry's own: it was taken over above
        scratch->kind = ENTRY_FILE;
        scratch->size_bytes = base->size_bytes;
        scratch->depth = base->depth;
        scratch->root = base->root;
        map_reader_open(&difference->base_map, scratch);
    }
    return walk_map(difference, depth, 0, error);
}

static bool has_new_root(void *context, const ListEntry *entry)
{
    const Difference *difference = context;
    const BaseFile *base = find_file(difference, entry->path);
    if (base != NULL && is_same_blob(&base->root, &entry->root)) {
        return false;
    }
    if (base != NULL && base->depth == entry->depth) {
        blob_ask(difference->base_opener, AHEAD_ROOTS, &base->root, 1);
    }
    return true;
}

static Status walk_leaf(Difference *difference, const Ref *ref, Error *error)
{
    CLEANUP_FREE uint8_t *data = NULL;
    CLEANUP_FREE LeafAhead *ahead = mem_alloc(sizeof(*ahead));
    size_t count = 0;
    size_t offset = NODE_HEADER_SIZE;
    RETURN_IF_ERROR(read_list_node(difference->opener, ref, 0, &data, &count, error));
    *ahead = (LeafAhead){.depth_min = 1,
                         .is_wanted = has_new_root,
                         .context = difference,
                         .map_fan_out = difference->map.fan_out};
    for (size_t i = 0; i < count; i++) {
        leaf_ahead(ahead, difference->opener, data, ref->plain_size, count, i);
        if (!list_entry_decode(difference->map.fan_out, data, ref->plain_size, &offset,
                               difference->entry)) {
            return node_is_damaged(ref, "has an impossible entry", error);
        }
        if (difference->entry->kind == ENTRY_FILE && difference->entry->root.kind != BLOB_ZERO) {
            RETURN_IF_ERROR(walk_file(difference, difference->entry, error));
        }
    }
    return STATUS_OK;
}

static Status walk(Difference *difference, const ManifestRoot *root, const ManifestRoot *base_root,
                   Error *error)
{
    RETURN_IF_ERROR(read_base_nodes(difference, base_root, error));
    RETURN_IF_ERROR(walk_list(difference, &root->ref, root->level, error));
    if (difference->leaf_count > 0) {
        RETURN_IF_ERROR(read_base_files(difference, error));
    }
    for (size_t i = 0; i < difference->leaf_count; i++) {
        ask_leaves(difference->opener, difference->leaves, difference->leaf_count, i);
        RETURN_IF_ERROR(walk_leaf(difference, &difference->leaves[i], error));
    }
    return STATUS_OK;
}

Status reach_add_difference(Reach *reach, const ShardScope *scope, const Manifest *manifest,
                            const ShardScope *base_scope, const Manifest *base, Error *error)
{
    ManifestRoot root;
    ManifestRoot base_root;
    RETURN_IF_ERROR(manifest_root(manifest, &root, error));
    RETURN_IF_ERROR(manifest_root(base, &base_root, error));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(scope);
    CLEANUP(blob_opener_freep) BlobOpener *base_opener = blob_opener_new(base_scope);
    CLEANUP_FREE ListEntry *entry = mem_alloc(sizeof(*entry));
    Difference difference = {.reach = reach,
                             .arena = arena,
                             .opener = opener,
                             .base_opener = base_opener,
                             .entry = entry};
    reach_begin(reach, scope, manifest->id);
    map_reader_init(&difference.map, opener, root.map_fan_out);
    map_reader_init(&difference.base_map, base_opener, base_root.map_fan_out);
    difference.map.asks_below_only = difference.base_map.asks_below_only = true;
    blob_opener_read_ahead(opener);
    blob_opener_read_ahead(base_opener);
    Status status = walk(&difference, &root, &base_root, error);
    map_reader_done(&difference.map);
    map_reader_done(&difference.base_map);
    mem_free(difference.nodes);
    mem_free(difference.by_hash);
    mem_free(difference.base_leaves);
    mem_free(difference.files);
    mem_free(difference.leaves);
    return status;
}
