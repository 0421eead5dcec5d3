// SPDX-License-Identifier: Apache-2.0
// Red when requests to AWS are signed otherwise than it publishes: the examples of the S3
// documentation ("Signature Calculations for the Authorization Header") and cases of the published
// test suite.
#include "common/aws_signature.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <string.h>

typedef struct Vector {
    const char *name;
    const char *method;
    const char *path;
    AwsQueryPair query[3];
    size_t query_count;
    const char *headers[5]; // NULL-ended
    const char *payload;    // NULL: none, and no hash of it in a header
    const char *session_token;
    const char *signature;
} Vector;

static const char *sign(const Vector *vector, const char *access_key_id, const char *secret,
                        const char *host, const char *service, int64_t time_us, bool hashes_payload,
                        Arena *arena)
{
    AwsCredential credential = {.access_key_id = string_copy(access_key_id),
                                .secret_key = secret_from_text(secret)};
    if (vector->session_token != NULL) {
        credential.session_token = secret_from_text(vector->session_token);
    }
    char hash[65];
    const char *payload = vector->payload == NULL ? "" : vector->payload;
    aws_payload_hash(payload, strlen(payload), hash);
    const char *headers[8];
    size_t count = 0;
    while (vector->headers[count] != NULL) {
        headers[count] = vector->headers[count];
        count++;
    }
    if (hashes_payload) {
        headers[count++] = arena_format(arena, "x-amz-content-sha256: %s", hash);
    }
    AwsQueryPair pairs[3];
    memcpy(pairs, vector->query, sizeof(pairs));
    const AwsSignature signature =
        aws_sign(&(AwsSignatureRequest){.credential = &credential,
                                        .region = "us-east-1",
                                        .service = service,
                                        .time_us = time_us,
                                        .method = vector->method,
                                        .host = host,
                                        .path = aws_uri_encode(vector->path, true, arena),
                                        .query = aws_query_text(pairs, vector->query_count, arena),
                                        .headers = headers,
                                        .header_count = count,
                                        .payload_hash = hash},
                 arena);
    aws_credential_done(&credential);
    const char *found = strstr(signature.authorization, "Signature=");
    assert_non_null(found);
    return found + strlen("Signature=");
}

static void test_the_examples_of_the_s3_documentation(void **state)
{
    (void)state;
    static const Vector vectors[] = {
        {.name = "GET object",
         .method = "GET",
         .path = "/test.txt",
         .headers = {"Range: bytes=0-9"},
         .signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {.name = "PUT object",
         .method = "PUT",
         .path = "/test$file.text",
         .headers = {"Date: Fri, 24 May 2013 00:00:00 GMT",
                     "x-amz-storage-class: REDUCED_REDUNDANCY"},
         .payload = "Welcome to Amazon S3.",
         .signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {.name = "GET bucket lifecycle",
         .method = "GET",
         .path = "/",
         .query = {{"lifecycle", ""}},
         .query_count = 1,
         .signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {.name = "list objects",
         .method = "GET",
         .path = "/",
         .query = {{"prefix", "J"}, {"max-keys", "2"}},
         .query_count = 2,
         .signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        assert_string_equal(
            sign(&vectors[i], "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                 "examplebucket.s3.amazonaws.com", "s3", INT64_C(1369353600000000), true, arena),
            vectors[i].signature);
    }
}

static void test_cases_of_the_published_suite(void **state)
{
    (void)state;
    static const Vector vectors[] = {
        {.name = "get-vanilla",
         .method = "GET",
         .path = "/",
         .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
        {.name = "get-unreserved",
         .method = "GET",
         .path = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
         .signature = "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
        {.name = "get-vanilla-query-order-key-case",
         .method = "GET",
         .path = "/",
         .query = {{"Param2", "value2"}, {"Param1", "value1"}},
         .query_count = 2,
         .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
        {.name = "get-vanilla-query-order-value",
         .method = "GET",
         .path = "/",
         .query = {{"Param1", "value2"}, {"Param1", "value1"}},
         .query_count = 2,
         .signature = "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
        {.name = "get-vanilla-utf8-query",
         .method = "GET",
         .path = "/",
         .query = {{"\xe1\x88\xb4", "bar"}},
         .query_count = 1,
         .signature = "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
        {.name = "get-header-value-order",
         .method = "GET",
         .path = "/",
         .headers = {"My-Header1:value4", "My-Header1:value1", "My-Header1:value3",
                     "My-Header1:value2"},
         .signature = "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
        {.name = "get-header-value-trim",
         .method = "GET",
         .path = "/",
         .headers = {"My-Header1: value1", "My-Header2: \"a   b   c\""},
         .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
        {.name = "post-x-www-form-urlencoded",
         .method = "POST",
         .path = "/",
         .headers = {"Content-Type: application/x-www-form-urlencoded"},
         .payload = "Param1=value1",
         .signature = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
        {.name = "a session token",
         .method = "GET",
         .path = "/",
         .session_token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
         .signature = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        assert_string_equal(
            sign(&vectors[i], "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                 "example.amazonaws.com", "service", INT64_C(1440938160000000), false, arena),
            vectors[i].signature);
    }
}

static void test_the_session_token_goes_along(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    AwsCredential credential = {.access_key_id = string_copy("AKIDEXAMPLE"),
                                .secret_key = secret_from_text("secret"),
                                .session_token = secret_from_text("the token")};
    const AwsSignature signature =
        aws_sign(&(AwsSignatureRequest){.credential = &credential,
                                        .region = "r",
                                        .service = "s3",
                                        .method = "GET",
                                        .host = "h",
                                        .path = "/",
                                        .query = "",
                                        .payload_hash = "UNSIGNED-PAYLOAD"},
                 arena);
    assert_string_equal(signature.session_token, "X-Amz-Security-Token: the token");
    assert_string_equal(signature.date, "X-Amz-Date: 19700101T000000Z");
    assert_contains(signature.authorization, "SignedHeaders=host;x-amz-date;x-amz-security-token,");
    assert_null(strstr(signature.authorization, "secret"));
    aws_credential_done(&credential);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_examples_of_the_s3_documentation),
        cmocka_unit_test(test_cases_of_the_published_suite),
        cmocka_unit_test(test_the_session_token_goes_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
