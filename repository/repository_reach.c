// SPDX-License-Identifier: Apache-2.0
// Walking everything that manifests reach, each map node once however many manifests share it.
#include "repository/repository_reach.h"

#include "common/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct Reach {
    void (*on_damage)(void *context, const char *object, const Error *problem);
    void *context;
    ReachedPack **packs;
    size_t pack_count, pack_capacity;
    uint32_t *pack_slots; // open addressing; index + 1
    size_t pack_slot_count;
    NodeSet nodes;
    ReachedPack *last; // extents come in runs of one pack
    // The walk that is under way.
    const ShardScope *scope;
    char manifest_id[MANIFEST_ID_SIZE];
    BlobOpener *opener;
    MapReader map; // with the fan-out of the manifest's
};

Reach *reach_new(void (*on_damage)(void *context, const char *object, const Error *problem),
                 void *context)
{
    Reach *reach = mem_alloc(sizeof(*reach));
    reach->on_damage = on_damage;
    reach->context = context;
    return reach;
}

void reach_free(Reach *reach)
{
    if (reach == NULL) {
        return;
    }
    for (size_t i = 0; i < reach->pack_count; i++) {
        mem_free(reach->packs[i]->bits);
        mem_free(reach->packs[i]);
    }
    mem_free(reach->packs);
    mem_free(reach->pack_slots);
    node_set_done(&reach->nodes);
    mem_free(reach);
}

void reach_freep(Reach **reach)
{
    reach_free(*reach);
    *reach = NULL;
}

// --- packs ------------------------------------------------------------------------------------

static size_t pack_slot(const Reach *reach, const PackName *name)
{
    // Ids are random, so any part of one is a hash.
    size_t slot = (get_u64(name->id) ^ name->epoch) & (reach->pack_slot_count - 1);
    while (reach->pack_slots[slot] != 0 &&
           !pack_name_equal(&reach->packs[reach->pack_slots[slot] - 1]->name, name)) {
        slot = (slot + 1) & (reach->pack_slot_count - 1);
    }
    return slot;
}

ReachedPack *reach_find(const Reach *reach, const PackName *name)
{
    if (reach->pack_slot_count == 0) {
        return NULL;
    }
    uint32_t index = reach->pack_slots[pack_slot(reach, name)];
    return index == 0 ? NULL : reach->packs[index - 1];
}

ReachedPack *reach_at(const Reach *reach, size_t index)
{
    return index < reach->pack_count ? reach->packs[index] : NULL;
}

static void grow_packs(Reach *reach)
{
    mem_free(reach->pack_slots);
    reach->pack_slot_count = reach->pack_slot_count == 0 ? 64 : 2 * reach->pack_slot_count;
    reach->pack_slots = mem_alloc_array(reach->pack_slot_count, sizeof(*reach->pack_slots));
    for (size_t i = 0; i < reach->pack_count; i++) {
        reach->pack_slots[pack_slot(reach, &reach->packs[i]->name)] = (uint32_t)(i + 1);
    }
}

static ReachedPack *reach_pack(Reach *reach, const PackName *name)
{
    if (reach->last != NULL && pack_name_equal(&reach->last->name, name)) {
        return reach->last;
    }
    ReachedPack *pack = reach_find(reach, name);
    if (pack == NULL) {
        if (2 * (reach->pack_count + 1) > reach->pack_slot_count) {
            grow_packs(reach);
        }
        if (reach->pack_count == reach->pack_capacity) {
            reach->pack_capacity = reach->pack_capacity == 0 ? 64 : 2 * reach->pack_capacity;
            reach->packs =
                mem_realloc_array(reach->packs, reach->pack_capacity, sizeof(*reach->packs));
        }
        pack = mem_alloc(sizeof(*pack));
        pack->name = *name;
        pack->scope = reach->scope;
        memcpy(pack->manifest_id, reach->manifest_id, MANIFEST_ID_SIZE);
        reach->pack_slots[pack_slot(reach, name)] = (uint32_t)(reach->pack_count + 1);
        reach->packs[reach->pack_count++] = pack;
    }
    reach->last = pack;
    return pack;
}

bool reached_blob(const ReachedPack *pack, uint32_t index)
{
    return index / 8 < pack->bits_size && (pack->bits[index / 8] >> (index % 8) & 1) != 0;
}

size_t reached_blob_count(const ReachedPack *pack)
{
    size_t count = 0;
    for (uint32_t i = 0; i < pack->bits_size * 8; i++) {
        count += reached_blob(pack, i) ? 1 : 0;
    }
    return count;
}

static void grow_bits(ReachedPack *pack, size_t need)
{
    if (need > pack->bits_size) {
        size_t size = MAX(need, 2 * pack->bits_size);
        pack->bits = mem_realloc_array(pack->bits, size, 1);
        memset(pack->bits + pack->bits_size, 0, size - pack->bits_size);
        pack->bits_size = size;
    }
}

ReachedPack *reach_mark(Reach *reach, const Ref *ref)
{
    assert(ref->index < PACK_BLOB_COUNT_MAX);
    ReachedPack *pack = reach_pack(reach, &ref->pack);
    if (reached_blob(pack, ref->index)) {
        return pack;
    }
    grow_bits(pack, ref->index / 8 + 1);
    pack->bits[ref->index / 8] |= (uint8_t)(1U << (ref->index % 8));
    pack->live_bytes += ref->stored_size;
    uint8_t data[REF_SIZE];
    ref_encode(ref, data);
    for (size_t i = 0; i < REF_SIZE; i++) {
        pack->fold[i] ^= data[i];
    }
    return pack;
}

void reach_merge(Reach *reach, const ReachedPack *from)
{
    ReachedPack *pack = reach_pack(reach, &from->name);
    grow_bits(pack, from->bits_size);
    for (size_t i = 0; i < from->bits_size; i++) {
        pack->is_doubled = pack->is_doubled || (pack->bits[i] & from->bits[i]) != 0;
        pack->bits[i] |= from->bits[i];
    }
    pack->is_doubled = pack->is_doubled || from->is_doubled;
    pack->live_bytes += from->live_bytes;
    for (size_t i = 0; i < REF_SIZE; i++) {
        pack->fold[i] ^= from->fold[i];
    }
}

int64_t reach_live_bytes(const Reach *reach)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < reach->pack_count; i++) {
        bytes += reach->packs[i]->live_bytes;
    }
    return bytes;
}

void reach_begin(Reach *reach, const ShardScope *scope, const char *manifest_id)
{
    reach->scope = scope;
    snprintf(reach->manifest_id, sizeof(reach->manifest_id), "%s", manifest_id);
}

// --- walking ----------------------------------------------------------------------------------

// Damage is told to on_damage, if there is one, and then the walk goes on.
static Status tolerate(Reach *reach, Status status, ReachedPack *pack, Error *error)
{
    if (status != STATUS_DATA_LOSS || reach->on_damage == NULL) {
        return status;
    }
    char object[OBJECT_KEY_SIZE];
    pack_object_key(reach->scope->shard_id, &pack->name, object);
    error_wrap(error, "manifest '%s'", reach->manifest_id);
    reach->on_damage(reach->context, object, error);
    pack->is_reported = true;
    error_clear(error);
    return STATUS_OK;
}

static bool is_new_node(void *context, int level, int64_t position, const Ref *ref)
{
    const Reach *reach = context;
    (void)level;
    (void)position;
    return !node_set_has(&reach->nodes, ref);
}

static bool has_new_root(void *context, const ListEntry *entry)
{
    const Reach *reach = context;
    return !node_set_has(&reach->nodes, &entry->root);
}

static Status walk_map(Reach *reach, int level, int64_t position, Error *error)
{
    Ref ref;
    RETURN_IF_ERROR(map_reader_get(&reach->map, level, position, &ref, error));
    map_reader_ask(&reach->map, level, position, is_new_node, reach);
    if (ref.kind == BLOB_ZERO) {
        return STATUS_OK;
    }
    ReachedPack *pack = reach_mark(reach, &ref);
    if (level == 0 || !node_set_add(&reach->nodes, &ref)) {
        return STATUS_OK;
    }
    const int fan_out = reach->map.fan_out;
    int64_t width = map_width(fan_out, reach->map.extent_count, level - 1);
    int64_t end = MIN(width, (position + 1) * fan_out);
    for (int64_t child = position * fan_out; child < end; child++) {
        Status status = walk_map(reach, level - 1, child, error);
        if (status != STATUS_OK) {
            // Whatever fails here is this node: a child's own damage was tolerated below.
            return tolerate(reach, status, pack, error);
        }
    }
    return STATUS_OK;
}

static Status walk_leaf(Reach *reach, const Ref *ref, const uint8_t *data, size_t count,
                        Error *error)
{
    CLEANUP_FREE ListEntry *entry = mem_alloc(sizeof(*entry));
    CLEANUP_FREE LeafAhead *ahead = mem_alloc(sizeof(*ahead));
    ahead->depth_min = 1;
    ahead->map_fan_out = reach->map.fan_out;
    ahead->is_wanted = has_new_root;
    ahead->context = reach;
    size_t offset = NODE_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        leaf_ahead(ahead, reach->opener, data, ref->plain_size, count, i);
        if (!list_entry_decode(reach->map.fan_out, data, ref->plain_size, &offset, entry)) {
            return node_is_damaged(ref, "has an impossible entry", error);
        }
        if (entry->kind == ENTRY_FILE && entry->root.kind != BLOB_ZERO) {
            map_reader_open(&reach->map, entry);
            RETURN_IF_ERROR(walk_map(reach, entry->depth, 0, error));
        }
    }
    return STATUS_OK;
}

// Asks for the leaves below a list index node that come after child `position`.
static void ask_leaves(Reach *reach, const uint8_t *data, size_t count, size_t position,
                       size_t *asked)
{
    for (*asked = MAX(*asked, position + 1); *asked < MIN(count, position + AHEAD_STEP);
         (*asked)++) {
        Ref leaf;
        if (ref_decode(data + NODE_HEADER_SIZE + *asked * REF_SIZE, &leaf) &&
            !node_set_has(&reach->nodes, &leaf)) {
            blob_ask(reach->opener, AHEAD_LEAVES, &leaf, 1);
        }
    }
}

static Status walk_list(Reach *reach, const Ref *ref, int level, Error *error);

static Status walk_list_node(Reach *reach, const Ref *ref, int level, Error *error)
{
    size_t size_max = level == 0 ? LIST_LEAF_SIZE_MAX : LIST_INDEX_SIZE_MAX;
    if (ref->plain_size > size_max) {
        return node_is_damaged(ref, "is too large", error);
    }
    CLEANUP_FREE uint8_t *data = mem_alloc(ref->plain_size);
    NodeHeader header;
    RETURN_IF_ERROR(node_read(reach->opener, ref, ref->plain_size, data, &header, error));
    if (header.level != level || header.type != (level == 0 ? NODE_LIST_LEAF : NODE_LIST_INDEX)) {
        return node_is_damaged(ref, "is not of the file list's level", error);
    }
    if (level == 0) {
        return walk_leaf(reach, ref, data, header.count, error);
    }
    size_t asked = 0;
    for (size_t i = 0; i < header.count; i++) {
        Ref child;
        RETURN_IF_ERROR(node_ref(ref, data, i, &child, error));
        if (child.kind != BLOB_NODE) {
            return node_is_damaged(ref, "has an entry that is no node", error);
        }
        if (level == 1) {
            ask_leaves(reach, data, header.count, i, &asked);
        }
        RETURN_IF_ERROR(walk_list(reach, &child, level - 1, error));
    }
    return STATUS_OK;
}

static Status walk_list(Reach *reach, const Ref *ref, int level, Error *error)
{
    ReachedPack *pack = reach_mark(reach, ref);
    if (!node_set_add(&reach->nodes, ref)) {
        return STATUS_OK;
    }
    return tolerate(reach, walk_list_node(reach, ref, level, error), pack, error);
}

Status reach_add(Reach *reach, const ShardScope *scope, const Manifest *manifest, Error *error)
{
    ManifestRoot root;
    RETURN_IF_ERROR(manifest_root(manifest, &root, error));
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(scope);
    blob_opener_read_ahead(opener);
    reach_begin(reach, scope, manifest->id);
    reach->opener = opener;
    map_reader_init(&reach->map, opener, root.map_fan_out);
    Status status = walk_list(reach, &root.ref, root.level, error);
    map_reader_done(&reach->map);
    reach->opener = NULL;
    return status;
}
