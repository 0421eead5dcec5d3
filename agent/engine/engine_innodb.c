// SPDX-License-Identifier: Apache-2.0
// InnoDB page checksums; see engine_innodb.h. All numbers on a page are big-endian.
#include "agent/engine/engine_innodb.h"

#include "common/checksum.h"

#include <assert.h>
#include <string.h>

// Offsets within a page.
#define PAGE_CHECKSUM 0
#define PAGE_NUMBER 4
#define PAGE_LSN_LOW 20
#define PAGE_TYPE 24
#define PAGE_KEY_VERSION 26 // MariaDB before full_crc32: not 0 when encrypted
#define PAGE_SPACE_ID 34
#define PAGE_DATA 38
#define SPACE_FLAGS (PAGE_DATA + 16)

#define FLAG_FULL_CRC32 (1u << 4)
#define FLAG_MYSQL_ENCRYPTED (1u << 13)
#define NO_CHECKSUM 0xDEADBEEFu

#define TYPE_MYSQL_COMPRESSED 14
#define TYPE_MYSQL_ENCRYPTED 15
#define TYPE_MYSQL_COMPRESSED_ENCRYPTED 16
#define TYPE_MYSQL_ENCRYPTED_RTREE 17
#define TYPE_MARIADB_COMPRESSED 34354
#define TYPE_MARIADB_COMPRESSED_ENCRYPTED 37401
#define TYPE_FULL_CRC32_COMPRESSED 0x8000u // then the low bits are the size in 256-byte units

#define SYSTEM_PAGE 5 // TRX_SYS_PAGE_NO
#define DOUBLEWRITE_PAGES 64
#define DOUBLEWRITE_MAGIC 536853855u

static uint32_t read_u16(const uint8_t *data)
{
    return ((uint32_t)data[0] << 8) | data[1];
}

static uint32_t read_u32(const uint8_t *data)
{
    return ((uint32_t)data[0] << 24) | ((uint32_t)data[1] << 16) | ((uint32_t)data[2] << 8) |
           data[3];
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

// InnoDB's own hash of the time before crc32 (ut_fold_binary); arithmetic is in 64 bits as on the
// writing server.
static uint64_t fold_pair(uint64_t first, uint64_t second)
{
    return ((((first ^ second ^ 1653893711u) << 8) + first) ^ 1463735687u) + second;
}

static uint64_t fold_binary(const uint8_t *data, size_t size)
{
    uint64_t fold = 0;
    for (size_t i = 0; i < size; i++) {
        fold = fold_pair(fold, data[i]);
    }
    return fold;
}

static uint32_t adler32(uint32_t adler, const uint8_t *data, size_t size)
{
    uint32_t low = adler & 0xFFFFu;
    uint32_t high = adler >> 16;
    for (size_t i = 0; i < size; i++) {
        low = (low + data[i]) % 65521u;
        high = (high + low) % 65521u;
    }
    return (high << 16) | low;
}

// MariaDB full_crc32: bits 0-3 are log2(page size) - 9.
static bool init_full_crc32(InnodbFile *file, uint32_t flags)
{
    uint32_t shift = flags & 0xFu;
    if (shift < 3 || shift > 7) {
        return false;
    }
    file->is_full_crc32 = true;
    file->page_size = 512u << shift;
    return true;
}

bool innodb_file_init(InnodbFile *file, const uint8_t *header, size_t size)
{
    assert(file != NULL && header != NULL);
    *file = (InnodbFile){0};
    if (size < INNODB_PAGE_SIZE_MIN || is_zero(header, PAGE_DATA)) {
        return false;
    }
    uint32_t flags = read_u32(header + SPACE_FLAGS);
    if ((flags & FLAG_FULL_CRC32) != 0) {
        // The old layout has the top bit of a compressed page's size here, which no size sets.
        return init_full_crc32(file, flags);
    }
    uint32_t zip_shift = (flags >> 1) & 0xFu;
    uint32_t page_shift = (flags >> 6) & 0xFu;
    if (zip_shift > 5 || page_shift > 7 || (page_shift != 0 && page_shift < 3)) {
        return false;
    }
    uint32_t page_size = page_shift == 0 ? 16384u : 512u << page_shift;
    file->is_zip = zip_shift != 0;
    file->page_size = file->is_zip ? 512u << zip_shift : page_size;
    file->is_encrypted = (flags & FLAG_MYSQL_ENCRYPTED) != 0;
    return true;
}

void innodb_file_set_doublewrite(InnodbFile *file, const uint8_t *page)
{
    const uint8_t *doublewrite = page + file->page_size - 200; // TRX_SYS_DOUBLEWRITE
    file->doublewrite[0] = file->doublewrite[1] = 0;
    // A system tablespace is never compressed: one that says so is damaged, and is checked whole.
    if (!file->is_zip && read_u32(doublewrite + 10) == DOUBLEWRITE_MAGIC) {
        file->doublewrite[0] = read_u32(doublewrite + 14);
        file->doublewrite[1] = read_u32(doublewrite + 18);
    }
}

// The checksum closes the page, encrypted or compressed as it may be.
static InnodbVerdict check_full_crc32(const InnodbFile *file, const uint8_t *page)
{
    uint32_t size = file->page_size;
    uint32_t type = read_u16(page + PAGE_TYPE);
    bool is_compressed = (type & TYPE_FULL_CRC32_COMPRESSED) != 0;
    if (is_compressed) {
        size = (type & ~TYPE_FULL_CRC32_COMPRESSED) << 8;
        if (size < 256 || size >= file->page_size) {
            return INNODB_PAGE_BAD;
        }
    }
    const uint8_t *end = page + size - 4;
    if (read_u32(end) != crc32c(page, size - 4)) {
        return INNODB_PAGE_BAD;
    }
    bool is_encrypted = read_u32(page) != 0; // the key version is where others have their checksum
    if (!is_compressed && !is_encrypted && memcmp(page + PAGE_LSN_LOW, end - 4, 4) != 0) {
        return INNODB_PAGE_BAD;
    }
    return INNODB_PAGE_GOOD;
}

static InnodbVerdict check_zip(const InnodbFile *file, const uint8_t *page)
{
    uint32_t stored = read_u32(page + PAGE_CHECKSUM);
    size_t rest = file->page_size - PAGE_SPACE_ID;
    uint32_t crc = crc32c(page + PAGE_NUMBER, 12) ^ crc32c(page + PAGE_TYPE, 2) ^
                   crc32c(page + PAGE_SPACE_ID, rest);
    if (stored == crc || stored == NO_CHECKSUM) {
        return INNODB_PAGE_GOOD;
    }
    uint32_t adler = adler32(0, page + PAGE_NUMBER, 12);
    adler = adler32(adler, page + PAGE_TYPE, 2);
    adler = adler32(adler, page + PAGE_SPACE_ID, rest);
    return stored == adler ? INNODB_PAGE_GOOD : INNODB_PAGE_BAD;
}

static bool hides_its_checksum(const InnodbFile *file, const uint8_t *page)
{
    switch (read_u16(page + PAGE_TYPE)) {
    case TYPE_MYSQL_COMPRESSED:
    case TYPE_MYSQL_ENCRYPTED:
    case TYPE_MYSQL_COMPRESSED_ENCRYPTED:
    case TYPE_MYSQL_ENCRYPTED_RTREE:
    case TYPE_MARIADB_COMPRESSED:
    case TYPE_MARIADB_COMPRESSED_ENCRYPTED:
        return true;
    default:
        return file->is_encrypted;
    }
}

static InnodbVerdict check_classic(const InnodbFile *file, const uint8_t *page)
{
    uint32_t stored = read_u32(page + PAGE_CHECKSUM);
    const uint8_t *trailer = page + file->page_size - 8;
    uint32_t trailer_stored = read_u32(trailer);
    if (memcmp(page + PAGE_LSN_LOW, trailer + 4, 4) != 0) {
        return INNODB_PAGE_BAD;
    }
    if (stored == NO_CHECKSUM && trailer_stored == NO_CHECKSUM) {
        return INNODB_PAGE_GOOD;
    }
    size_t body = file->page_size - PAGE_DATA - 8;
    uint32_t crc =
        crc32c(page + PAGE_NUMBER, PAGE_KEY_VERSION - PAGE_NUMBER) ^ crc32c(page + PAGE_DATA, body);
    if (stored == crc && trailer_stored == crc) {
        return INNODB_PAGE_GOOD;
    }
    uint32_t old = (uint32_t)fold_binary(page, PAGE_KEY_VERSION);
    uint32_t new_sum = (uint32_t)(fold_binary(page + PAGE_NUMBER, PAGE_KEY_VERSION - PAGE_NUMBER) +
                                  fold_binary(page + PAGE_DATA, body));
    return stored == new_sum && trailer_stored == old ? INNODB_PAGE_GOOD : INNODB_PAGE_BAD;
}

static bool is_doublewrite(const InnodbFile *file, uint32_t page_number)
{
    for (size_t i = 0; i < 2; i++) {
        uint32_t first = file->doublewrite[i];
        if (first != 0 && page_number >= first && page_number - first < DOUBLEWRITE_PAGES) {
            return true;
        }
    }
    return false;
}

InnodbVerdict innodb_page_check(const InnodbFile *file, const uint8_t *page, uint32_t page_number)
{
    assert(file->page_size >= INNODB_PAGE_SIZE_MIN && file->page_size <= INNODB_PAGE_SIZE_MAX);
    if (is_zero(page, file->page_size)) {
        return page_number == 0 ? INNODB_PAGE_BAD
                                : INNODB_PAGE_EMPTY; // every tablespace has a header
    }
    if (is_doublewrite(file, page_number)) {
        return INNODB_PAGE_UNCHECKED;
    }
    if (read_u32(page + PAGE_NUMBER) != page_number) {
        return INNODB_PAGE_BAD;
    }
    if (file->is_full_crc32) {
        return check_full_crc32(file, page);
    }
    if (hides_its_checksum(file, page)) {
        return INNODB_PAGE_UNCHECKED;
    }
    InnodbVerdict verdict = file->is_zip ? check_zip(file, page) : check_classic(file, page);
    // MariaDB before full_crc32 encrypts and keeps the checksum of the plain page; the key version
    // tells. The system tablespace's first page has its flush position there instead, and is never
    // encrypted.
    if (verdict == INNODB_PAGE_BAD && page_number != 0 && read_u32(page + PAGE_KEY_VERSION) != 0 &&
        read_u32(page + PAGE_KEY_VERSION + 4) != 0) {
        return INNODB_PAGE_UNCHECKED;
    }
    return verdict;
}

bool innodb_pages_check(const InnodbFile *file, const uint8_t *data, size_t size, int64_t offset,
                        int64_t *bad_page)
{
    assert(offset >= 0 && offset % file->page_size == 0);
    int64_t page = offset / file->page_size;
    for (; size >= file->page_size; size -= file->page_size, data += file->page_size, page++) {
        uint32_t number = (uint32_t)page + file->first_page;
        if (innodb_page_check(file, data, number) == INNODB_PAGE_BAD) {
            *bad_page = page;
            return false;
        }
    }
    if (!is_zero(data, size)) {
        *bad_page = page;
        return false;
    }
    return true;
}
