// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the files of a backup, to be published into another repository straight
// from where they are stored. Every byte that is read is authenticated.
#pragma once

#include "repository/repository_source.h"

typedef struct CopyOrigin CopyOrigin;

typedef struct CopyOriginOptions {
    const Manifest *manifest;
    // What `manifest` is compared with, so that only what differs is read; of the same shard and
    // data key. NULL: everything is.
    const Manifest *parent;
    Limits *limits;    // not NULL; outlives the origin
    Progress progress; // is asked whether to go on
} CopyOriginOptions;

// Lists the files, and compares maps. Memory: some 200 bytes for a file, and a bit for each extent
// of a file that differs.
Status copy_origin_new(const Repository *repository, const DataKey *key,
                       const CopyOriginOptions *options, CopyOrigin **ret_origin, Error *error);
void copy_origin_free(CopyOrigin *origin); // NULL is fine
void copy_origin_freep(CopyOrigin **origin);
// Sets what is published and where it is; borrowed from the origin.
void copy_origin_describe(const CopyOrigin *origin, PublishOptions *options);
int64_t copy_origin_read_bytes(const CopyOrigin *origin); // of extents, as stored
