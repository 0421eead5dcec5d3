// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: keys of a shard, and reading one sealed blob.
#pragma once

#include "repository/repository_ahead.h"
#include "repository/repository_format.h"

#define OBJECT_KEY_SIZE 160 // the longest key of ours, and the NUL

typedef struct KeyCache KeyCache;

struct Repository {
    Storage *storage;
    KeyWrapper *wrapper; // NULL: this process is handed data keys
    KeyCache *keys;
    char id[UUID_TEXT_SIZE];
};

// What every operation on one shard needs. Immutable after init, so threads share it.
struct ShardScope {
    Storage *storage;
    char repository_id[UUID_TEXT_SIZE], database_id[UUID_TEXT_SIZE], shard_id[UUID_TEXT_SIZE],
        key_id[UUID_TEXT_SIZE];
    Secret data_key;
    NodeCache *node_cache; // or NULL
    uint8_t extent_hash_key[AES256_KEY_SIZE], node_hash_key[SHA256_SIZE];
    char blob_names[ASSOCIATED_SIZE_MAX]; // what every blob's seal is bound to
};

Status scope_init(ShardScope *scope, const Repository *repository, const DataKey *key,
                  const char *database_id, const char *shard_id, Error *error);
void scope_done(ShardScope *scope);
// Hashes tell equal extents and nodes apart from others and find a writer's mistakes; the seals
// tell genuine from forged. A hash must never be seen outside of a seal
// (docs/decisions/0020-extents-have-a-universal-hash.md).
GcmKey *extent_hasher_new(const ShardScope *scope); // one thread at a time; gcm_key_free ends it
void extent_hash(GcmKey *hasher, const uint8_t *data, size_t size, uint8_t ret_hash[HASH_SIZE]);
void node_hash(const ShardScope *scope, const uint8_t *data, size_t size,
               uint8_t ret_hash[HASH_SIZE]);

// HKDF of a key under "holdfast/1/<label>" and the parts, each after a newline. `parts` ends with
// NULL.
void key_derive(const Secret *key, const char *label, const char *const *parts,
                uint8_t ret_key[AES256_KEY_SIZE]);

void pack_object_key(const char *shard_id, const PackName *name, char ret_key[OBJECT_KEY_SIZE]);
void pack_key_derive(const ShardScope *scope, const PackName *name,
                     uint8_t ret_key[AES256_KEY_SIZE]);
void blob_nonce(uint32_t index, uint8_t ret_nonce[GCM_NONCE_SIZE]);
size_t blob_associated(const ShardScope *scope, const Ref *ref,
                       uint8_t ret_data[ASSOCIATED_SIZE_MAX]);

// Opens blobs; one thread at a time.
typedef struct BlobOpener BlobOpener;
BlobOpener *blob_opener_new(const ShardScope *scope); // borrows scope
void blob_opener_free(BlobOpener *opener);
void blob_opener_freep(BlobOpener **opener);
// From now on blob_read takes what blob_ask has wished for, and that is read by other threads.
void blob_opener_read_ahead(BlobOpener *opener);
bool blob_may_ask(BlobOpener *opener, AheadQueue queue); // it has room
// Nothing without reading ahead.
void blob_ask(BlobOpener *opener, AheadQueue queue, const Ref *refs, size_t count);
// `plain` has room for ref->plain_size. REASON_OBJECT_CORRUPT naming the pack. With check_hash the
// content must also be what its name says, which finds mistakes of a writer; forgery is found
// without.
Status blob_open(BlobOpener *opener, const Ref *ref, const uint8_t *sealed, bool check_hash,
                 uint8_t *plain, Error *error);
// A sealed blob's place in a pack.
typedef struct BlobPlace {
    uint32_t index, offset, stored_size;
} BlobPlace;
BlobPlace blob_place(const Ref *ref);
// Whether one read of at most size_max should fetch `next` along with what lies from `first` to
// `last`: it lies behind, in the same pack, and close by.
bool blob_is_close(const Ref *first, const Ref *last, const Ref *next, size_t size_max);
// Fetches sealed blobs of one pack with one read, also from a pack that a sweep has replaced. In:
// places in the pack, in ascending order; out: offsets in `data`. A missing pack is
// REASON_OBJECT_MISSING.
Status blob_fetch(BlobOpener *opener, const PackName *pack, BlobPlace *places, size_t count,
                  uint8_t *data, size_t size_max, size_t *ret_size, Error *error);
// Fetches and opens one blob, with its hash checked. A missing pack is REASON_OBJECT_MISSING.
Status blob_read(BlobOpener *opener, const Ref *ref, uint8_t *plain, Error *error);
// Nodes that lie close together in one pack, to be fetched with one read: the nodes of a map are
// small, and are written side by side, or with the few extents between them that a small backup
// has.
#define BLOB_RUN_COUNT_MAX 64
#define BLOB_RUN_SIZE_MAX ((size_t)256 * 1024)
typedef struct BlobRun {
    size_t count;
    const Ref *refs[BLOB_RUN_COUNT_MAX]; // borrowed
    uint8_t *plains[BLOB_RUN_COUNT_MAX]; // each has room for what its ref names
    Error *errors[BLOB_RUN_COUNT_MAX];   // of each; clear before
} BlobRun;
// False: it lies elsewhere, or the run is full. An empty run takes any node.
bool blob_run_add(BlobRun *run, const Ref *ref, uint8_t *plain, Error *error);
// As blob_read of each; what is wrong with one is told in its error, which several may share.
void blob_run_read(BlobOpener *opener, const BlobRun *run);
// Inflates exactly plain_size bytes; false when there are fewer, more, or it is not zstd.
bool zstd_inflate_exactly(const uint8_t *packed, size_t packed_size, uint8_t *plain,
                          size_t plain_size);

// REASON_OBJECT_MISSING where storage says that an object a ref names is not there.
Status missing_becomes_damage(Status status, Error *error);
