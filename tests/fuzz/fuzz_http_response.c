// SPDX-License-Identifier: Apache-2.0
// The header lines of an answer, as libcurl hands them to us.
#include "common/http_client.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#define HEADERS_BYTES_MAX (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"Content-Type", "ETag",        "Location",
                                        "Retry-After",  "X",           "Content-Range",
                                        "Range",        "x-amz-error", "Last-Modified"};
    HttpResponse response = {0};
    buffer_init(&response.headers, HEADERS_BYTES_MAX);
    if (buffer_append(&response.headers, data, size)) {
        for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
            char small[4];
            char large[HEADERS_BYTES_MAX + 1];
            bool is_small = http_response_header(&response, names[i], small, sizeof(small));
            bool is_there = http_response_header(&response, names[i], large, sizeof(large));
            assert(!is_small || (is_there && strcmp(small, large) == 0));
            assert(strncmp(small, large, strlen(small)) == 0);
            assert(strpbrk(large, "\r\n") == NULL); // nothing of the next line
        }
    }
    http_response_done(&response);
    return 0;
}
