// SPDX-License-Identifier: Apache-2.0
// Key derivation of a shard and opening of its blobs.
#include "repository/repository_blob.h"

#include "common/memory.h"
#include "repository/node_cache.h"
#include "repository/repository_pack_reader.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#define INFO_SIZE_MAX 512
#define READ_GAP_MAX ((size_t)128 * 1024) // reading over so much is cheaper than a second read

struct BlobOpener {
    const ShardScope *scope;
    PackReader *reader;
    Ahead *ahead; // or NULL
    ZSTD_DCtx *context;
    uint8_t *sealed; // a blob as stored
    uint8_t *packed; // a blob without its seal
    GcmKey *hasher;  // of extents
    bool has_pack_key;
    PackName pack; // whose key pack_key is
    GcmKey *pack_key;
};

void key_derive(const Secret *key, const char *label, const char *const *parts,
                uint8_t ret_key[AES256_KEY_SIZE])
{
    CLEANUP(buffer_done) Buffer info = {0};
    buffer_init(&info, INFO_SIZE_MAX);
    buffer_append_format(&info, "holdfast/1/%s", label);
    for (size_t i = 0; parts[i] != NULL; i++) {
        buffer_append_format(&info, "\n%s", parts[i]);
    }
    assert(!info.is_overflowed);
    assert(key->size > 0);
    crypto_hkdf(key->data, key->size, info.data, info.size, ret_key, AES256_KEY_SIZE);
}

Status scope_init(ShardScope *scope, const Repository *repository, const DataKey *key,
                  const char *database_id, const char *shard_id, Error *error)
{
    *scope = (ShardScope){0};
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(id_check(shard_id, "shard", error));
    RETURN_IF_ERROR(id_check(key->id, "data key", error));
    if (key->bytes.size != AES256_KEY_SIZE) {
        return error_set(error, REASON_KEY_WRONG, "data key '%s' does not have %d bytes", key->id,
                         AES256_KEY_SIZE);
    }
    scope->storage = repository->storage;
    snprintf(scope->repository_id, UUID_TEXT_SIZE, "%s", repository->id);
    snprintf(scope->database_id, UUID_TEXT_SIZE, "%s", database_id);
    snprintf(scope->shard_id, UUID_TEXT_SIZE, "%s", shard_id);
    snprintf(scope->key_id, UUID_TEXT_SIZE, "%s", key->id);
    snprintf(scope->blob_names, sizeof(scope->blob_names), "holdfast/1/blob\n%s\n%s\n%s\n",
             scope->repository_id, scope->database_id, scope->shard_id);
    scope->data_key = secret_copy(&key->bytes);
    const char *parts[] = {scope->repository_id, scope->shard_id, NULL};
    key_derive(&scope->data_key, "extent-hash", parts, scope->extent_hash_key);
    key_derive(&scope->data_key, "node-hash", parts, scope->node_hash_key);
    return STATUS_OK;
}

void scope_done(ShardScope *scope)
{
    secret_done(&scope->data_key);
    explicit_bzero(scope->extent_hash_key, SHA256_SIZE);
    explicit_bzero(scope->node_hash_key, SHA256_SIZE);
}

GcmKey *extent_hasher_new(const ShardScope *scope)
{
    GcmKey *hasher = gcm_key_new();
    gcm_key_set(hasher, scope->extent_hash_key);
    return hasher;
}

void extent_hash(GcmKey *hasher, const uint8_t *data, size_t size, uint8_t ret_hash[HASH_SIZE])
{
    static const uint8_t nonce[GCM_NONCE_SIZE] = {0}; // the same always: it is a hash
    gcm_mac(hasher, nonce, data, size, ret_hash);
}

void node_hash(const ShardScope *scope, const uint8_t *data, size_t size,
               uint8_t ret_hash[HASH_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    crypto_hmac_sha256(scope->node_hash_key, SHA256_SIZE, data, size, digest);
    memcpy(ret_hash, digest, HASH_SIZE);
}

void pack_object_key(const char *shard_id, const PackName *name, char ret_key[OBJECT_KEY_SIZE])
{
    char text[PACK_NAME_SIZE];
    pack_name_encode(name, text);
    snprintf(ret_key, OBJECT_KEY_SIZE, "shards/%s/packs/%s", shard_id, text);
}

void pack_key_derive(const ShardScope *scope, const PackName *name,
                     uint8_t ret_key[AES256_KEY_SIZE])
{
    char text[PACK_NAME_SIZE];
    pack_name_encode(name, text);
    const char *parts[] = {scope->repository_id, scope->shard_id, text, NULL};
    key_derive(&scope->data_key, "pack", parts, ret_key);
}

void blob_nonce(uint32_t index, uint8_t ret_nonce[GCM_NONCE_SIZE])
{
    memset(ret_nonce, 0, GCM_NONCE_SIZE);
    put_u32(ret_nonce, index);
}

size_t blob_associated(const ShardScope *scope, const Ref *ref,
                       uint8_t ret_data[ASSOCIATED_SIZE_MAX])
{
    const size_t names_size = strlen(scope->blob_names);
    assert(names_size > 0 && names_size + PACK_NAME_SIZE + 10 <= ASSOCIATED_SIZE_MAX);
    memcpy(ret_data, scope->blob_names, names_size);
    pack_name_encode(&ref->pack, (char *)ret_data + names_size);
    uint8_t *next = ret_data + names_size + PACK_NAME_SIZE;
    next[-1] = '\n'; // where the name's end was
    next[0] = (uint8_t)ref->kind;
    next[1] = (uint8_t)ref->encoding;
    put_u32(next + 2, ref->index);
    put_u32(next + 6, ref->plain_size);
    return names_size + PACK_NAME_SIZE + 10;
}

BlobOpener *blob_opener_new(const ShardScope *scope)
{
    BlobOpener *opener = mem_alloc(sizeof(*opener));
    opener->scope = scope;
    opener->reader = pack_reader_new(scope);
    opener->hasher = extent_hasher_new(scope);
    opener->pack_key = gcm_key_new();
    opener->context = ZSTD_createDCtx();
    assert(opener->context != NULL); // out of memory, as in memory.c
    opener->sealed = mem_alloc(BLOB_SIZE_MAX + GCM_TAG_SIZE);
    opener->packed = mem_alloc(BLOB_SIZE_MAX + GCM_TAG_SIZE);
    return opener;
}

void blob_opener_free(BlobOpener *opener)
{
    if (opener == NULL) {
        return;
    }
    ahead_free(opener->ahead);
    pack_reader_free(opener->reader);
    ZSTD_freeDCtx(opener->context);
    mem_free(opener->sealed);
    mem_free(opener->packed);
    gcm_key_free(opener->hasher);
    gcm_key_free(opener->pack_key);
    mem_free(opener);
}

void blob_opener_freep(BlobOpener **opener)
{
    blob_opener_free(*opener);
    *opener = NULL;
}

void blob_opener_read_ahead(BlobOpener *opener)
{
    assert(opener->ahead == NULL);
    opener->ahead = ahead_new(opener->scope);
}

bool blob_may_ask(BlobOpener *opener, AheadQueue queue)
{
    return opener->ahead != NULL && ahead_has_room(opener->ahead, queue);
}

void blob_ask(BlobOpener *opener, AheadQueue queue, const Ref *refs, size_t count)
{
    if (opener->ahead != NULL) {
        ahead_ask(opener->ahead, queue, refs, count);
    }
}

static Status blob_is_damaged(const BlobOpener *opener, const Ref *ref, const char *what,
                              Error *error)
{
    char key[OBJECT_KEY_SIZE];
    pack_object_key(opener->scope->shard_id, &ref->pack, key);
    error_set(error, REASON_OBJECT_CORRUPT, "blob %u of object '%s' %s", ref->index, key, what);
    return error_hint(error, "bring the object back from a copy of the repository, or restore a "
                             "backup that does not need it; the next seed does not use it");
}

Status blob_open(BlobOpener *opener, const Ref *ref, const uint8_t *sealed, bool check_hash,
                 uint8_t *plain, Error *error)
{
    assert(ref->kind != BLOB_ZERO);
    assert(ref->plain_size <= BLOB_SIZE_MAX);
    if (!opener->has_pack_key || !pack_name_equal(&opener->pack, &ref->pack)) {
        uint8_t key[AES256_KEY_SIZE];
        pack_key_derive(opener->scope, &ref->pack, key);
        gcm_key_set(opener->pack_key, key);
        explicit_bzero(key, sizeof(key));
        opener->pack = ref->pack;
        opener->has_pack_key = true;
    }
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    blob_nonce(ref->index, nonce);
    size_t associated_size = blob_associated(opener->scope, ref, associated);
    bool is_packed = ref->encoding == ENCODING_ZSTD;
    uint8_t *opened = is_packed ? opener->packed : plain;
    if (!gcm_open(opener->pack_key, nonce, associated, associated_size, sealed, ref->stored_size,
                  opened)) {
        return blob_is_damaged(opener, ref, "is not what was written", error);
    }
    if (is_packed && ZSTD_decompressDCtx(opener->context, plain, ref->plain_size, opener->packed,
                                         ref->stored_size - GCM_TAG_SIZE) != ref->plain_size) {
        return blob_is_damaged(opener, ref, "cannot be decompressed", error);
    }
    if (check_hash) {
        uint8_t hash[HASH_SIZE];
        if (ref->kind == BLOB_EXTENT) {
            extent_hash(opener->hasher, plain, ref->plain_size, hash);
        } else {
            node_hash(opener->scope, plain, ref->plain_size, hash);
        }
        if (!crypto_equal(hash, ref->hash, HASH_SIZE)) {
            return blob_is_damaged(opener, ref, "does not have the content it is named for", error);
        }
    }
    return STATUS_OK;
}

Status missing_becomes_damage(Status status, Error *error)
{
    if (status == STATUS_NOT_FOUND) {
        char message[sizeof(error->message)];
        snprintf(message, sizeof(message), "%s", error->message);
        error_set(error, REASON_OBJECT_MISSING, "%s", message);
        return error_hint(error, "bring the object back from a copy of the repository, or restore "
                                 "a backup that does not need it");
    }
    return status;
}

Status blob_fetch(BlobOpener *opener, const PackName *pack, BlobPlace *places, size_t count,
                  uint8_t *data, size_t size_max, size_t *ret_size, Error *error)
{
    return pack_reader_read(opener->reader, pack, places, count, data, size_max, ret_size, error);
}

static bool read_cached(BlobOpener *opener, const Ref *ref, uint8_t *plain)
{
    NodeCache *cache = ref->kind == BLOB_NODE ? opener->scope->node_cache : NULL;
    if (cache == NULL || !node_cache_get(cache, ref, opener->sealed)) {
        return false;
    }
    Error error = {0}; // it is the disk's fault, not the repository's
    return blob_open(opener, ref, opener->sealed, true, plain, &error) == STATUS_OK;
}

static Status open_fetched(BlobOpener *opener, const Ref *ref, const uint8_t *sealed,
                           uint8_t *plain, Error *error)
{
    RETURN_IF_ERROR(blob_open(opener, ref, sealed, true, plain, error));
    if (ref->kind == BLOB_NODE && opener->scope->node_cache != NULL) {
        node_cache_put(opener->scope->node_cache, ref, sealed);
    }
    return STATUS_OK;
}

BlobPlace blob_place(const Ref *ref)
{
    return (BlobPlace){.index = ref->index, .offset = ref->offset, .stored_size = ref->stored_size};
}

bool blob_is_close(const Ref *first, const Ref *last, const Ref *next, size_t size_max)
{
    size_t end = (size_t)last->offset + last->stored_size;
    return pack_name_equal(&first->pack, &next->pack) && next->offset >= end &&
           next->offset - end <= READ_GAP_MAX &&
           (size_t)next->offset + next->stored_size - first->offset <= size_max;
}

static Status read_stored(BlobOpener *opener, const Ref *ref, uint8_t *plain, Error *error)
{
    size_t size = 0;
    BlobPlace place = blob_place(ref);
    RETURN_IF_ERROR(blob_fetch(opener, &ref->pack, &place, 1, opener->sealed,
                               BLOB_SIZE_MAX + GCM_TAG_SIZE, &size, error));
    return open_fetched(opener, ref, opener->sealed, plain, error);
}

Status blob_read(BlobOpener *opener, const Ref *ref, uint8_t *plain, Error *error)
{
    Status status = STATUS_OK;
    if (opener->ahead != NULL && ahead_take(opener->ahead, ref, plain, &status, error)) {
        return status;
    }
    return read_cached(opener, ref, plain) ? STATUS_OK : read_stored(opener, ref, plain, error);
}

bool blob_run_add(BlobRun *run, const Ref *ref, uint8_t *plain, Error *error)
{
    if (run->count == BLOB_RUN_COUNT_MAX ||
        (run->count > 0 &&
         !blob_is_close(run->refs[0], run->refs[run->count - 1], ref, BLOB_RUN_SIZE_MAX))) {
        return false;
    }
    run->refs[run->count] = ref;
    run->plains[run->count] = plain;
    run->errors[run->count++] = error;
    return true;
}

// False: each is to be read alone, so that what is wrong with one is not told of another.
static bool read_together(BlobOpener *opener, const BlobRun *run)
{
    BlobPlace places[BLOB_RUN_COUNT_MAX];
    Error error = {0};
    size_t size = 0;
    for (size_t i = 0; i < run->count; i++) {
        places[i] = blob_place(run->refs[i]);
    }
    bool is_fetched = blob_fetch(opener, &run->refs[0]->pack, places, run->count, opener->sealed,
                                 BLOB_SIZE_MAX + GCM_TAG_SIZE, &size, &error) == STATUS_OK;
    for (size_t i = 0; i < run->count && (is_fetched || error.reason != REASON_OBJECT_CORRUPT);
         i++) {
        if (is_fetched) {
            (void)open_fetched(opener, run->refs[i], opener->sealed + places[i].offset,
                               run->plains[i], run->errors[i]);
        } else {
            *run->errors[i] = error;
        }
    }
    return is_fetched || error.reason != REASON_OBJECT_CORRUPT;
}

void blob_run_read(BlobOpener *opener, const BlobRun *run)
{
    BlobRun rest = {0};
    for (size_t i = 0; i < run->count; i++) {
        if (!read_cached(opener, run->refs[i], run->plains[i])) {
            rest.refs[rest.count] = run->refs[i];
            rest.plains[rest.count] = run->plains[i];
            rest.errors[rest.count++] = run->errors[i];
        }
    }
    if (rest.count > 1 && read_together(opener, &rest)) {
        return;
    }
    for (size_t i = 0; i < rest.count; i++) {
        (void)read_stored(opener, rest.refs[i], rest.plains[i], rest.errors[i]);
    }
}

bool zstd_inflate_exactly(const uint8_t *packed, size_t packed_size, uint8_t *plain,
                          size_t plain_size)
{
    return ZSTD_decompress(plain, plain_size, packed, packed_size) == plain_size;
}
