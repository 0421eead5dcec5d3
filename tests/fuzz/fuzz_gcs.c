// SPDX-License-Identifier: Apache-2.0
// What Google Cloud Storage answers: listings, errors, ranges, resumable uploads, retries. Input:
// see fuzz_store.h.
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const StorageOptions options = {.location = "gs://bucket/prefix",
                                    .endpoint = "https://objects.example.com",
                                    .credential_source = STORAGE_CREDENTIALS_NONE};
    return fuzz_store(&options, data, size);
}
