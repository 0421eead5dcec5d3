// SPDX-License-Identifier: Apache-2.0
// What S3 answers: listings, errors, headers, ranges, retries. Input: see fuzz_store.h.
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const StorageOptions options = {.location = "s3://bucket/prefix",
                                    .endpoint = "https://objects.example.com",
                                    .region = "us-east-1",
                                    .is_path_style = true,
                                    .credential_source = STORAGE_CREDENTIALS_NONE};
    return fuzz_store(&options, data, size);
}
