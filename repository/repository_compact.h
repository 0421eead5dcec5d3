// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: making a pack smaller by writing what is reached of it anew.
#pragma once

#include "repository/repository_reach.h"

// Reads whole packs; holds one pack, its replacement (less than half of it) and the list of its
// blobs: at most 27 MiB, whatever the repository has.
typedef struct Compactor Compactor;
Compactor *compactor_new(Storage *storage);
void compactor_free(Compactor *compactor); // NULL is fine
void compactor_freep(Compactor **compactor);
// The size that a replacement of what is reached would have; 0: it would not be below half of
// `size_bytes`, so it is not worth it.
int64_t compacted_size(const ReachedPack *pack, int64_t size_bytes);
// Writes replacement `number + 1` from object `number` and says its size. 0: some of what is
// reached is not in there whole, and nothing was written.
Status compact_pack(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                    int64_t size_bytes, bool is_dry_run, int64_t *ret_size_bytes, Error *error);
// Whether a replacement has everything that is reached.
Status replacement_is_complete(Compactor *compactor, const ReachedPack *pack, uint32_t number,
                               int64_t size_bytes, bool *ret_is_complete, Error *error);
