// SPDX-License-Identifier: Apache-2.0
// Replacement packs: a header, a sealed index and blobs, which are copied as they are sealed. The
// index is in front, so that a reader needs no size of the object. It has a key of its own and a
// random nonce: the pack's key has sealed the pack's own index with the only nonce for one.
#include "repository/repository_replacement.h"

#include "common/memory.h"
#include "repository/repository_pack.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LIST_COUNT 1000
#define NUMBER_AT PACK_HEADER_SIZE
#define COUNT_AT (PACK_HEADER_SIZE + 4)
#define INDEX_SIZE_AT (PACK_HEADER_SIZE + 8)
#define NONCE_AT (PACK_HEADER_SIZE + 16)

static const char REPLACEMENT_MAGIC[] = "HFREPL01";

static void replacement_name(const PackName *name, uint32_t number,
                             char ret_text[PACK_OBJECT_NAME_SIZE])
{
    assert(number <= REPLACEMENT_NUMBER_MAX);
    pack_name_encode(name, ret_text);
    if (number > 0) {
        snprintf(ret_text + PACK_NAME_SIZE - 1, 4, ".%02x", number);
    }
}

bool pack_object_decode(const char *text, PackName *ret_name, uint32_t *ret_number)
{
    char name[PACK_NAME_SIZE];
    char again[PACK_OBJECT_NAME_SIZE];
    uint8_t number = 0;
    size_t size = strnlen(text, PACK_OBJECT_NAME_SIZE);
    snprintf(name, sizeof(name), "%.*s", PACK_NAME_SIZE - 1, text);
    if ((size != PACK_NAME_SIZE - 1 && size != PACK_OBJECT_NAME_SIZE - 1) ||
        !pack_name_decode(name, ret_name)) {
        return false;
    }
    if (size == PACK_OBJECT_NAME_SIZE - 1 && !hex_decode(text + PACK_NAME_SIZE, &number, 1)) {
        return false;
    }
    // Only the one spelling: no ".00" and no capitals.
    *ret_number = number;
    replacement_name(ret_name, number, again);
    return strcmp(again, text) == 0;
}

void replacement_object_key(const char *shard_id, const PackName *name, uint32_t number,
                            char ret_key[OBJECT_KEY_SIZE])
{
    char text[PACK_OBJECT_NAME_SIZE];
    replacement_name(name, number, text);
    snprintf(ret_key, OBJECT_KEY_SIZE, "shards/%s/packs/%s", shard_id, text);
}

static void replacement_key_derive(const ShardScope *scope, const PackName *name, uint32_t number,
                                   uint8_t ret_key[AES256_KEY_SIZE])
{
    char text[PACK_OBJECT_NAME_SIZE];
    replacement_name(name, number, text);
    const char *parts[] = {scope->repository_id, scope->shard_id, text, NULL};
    key_derive(&scope->data_key, "replacement", parts, ret_key);
}

size_t replacement_front_size(size_t count)
{
    return REPLACEMENT_HEADER_SIZE + count * REPLACEMENT_ENTRY_SIZE + GCM_TAG_SIZE;
}

// The header without its nonce.
static void header_encode(const ShardScope *scope, const PackName *name, uint32_t number,
                          size_t count, uint8_t ret_data[REPLACEMENT_HEADER_SIZE])
{
    memset(ret_data, 0, REPLACEMENT_HEADER_SIZE);
    pack_header_encode(scope, name, ret_data);
    memcpy(ret_data, REPLACEMENT_MAGIC, 8);
    put_u32(ret_data + NUMBER_AT, number);
    put_u32(ret_data + COUNT_AT, (uint32_t)count);
    put_u32(ret_data + INDEX_SIZE_AT, (uint32_t)(count * REPLACEMENT_ENTRY_SIZE + GCM_TAG_SIZE));
}

void replacement_front_write(const ShardScope *scope, const PackName *name, uint32_t number,
                             ReplacedBlob *blobs, size_t count, uint8_t *data)
{
    assert(number > 0 && number <= REPLACEMENT_NUMBER_MAX);
    assert(count > 0 && count <= PACK_BLOB_COUNT_MAX);
    size_t index_size = count * REPLACEMENT_ENTRY_SIZE;
    CLEANUP_FREE uint8_t *index = mem_alloc(index_size);
    size_t position = replacement_front_size(count);
    for (size_t i = 0; i < count; i++) {
        const Ref *ref = &blobs[i].ref;
        uint8_t *entry = index + i * REPLACEMENT_ENTRY_SIZE;
        assert(i == 0 || ref->index > blobs[i - 1].ref.index);
        put_u32(entry, ref->index);
        put_u32(entry + 4, ref->offset);
        entry[8] = (uint8_t)ref->kind;
        entry[9] = (uint8_t)ref->encoding;
        put_u32(entry + 12, ref->plain_size);
        put_u32(entry + 16, ref->stored_size);
        memcpy(entry + 20, ref->hash, HASH_SIZE);
        blobs[i].position = (uint32_t)position;
        position += ref->stored_size;
    }
    uint8_t key[AES256_KEY_SIZE];
    header_encode(scope, name, number, count, data);
    crypto_random(data + NONCE_AT, GCM_NONCE_SIZE);
    replacement_key_derive(scope, name, number, key);
    crypto_seal(key, data + NONCE_AT, data, REPLACEMENT_HEADER_SIZE, index, index_size,
                data + REPLACEMENT_HEADER_SIZE);
    explicit_bzero(key, sizeof(key));
}

static Status replacement_is_damaged(const ShardScope *scope, const PackName *name, uint32_t number,
                                     const char *what, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    replacement_object_key(scope->shard_id, name, number, key);
    error_set(error, REASON_OBJECT_CORRUPT, "object '%s' %s", key, what);
    return error_hint(error, "bring the object back from a copy of the repository");
}

// Turns the opened index into blobs; false when it cannot be a replacement's.
static bool decode_index(const PackName *name, const uint8_t *index, size_t count,
                         ReplacedBlob *ret_blobs, size_t *ret_size)
{
    size_t position = replacement_front_size(count);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *entry = index + i * REPLACEMENT_ENTRY_SIZE;
        uint8_t data[REF_SIZE];
        Ref ref = {.pack = *name, .index = get_u32(entry), .offset = get_u32(entry + 4)};
        ref.kind = (BlobKind)entry[8];
        ref.encoding = (Encoding)entry[9];
        ref.plain_size = get_u32(entry + 12);
        ref.stored_size = get_u32(entry + 16);
        memcpy(ref.hash, entry + 20, HASH_SIZE);
        ref_encode(&ref, data);
        if (!ref_decode(data, &ret_blobs[i].ref) ||
            (i > 0 && ref.index <= ret_blobs[i - 1].ref.index)) {
            return false;
        }
        ret_blobs[i].position = (uint32_t)position;
        position += ref.stored_size;
        if (position > PACK_SIZE_MAX) {
            return false;
        }
    }
    *ret_size = position;
    return true;
}

// Finds out how many blobs there are, when the header is this object's.
static Status header_open(const ShardScope *scope, const PackName *name, uint32_t number,
                          const uint8_t data[REPLACEMENT_HEADER_SIZE], size_t *ret_count,
                          Error *error)
{
    uint8_t header[REPLACEMENT_HEADER_SIZE];
    size_t count = get_u32(data + COUNT_AT);
    if (count == 0 || count > PACK_BLOB_COUNT_MAX) {
        return replacement_is_damaged(scope, name, number, "has no valid header", error);
    }
    header_encode(scope, name, number, count, header);
    memcpy(header + NONCE_AT, data + NONCE_AT, GCM_NONCE_SIZE);
    if (memcmp(data, header, REPLACEMENT_HEADER_SIZE) != 0) {
        return replacement_is_damaged(scope, name, number, "belongs to another place", error);
    }
    *ret_count = count;
    return STATUS_OK;
}

Status replacement_front_open(const ShardScope *scope, const PackName *name, uint32_t number,
                              const uint8_t *data, size_t size, ReplacedBlob **ret_blobs,
                              size_t *ret_count, size_t *ret_size, Error *error)
{
    size_t count = 0;
    if (size < REPLACEMENT_HEADER_SIZE) {
        return replacement_is_damaged(scope, name, number, "is cut off", error);
    }
    RETURN_IF_ERROR(header_open(scope, name, number, data, &count, error));
    if (size < replacement_front_size(count)) {
        return replacement_is_damaged(scope, name, number, "is cut off", error);
    }
    uint8_t key[AES256_KEY_SIZE];
    size_t sealed_size = count * REPLACEMENT_ENTRY_SIZE + GCM_TAG_SIZE;
    CLEANUP_FREE uint8_t *index = mem_alloc(sealed_size);
    replacement_key_derive(scope, name, number, key);
    bool is_open = crypto_open(key, data + NONCE_AT, data, REPLACEMENT_HEADER_SIZE,
                               data + REPLACEMENT_HEADER_SIZE, sealed_size, index);
    explicit_bzero(key, sizeof(key));
    if (!is_open) {
        return replacement_is_damaged(scope, name, number,
                                      "has an index that is not what was written", error);
    }
    CLEANUP_FREE ReplacedBlob *blobs = mem_alloc_array(count, sizeof(*blobs));
    if (!decode_index(name, index, count, blobs, ret_size)) {
        return replacement_is_damaged(scope, name, number,
                                      "has an index that does not fit its blobs", error);
    }
    *ret_blobs = TAKE_PTR(blobs);
    *ret_count = count;
    return STATUS_OK;
}

Status replacement_front_read(const ShardScope *scope, const PackName *name, uint32_t number,
                              ReplacedBlob **ret_blobs, size_t *ret_count, size_t *ret_size,
                              Error *error)
{
    char key[OBJECT_KEY_SIZE];
    uint8_t header[REPLACEMENT_HEADER_SIZE];
    size_t count = 0;
    replacement_object_key(scope->shard_id, name, number, key);
    RETURN_IF_ERROR(storage_get_range(scope->storage, key, 0, sizeof(header), header, error));
    RETURN_IF_ERROR(header_open(scope, name, number, header, &count, error));
    size_t size = replacement_front_size(count);
    CLEANUP_FREE uint8_t *front = mem_alloc(size);
    RETURN_IF_ERROR(storage_get_range(scope->storage, key, 0, size, front, error));
    return replacement_front_open(scope, name, number, front, size, ret_blobs, ret_count, ret_size,
                                  error);
}

Status replacement_find(const ShardScope *scope, const PackName *name, uint32_t *ret_number,
                        Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char prefix[OBJECT_KEY_SIZE];
    StoragePage page;
    pack_object_key(scope->shard_id, name, prefix);
    size_t folder_size = strlen(prefix) - (PACK_NAME_SIZE - 1);
    snprintf(prefix + strlen(prefix), 2, ".");
    // There are fewer numbers than a page has objects.
    RETURN_IF_ERROR(storage_list(scope->storage, prefix, NULL, LIST_COUNT, arena, &page, error));
    *ret_number = 0;
    for (size_t i = 0; i < page.count; i++) {
        PackName found;
        uint32_t number = 0;
        if (pack_object_decode(page.objects[i].key + folder_size, &found, &number)) {
            *ret_number = MAX(*ret_number, number);
        }
    }
    return STATUS_OK;
}
