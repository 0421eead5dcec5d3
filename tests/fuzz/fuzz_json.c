// SPDX-License-Identifier: Apache-2.0
// JSON from outside. What is accepted can be written, and what was written reads as the same.
#include "common/json.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#define WRITTEN_BYTES_MAX (64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    if (json_parse((const char *)data, size, &json, &error) != STATUS_OK) {
        assert(error.reason == REASON_MALFORMED_JSON);
        return 0;
    }
    CLEANUP(json_freep) Json *again = NULL;
    CLEANUP(buffer_done) Buffer first = {0};
    CLEANUP(buffer_done) Buffer second = {0};
    buffer_init(&first, WRITTEN_BYTES_MAX);
    buffer_init(&second, WRITTEN_BYTES_MAX);
    bool is_written = json_write(json, size % 2 == 0, &first);
    assert(is_written);
    Status status = json_parse(buffer_text(&first), first.size, &again, &error);
    assert(status == STATUS_OK);
    is_written = json_write(again, size % 2 == 0, &second);
    assert(is_written);
    assert(strcmp(buffer_text(&first), buffer_text(&second)) == 0);
    return 0;
}
