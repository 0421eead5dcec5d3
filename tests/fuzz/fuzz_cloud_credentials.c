// SPDX-License-Identifier: Apache-2.0
// Credentials of clouds: files, and what endpoints answer. Input: a word for the place, a line
// break, and the file or the answers (fuzz_http.h).
#include "common/arena.h"
#include "common/aws_credentials.h"
#include "storage/gcp_token.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_http.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void ask_aws(AwsCredentialSource source)
{
    Error error = {0};
    AwsCredential credential = {0};
    const AwsCredentialsOptions options = {.source = source, .region = "us-east-1"};
    AwsCredentials *credentials = aws_credentials_new(&options);
    if (aws_credentials_get(credentials, &credential, &error) == STATUS_OK) {
        assert(credential.access_key_id[0] != '\0' && credential.secret_key.size > 0);
        aws_credential_done(&credential);
    } else {
        assert(error.message[0] != '\0');
    }
    aws_credentials_free(credentials);
}

static void ask_gcp(const char *path)
{
    Error error = {0};
    Secret token = {0};
    const GcpTokenOptions options = {.scope = "scope", .credentials_path = path};
    GcpTokens *tokens = gcp_tokens_new(&options);
    if (gcp_tokens_get(tokens, &token, &error) == STATUS_OK) {
        assert(token.size > 0);
        secret_done(&token);
    } else {
        assert(error.message[0] != '\0');
    }
    gcp_tokens_free(tokens);
}

static void ask_file(char place, const uint8_t *data, size_t size)
{
    char path[64];
    int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    assert(descriptor >= 0);
    ssize_t written = write(descriptor, data, size);
    assert(written == (ssize_t)size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    fuzz_http_answers(NULL, 0);
    if (place == 'f') {
        (void)setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
        (void)setenv("AWS_CONFIG_FILE", path, 1);
        ask_aws(AWS_CREDENTIALS_PROFILE);
    } else {
        ask_gcp(path);
    }
    (void)close(descriptor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    if (end == NULL || end == data) {
        return 0;
    }
    size_t rest_size = size - (size_t)(end - data) - 1;
    (void)unsetenv("GOOGLE_APPLICATION_CREDENTIALS");
    (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/credentials", 1);
    fuzz_http_answers(end + 1, rest_size);
    switch (data[0]) {
    case 'c':
        ask_aws(AWS_CREDENTIALS_CONTAINER);
        break;
    case 'i':
        ask_aws(AWS_CREDENTIALS_INSTANCE);
        break;
    case 'm':
        ask_gcp(NULL);
        break;
    case 'f':
    case 's':
        ask_file((char)data[0], end + 1, rest_size);
        break;
    default:
        break;
    }
    return 0;
}
