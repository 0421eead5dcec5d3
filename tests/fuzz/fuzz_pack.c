// SPDX-License-Identifier: Apache-2.0
// Packs: the whole object, and its index behind the seal. Input: either of them.
#include "common/memory.h"
#include "repository/repository_pack.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"

#include <assert.h>
#include <string.h>

#define PACK_BYTES_MAX ((size_t)1024 * 1024) // larger ones only cost time

static Ref refs[PACK_BLOB_COUNT_MAX];

static void open_pack(const FuzzRepository *fuzz, const uint8_t *data, size_t size)
{
    Error error = {0};
    size_t count = 0;
    if (pack_index_open(&fuzz->scope, &fuzz->pack, data, size, refs, &count, &error) != STATUS_OK) {
        assert(error.reason == REASON_OBJECT_CORRUPT);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        assert(refs[i].index == i);
        assert((size_t)refs[i].offset + refs[i].stored_size <= size);
    }
}

// As open_pack, from the end alone, as it is read from a store.
static void open_tail(const FuzzRepository *fuzz, const uint8_t *data, size_t size)
{
    Error error = {0};
    size_t count = 0;
    size_t tail_size =
        size < PACK_TRAILER_SIZE ? 0 : pack_tail_size(data + size - PACK_TRAILER_SIZE);
    if (tail_size == 0 || tail_size > size) {
        return;
    }
    // A copy of its own, so that reading before it is seen.
    CLEANUP_FREE uint8_t *tail = mem_alloc(tail_size);
    memcpy(tail, data + size - tail_size, tail_size);
    if (pack_tail_open(&fuzz->scope, &fuzz->pack, size, tail, tail_size, refs, &count, &error) ==
        STATUS_OK) {
        assert(count > 0 && count <= PACK_BLOB_COUNT_MAX);
    }
}

// How many bytes of blobs the index speaks of; 0: too many.
static size_t blob_bytes(const uint8_t *index, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count && total <= PACK_BYTES_MAX; i++) {
        total += get_u32(index + i * PACK_INDEX_ENTRY_SIZE + 8);
    }
    return total <= PACK_BYTES_MAX ? total : 0;
}

// A pack with this index, truly sealed, and zeros for blobs.
static void open_index(const FuzzRepository *fuzz, const uint8_t *index, size_t count)
{
    size_t index_size = count * PACK_INDEX_ENTRY_SIZE;
    size_t index_at = PACK_HEADER_SIZE + blob_bytes(index, count);
    size_t size = index_at + index_size + GCM_TAG_SIZE + PACK_TRAILER_SIZE;
    CLEANUP_FREE uint8_t *pack = mem_alloc(size);
    uint8_t key[AES256_KEY_SIZE];
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    const Ref ref = {.pack = fuzz->pack,
                     .index = PACK_INDEX_NONCE,
                     .plain_size = (uint32_t)index_size,
                     .kind = BLOB_INDEX,
                     .encoding = ENCODING_RAW};
    pack_header_encode(&fuzz->scope, &fuzz->pack, pack);
    pack_key_derive(&fuzz->scope, &fuzz->pack, key);
    blob_nonce(PACK_INDEX_NONCE, nonce);
    size_t associated_size = blob_associated(&fuzz->scope, &ref, associated);
    crypto_seal(key, nonce, associated, associated_size, index, index_size, pack + index_at);
    put_u32(pack + size - PACK_TRAILER_SIZE, (uint32_t)(index_size + GCM_TAG_SIZE));
    put_u32(pack + size - PACK_TRAILER_SIZE + 4, (uint32_t)count);
    memcpy(pack + size - 8, "HFPACKE1", 8);
    open_pack(fuzz, pack, size);
    open_tail(fuzz, pack, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const FuzzRepository *fuzz = fuzz_repository();
    open_pack(fuzz, data, size);
    open_tail(fuzz, data, size);
    size_t count = size / PACK_INDEX_ENTRY_SIZE;
    if (count > 0 && count <= PACK_BLOB_COUNT_MAX) {
        open_index(fuzz, data, count);
    }
    return 0;
}
