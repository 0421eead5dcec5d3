// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: replacement packs, which hold what is still needed of a pack that the
// sweep made smaller. They are numbered; number 0 is the pack itself.
#pragma once

#include "repository/repository_blob.h"

#define REPLACEMENT_HEADER_SIZE 128
#define REPLACEMENT_ENTRY_SIZE 36
#define REPLACEMENT_NUMBER_MAX 255
#define PACK_OBJECT_NAME_SIZE (PACK_NAME_SIZE + 3)

typedef struct ReplacedBlob {
    Ref ref;           // as the maps have it, with its offset in the pack
    uint32_t position; // of its sealed bytes in the replacement
} ReplacedBlob;

// "<epoch>-<pack id>", and for a replacement ".<number>".
bool pack_object_decode(const char *text, PackName *ret_name, uint32_t *ret_number);
void replacement_object_key(const char *shard_id, const PackName *name, uint32_t number,
                            char ret_key[OBJECT_KEY_SIZE]);
// What comes before the blobs: header and sealed index.
size_t replacement_front_size(size_t count);
// Writes it for blobs in order of index, and sets their positions.
void replacement_front_write(const ShardScope *scope, const PackName *name, uint32_t number,
                             ReplacedBlob *blobs, size_t count, uint8_t *data);
// The blobs of a replacement whose front is in memory; ret_blobs is the caller's to free. ret_size
// is the size that the whole object must have.
Status replacement_front_open(const ShardScope *scope, const PackName *name, uint32_t number,
                              const uint8_t *data, size_t size, ReplacedBlob **ret_blobs,
                              size_t *ret_count, size_t *ret_size, Error *error);
// As replacement_front_open, from storage. REASON_NOT_FOUND when there is no such object.
Status replacement_front_read(const ShardScope *scope, const PackName *name, uint32_t number,
                              ReplacedBlob **ret_blobs, size_t *ret_count, size_t *ret_size,
                              Error *error);
// The highest number that a pack has; 0: it has no replacement.
Status replacement_find(const ShardScope *scope, const PackName *name, uint32_t *ret_number,
                        Error *error);
