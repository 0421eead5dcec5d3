// SPDX-License-Identifier: Apache-2.0
// The codecs of format version 1: ids, names, refs, nodes and list entries.
#include "repository/repository_format.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void put_u32(uint8_t *target, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        target[i] = (uint8_t)(value >> (8 * i));
    }
}

void put_u64(uint8_t *target, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        target[i] = (uint8_t)(value >> (8 * i));
    }
}

uint32_t get_u32(const uint8_t *source)
{
    uint32_t value = 0;
    for (int i = 3; i >= 0; i--) {
        value = value << 8 | source[i];
    }
    return value;
}

uint64_t get_u64(const uint8_t *source)
{
    return (uint64_t)get_u32(source + 4) << 32 | get_u32(source);
}

void id_decode(const char *text, uint8_t ret_id[ID_SIZE])
{
    assert(uuid_is_valid(text));
    char digits[2 * ID_SIZE + 1];
    size_t count = 0;
    for (const char *next = text; *next != '\0'; next++) {
        if (*next != '-') {
            digits[count++] = *next;
        }
    }
    digits[count] = '\0';
    bool is_hex = hex_decode(digits, ret_id, ID_SIZE);
    assert(is_hex);
}

void id_encode(const uint8_t id[ID_SIZE], char ret_text[UUID_TEXT_SIZE])
{
    static const size_t sizes[] = {4, 2, 2, 2, 6}; // of the groups, in bytes
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        hex_encode(id, sizes[i], ret_text);
        id += sizes[i];
        ret_text += 2 * sizes[i];
        *ret_text++ = i + 1 < ARRAY_COUNT(sizes) ? '-' : '\0';
    }
}

Status id_check(const char *text, const char *what, Error *error)
{
    if (!uuid_is_valid(text)) {
        return error_set(error, REASON_INVALID, "'%.64s' is not the id of a %s", text, what);
    }
    return STATUS_OK;
}

void id_random(uint8_t ret_id[ID_SIZE])
{
    crypto_random(ret_id, ID_SIZE);
    ret_id[6] = (uint8_t)((ret_id[6] & 0x0f) | 0x40);
    ret_id[8] = (uint8_t)((ret_id[8] & 0x3f) | 0x80);
}

void pack_name_encode(const PackName *name, char ret_text[PACK_NAME_SIZE])
{
    const uint8_t epoch[] = {(uint8_t)(name->epoch >> 24), (uint8_t)(name->epoch >> 16),
                             (uint8_t)(name->epoch >> 8), (uint8_t)name->epoch};
    hex_encode(epoch, sizeof(epoch), ret_text);
    ret_text[8] = '-';
    id_encode(name->id, ret_text + 9);
}

bool pack_name_decode(const char *text, PackName *ret_name)
{
    uint8_t epoch[4];
    char digits[9];
    if (strnlen(text, PACK_NAME_SIZE) != PACK_NAME_SIZE - 1 || text[8] != '-' ||
        !uuid_is_valid(text + 9)) {
        return false;
    }
    memcpy(digits, text, 8);
    digits[8] = '\0';
    if (!hex_decode(digits, epoch, sizeof(epoch))) {
        return false;
    }
    ret_name->epoch =
        (uint32_t)epoch[0] << 24 | (uint32_t)epoch[1] << 16 | (uint32_t)epoch[2] << 8 | epoch[3];
    id_decode(text + 9, ret_name->id);
    // Only the one spelling that pack_name_encode makes names an object.
    char again[PACK_NAME_SIZE];
    pack_name_encode(ret_name, again);
    return strcmp(again, text) == 0;
}

bool pack_name_equal(const PackName *a, const PackName *b)
{
    return a->epoch == b->epoch && memcmp(a->id, b->id, ID_SIZE) == 0;
}

void ref_encode(const Ref *ref, uint8_t ret_data[REF_SIZE])
{
    memset(ret_data, 0, REF_SIZE);
    memcpy(ret_data, ref->hash, HASH_SIZE);
    memcpy(ret_data + 16, ref->pack.id, ID_SIZE);
    put_u32(ret_data + 32, ref->pack.epoch);
    put_u32(ret_data + 36, ref->index);
    put_u32(ret_data + 40, ref->offset);
    put_u32(ret_data + 44, ref->stored_size);
    put_u32(ret_data + 48, ref->plain_size);
    ret_data[52] = (uint8_t)ref->kind;
    ret_data[53] = (uint8_t)ref->encoding;
}

bool memory_is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

bool ref_decode(const uint8_t data[REF_SIZE], Ref *ret_ref)
{
    Ref ref = {0};
    if (memory_is_zero(data, REF_SIZE)) {
        *ret_ref = ref;
        return true;
    }
    memcpy(ref.hash, data, HASH_SIZE);
    memcpy(ref.pack.id, data + 16, ID_SIZE);
    ref.pack.epoch = get_u32(data + 32);
    ref.index = get_u32(data + 36);
    ref.offset = get_u32(data + 40);
    ref.stored_size = get_u32(data + 44);
    ref.plain_size = get_u32(data + 48);
    if ((data[52] != BLOB_EXTENT && data[52] != BLOB_NODE) || data[53] > ENCODING_ZSTD ||
        data[54] != 0 || data[55] != 0) {
        return false;
    }
    ref.kind = (BlobKind)data[52];
    ref.encoding = (Encoding)data[53];
    size_t plain_size_max = ref.kind == BLOB_EXTENT ? EXTENT_SIZE : BLOB_SIZE_MAX;
    if (ref.plain_size == 0 || ref.plain_size > plain_size_max || ref.stored_size <= GCM_TAG_SIZE ||
        ref.stored_size > ref.plain_size + GCM_TAG_SIZE ||
        (ref.encoding == ENCODING_RAW && ref.stored_size != ref.plain_size + GCM_TAG_SIZE) ||
        ref.index >= PACK_BLOB_COUNT_MAX || ref.offset < PACK_HEADER_SIZE ||
        (size_t)ref.offset + ref.stored_size > PACK_SIZE_MAX) {
        return false;
    }
    *ret_ref = ref;
    return true;
}

bool ref_has_hash(const Ref *a, const Ref *b)
{
    return a->kind == b->kind && memcmp(a->hash, b->hash, HASH_SIZE) == 0;
}

int ref_compare_places(const void *a, const void *b)
{
    const Ref *left = *(const Ref *const *)a;
    const Ref *right = *(const Ref *const *)b;
    int order = memcmp(left->pack.id, right->pack.id, ID_SIZE);
    return order != 0 ? order : (left->offset > right->offset) - (left->offset < right->offset);
}

void node_header_encode(NodeType type, int level, size_t count, uint8_t ret_data[NODE_HEADER_SIZE])
{
    memset(ret_data, 0, NODE_HEADER_SIZE);
    ret_data[0] = (uint8_t)type;
    ret_data[1] = (uint8_t)level;
    ret_data[2] = (uint8_t)count;
    ret_data[3] = (uint8_t)(count >> 8);
}

bool node_header_decode(const uint8_t *data, size_t size, NodeHeader *ret_header)
{
    if (size < NODE_HEADER_SIZE || get_u32(data + 4) != 0) {
        return false;
    }
    NodeHeader header = {.level = data[1], .count = (size_t)(data[2] | data[3] << 8)};
    if (header.count > MAX(MAP_FAN_OUT_MAX, LIST_COUNT_MAX)) {
        return false;
    }
    size_t refs_size = NODE_HEADER_SIZE + header.count * REF_SIZE;
    switch (data[0]) {
    case NODE_MAP:
        header.type = NODE_MAP;
        if (header.level < 1 || header.level > MAP_LEVEL_MAX || header.count == 0 ||
            size != refs_size) {
            return false;
        }
        break;
    case NODE_LIST_INDEX:
        header.type = NODE_LIST_INDEX;
        if (header.level < 1 || header.level > LIST_LEVEL_MAX || header.count == 0 ||
            size != refs_size) {
            return false;
        }
        break;
    case NODE_LIST_LEAF:
        header.type = NODE_LIST_LEAF;
        if (header.level != 0) {
            return false;
        }
        break;
    default:
        return false;
    }
    *ret_header = header;
    return true;
}

void list_entry_encode(const ListEntry *entry, Buffer *buffer)
{
    uint8_t data[LIST_ENTRY_HEAD_SIZE + REF_SIZE] = {0};
    size_t path_size = strlen(entry->path);
    assert(path_size <= LIST_PATH_SIZE_MAX);
    data[0] = (uint8_t)path_size;
    data[1] = (uint8_t)(path_size >> 8);
    data[2] = (uint8_t)entry->kind;
    data[3] = (uint8_t)entry->depth;
    put_u32(data + 4, entry->mode);
    put_u64(data + 8, (uint64_t)entry->size_bytes);
    put_u64(data + 16, (uint64_t)entry->data_bytes);
    ref_encode(&entry->root, data + LIST_ENTRY_HEAD_SIZE);
    buffer_append(buffer, data, entry->kind == ENTRY_FILE ? sizeof(data) : LIST_ENTRY_HEAD_SIZE);
    buffer_append(buffer, entry->path, path_size);
}

// What must hold between the parts of an entry.
static bool list_entry_is_valid(int map_fan_out, const ListEntry *entry, size_t path_size)
{
    if (strlen(entry->path) != path_size || !list_path_is_valid(entry->path) ||
        (entry->mode & ~0777U) != 0) {
        return false;
    }
    if (entry->kind == ENTRY_DIRECTORY) {
        return entry->depth == 0 && entry->size_bytes == 0 && entry->data_bytes == 0;
    }
    if (entry->size_bytes < 0 || entry->size_bytes > FILE_SIZE_MAX || entry->data_bytes < 0 ||
        entry->data_bytes > entry->size_bytes ||
        (entry->data_bytes == 0) != (entry->root.kind == BLOB_ZERO)) {
        return false;
    }
    int64_t extent_count = extent_count_of(entry->size_bytes);
    if (entry->depth != map_depth(map_fan_out, extent_count) ||
        (extent_count == 0 && entry->root.kind != BLOB_ZERO)) {
        return false;
    }
    if (entry->root.kind == BLOB_ZERO) {
        return true;
    }
    return entry->depth == 0 ? entry->root.kind == BLOB_EXTENT &&
                                   (int64_t)entry->root.plain_size == entry->size_bytes
                             : entry->root.kind == BLOB_NODE;
}

bool list_entry_decode(int map_fan_out, const uint8_t *data, size_t size, size_t *offset,
                       ListEntry *ret_entry)
{
    const uint8_t *next = data + *offset;
    size_t left = size - *offset;
    if (left < LIST_ENTRY_HEAD_SIZE || (next[2] != ENTRY_FILE && next[2] != ENTRY_DIRECTORY)) {
        return false;
    }
    size_t path_size = (size_t)(next[0] | next[1] << 8);
    ret_entry->kind = (EntryKind)next[2];
    ret_entry->depth = next[3];
    ret_entry->mode = get_u32(next + 4);
    uint64_t size_bytes = get_u64(next + 8);
    uint64_t data_bytes = get_u64(next + 16);
    size_t head_size = LIST_ENTRY_HEAD_SIZE + (ret_entry->kind == ENTRY_FILE ? REF_SIZE : 0);
    if (path_size > LIST_PATH_SIZE_MAX || left < head_size + path_size ||
        size_bytes > (uint64_t)FILE_SIZE_MAX || data_bytes > size_bytes) {
        return false;
    }
    ret_entry->size_bytes = (int64_t)size_bytes;
    ret_entry->data_bytes = (int64_t)data_bytes;
    ret_entry->root = (Ref){0};
    if (ret_entry->kind == ENTRY_FILE &&
        !ref_decode(next + LIST_ENTRY_HEAD_SIZE, &ret_entry->root)) {
        return false;
    }
    memcpy(ret_entry->path, next + head_size, path_size);
    ret_entry->path[path_size] = '\0';
    *offset += head_size + path_size;
    return list_entry_is_valid(map_fan_out, ret_entry, path_size);
}

bool list_path_is_valid(const char *path)
{
    size_t size = strnlen(path, LIST_PATH_SIZE_MAX + 1);
    if (size == 0 || size > LIST_PATH_SIZE_MAX) {
        return false;
    }
    size_t start = 0;
    for (size_t i = 0; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        size_t length = i - start;
        if (length == 0 || length > 255 || (length == 1 && path[start] == '.') ||
            (length == 2 && path[start] == '.' && path[start + 1] == '.')) {
            return false;
        }
        start = i + 1;
    }
    return true;
}

int64_t extent_count_of(int64_t size_bytes)
{
    assert(size_bytes >= 0);
    return (size_bytes + (int64_t)EXTENT_SIZE - 1) / (int64_t)EXTENT_SIZE;
}

bool map_fan_out_is_known(int64_t fan_out)
{
    return fan_out == MAP_FAN_OUT || fan_out == MAP_FAN_OUT_MAX;
}

size_t map_node_size(int64_t ref_count)
{
    return NODE_HEADER_SIZE + (size_t)ref_count * REF_SIZE;
}

int64_t map_width(int fan_out, int64_t extent_count, int level)
{
    for (int i = 0; i < level; i++) {
        extent_count = (extent_count + fan_out - 1) / fan_out;
    }
    return extent_count;
}

int64_t map_span(int fan_out, int level)
{
    int64_t span = 1;
    for (int i = 0; i < level; i++) {
        span *= fan_out;
    }
    return span;
}

int map_depth(int fan_out, int64_t extent_count)
{
    int depth = 0;
    while (map_width(fan_out, extent_count, depth) > 1) {
        depth++;
    }
    assert(depth <= MAP_LEVEL_MAX);
    return depth;
}
