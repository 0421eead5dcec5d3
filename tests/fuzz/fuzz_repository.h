// SPDX-License-Identifier: Apache-2.0
// One repository in memory for the targets that read its objects. Made at the first input, kept to
// the end.
#pragma once

#include "repository/repository_blob.h"

#define FUZZ_DATABASE_ID "0197a000-0000-7000-8000-00000000000d"
#define FUZZ_SHARD_ID "0197a000-0000-7000-8000-0000000000a1"
#define FUZZ_OBJECT_ID "0197a000-0000-7000-8000-0000000000b1" // of a pack, manifest or set
#define FUZZ_MANIFEST_ID "00000001-" FUZZ_OBJECT_ID

typedef struct FuzzRepository {
    Storage *storage;
    Repository *repository;
    DataKey key;
    ShardScope scope;
    PackName pack; // FUZZ_MANIFEST_ID
} FuzzRepository;

FuzzRepository *fuzz_repository(void);
// Replaces an object.
void fuzz_object_put(const FuzzRepository *fuzz, const char *key, const void *data, size_t size);
