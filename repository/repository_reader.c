// SPDX-License-Identifier: Apache-2.0
// Walking file lists and maps. Node contents are authenticated, but still checked as outside data.
#include "repository/repository_reader.h"

#include "common/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

Status node_is_damaged(const Ref *node, const char *what, Error *error)
{
    char pack[PACK_NAME_SIZE];
    pack_name_encode(&node->pack, pack);
    return error_set(error, REASON_OBJECT_CORRUPT, "map node %u of pack '%s' %s", node->index, pack,
                     what);
}

Status node_read(BlobOpener *opener, const Ref *ref, size_t size_max, uint8_t *data,
                 NodeHeader *ret_header, Error *error)
{
    if (ref->kind != BLOB_NODE || ref->plain_size > size_max) {
        return node_is_damaged(ref, "is not a node of that kind", error);
    }
    RETURN_IF_ERROR(blob_read(opener, ref, data, error));
    if (!node_header_decode(data, ref->plain_size, ret_header)) {
        return node_is_damaged(ref, "has no valid header", error);
    }
    return STATUS_OK;
}

Status node_ref(const Ref *node, const uint8_t *data, size_t position, Ref *ret_ref, Error *error)
{
    assert(NODE_HEADER_SIZE + (position + 1) * REF_SIZE <= node->plain_size);
    if (!ref_decode(data + NODE_HEADER_SIZE + position * REF_SIZE, ret_ref)) {
        return node_is_damaged(node, "has an impossible entry", error);
    }
    return STATUS_OK;
}

Status map_node_check_ref(const Ref *ref, int64_t ref_count, Error *error)
{
    return ref->kind == BLOB_NODE && ref->plain_size == map_node_size(ref_count)
               ? STATUS_OK
               : node_is_damaged(ref, "does not fit its file", error);
}

Status map_node_check(const Ref *ref, const uint8_t *data, int level, Error *error)
{
    NodeHeader header;
    return node_header_decode(data, ref->plain_size, &header) && header.type == NODE_MAP &&
                   header.level == level
               ? STATUS_OK
               : node_is_damaged(ref, "does not fit its file", error);
}

// --- file list --------------------------------------------------------------------------------

void leaf_ahead(LeafAhead *ahead, BlobOpener *opener, const uint8_t *data, size_t size,
                size_t count, size_t position)
{
    const size_t end = ahead->depth_min == 0 ? 0 : count;
    // What is near is asked for in any case: what was asked for and not taken may be in its way.
    while (ahead->next < end &&
           (ahead->next < position + AHEAD_STEP || blob_may_ask(opener, AHEAD_ROOTS))) {
        size_t *offset = &ahead->offset;
        *offset = ahead->next == 0 ? NODE_HEADER_SIZE : *offset;
        if (!list_entry_decode(ahead->map_fan_out, data, size, offset, &ahead->entry)) {
            ahead->next = count; // the walk itself says so, when it comes to it
            return;
        }
        ahead->next++;
        if (ahead->entry.kind == ENTRY_FILE && ahead->entry.depth >= ahead->depth_min &&
            (ahead->is_wanted == NULL || ahead->is_wanted(ahead->context, &ahead->entry))) {
            blob_ask(opener, AHEAD_ROOTS, &ahead->entry.root, 1);
        }
    }
}

typedef struct ListLevel {
    Ref ref;
    size_t count, next;
    size_t asked;  // index above the leaves: the first child that was not asked for
    size_t offset; // leaf: of the next entry
    uint8_t *data;
} ListLevel;

struct ListReader {
    BlobOpener *opener;
    void (*on_node)(void *context, int level, const Ref *ref);
    void *context;
    ManifestRoot root;
    bool is_started;
    ListLevel levels[LIST_LEVEL_MAX + 1];
    LeafAhead ahead;
    char previous_path[LIST_PATH_SIZE_MAX + 1];
    ListEntry entry;
};

ListReader *list_reader_new(BlobOpener *opener, const ManifestRoot *root,
                            void (*on_node)(void *context, int level, const Ref *ref),
                            void *context)
{
    assert(root->level >= 0 && root->level <= LIST_LEVEL_MAX);
    ListReader *reader = mem_alloc(sizeof(*reader));
    reader->opener = opener;
    reader->root = *root;
    reader->ahead.map_fan_out = root->map_fan_out;
    reader->on_node = on_node;
    reader->context = context;
    for (int i = 0; i <= root->level; i++) {
        reader->levels[i].data = mem_alloc(i == 0 ? LIST_LEAF_SIZE_MAX : LIST_INDEX_SIZE_MAX);
    }
    return reader;
}

void list_reader_ask_roots(ListReader *reader, int depth_min,
                           bool (*is_wanted)(void *context, const ListEntry *entry), void *context)
{
    reader->ahead.depth_min = depth_min;
    reader->ahead.is_wanted = is_wanted;
    reader->ahead.context = context;
}

void list_reader_free(ListReader *reader)
{
    if (reader == NULL) {
        return;
    }
    for (int i = 0; i <= LIST_LEVEL_MAX; i++) {
        mem_free(reader->levels[i].data);
    }
    mem_free(reader);
}

void list_reader_freep(ListReader **reader)
{
    list_reader_free(*reader);
    *reader = NULL;
}

static Status list_enter(ListReader *reader, int level, const Ref *ref, Error *error)
{
    ListLevel *here = &reader->levels[level];
    NodeHeader header;
    RETURN_IF_ERROR(node_read(reader->opener, ref,
                              level == 0 ? LIST_LEAF_SIZE_MAX : LIST_INDEX_SIZE_MAX, here->data,
                              &header, error));
    if (header.level != level || header.type != (level == 0 ? NODE_LIST_LEAF : NODE_LIST_INDEX)) {
        return node_is_damaged(ref, "is not of the file list's level", error);
    }
    here->ref = *ref;
    here->count = header.count;
    here->next = here->asked = 0;
    here->offset = NODE_HEADER_SIZE;
    if (level == 0) {
        reader->ahead.next = 0;
    }
    if (reader->on_node != NULL) {
        reader->on_node(reader->context, level, ref);
    }
    return STATUS_OK;
}

// Index nodes above the lowest are few: only leaves are read ahead.
static void ask_leaves(ListReader *reader)
{
    ListLevel *here = &reader->levels[1];
    for (; here->asked < MIN(here->count, here->next + AHEAD_STEP); here->asked++) {
        Ref leaf;
        if (ref_decode(here->data + NODE_HEADER_SIZE + here->asked * REF_SIZE, &leaf)) {
            blob_ask(reader->opener, AHEAD_LEAVES, &leaf, 1);
        }
    }
}

// Makes the leaf one that has another entry, or sets ret_is_end.
static Status list_find_leaf(ListReader *reader, bool *ret_is_end, Error *error)
{
    if (!reader->is_started) {
        reader->is_started = true;
        RETURN_IF_ERROR(list_enter(reader, reader->root.level, &reader->root.ref, error));
        for (int i = 0; i < reader->root.level; i++) {
            reader->levels[i].count = reader->levels[i].next = 0;
        }
    }
    int level = 0;
    while (level <= reader->root.level &&
           reader->levels[level].next == reader->levels[level].count) {
        const ListLevel *leaf = &reader->levels[0];
        if (level == 0 && leaf->ref.kind == BLOB_NODE && leaf->offset != leaf->ref.plain_size) {
            return node_is_damaged(&leaf->ref, "has bytes after its entries", error);
        }
        level++;
    }
    *ret_is_end = level > reader->root.level;
    for (; !*ret_is_end && level > 0; level--) {
        ListLevel *here = &reader->levels[level];
        Ref child;
        if (level == 1) {
            ask_leaves(reader);
        }
        RETURN_IF_ERROR(node_ref(&here->ref, here->data, here->next++, &child, error));
        RETURN_IF_ERROR(list_enter(reader, level - 1, &child, error));
        if (reader->levels[level - 1].count == 0) {
            return node_is_damaged(&child, "is empty", error);
        }
    }
    return STATUS_OK;
}

Status list_reader_next(ListReader *reader, const ListEntry **ret_entry, Error *error)
{
    bool is_end = false;
    RETURN_IF_ERROR(list_find_leaf(reader, &is_end, error));
    if (is_end) {
        *ret_entry = NULL;
        return STATUS_OK;
    }
    ListLevel *leaf = &reader->levels[0];
    leaf_ahead(&reader->ahead, reader->opener, leaf->data, leaf->ref.plain_size, leaf->count,
               leaf->next);
    if (!list_entry_decode(reader->root.map_fan_out, leaf->data, leaf->ref.plain_size,
                           &leaf->offset, &reader->entry)) {
        return node_is_damaged(&leaf->ref, "has an impossible entry", error);
    }
    leaf->next++;
    if (strcmp(reader->previous_path, reader->entry.path) >= 0) {
        return node_is_damaged(&leaf->ref, "is not in order", error);
    }
    memcpy(reader->previous_path, reader->entry.path, strlen(reader->entry.path) + 1);
    *ret_entry = &reader->entry;
    return STATUS_OK;
}

// --- map --------------------------------------------------------------------------------------

void map_reader_init(MapReader *reader, BlobOpener *opener, int fan_out)
{
    *reader = (MapReader){.opener = opener, .fan_out = fan_out};
}

void map_reader_done(MapReader *reader)
{
    for (int level = 0; level <= MAP_LEVEL_MAX; level++) {
        mem_free(reader->levels[level].data);
        reader->levels[level].data = NULL;
    }
    mem_free(reader->next.data);
    reader->next.data = NULL;
}

void map_reader_open(MapReader *reader, const ListEntry *entry)
{
    assert(entry->kind == ENTRY_FILE);
    reader->size_bytes = entry->size_bytes;
    reader->extent_count = extent_count_of(entry->size_bytes);
    reader->depth = entry->depth;
    reader->root = entry->root;
    for (int level = 0; level <= MAP_LEVEL_MAX; level++) {
        reader->levels[level].position = -1;
    }
    reader->next.position = reader->next_tried = -1;
}

size_t extent_size_at(int64_t size_bytes, int64_t position)
{
    int64_t left = size_bytes - position * (int64_t)EXTENT_SIZE;
    assert(left > 0);
    return left < (int64_t)EXTENT_SIZE ? (size_t)left : EXTENT_SIZE;
}

static Status map_node_read(const MapReader *reader, int level, int64_t position, const Ref *ref,
                            MapNode *node, Error *error)
{
    if (node->data == NULL) {
        node->data = mem_alloc(map_node_size(reader->fan_out));
    }
    node->position = -1;
    int64_t width = map_width(reader->fan_out, reader->extent_count, level - 1);
    int64_t expected = MIN(width - position * reader->fan_out, (int64_t)reader->fan_out);
    RETURN_IF_ERROR(map_node_check_ref(ref, expected, error));
    RETURN_IF_ERROR(blob_read(reader->opener, ref, node->data, error));
    RETURN_IF_ERROR(map_node_check(ref, node->data, level, error));
    node->position = position;
    node->asked = 0;
    node->ref = *ref;
    return STATUS_OK;
}

// Makes levels[level] hold node `position`, which `ref` names.
static Status map_load(MapReader *reader, int level, int64_t position, const Ref *ref, Error *error)
{
    if (level == 2 && reader->next.position == position) {
        MapNode previous = reader->levels[2];
        reader->levels[2] = reader->next;
        reader->next = previous;
        reader->next.position = -1;
        return STATUS_OK;
    }
    return map_node_read(reader, level, position, ref, &reader->levels[level], error);
}

Status map_reader_get(MapReader *reader, int level, int64_t position, Ref *ret_ref, Error *error)
{
    assert(level >= 0 && level <= reader->depth);
    assert(position >= 0 && position < map_width(reader->fan_out, reader->extent_count, level));
    Ref ref = reader->root;
    // From the root down, through the node at each level that covers the position.
    for (int above = reader->depth; above > level && ref.kind != BLOB_ZERO; above--) {
        int64_t parent = position;
        for (int i = level; i < above; i++) {
            parent /= reader->fan_out;
        }
        if (reader->levels[above].position != parent) {
            RETURN_IF_ERROR(map_load(reader, above, parent, &ref, error));
        }
        int64_t child = position;
        for (int i = level; i < above - 1; i++) {
            child /= reader->fan_out;
        }
        const Ref *node = &reader->levels[above].ref;
        RETURN_IF_ERROR(node_ref(node, reader->levels[above].data,
                                 (size_t)(child % reader->fan_out), &ref, error));
        BlobKind expected = above == 1 ? BLOB_EXTENT : BLOB_NODE;
        if (ref.kind != BLOB_ZERO &&
            (ref.kind != expected ||
             (above == 1 && ref.plain_size != extent_size_at(reader->size_bytes, child)))) {
            return node_is_damaged(node, "has an entry that does not fit its file", error);
        }
    }
    *ret_ref = ref;
    return STATUS_OK;
}

// The first node after those below `parent`, a node of the level above.
static int64_t end_below(const MapReader *reader, int level, const MapNode *parent)
{
    return MIN((parent->position + 1) * reader->fan_out,
               map_width(reader->fan_out, reader->extent_count, level));
}

static bool decode_below(const MapReader *reader, const MapNode *parent, int64_t position,
                         Ref *ret_ref)
{
    size_t index = (size_t)(position % reader->fan_out);
    return ref_decode(parent->data + NODE_HEADER_SIZE + index * REF_SIZE, ret_ref);
}

// Asks for nodes after `position`, many at a time: what lies close together is fetched with one
// read.
static void ask_below(const MapReader *reader, MapNode *parent, int level, int64_t position,
                      MapNodeIsWanted is_wanted, void *context)
{
    Ref refs[AHEAD_NODE_STEP];
    size_t count = 0;
    parent->asked = MAX(parent->asked, position + 1);
    if (parent->asked > position + AHEAD_NODE_STEP / 2) {
        return;
    }
    int64_t end = MIN(end_below(reader, level, parent), position + 1 + AHEAD_NODE_STEP);
    for (; parent->asked < end; parent->asked++) {
        if (decode_below(reader, parent, parent->asked, &refs[count]) &&
            (is_wanted == NULL || is_wanted(context, level, parent->asked, &refs[count]))) {
            count++;
        }
    }
    blob_ask(reader->opener, level == 1 ? AHEAD_NODES : AHEAD_UPPER_NODES, refs, count);
}

// Once all nodes below one of level 2 are asked for: those below the next.
static void ask_below_next(MapReader *reader, MapNodeIsWanted is_wanted, void *context)
{
    Ref ref;
    Error error = {0}; // the walk itself says so, when it comes to it
    const MapNode *above = &reader->levels[3];
    int64_t position = reader->levels[2].position + 1;
    if (reader->next_tried == position || reader->depth < 3 || reader->asks_below_only ||
        reader->levels[2].asked < end_below(reader, 1, &reader->levels[2]) ||
        position >= map_width(reader->fan_out, reader->extent_count, 2) ||
        above->position != position / reader->fan_out) {
        return;
    }
    reader->next_tried = position;
    if (decode_below(reader, above, position, &ref) && ref.kind == BLOB_NODE &&
        (is_wanted == NULL || is_wanted(context, 2, position, &ref)) &&
        map_node_read(reader, 2, position, &ref, &reader->next, &error) == STATUS_OK) {
        ask_below(reader, &reader->next, 1, position * reader->fan_out - 1, is_wanted, context);
    }
}

void map_reader_ask(MapReader *reader, int level, int64_t position, MapNodeIsWanted is_wanted,
                    void *context)
{
    if (level < 1 || level > 2 || level >= reader->depth ||
        reader->levels[level + 1].position != position / reader->fan_out) {
        return;
    }
    ask_below(reader, &reader->levels[level + 1], level, position, is_wanted, context);
    if (level == 1) {
        ask_below_next(reader, is_wanted, context);
    }
}
