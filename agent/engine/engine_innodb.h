// SPDX-License-Identifier: Apache-2.0
// Checksums of InnoDB pages as MariaDB and MySQL write them: full_crc32, crc32, innodb and none,
// plain and ROW_FORMAT=COMPRESSED pages. Pure functions over bytes; thread-safe. Formats: MariaDB
// storage/innobase/buf/buf0buf.cc (buf_page_is_corrupted), MySQL storage/innobase/buf/checksum.cc.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INNODB_PAGE_SIZE_MIN 1024u // smallest compressed page
#define INNODB_PAGE_SIZE_MAX 65536u
#define INNODB_HEADER_BYTES                                                                        \
    16384u // read this much of a file's beginning for innodb_file_init; less if it is shorter

// What the first page says about a tablespace file.
typedef struct InnodbFile {
    uint32_t page_size; // on disk: of the compressed page when is_zip
    bool is_full_crc32; // MariaDB's format since 10.5
    bool is_zip;        // ROW_FORMAT=COMPRESSED
    bool is_encrypted;  // by the tablespace's flags (MySQL); its pages cannot be judged without the
                        // key
    uint32_t first_page; // number of the file's first page (later files of the system tablespace)
    uint32_t doublewrite[2]; // first pages of the doublewrite blocks in the system tablespace, or
                             // 0: none
} InnodbFile;

// Reads the flags from the first page. False when it is not a tablespace's first page (or is
// damaged beyond its flags).
bool innodb_file_init(InnodbFile *file, const uint8_t *header, size_t size);
// Where the system tablespace keeps old copies of other tablespaces' pages, from its page 5
// (`page`: page_size bytes).
void innodb_file_set_doublewrite(InnodbFile *file, const uint8_t *page);

typedef enum InnodbVerdict {
    INNODB_PAGE_GOOD,
    INNODB_PAGE_EMPTY,     // all zero: never written
    INNODB_PAGE_UNCHECKED, // compressed or encrypted in a way that hides the checksum
    INNODB_PAGE_BAD,
} InnodbVerdict;

// `page_number` is the page's place in the file plus first_page; a page that says it is another one
// is bad.
InnodbVerdict innodb_page_check(const InnodbFile *file, const uint8_t *page, uint32_t page_number);
// All pages of `data`, which begins at the page-aligned `offset`; a partial page at the end is bad
// unless it is zero. False sets *bad_page to the number within the file.
bool innodb_pages_check(const InnodbFile *file, const uint8_t *data, size_t size, int64_t offset,
                        int64_t *bad_page);
