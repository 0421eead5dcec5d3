// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: reading the files that are published, past the page cache where that is
// quicker, and finding their holes. One thread at a time; several readers may read one file.
#pragma once

#include "common/file.h"
#include "repository/repository_format.h"

typedef struct SourceReader SourceReader;
SourceReader *source_reader_new(int directory_fd); // borrows the descriptor
void source_reader_free(SourceReader *reader);     // NULL is fine
// Fills `data` with the `size` bytes at `offset`. Both are aligned to DIRECT_ALIGNMENT, and there
// is room for a multiple of it. REASON_CONFLICT when the file is not of its size.
Status source_read(SourceReader *reader, const SourceFile *file, int64_t offset, uint8_t *data,
                   size_t size, Error *error);
// Whether the file system has nothing there, so that it is zeros.
Status source_is_hole(SourceReader *reader, const SourceFile *file, int64_t offset, size_t size,
                      bool *ret_is_hole, Error *error);
