// SPDX-License-Identifier: Apache-2.0
// Sealed JSON documents: header (112 bytes, the associated data) and ciphertext.
#include "repository/repository_document.h"

#include "common/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#define DOCUMENT_HEADER_SIZE 112
#define DOCUMENT_NONCE_OFFSET 96
#define DOCUMENT_SIZE_OFFSET 108
#define DOCUMENT_COMPRESSION_LEVEL 6

Status document_is_damaged(const char *object, const char *what, Error *error)
{
    error_set(error, REASON_OBJECT_CORRUPT, "object '%s' %s", object, what);
    return error_hint(error, "bring the object back from a copy of the repository");
}

static void derive(const DocumentHeader *header, const Secret *data_key,
                   uint8_t ret_key[AES256_KEY_SIZE])
{
    char id[MANIFEST_ID_SIZE];
    snprintf(id, sizeof(id), "%08x-%s", header->epoch, header->id);
    bool is_set = header->shard_id[0] == '\0';
    const char *parts[] = {header->repository_id, is_set ? header->database_id : header->shard_id,
                           is_set ? header->id : id, NULL};
    key_derive(data_key, is_set ? "set" : "manifest", parts, ret_key);
}

Status document_seal(const DocumentHeader *header, const Secret *data_key, const Json *json,
                     size_t size_max, Buffer *buffer, Error *error)
{
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, size_max);
    if (!json_write(json, false, &text)) {
        return error_set(error, REASON_EXHAUSTED, "a description has more than %zu bytes",
                         size_max);
    }
    size_t capacity = ZSTD_compressBound(text.size);
    CLEANUP_FREE uint8_t *packed = mem_alloc(capacity);
    size_t packed_size =
        ZSTD_compress(packed, capacity, text.data, text.size, DOCUMENT_COMPRESSION_LEVEL);
    assert(!ZSTD_isError(packed_size));
    uint8_t head[DOCUMENT_HEADER_SIZE] = {0};
    memcpy(head, header->magic, 8);
    put_u32(head + 8, REPOSITORY_FORMAT_VERSION);
    put_u32(head + 12, header->epoch);
    id_decode(header->id, head + 16);
    id_decode(header->repository_id, head + 32);
    id_decode(header->database_id, head + 48);
    if (header->shard_id[0] != '\0') {
        id_decode(header->shard_id, head + 64);
    }
    id_decode(header->key_id, head + 80);
    crypto_random(head + DOCUMENT_NONCE_OFFSET, GCM_NONCE_SIZE);
    put_u32(head + DOCUMENT_SIZE_OFFSET, (uint32_t)text.size);
    uint8_t key[AES256_KEY_SIZE];
    derive(header, data_key, key);
    CLEANUP_FREE uint8_t *sealed = mem_alloc(packed_size + GCM_TAG_SIZE);
    crypto_seal(key, head + DOCUMENT_NONCE_OFFSET, head, sizeof(head), packed, packed_size, sealed);
    explicit_bzero(key, sizeof(key));
    buffer_append(buffer, head, sizeof(head));
    buffer_append(buffer, sealed, packed_size + GCM_TAG_SIZE);
    if (buffer->is_overflowed) {
        return error_set(error, REASON_EXHAUSTED, "a description has more than %zu bytes",
                         size_max);
    }
    return STATUS_OK;
}

Status document_header_decode(const char *object, const char *magic, const uint8_t *data,
                              size_t size, DocumentHeader *ret_header, Error *error)
{
    if (size < DOCUMENT_HEADER_SIZE + GCM_TAG_SIZE || memcmp(data, magic, 8) != 0) {
        return document_is_damaged(object, "is cut off or not what its name says", error);
    }
    if (get_u32(data + 8) != REPOSITORY_FORMAT_VERSION) {
        return error_set(error, REASON_REPOSITORY_FORMAT, "object '%s' has format version %u",
                         object, get_u32(data + 8));
    }
    DocumentHeader header = {.magic = magic, .epoch = get_u32(data + 12)};
    id_encode(data + 16, header.id);
    id_encode(data + 32, header.repository_id);
    id_encode(data + 48, header.database_id);
    if (!memory_is_zero(data + 64, ID_SIZE)) {
        id_encode(data + 64, header.shard_id);
    }
    id_encode(data + 80, header.key_id);
    *ret_header = header;
    return STATUS_OK;
}

Status document_open(const char *object, const DocumentHeader *header, const Secret *data_key,
                     const uint8_t *data, size_t size, size_t size_max, Json **ret_json,
                     Error *error)
{
    assert(size >= DOCUMENT_HEADER_SIZE + GCM_TAG_SIZE);
    size_t plain_size = get_u32(data + DOCUMENT_SIZE_OFFSET);
    if (plain_size == 0 || plain_size > size_max) {
        return document_is_damaged(object, "says an impossible size", error);
    }
    uint8_t key[AES256_KEY_SIZE];
    derive(header, data_key, key);
    size_t sealed_size = size - DOCUMENT_HEADER_SIZE;
    CLEANUP_FREE uint8_t *packed = mem_alloc(sealed_size);
    bool is_open = crypto_open(key, data + DOCUMENT_NONCE_OFFSET, data, DOCUMENT_HEADER_SIZE,
                               data + DOCUMENT_HEADER_SIZE, sealed_size, packed);
    explicit_bzero(key, sizeof(key));
    if (!is_open) {
        return document_is_damaged(object, "is not what was written", error);
    }
    CLEANUP_FREE char *text = mem_alloc(plain_size + 1);
    if (!zstd_inflate_exactly(packed, sealed_size - GCM_TAG_SIZE, (uint8_t *)text, plain_size)) {
        return document_is_damaged(object, "cannot be decompressed", error);
    }
    if (json_parse(text, plain_size, ret_json, error) != STATUS_OK) {
        return document_is_damaged(object, "does not hold valid JSON", error);
    }
    return STATUS_OK;
}
