// SPDX-License-Identifier: Apache-2.0
// What key management services answer. Input: a word for the service (aws, gcp), a space, what is
// asked (wrap, unwrap), a line break, and the answers (fuzz_http.h); the first of gcp's is the
// token.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/key_wrapper.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_http.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define AWS_KEY                                                                                    \
    "awskms:///arn:aws:kms:eu-central-1:111122223333:key/1?endpoint=https://kms.example.com"
#define GCP_KEY                                                                                    \
    "gcpkms:///projects/p/locations/l/keyRings/r/cryptoKeys/k?endpoint=https://kms.example.com"

static const WrapContext CONTEXT = {.repository_id = "r", .database_id = "d", .key_id = "k"};

static void check_failure(const Error *error)
{
    assert(error->message[0] != '\0' && text_is_utf8(error->message, strlen(error->message)));
}

static void ask_wrap(KeyWrapper *wrapper)
{
    static const uint8_t zeros[AES256_KEY_SIZE];
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret key = secret_from_bytes(zeros, sizeof(zeros));
    uint8_t *wrapped = NULL;
    size_t size = 0;
    if (key_wrapper_wrap(wrapper, &CONTEXT, &key, arena, &wrapped, &size, &error) == STATUS_OK) {
        assert(wrapped != NULL && size > 0 && size <= WRAPPED_SIZE_MAX);
    } else {
        check_failure(&error);
    }
}

static void ask_unwrap(KeyWrapper *wrapper)
{
    static const uint8_t wrapped[] = "wrapped";
    Error error = {0};
    CLEANUP(secret_done) Secret key = {0};
    if (key_wrapper_unwrap(wrapper, &CONTEXT, wrapped, sizeof(wrapped), &key, &error) ==
        STATUS_OK) {
        assert(key.size == AES256_KEY_SIZE);
    } else {
        check_failure(&error);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    if (end == NULL) {
        return 0;
    }
    CLEANUP_FREE char *word = string_copy_n((const char *)data, (size_t)(end - data));
    Error error = {0};
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    (void)setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "example", 1);
    (void)unsetenv("GOOGLE_APPLICATION_CREDENTIALS");
    Status status =
        key_wrapper_open(text_has_prefix(word, "gcp ") ? GCP_KEY : AWS_KEY, &wrapper, &error);
    assert(status == STATUS_OK);
    fuzz_http_answers(end + 1, size - (size_t)(end - data) - 1);
    if (text_has_suffix(word, " unwrap")) {
        ask_unwrap(wrapper);
    } else {
        ask_wrap(wrapper);
    }
    return 0;
}
