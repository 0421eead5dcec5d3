// SPDX-License-Identifier: Apache-2.0
// Pages of PostgreSQL and the names of the files that hold them. Input: a path in the data
// directory, a line break, the file.
#include "agent/engine/engine_postgres_page.h"
#include "common/memory.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    size_t name_size = end == NULL ? size : (size_t)(end - data);
    CLEANUP_FREE char *path = string_copy_n((const char *)data, name_size);
    PostgresPageFile file = {0};
    (void)postgres_page_file(path, &file.segment);
    if (end == NULL) {
        return 0;
    }
    size_t rest_size = size - name_size - 1;
    int64_t bad_page = 0;
    if (!postgres_page_check(&file, end + 1, rest_size, 3 * POSTGRES_PAGE_SIZE, &bad_page)) {
        assert(bad_page >= 3 && bad_page <= 3 + (int64_t)(rest_size / POSTGRES_PAGE_SIZE));
    }
    return 0;
}
