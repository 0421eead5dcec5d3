// SPDX-License-Identifier: Apache-2.0
// XML answers of cloud services.
#include "common/xml.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

static bool visit(void *context, const char *path, const char *text)
{
    size_t *count = context;
    assert(path[0] != '\0' && path[0] != '/');
    assert(strlen(text) <= (size_t)64 * 1024);
    *count += 1;
    return *count < 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"Code", "Message", "Contents/Key", "UploadId"};
    Error error = {0};
    size_t count = 0;
    char text[64];
    if (xml_read(data, size, visit, &count, &error) == STATUS_OK) {
        assert(count > 0);
    } else {
        assert(error.reason == REASON_INVALID);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (!xml_find(data, size, paths[i], text, sizeof(text))) {
            assert(text[0] == '\0');
        }
    }
    return 0;
}
