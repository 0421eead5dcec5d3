// SPDX-License-Identifier: Apache-2.0
// Walking a file list and the maps of its files, as a restore does. Input: the list's root, a leaf
// or an index; it is truly sealed into a pack of its own.
#include "common/memory.h"
#include "repository/repository_pack.h"
#include "repository/repository_reader.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"

#include <assert.h>
#include <string.h>

// A pack of this one blob; nobody reads the index that is not there.
static void write_node(const FuzzRepository *fuzz, const char *object, const uint8_t *data,
                       size_t size, Ref *ret_ref)
{
    uint8_t key[AES256_KEY_SIZE];
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    Ref ref = {.kind = BLOB_NODE,
               .encoding = ENCODING_RAW,
               .pack = fuzz->pack,
               .offset = PACK_HEADER_SIZE,
               .stored_size = (uint32_t)(size + GCM_TAG_SIZE),
               .plain_size = (uint32_t)size};
    CLEANUP_FREE uint8_t *pack = mem_alloc(PACK_HEADER_SIZE + ref.stored_size);
    node_hash(&fuzz->scope, data, size, ref.hash);
    pack_header_encode(&fuzz->scope, &fuzz->pack, pack);
    pack_key_derive(&fuzz->scope, &fuzz->pack, key);
    blob_nonce(ref.index, nonce);
    size_t associated_size = blob_associated(&fuzz->scope, &ref, associated);
    crypto_seal(key, nonce, associated, associated_size, data, size, pack + PACK_HEADER_SIZE);
    fuzz_object_put(fuzz, object, pack, PACK_HEADER_SIZE + ref.stored_size);
    *ret_ref = ref;
}

// The first and the last extent, and what is above them.
static void read_map(BlobOpener *opener, int fan_out, const ListEntry *entry)
{
    MapReader reader;
    map_reader_init(&reader, opener, fan_out);
    map_reader_open(&reader, entry);
    for (int level = reader.depth; level >= 0 && reader.extent_count > 0; level--) {
        Error error = {0};
        Ref ref;
        int64_t last = map_width(fan_out, reader.extent_count, level) - 1;
        (void)map_reader_get(&reader, level, 0, &ref, &error);
        (void)map_reader_get(&reader, level, last, &ref, &error);
    }
    map_reader_done(&reader);
}

static void walk(const FuzzRepository *fuzz, const ManifestRoot *root)
{
    Error error = {0};
    char previous[LIST_PATH_SIZE_MAX + 1] = "";
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(&fuzz->scope);
    CLEANUP(list_reader_freep)
    ListReader *reader = list_reader_new(opener, root, NULL, NULL);
    const ListEntry *entry = NULL;
    CLEANUP_FREE uint8_t *plain = mem_alloc(root->ref.plain_size);
    Status status = blob_read(opener, &root->ref, plain, &error);
    assert(status == STATUS_OK); // or nothing would be tested
    while (list_reader_next(reader, &entry, &error) == STATUS_OK && entry != NULL) {
        assert(strcmp(previous, entry->path) < 0);
        memcpy(previous, entry->path, strlen(entry->path) + 1);
        if (entry->kind == ENTRY_FILE) {
            read_map(opener, root->map_fan_out, entry);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > BLOB_SIZE_MAX) {
        return 0;
    }
    const FuzzRepository *fuzz = fuzz_repository();
    char object[OBJECT_KEY_SIZE];
    ManifestRoot root = {.level = data[0] == NODE_LIST_INDEX ? 1 : 0};
    pack_object_key(FUZZ_SHARD_ID, &fuzz->pack, object);
    write_node(fuzz, object, data, size, &root.ref);
    root.map_fan_out = MAP_FAN_OUT;
    walk(fuzz, &root);
    root.map_fan_out = MAP_FAN_OUT_MAX;
    walk(fuzz, &root);
    return 0;
}
