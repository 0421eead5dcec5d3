// SPDX-License-Identifier: Apache-2.0
// Tablespace headers and pages of InnoDB. Input: the beginning of a tablespace file.
#include "agent/engine/engine_innodb.h"
#include "common/attributes.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    InnodbFile file = {0};
    int64_t bad_page = 0;
    if (!innodb_file_init(&file, data, MIN(size, INNODB_HEADER_BYTES))) {
        return 0;
    }
    assert(file.page_size >= INNODB_PAGE_SIZE_MIN && file.page_size <= INNODB_PAGE_SIZE_MAX);
    assert((file.page_size & (file.page_size - 1)) == 0);
    if (size >= file.page_size) {
        innodb_file_set_doublewrite(&file, data);
        (void)innodb_page_check(&file, data, file.first_page);
        (void)innodb_page_check(&file, data + size - file.page_size, UINT32_MAX);
    }
    if (!innodb_pages_check(&file, data, size, (int64_t)file.page_size * 7, &bad_page)) {
        assert(bad_page >= 7 && bad_page <= 7 + (int64_t)(size / file.page_size));
    }
    return 0;
}
