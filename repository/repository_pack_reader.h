// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reading sealed blobs from where they are now, in their pack or in its
// replacement.
#pragma once

#include "repository/repository_blob.h"

// One thread at a time. Memory: the places of 8 replacements, at most 1.5 MiB.
typedef struct PackReader PackReader;
PackReader *pack_reader_new(const ShardScope *scope); // borrows scope
void pack_reader_free(PackReader *reader);            // NULL is fine
// As blob_fetch.
Status pack_reader_read(PackReader *reader, const PackName *pack, BlobPlace *places, size_t count,
                        uint8_t *data, size_t size_max, size_t *ret_size, Error *error);
