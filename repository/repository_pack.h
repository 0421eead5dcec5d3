// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: sealing blobs into packs, and reading a pack's own index.
#pragma once

#include "repository/repository_blob.h"

// Writes packs one after another. Full packs are committed by a thread of its own, so that the
// disk's sync does not stop the caller. One thread at a time.
typedef struct PackWriter PackWriter;
PackWriter *pack_writer_new(const ShardScope *scope, uint32_t epoch); // borrows scope
void pack_writer_free(PackWriter *writer);                            // aborts what is not finished
void pack_writer_freep(PackWriter **writer);
// Seals `content` (encoded as ref->encoding says). In: hash, kind, encoding, plain_size; out: the
// rest of ref.
Status pack_writer_add(PackWriter *writer, Ref *ref, const uint8_t *content, size_t size,
                       Error *error);
// Every pack is durable on OK.
Status pack_writer_finish(PackWriter *writer, int64_t *ret_stored_bytes, Error *error);

void pack_header_encode(const ShardScope *scope, const PackName *name,
                        uint8_t ret_data[PACK_HEADER_SIZE]);
// The blobs of a whole pack in memory, from its sealed index. `ret_refs` has room for
// PACK_BLOB_COUNT_MAX.
Status pack_index_open(const ShardScope *scope, const PackName *name, const uint8_t *data,
                       size_t size, Ref *ret_refs, size_t *ret_count, Error *error);
