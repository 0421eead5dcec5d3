// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: sealing blobs into packs, and reading a pack's own index.
#pragma once

#include "repository/repository_blob.h"
#include "repository/repository_limits.h"

// Gathers blobs of any number of threads in one pack at a time (and nodes, when there are many, in
// another), in memory; full packs are stored by threads of its own, several at once. Thread-safe.
typedef struct PackWriter PackWriter;
typedef struct PackWriterOptions {
    uint32_t epoch;
    int pack_count;     // in memory at once, each PACK_SIZE_MAX; 2 or more
    int uploader_count; // how many are stored at once
    Limits *limits;     // borrowed
} PackWriterOptions;
// Borrows scope.
Status pack_writer_new(const ShardScope *scope, const PackWriterOptions *options,
                       PackWriter **ret_writer, Error *error);
void pack_writer_free(PackWriter *writer); // what is not stored is dropped; NULL is fine
void pack_writer_freep(PackWriter **writer);

// What one thread needs to seal. One thread at a time.
typedef struct PackSealer PackSealer;
PackSealer *pack_sealer_new(const ShardScope *scope); // borrows scope
void pack_sealer_free(PackSealer *sealer);            // NULL is fine

// `content` is encoded as ref->encoding says. Of ref, in: hash, kind, encoding, plain_size; out:
// the rest.
typedef struct PackBlob {
    Ref *ref;
    const uint8_t *content;
    size_t size;
} PackBlob;
// Seals blobs of one kind, one after the other in as few packs as they fit in. Waits while all
// packs are full and being stored; fails with the first failure of storing one.
Status pack_writer_add(PackWriter *writer, PackSealer *sealer, const PackBlob *blobs, size_t count,
                       Error *error);
// When all threads have added what they have: every pack is durable on OK.
Status pack_writer_finish(PackWriter *writer, int64_t *ret_stored_bytes, Error *error);
// From now on every call of any thread fails; nobody waits any more.
void pack_writer_stop(PackWriter *writer);

void pack_header_encode(const ShardScope *scope, const PackName *name,
                        uint8_t ret_data[PACK_HEADER_SIZE]);
// The blobs of a whole pack in memory, from its sealed index. `ret_refs` has room for
// PACK_BLOB_COUNT_MAX.
Status pack_index_open(const ShardScope *scope, const PackName *name, const uint8_t *data,
                       size_t size, Ref *ret_refs, size_t *ret_count, Error *error);
// The same from the end of a pack of object_size bytes: `tail` is its last tail_size bytes, at
// least pack_tail_size of its trailer.
Status pack_tail_open(const ShardScope *scope, const PackName *name, size_t object_size,
                      const uint8_t *tail, size_t tail_size, Ref *ret_refs, size_t *ret_count,
                      Error *error);
// Index and trailer, as the last PACK_TRAILER_SIZE bytes say; 0: this is no trailer.
size_t pack_tail_size(const uint8_t trailer[PACK_TRAILER_SIZE]);
