// SPDX-License-Identifier: Apache-2.0
// Red when a location or an option that cannot work is taken, or one that can is refused.
#include "common/arena.h"
#include "common/text.h"
#include "storage/storage_options.h"
#include "tests/harness/harness.h"

#include <string.h>

static void test_locations(void **state)
{
    (void)state;
    Error error = {0};
    StorageLocation location;
    assert_ok(storage_location_parse("s3://my-bucket", &location, &error), &error);
    assert_int_equal(location.scheme, STORAGE_SCHEME_S3);
    assert_string_equal(location.bucket, "my-bucket");
    assert_string_equal(location.prefix, "");
    assert_ok(storage_location_parse("gs://b.u_c/one/two//", &location, &error), &error);
    assert_int_equal(location.scheme, STORAGE_SCHEME_GS);
    assert_string_equal(location.bucket, "b.u_c");
    assert_string_equal(location.prefix, "one/two/");
    assert_ok(storage_location_parse("file:///backups", &location, &error), &error);
    assert_int_equal(location.scheme, STORAGE_SCHEME_FILE);
    const char *bad[] = {"s3://",
                         "s3://ab",
                         "s3://Bucket",
                         "s3://-bucket",
                         "s3://bu..cket",
                         "s3://b@k:x",
                         "s3://b?k/pp",
                         "s3://buck/a b",
                         "s3://buck/a//b",
                         "s3://buck/../x",
                         "http://x/y",
                         "relative",
                         ""};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(storage_location_parse(bad[i], &location, &error),
                         STATUS_INVALID_ARGUMENT);
        assert_string_equal(error.field, "location");
        assert_contains(error.hint, "s3://bucket/prefix");
    }
}

static void test_options_that_do_not_fit(void **state)
{
    (void)state;
    Error error = {0};
    Secret secret = secret_from_text("a secret");
    const struct {
        StorageOptions options;
        const char *field;
    } cases[] = {
        {{.endpoint = "objects.example.com"}, "endpoint"},
        {{.endpoint = "https://user@objects.example.com"}, "endpoint"},
        {{.endpoint = "https://"}, "endpoint"},
        {{.region = "eu central"}, "region"},
        {{.storage_class = "A\r\nX: y"}, "storage_class"},
        {{.kms_key_id = "alias/k"}, "kms_key_id"},
        {{.kms_key_id = "a\nb", .encryption = STORAGE_ENCRYPTION_KMS}, "kms_key_id"},
        {{.lock_mode = STORAGE_LOCK_COMPLIANCE}, "lock_days"},
        {{.lock_duration_s = 1}, "lock_days"},
        {{.credential_source = STORAGE_CREDENTIALS_EXPLICIT}, "credential_source"},
        {{.credential_source = STORAGE_CREDENTIALS_INSTANCE, .secret_key = &secret},
         "credential_source"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        StorageOptions options = cases[i].options;
        options.location = "s3://bucket/prefix";
        assert_int_equal(storage_options_check(&options, &error), STATUS_INVALID_ARGUMENT);
        assert_string_equal(error.field, cases[i].field);
    }
    const StorageOptions good = {.location = "s3://bucket",
                                 .endpoint = "https://objects.example.com:9000",
                                 .region = "eu-central-1",
                                 .encryption = STORAGE_ENCRYPTION_KMS,
                                 .kms_key_id = "arn:aws:kms:eu-central-1:1:key/2",
                                 .lock_mode = STORAGE_LOCK_GOVERNANCE,
                                 .lock_duration_s = 86400,
                                 .access_key_id = "AKID",
                                 .secret_key = &secret};
    assert_ok(storage_options_check(&good, &error), &error);
    secret_done(&secret);
}

static void test_options_from_json(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StorageOptions options = {0};
    assert_ok(storage_options_from_json(NULL, arena, &options, &error), &error);
    assert_ok(storage_options_from_json(
                  "{\"endpoint\":\"http://127.0.0.1:1\",\"region\":\"\",\"path_style\":true,"
                  "\"encryption\":\"kms\",\"kms_key_id\":\"alias/k\",\"storage_class\":\"X\","
                  "\"lock_mode\":\"governance\",\"lock_days\":2,\"credential_source\":"
                  "\"profile\"}",
                  arena, &options, &error),
              &error);
    assert_string_equal(options.endpoint, "http://127.0.0.1:1");
    assert_null(options.region);
    assert_true(options.is_path_style);
    assert_int_equal(options.encryption, STORAGE_ENCRYPTION_KMS);
    assert_string_equal(options.kms_key_id, "alias/k");
    assert_int_equal(options.lock_duration_s, 2 * 86400);
    assert_int_equal(options.credential_source, STORAGE_CREDENTIALS_PROFILE);
    assert_int_equal(
        storage_options_from_json("{\"encryption\":\"rot13\"}", arena, &options, &error),
        STATUS_INVALID_ARGUMENT);
    assert_string_equal(error.field, "encryption");
    assert_contains(error.hint, "default, store, kms");
}

static void test_words(void **state)
{
    (void)state;
    StorageCredentialSource source;
    StorageEncryption encryption;
    StorageLockMode mode;
    assert_true(storage_credential_source_from_text("", &source));
    assert_int_equal(source, STORAGE_CREDENTIALS_AUTOMATIC);
    assert_true(storage_credential_source_from_text("none", &source));
    assert_int_equal(source, STORAGE_CREDENTIALS_NONE);
    assert_false(storage_credential_source_from_text("magic", &source));
    assert_true(storage_encryption_from_text("kms", &encryption));
    assert_int_equal(encryption, STORAGE_ENCRYPTION_KMS);
    assert_true(storage_lock_mode_from_text("compliance", &mode));
    assert_int_equal(mode, STORAGE_LOCK_COMPLIANCE);
    assert_false(storage_lock_mode_from_text("COMPLIANCE", &mode));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_options_that_do_not_fit),
        cmocka_unit_test(test_options_from_json),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
