// SPDX-License-Identifier: Apache-2.0
// Red when a checksum is not the one that the other side computes: every transfer would look
// damaged.
#include "common/checksum.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <string.h>

// RFC 3720 B.4, and the check value of the catalogue of CRCs.
static void test_crc32c_of_the_published_vectors(void **state)
{
    (void)state;
    uint8_t data[32] = {0};
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283U);
    assert_int_equal(crc32c(data, sizeof(data)), 0x8a9136aaU);
    memset(data, 0xff, sizeof(data));
    assert_int_equal(crc32c(data, sizeof(data)), 0x62a8ab43U);
    for (uint8_t i = 0; i < sizeof(data); i++) {
        data[i] = i;
    }
    assert_int_equal(crc32c(data, sizeof(data)), 0x46dd794eU);
    assert_int_equal(crc32c_extend_portable(0, data, sizeof(data)), 0x46dd794eU);
}

static void test_crc32c_in_pieces_and_without_the_processor(void **state)
{
    (void)state;
    enum { SIZE = 10000 };
    CLEANUP_FREE uint8_t *data = mem_alloc(SIZE);
    for (uint32_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)(i * 2654435761U >> 7);
    }
    uint32_t whole = crc32c(data, SIZE);
    for (size_t first = 0; first <= SIZE; first++) {
        uint32_t crc = crc32c_extend(crc32c(data, first), data + first, SIZE - first);
        assert_int_equal(crc, whole);
        crc = crc32c_extend_portable(0, data, first);
        assert_int_equal(crc, crc32c(data, first));
        assert_int_equal(crc32c_extend_portable(crc, data + first, SIZE - first), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_of_the_published_vectors),
        cmocka_unit_test(test_crc32c_in_pieces_and_without_the_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
