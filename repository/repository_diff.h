// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: what two backups of a shard differ in, extent by extent.
#pragma once

#include "repository/repository_blob.h"

typedef struct DiffObserver {
    // Extent `position` of a file of `size_bytes` is not what the older file of its path has there.
    // NULL: nobody asks.
    void (*on_extent)(void *context, int64_t size_bytes, int64_t position);
    // Of every file that is not the same, in order of path and after its extents. Those of files
    // that were added, or that were a directory, are not told.
    void (*on_file)(void *context, const FileDifference *difference); // or NULL
    void *context;
} DiffObserver;

// As repository_diff. The two were sealed with the scope's data key.
Status diff_manifests(const ShardScope *scope, const Manifest *before, const Manifest *after,
                      Progress progress, const DiffObserver *observer, DiffResult *ret_result,
                      Error *error);
