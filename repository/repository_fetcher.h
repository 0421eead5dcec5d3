// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: has extents written to their files. They are gathered in windows and
// sorted by where they are stored, so that every pack is read in long stretches, whatever
// generations the files' extents are of.
#pragma once

#include "repository/repository_limits.h"
#include "repository/repository_reader.h"

typedef struct Fetcher Fetcher;
typedef struct FetchProgress {
    int64_t written_bytes, read_bytes;
} FetchProgress;
// Writes below directory_fd, into files that exist and have their size. Borrows scope and limits.
// memory_bytes is at least REPOSITORY_MEMORY_BYTES_MIN.
Status fetcher_new(const ShardScope *scope, int directory_fd, int64_t memory_bytes, Limits *limits,
                   Fetcher **ret_fetcher, Error *error);
void fetcher_free(Fetcher *fetcher); // NULL is fine

// --- by one thread ---
// The file that the next extents are of.
void fetcher_begin_file(Fetcher *fetcher, const char *path, int64_t size_bytes);
// Has `ref` written at `offset`, soon. Once *ret_must_wait is true, nothing is to be added before
// fetcher_wait says that there is room.
void fetcher_add(Fetcher *fetcher, const Ref *ref, int64_t offset, bool *ret_must_wait);
void fetcher_flush(Fetcher *fetcher); // hands out what is still being gathered
// Waits a short while until another window may be gathered, or with until_idle until nothing is
// under way. Fails with the workers' first failure.
Status fetcher_wait(Fetcher *fetcher, bool until_idle, bool *ret_is_reached, Error *error);
FetchProgress fetcher_progress(Fetcher *fetcher);
