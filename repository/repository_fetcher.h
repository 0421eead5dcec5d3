// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: batches of neighbouring blobs, which worker threads fetch with one read
// each and write to their files.
#pragma once

#include "repository/repository_reader.h"

typedef struct Fetcher Fetcher;
// Writes below directory_fd, into files that exist. Borrows both.
Status fetcher_new(const ShardScope *scope, int directory_fd, int worker_count,
                   Fetcher **ret_fetcher, Error *error);
void fetcher_free(Fetcher *fetcher);
void fetcher_freep(Fetcher **fetcher);
// Has `ref` written to `path` at `offset`, soon. Fails with the workers' first failure.
Status fetcher_add(Fetcher *fetcher, const Ref *ref, const char *path, int64_t offset,
                   Error *error);
int64_t fetcher_written_bytes(Fetcher *fetcher);
// Hands out what is still being gathered; then waits until nothing is under way, at most
// timeout_ms.
Status fetcher_flush(Fetcher *fetcher, Error *error);
Status fetcher_wait(Fetcher *fetcher, int64_t timeout_ms, bool *ret_is_done, Error *error);
int64_t fetcher_read_bytes(Fetcher *fetcher);
