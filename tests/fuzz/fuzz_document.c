// SPDX-License-Identifier: Apache-2.0
// Sealed documents, byte by byte: as they are, and as if their seal held. Input: an object.
#include "common/json.h"
#include "repository/repository_document.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"
#include "tests/fuzz/fuzz_seal.h"

#include <assert.h>

static void open_as(const char *magic, const uint8_t *data, size_t size)
{
    const FuzzRepository *fuzz = fuzz_repository();
    DocumentHeader header;
    Error error = {0};
    if (document_header_decode("object", magic, data, size, &header, &error) != STATUS_OK) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        CLEANUP(json_freep) Json *json = NULL;
        fuzz_seals_hold(i == 1);
        Status status = document_open("object", &header, &fuzz->key.bytes, data, size,
                                      MANIFEST_SIZE_MAX, &json, &error);
        assert(status != STATUS_OK || i == 1); // nobody guesses a seal
        fuzz_seals_hold(false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_as(DOCUMENT_MANIFEST, data, size);
    open_as(DOCUMENT_SET, data, size);
    return 0;
}
