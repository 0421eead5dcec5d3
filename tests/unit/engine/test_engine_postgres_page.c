// SPDX-License-Identifier: Apache-2.0
// PostgreSQL page checksums and the names of page files. Red here means: damage is published, or
// sound backups fail.
#include "agent/engine/engine_postgres_page.h"
#include "tests/harness/harness.h"

#include <string.h>

#define CHECKSUM_OFFSET 8

static void fill(uint8_t page[POSTGRES_PAGE_SIZE])
{
    for (int i = 0; i < POSTGRES_PAGE_SIZE; i++) {
        page[i] = (uint8_t)((i * 7 + 13) % 256);
    }
}

static void seal(uint8_t page[POSTGRES_PAGE_SIZE], uint32_t block)
{
    uint16_t checksum = postgres_page_checksum(page, block);
    memcpy(page + CHECKSUM_OFFSET, &checksum, sizeof(checksum));
}

// The numbers are pageinspect's: page_checksum(bytea, block).
static void test_checksums_are_the_servers(void **state)
{
    (void)state;
    uint8_t page[POSTGRES_PAGE_SIZE];
    fill(page);
    assert_int_equal(postgres_page_checksum(page, 0), 38615);
    assert_int_equal(postgres_page_checksum(page, 131073), 38616);
    page[CHECKSUM_OFFSET] ^= 0xff; // its own field does not count
    assert_int_equal(postgres_page_checksum(page, 0), 38615);
}

static void test_all_processors_agree(void **state)
{
    (void)state;
    uint8_t page[POSTGRES_PAGE_SIZE];
    fill(page);
    for (uint32_t block = 0; block < 1000; block++) {
        memcpy(page + block * 8, &(uint64_t){block * UINT64_C(0x9E3779B97F4A7C15)}, 8);
        assert_int_equal(postgres_page_checksum(page, block),
                         postgres_page_checksum_portable(page, block));
    }
}

static void test_flipped_bits_are_noticed(void **state)
{
    (void)state;
    uint8_t page[POSTGRES_PAGE_SIZE];
    fill(page);
    seal(page, 7);
    assert_true(postgres_page_is_valid(page, 7));
    assert_false(postgres_page_is_valid(page, 8)); // a page in another's place
    int missed = 0;
    for (int bit = 0; bit < POSTGRES_PAGE_SIZE * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
        missed += postgres_page_is_valid(page, 7) ? 1 : 0;
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_in_range(missed, 0, 8); // the checksum has 16 bits: one flip in 65535 may go unseen
}

static void test_new_pages_are_zeros_only(void **state)
{
    (void)state;
    uint8_t page[POSTGRES_PAGE_SIZE] = {0};
    assert_true(postgres_page_is_valid(page, 3));
    page[8000] = 1;
    assert_false(postgres_page_is_valid(page, 3));
}

static void test_check_names_the_page_in_the_file(void **state)
{
    (void)state;
    static uint8_t data[4 * POSTGRES_PAGE_SIZE];
    PostgresPageFile file = {.segment = 2};
    int64_t bad_page = -1;
    for (uint32_t i = 0; i < 4; i++) {
        fill(data + i * POSTGRES_PAGE_SIZE);
        seal(data + i * POSTGRES_PAGE_SIZE, 2 * POSTGRES_SEGMENT_PAGES + 10 + i);
    }
    int64_t offset = 10 * POSTGRES_PAGE_SIZE;
    assert_true(postgres_page_check(&file, data, sizeof(data), offset, &bad_page));
    data[2 * POSTGRES_PAGE_SIZE + 5000] ^= 1;
    assert_false(postgres_page_check(&file, data, sizeof(data), offset, &bad_page));
    assert_int_equal(bad_page, 12);
    // A torn end is damage as well.
    assert_false(postgres_page_check(&file, data, POSTGRES_PAGE_SIZE + 100, offset, &bad_page));
    assert_int_equal(bad_page, 11);
}

static void test_names_of_page_files(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool is_page_file;
        uint32_t segment;
    } cases[] = {
        {"base/5/16384", true, 0},
        {"base/5/16384.1", true, 1},
        {"base/5/16384_fsm", true, 0},
        {"base/5/16384_vm.12", true, 12},
        {"base/5/16384_init", true, 0},
        {"global/1262", true, 0},
        {"base/5/t3_16384", true, 0},
        {"base/5/PG_VERSION", false, 0},
        {"base/5/pg_filenode.map", false, 0},
        {"base/5/pg_internal.init", false, 0},
        {"base/5/16384_other", false, 0},
        {"base/5/16384.", false, 0},
        {"base/5/16384.1234567", false, 0},
        {"base/5/16384.1x", false, 0},
        {"base/5/t_16384", false, 0},
        {"global/pg_control", false, 0},
        {"pg_wal/000000010000000000000001", false, 0},
        {"pg_xact/0000", false, 0},
        {"16384", false, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint32_t segment = 99;
        bool is_page_file = postgres_page_file(cases[i].path, &segment);
        if (is_page_file != cases[i].is_page_file ||
            (is_page_file && segment != cases[i].segment)) {
            fail_msg("'%s'", cases[i].path);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksums_are_the_servers),
        cmocka_unit_test(test_all_processors_agree),
        cmocka_unit_test(test_flipped_bits_are_noticed),
        cmocka_unit_test(test_new_pages_are_zeros_only),
        cmocka_unit_test(test_check_names_the_page_in_the_file),
        cmocka_unit_test(test_names_of_page_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
