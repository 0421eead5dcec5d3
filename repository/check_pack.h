// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reads one pack, or one replacement of it, and compares it with what the
// maps say of it.
#pragma once

#include "repository/repository_limits.h"
#include "repository/repository_reach.h"

// What one thread needs to check packs. One thread at a time.
typedef struct PackChecker PackChecker;
#define PACK_CHECKER_SIZE ((size_t)20 * 1024 * 1024) // memory of one
PackChecker *pack_checker_new(void);
void pack_checker_free(PackChecker *checker);

typedef struct PackCheck {
    char key[OBJECT_KEY_SIZE]; // of the object
    int64_t size_bytes;
    const ReachedPack *pack;
    uint32_t number; // of the replacement; 0: the pack itself
} PackCheck;
// Counts the reached extents of the object. `limits` may be NULL; once *is_stopping, it fails.
Status pack_check(PackChecker *checker, Storage *storage, const PackCheck *check, Limits *limits,
                  const atomic_bool *is_stopping, int64_t *ret_extent_count, Error *error);
