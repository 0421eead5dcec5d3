// SPDX-License-Identifier: Apache-2.0
// InnoDB page checksums. Red here means that a damaged page would be backed up, or that a good one
// stops backups. Real pages of real servers are checked in
// tests/integration/test_engine_mysql_family.c; here every byte of made pages is damaged.
#include "agent/engine/engine_innodb.h"
#include "common/checksum.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <string.h>

#define PAGE 16384u

static void put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

// A page with something everywhere, number `number`, an index page.
static void fill_page(uint8_t *page, uint32_t size, uint32_t number)
{
    for (uint32_t i = 0; i < size; i++) {
        page[i] = (uint8_t)(i * 31 + 7);
    }
    memset(page + 26, 0, 8);
    put_u32(page, 0);
    put_u32(page + 4, number);
    page[24] = 0x45;
    page[25] = 0xBF;
}

static void seal_classic(uint8_t *page, uint32_t size)
{
    uint32_t crc = crc32c(page + 4, 22) ^ crc32c(page + 38, size - 46);
    put_u32(page, crc);
    put_u32(page + size - 8, crc);
    memcpy(page + size - 4, page + 20, 4);
}

static void seal_full_crc32(uint8_t *page, uint32_t size)
{
    memcpy(page + size - 8, page + 20, 4);
    put_u32(page + size - 4, crc32c(page, size - 4));
}

static void test_file_flags(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        bool is_valid, is_full_crc32, is_zip;
        uint32_t page_size;
    } cases[] = {
        {0x00, true, false, false, 16384},   // the system tablespace
        {0x21, true, false, false, 16384},   // DYNAMIC
        {0x4021, true, false, false, 16384}, // MySQL, with its dictionary copy
        {0x29, true, false, true, 8192},     // COMPRESSED, KEY_BLOCK_SIZE=8
        {0x23, true, false, true, 1024},      {0xE1, true, false, false, 4096},
        {0x1E1, true, false, false, 65536},   {0x15, true, true, false, 16384}, // full_crc32
        {0x13, true, true, false, 4096},      {0x17, true, true, false, 65536},
        {0x35, true, true, false, 16384}, // page_compressed
        {0x10, false, false, false, 0},       {0x1F, false, false, false, 0},
        {0xFFFFFFFF, false, false, false, 0},
    };
    uint8_t page[PAGE];
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        InnodbFile file;
        fill_page(page, PAGE, 0);
        put_u32(page + 54, cases[i].flags);
        assert_int_equal(innodb_file_init(&file, page, PAGE), cases[i].is_valid);
        if (cases[i].is_valid) {
            assert_int_equal(file.is_full_crc32, cases[i].is_full_crc32);
            assert_int_equal(file.is_zip, cases[i].is_zip);
            assert_int_equal(file.page_size, cases[i].page_size);
        }
    }
    InnodbFile file;
    memset(page, 0, sizeof(page));
    assert_false(innodb_file_init(&file, page, PAGE));
    assert_false(innodb_file_init(&file, page, 10));
}

// Flips every bit of the page's bytes outside [from, to) and expects each to be found.
static void assert_every_byte_counts(const InnodbFile *file, uint8_t *page, uint32_t number,
                                     uint32_t from, uint32_t to)
{
    assert_int_equal(innodb_page_check(file, page, number), INNODB_PAGE_GOOD);
    for (uint32_t i = 0; i < file->page_size; i++) {
        uint8_t flip = (uint8_t)(1u << (i % 8));
        page[i] ^= flip;
        InnodbVerdict verdict = innodb_page_check(file, page, number);
        page[i] ^= flip;
        if (i >= from && i < to) {
            continue; // not covered by this format's checksum
        }
        if (verdict != INNODB_PAGE_BAD) {
            fail_msg("flipping a bit of byte %u goes unseen", i);
        }
    }
}

static void test_every_byte_counts(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {4096, 16384, 65536};
    uint8_t *page = mem_alloc(INNODB_PAGE_SIZE_MAX);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        InnodbFile classic = {.page_size = sizes[i]};
        fill_page(page, sizes[i], 5);
        seal_classic(page, sizes[i]);
        assert_every_byte_counts(&classic, page, 5, 26, 38); // flush position and space number
        assert_int_equal(innodb_page_check(&classic, page, 6), INNODB_PAGE_BAD); // misplaced

        InnodbFile full = {.page_size = sizes[i], .is_full_crc32 = true};
        fill_page(page, sizes[i], 5);
        seal_full_crc32(page, sizes[i]);
        assert_every_byte_counts(&full, page, 5, 0, 0);
    }
    mem_free(page);
}

static void test_compressed_pages(void **state)
{
    (void)state;
    uint8_t page[PAGE];
    InnodbFile zip = {.page_size = 8192, .is_zip = true};
    fill_page(page, 8192, 3);
    put_u32(page, crc32c(page + 4, 12) ^ crc32c(page + 24, 2) ^ crc32c(page + 34, 8192 - 34));
    assert_every_byte_counts(&zip, page, 3, 16, 34); // LSN and flush position
    // page_compressed of full_crc32: the checksum closes the compressed part.
    InnodbFile full = {.page_size = PAGE, .is_full_crc32 = true};
    memset(page, 0, sizeof(page));
    fill_page(page, 1024, 3);
    page[24] = 0x80;
    page[25] = 4;
    put_u32(page + 1020, crc32c(page, 1020));
    assert_int_equal(innodb_page_check(&full, page, 3), INNODB_PAGE_GOOD);
    page[700] ^= 1;
    assert_int_equal(innodb_page_check(&full, page, 3), INNODB_PAGE_BAD);
}

static void test_other_pages(void **state)
{
    (void)state;
    uint8_t page[PAGE] = {0};
    InnodbFile file = {.page_size = PAGE};
    assert_int_equal(innodb_page_check(&file, page, 7), INNODB_PAGE_EMPTY);
    assert_int_equal(innodb_page_check(&file, page, 0),
                     INNODB_PAGE_BAD); // a tablespace without its header
    fill_page(page, PAGE, 7);
    page[24] = 0;
    page[25] = 15; // encrypted by MySQL
    assert_int_equal(innodb_page_check(&file, page, 7), INNODB_PAGE_UNCHECKED);
    fill_page(page, PAGE, 7);
    file.doublewrite[0] = 64;
    assert_int_equal(innodb_page_check(&file, page, 64), INNODB_PAGE_UNCHECKED);
    assert_int_equal(innodb_page_check(&file, page, 127), INNODB_PAGE_UNCHECKED);
    assert_int_equal(innodb_page_check(&file, page, 128), INNODB_PAGE_BAD);
    put_u32(page, 0xDEADBEEF); // written with checksums off
    put_u32(page + PAGE - 8, 0xDEADBEEF);
    memcpy(page + PAGE - 4, page + 20, 4);
    assert_int_equal(innodb_page_check(&file, page, 7), INNODB_PAGE_GOOD);
}

static void test_runs_of_pages(void **state)
{
    (void)state;
    uint8_t *data = mem_alloc(4 * PAGE);
    InnodbFile file = {.page_size = PAGE, .is_full_crc32 = true};
    for (uint32_t i = 0; i < 4; i++) {
        fill_page(data + i * PAGE, PAGE, 8 + i);
        seal_full_crc32(data + i * PAGE, PAGE);
    }
    int64_t bad_page = -1;
    assert_true(innodb_pages_check(&file, data, 4 * PAGE, 8 * PAGE, &bad_page));
    data[2 * PAGE + 100] ^= 4;
    assert_false(innodb_pages_check(&file, data, 4 * PAGE, 8 * PAGE, &bad_page));
    assert_int_equal(bad_page, 10);
    // A torn end is damage; further files of the system tablespace go on counting.
    assert_false(innodb_pages_check(&file, data, PAGE + 100, 8 * PAGE, &bad_page));
    assert_int_equal(bad_page, 9);
    file.first_page = 8;
    assert_true(innodb_pages_check(&file, data, 2 * PAGE, 0, &bad_page));
    mem_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_flags),       cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_compressed_pages), cmocka_unit_test(test_other_pages),
        cmocka_unit_test(test_runs_of_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
