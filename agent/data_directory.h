// SPDX-License-Identifier: Apache-2.0
// Where an engine's data directory comes from: the seam at which materialising a backup may one day
// become mounting it lazily, fetching extents as the engine touches them.
#pragma once

#include "repository/repository.h"

typedef struct DataDirectoryRequest {
    Repository *repository;
    const DataKey *key;
    const Manifest *manifest;
    const char *directory; // missing or empty
    Limits *limits;        // NULL: none
    int64_t memory_bytes;  // for buffers; 0: the default
    bool is_scratch;       // it goes with the instance: nothing waits for the disk
    NodeCache *node_cache; // for the publish that follows; or NULL
    Progress progress;
} DataDirectoryRequest;

typedef struct DataDirectoryProvider {
    const char *name;
    // On OK the directory holds the backup's files and the engine may write to it.
    Status (*provide)(const DataDirectoryRequest *request, MaterializeResult *ret_result,
                      Error *error);
} DataDirectoryProvider;

extern const DataDirectoryProvider
    data_directory_materialize; // writes every file before the engine starts
