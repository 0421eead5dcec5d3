// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: where the files are that are published.
#pragma once

#include "common/file.h"
#include "repository/repository_format.h"

#include <stdatomic.h>

#define SOURCE_READ_EXTENT_COUNT 32
#define SOURCE_READ_SIZE_MAX (SOURCE_READ_EXTENT_COUNT * EXTENT_SIZE)

// Each thread has a reader of its own; several may read one file.
struct PublishSource {
    void *(*reader_new)(void *context, const atomic_bool *is_stopping); // never NULL
    void (*reader_free)(void *reader);
    // Fills `data` with the `size` bytes at `offset`, whole extents of which none is a hole. It is
    // aligned to DIRECT_ALIGNMENT, and there is room for a multiple of it.
    Status (*read)(void *reader, const SourceFile *file, int64_t offset, uint8_t *data, size_t size,
                   Error *error);
    // Whether it is known, without reading it, that an extent is zeros.
    Status (*is_hole)(void *reader, const SourceFile *file, int64_t offset, size_t size,
                      bool *ret_is_hole, Error *error);
    void *context;
    bool is_distant;    // reading waits for a store more than for processors
    size_t reader_size; // memory of one
};

// Files in a directory, which are read past the page cache where that is quicker. REASON_CONFLICT
// when one is not of its size. Borrows the descriptor.
PublishSource directory_source(int *directory_fd);
