// SPDX-License-Identifier: Apache-2.0
// Key files, data keys, opening. If this goes red, a repository opens with the wrong key or not
// with the right one.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_keys.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static void test_a_key_file_is_made_once_and_read(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *path = string_format("%s/key", fixture->directory);
    assert_ok(fixture, key_file_create(path, &fixture->error));
    assert_reason(fixture, key_file_create(path, &fixture->error), REASON_EXISTS);
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_int_equal(facts.st_size, 15 + 64 + 1);
    CLEANUP(secret_done) Secret key = {0};
    CLEANUP(secret_done) Secret again = {0};
    assert_ok(fixture, key_file_read(path, &key, &fixture->error));
    assert_ok(fixture, key_file_read(path, &again, &fixture->error));
    assert_int_equal(key.size, AES256_KEY_SIZE);
    assert_memory_equal(key.data, again.data, key.size);
}

// Threads that open one key at the same time put it more than once; the others stay.
static void test_a_key_is_cached_once(void **state)
{
    (void)state;
    KeyCache *cache = key_cache_new();
    const uint8_t digests[2][SHA256_SIZE] = {{1}, {2}};
    const uint8_t bytes[2][AES256_KEY_SIZE] = {{3}, {4}};
    for (size_t i = 0; i < 1000; i++) {
        size_t which = i == 0 ? 0 : 1;
        CLEANUP(secret_done) Secret key = secret_from_bytes(bytes[which], AES256_KEY_SIZE);
        key_cache_put(cache, digests[which], &key);
    }
    for (size_t which = 0; which < 2; which++) {
        CLEANUP(secret_done) Secret key = {0};
        assert_true(key_cache_get(cache, digests[which], &key));
        assert_memory_equal(key.data, bytes[which], AES256_KEY_SIZE);
    }
    key_cache_free(cache);
}

static void test_key_files_that_are_refused(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *path = string_format("%s/key", fixture->directory);
    CLEANUP(secret_done) Secret key = {0};
    assert_reason(fixture, key_file_read(path, &key, &fixture->error), REASON_KEY_MISSING);
    assert_ok(fixture, key_file_create(path, &fixture->error));
    assert_int_equal(chmod(path, 0640), 0);
    assert_reason(fixture, key_file_read(path, &key, &fixture->error), REASON_PRECONDITION);
    assert_non_null(strstr(fixture->error.hint, "chmod 600"));
    const char *texts[] = {"", "holdfast-key-1:", "holdfast-key-2:00", "holdfast-key-1:zz",
                           "holdfast-key-1:"
                           "00000000000000000000000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        assert_ok(fixture,
                  file_write_atomic(path, texts[i], strlen(texts[i]), 0600, &fixture->error));
        assert_reason(fixture, key_file_read(path, &key, &fixture->error), REASON_KEY_WRONG);
    }
    assert_null(key.data);
}

// The format's numbers, for good: a second implementer must get the same.
static void test_the_fingerprint_is_stable(void **state)
{
    (void)state;
    uint8_t bytes[AES256_KEY_SIZE];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
    }
    CLEANUP(secret_done) Secret key = secret_from_bytes(bytes, sizeof(bytes));
    char text[17];
    key_fingerprint(&key, text);
    assert_string_equal(text, "29cedfe7b4b3d862");
}

static void test_a_repository_is_created_once(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *path = string_format("%s/repository", fixture->directory);
    Storage *storage = NULL;
    Repository *repository = NULL;
    assert_ok(fixture, storage_filesystem_new(path, &storage, &fixture->error));
    assert_reason(fixture,
                  repository_create(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                    &repository, &fixture->error),
                  REASON_EXISTS);
    assert_ok(fixture, storage_filesystem_new(path, &storage, &fixture->error));
    assert_ok(fixture, repository_open(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                       &repository, &fixture->error));
    assert_string_equal(repository_id(repository), repository_id(fixture->repository));
    repository_free(repository);
}

static void test_opening_what_is_not_ours(void **state)
{
    Fixture *fixture = *state;
    Repository *repository = NULL;
    assert_reason(fixture,
                  repository_open(storage_memory_new(), NULL, &repository, &fixture->error),
                  REASON_REPOSITORY_MISSING);
    const char *texts[] = {
        "",
        "{}",
        "[1]",
        "{\"format\":\"other\",\"version\":1}",
        "{\"format\":\"holdfast-repository\",\"version\":2}",
        "{\"format\":\"holdfast-repository\",\"version\":1,\"repository_id\":1}"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        Storage *storage = storage_memory_new();
        assert_ok(fixture, storage_put(storage, "repository", texts[i], strlen(texts[i]), NULL,
                                       &fixture->error));
        assert_reason(fixture, repository_open(storage, NULL, &repository, &fixture->error),
                      REASON_REPOSITORY_FORMAT);
    }
}

static void test_the_wrong_key_is_told(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *path = string_format("%s/repository", fixture->directory);
    Storage *storage = NULL;
    Repository *repository = NULL;
    CLEANUP(secret_done) Secret wrong = secret_copy(&fixture->wrapping_key);
    wrong.data[31] ^= 1;
    assert_ok(fixture, storage_filesystem_new(path, &storage, &fixture->error));
    assert_reason(
        fixture,
        repository_open(storage, key_wrapper_from_key(&wrong), &repository, &fixture->error),
        REASON_KEY_WRONG);
    char fingerprint[17];
    key_fingerprint(&fixture->wrapping_key, fingerprint);
    assert_non_null(strstr(fixture->error.hint, fingerprint));
    // Without any key it opens, for an agent that is handed data keys; but gives none itself.
    assert_ok(fixture, storage_filesystem_new(path, &storage, &fixture->error));
    assert_ok(fixture, repository_open(storage, NULL, &repository, &fixture->error));
    DataKey key = {0};
    assert_reason(fixture,
                  repository_data_key(repository, DATABASE_ID, true, &key, &fixture->error),
                  REASON_KEY_MISSING);
    repository_free(repository);
}

static void test_data_keys(void **state)
{
    Fixture *fixture = *state;
    DataKey again = {0};
    DataKey other = {0};
    assert_ok(fixture,
              repository_data_key(fixture->repository, DATABASE_ID, true, &again, &fixture->error));
    assert_string_equal(again.id, fixture->key.id);
    assert_memory_equal(again.bytes.data, fixture->key.bytes.data, AES256_KEY_SIZE);
    assert_reason(
        fixture, repository_data_key(fixture->repository, SHARD_ID, false, &other, &fixture->error),
        REASON_KEY_MISSING);
    assert_ok(fixture,
              repository_data_key(fixture->repository, SHARD_ID, true, &other, &fixture->error));
    assert_memory_not_equal(other.bytes.data, fixture->key.bytes.data, AES256_KEY_SIZE);
    data_key_done(&again);
    assert_ok(fixture, repository_data_key_by_id(fixture->repository, SHARD_ID, other.id, &again,
                                                 &fixture->error));
    assert_memory_equal(again.bytes.data, other.bytes.data, AES256_KEY_SIZE);
    data_key_done(&again);
    data_key_done(&other);
    assert_reason(fixture,
                  repository_data_key_by_id(fixture->repository, DATABASE_ID, SHARD_ID, &other,
                                            &fixture->error),
                  REASON_KEY_MISSING);
    assert_reason(
        fixture,
        repository_data_key(fixture->repository, "../../etc", true, &other, &fixture->error),
        REASON_INVALID);
}

static void test_a_damaged_data_key_is_found(void **state)
{
    Fixture *fixture = *state;
    // The key's record, and the key as it is wrapped.
    for (size_t i = 0; i < 2; i++) {
        const char *object = object_key(fixture, "keys/", i);
        int64_t size = stored_bytes(fixture, object) -
                       (i == 0 ? stored_bytes(fixture, object_key(fixture, "keys/", 1)) : 0);
        for (int64_t offset = 0; offset < size; offset++) {
            DataKey key = {0};
            Repository *repository = NULL; // a key that was opened before is not opened again
            KeyWrapper *wrapper = key_wrapper_from_key(&fixture->wrapping_key);
            object_flip(fixture, object, offset);
            assert_ok(fixture,
                      repository_borrow(fixture->storage, wrapper, &repository, &fixture->error));
            assert_reason(
                fixture, repository_data_key(repository, DATABASE_ID, false, &key, &fixture->error),
                offset >= 8 && offset < 12 ? REASON_REPOSITORY_FORMAT : REASON_OBJECT_CORRUPT);
            repository_return(repository);
            key_wrapper_free(wrapper);
            object_flip(fixture, object, offset);
        }
    }
}

int main(void)
{
#define TEST(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, fixture_set_up_filesystem, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_key_file_is_made_once_and_read),
        TEST(test_key_files_that_are_refused),
        cmocka_unit_test(test_the_fingerprint_is_stable),
        cmocka_unit_test(test_a_key_is_cached_once),
        TEST(test_a_repository_is_created_once),
        TEST(test_opening_what_is_not_ours),
        TEST(test_the_wrong_key_is_told),
        TEST(test_data_keys),
        TEST(test_a_damaged_data_key_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
