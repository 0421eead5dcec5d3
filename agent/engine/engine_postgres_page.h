// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's page checksums and the names of the files that hold pages. Pure functions.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POSTGRES_PAGE_SIZE 8192
#define POSTGRES_SEGMENT_PAGES 131072 // pages of a relation's segment file: 1 GiB

// What is needed to check one file's pages.
typedef struct PostgresPageFile {
    uint32_t segment; // number behind the dot of the file's name
} PostgresPageFile;

// `page` has POSTGRES_PAGE_SIZE bytes; `block` is its number in the relation.
uint16_t postgres_page_checksum(const uint8_t *page, uint32_t block);
// The same as on processors without the instructions that the other uses; for tests.
uint16_t postgres_page_checksum_portable(const uint8_t *page, uint32_t block);
// A page as the server accepts it when reading: right checksum, or new, which is nothing but zeros.
bool postgres_page_is_valid(const uint8_t *page, uint32_t block);
// An EngineFile's check; `context` is a PostgresPageFile. *bad_page is counted from the start of
// the file.
bool postgres_page_check(void *context, const uint8_t *data, size_t size, int64_t offset,
                         int64_t *bad_page);
// Does the file hold pages with checksums? `path` is relative to the data directory, as
// "base/5/16384_vm.1".
bool postgres_page_file(const char *path, uint32_t *ret_segment);
