// SPDX-License-Identifier: Apache-2.0
// What every storage driver must do alike. If this goes red, a driver breaks the promise that
// repositories rest on: objects are whole or absent, listings are complete and in order.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "storage/storage_drivers.h"
#include "tests/harness/fake_gcs.h"
#include "tests/harness/harness.h"
#include "tests/harness/s3_server.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fixture {
    Storage *storage;
    Arena *arena;
    Error error;
    char directory[64]; // of the filesystem driver
    int many_count;     // of objects that are many for the driver
} Fixture;

static S3Server s3_server; // of the group of tests that runs

static int set_up_memory(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->storage = storage_memory_new();
    fixture->arena = arena_new();
    fixture->many_count = 1500;
    *state = fixture;
    return 0;
}

static int set_up_filesystem(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->arena = arena_new();
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-storage-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    CLEANUP_FREE char *location = string_format("file://%s/not/yet/there", fixture->directory);
    assert_int_equal(
        storage_open(&(StorageOptions){.location = location}, &fixture->storage, &fixture->error),
        STATUS_OK);
    fixture->many_count = 1500;
    *state = fixture;
    return 0;
}

static int start_swift(void **state)
{
    (void)state;
    s3_server_start(&s3_server, "swift");
    return 0;
}

static int start_moto(void **state)
{
    (void)state;
    s3_server_start(&s3_server, "moto");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    s3_server_stop(&s3_server);
    return 0;
}

static char *new_location(void)
{
    char prefix[UUID_TEXT_SIZE];
    crypto_uuid(prefix);
    return string_format("s3://%s/test/%s", s3_server.bucket, prefix);
}

static int set_up_s3(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->arena = arena_new();
    CLEANUP_FREE char *location = new_location();
    const StorageOptions options = s3_server_options(&s3_server, location);
    assert_ok(storage_open(&options, &fixture->storage, &fixture->error), &fixture->error);
    fixture->many_count = 70;
    *state = fixture;
    return 0;
}

static FakeGcs *gcs; // one for all tests; each has a prefix of its own

static int start_gcs(void **state)
{
    (void)state;
    gcs = fake_gcs_start();
    return 0;
}

static int stop_gcs(void **state)
{
    (void)state;
    CLEANUP_FREE char *complaint = fake_gcs_complaint(gcs);
    if (complaint != NULL) {
        fail_msg("%s", complaint);
    }
    fake_gcs_stop(gcs);
    return 0;
}

static int set_up_gcs(void **state)
{
    static int number = 0;
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->arena = arena_new();
    CLEANUP_FREE char *location = string_format("gs://bucket/test-%d/of", number++);
    Secret key = fake_gcs_key(gcs);
    const StorageOptions options = {
        .location = location, .endpoint = fake_gcs_url(gcs), .secret_key = &key};
    assert_int_equal(storage_open(&options, &fixture->storage, &fixture->error), STATUS_OK);
    secret_done(&key);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    storage_free(fixture->storage);
    arena_free(fixture->arena);
    if (fixture->directory[0] != '\0') {
        assert_int_equal(dir_remove_all(fixture->directory, &fixture->error), STATUS_OK);
    }
    mem_free(fixture);
    return 0;
}

static void put(Fixture *fixture, const char *key, const char *text)
{
    Status status = storage_put(fixture->storage, key, text, strlen(text), NULL, &fixture->error);
    if (status != STATUS_OK) {
        fail_msg("%s", fixture->error.message);
    }
}

static void assert_content(Fixture *fixture, const char *key, const char *text)
{
    uint8_t *data = NULL;
    size_t size = 0;
    assert_int_equal(
        storage_get(fixture->storage, key, 1024, fixture->arena, &data, &size, &fixture->error),
        STATUS_OK);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, size);
}

static void assert_missing(Fixture *fixture, const char *key)
{
    StorageObject object;
    assert_int_equal(storage_stat(fixture->storage, key, &object, &fixture->error),
                     STATUS_NOT_FOUND);
    StorageReader *reader = NULL;
    assert_int_equal(storage_reader_open(fixture->storage, key, 0, -1, &reader, &fixture->error),
                     STATUS_NOT_FOUND);
    assert_int_equal(fixture->error.reason, REASON_NOT_FOUND);
}

// Lists everything with the given page size; keys joined by ' '.
static const char *list_keys(Fixture *fixture, const char *prefix, int limit)
{
    const char *text = "";
    const char *token = NULL;
    do {
        StoragePage page;
        assert_int_equal(storage_list(fixture->storage, prefix, token, limit, fixture->arena, &page,
                                      &fixture->error),
                         STATUS_OK);
        assert_true(page.count <= (size_t)limit);
        for (size_t i = 0; i < page.count; i++) {
            text = arena_format(fixture->arena, "%s%s%s", text, text[0] == '\0' ? "" : " ",
                                page.objects[i].key);
        }
        token = page.next_page_token;
    } while (token != NULL);
    return text;
}

static void test_objects_come_back_as_written(void **state)
{
    Fixture *fixture = *state;
    assert_missing(fixture, "a/b");
    put(fixture, "a/b", "hello");
    put(fixture, "empty", "");
    assert_content(fixture, "a/b", "hello");
    assert_content(fixture, "empty", "");
    put(fixture, "a/b", "other");
    assert_content(fixture, "a/b", "other");
    StorageObject object;
    assert_int_equal(storage_stat(fixture->storage, "a/b", &object, &fixture->error), STATUS_OK);
    assert_int_equal(object.size_bytes, 5);
    assert_true(object.modified_us > 0);
    uint8_t *data = NULL;
    size_t size = 0;
    assert_int_equal(
        storage_get(fixture->storage, "a/b", 4, fixture->arena, &data, &size, &fixture->error),
        STATUS_RESOURCE_EXHAUSTED);
}

static void test_nothing_is_visible_before_commit(void **state)
{
    Fixture *fixture = *state;
    StorageWriter *writer = NULL;
    StorageWriter *other = NULL;
    assert_int_equal(storage_writer_open(fixture->storage, "x/y", NULL, &writer, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_writer_write(writer, "ab", 2, &fixture->error), STATUS_OK);
    assert_missing(fixture, "x/y");
    assert_string_equal(list_keys(fixture, "", 10), "");
    assert_int_equal(storage_writer_write(writer, "cd", 2, &fixture->error), STATUS_OK);
    assert_int_equal(storage_writer_commit(writer, &fixture->error), STATUS_OK);
    assert_content(fixture, "x/y", "abcd");

    assert_int_equal(storage_writer_open(fixture->storage, "x/y", NULL, &other, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_writer_write(other, "zz", 2, &fixture->error), STATUS_OK);
    storage_writer_abort(other);
    assert_content(fixture, "x/y", "abcd");
}

static void test_create_only_never_replaces(void **state)
{
    Fixture *fixture = *state;
    const StorageWriteOptions create_only = {.is_create_only = true};
    assert_int_equal(
        storage_put(fixture->storage, "one", "first", 5, &create_only, &fixture->error), STATUS_OK);
    assert_int_equal(
        storage_put(fixture->storage, "one", "second", 6, &create_only, &fixture->error),
        STATUS_ALREADY_EXISTS);
    assert_int_equal(fixture->error.reason, REASON_EXISTS);
    assert_content(fixture, "one", "first");
}

static void test_ranges(void **state)
{
    Fixture *fixture = *state;
    put(fixture, "r", "0123456789");
    char data[16] = {0};
    assert_int_equal(storage_get_range(fixture->storage, "r", 3, 4, data, &fixture->error),
                     STATUS_OK);
    assert_memory_equal(data, "3456", 4);
    assert_int_equal(storage_get_range(fixture->storage, "r", 8, 4, data, &fixture->error),
                     STATUS_DATA_LOSS);
    assert_int_equal(fixture->error.reason, REASON_OBJECT_CORRUPT);
    assert_int_equal(storage_get_range(fixture->storage, "r", 10, 0, data, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_get_range(fixture->storage, "gone", 0, 1, data, &fixture->error),
                     STATUS_NOT_FOUND);
}

static void test_a_reader_outlives_removal(void **state)
{
    Fixture *fixture = *state;
    put(fixture, "r/1", "0123456789");
    StorageReader *reader = NULL;
    assert_int_equal(storage_reader_open(fixture->storage, "r/1", 2, -1, &reader, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_remove(fixture->storage, "r/1", &fixture->error), STATUS_OK);
    char data[16];
    size_t size = 0;
    assert_int_equal(storage_reader_read(reader, data, sizeof(data), &size, &fixture->error),
                     STATUS_OK);
    assert_int_equal(size, 8);
    assert_memory_equal(data, "23456789", 8);
    storage_reader_close(reader);
    assert_missing(fixture, "r/1");
}

static void test_removing_is_repeatable(void **state)
{
    Fixture *fixture = *state;
    put(fixture, "d/e/f", "x");
    put(fixture, "d/g", "y");
    assert_int_equal(storage_remove(fixture->storage, "d/e/f", &fixture->error), STATUS_OK);
    assert_int_equal(storage_remove(fixture->storage, "d/e/f", &fixture->error), STATUS_OK);
    assert_int_equal(storage_remove(fixture->storage, "never", &fixture->error), STATUS_OK);
    assert_string_equal(list_keys(fixture, "", 10), "d/g");
    put(fixture, "d/e/f", "again");
    assert_content(fixture, "d/e/f", "again");
}

static void test_removes_many_at_once(void **state)
{
    Fixture *fixture = *state;
    StorageRemoval removals[] = {{.key = "m/1"}, {.key = "m/never"}, {.key = "m/3/4"}};
    put(fixture, "m/1", "x");
    put(fixture, "m/2", "x");
    put(fixture, "m/3/4", "x");
    assert_int_equal(storage_remove_many(fixture->storage, removals, 3, &fixture->error),
                     STATUS_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_false(removals[i].is_locked);
    }
    assert_string_equal(list_keys(fixture, "", 10), "m/2");
    assert_int_equal(storage_remove_many(fixture->storage, removals, 3, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_remove_many(fixture->storage, removals, 0, &fixture->error),
                     STATUS_OK);
    removals[0].key = "../m";
    assert_int_equal(storage_remove_many(fixture->storage, removals, 3, &fixture->error),
                     STATUS_INVALID_ARGUMENT);
}

static void test_listing_is_in_byte_order_of_whole_keys(void **state)
{
    Fixture *fixture = *state;
    const char *keys[] = {"a/b/c", "a-b", "a.b", "a/b-c", "a/b0", "a", "a0", "B", "a/b/a/z"};
    // A directory cannot have the name of an object: the object "a" is left out beside "a/…".
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        if (strcmp(keys[i], "a") != 0) {
            put(fixture, keys[i], "x");
        }
    }
    const char *expected = "B a-b a.b a/b-c a/b/a/z a/b/c a/b0 a0";
    for (int limit = 1; limit < 10; limit++) {
        assert_string_equal(list_keys(fixture, "", limit), expected);
    }
    assert_string_equal(list_keys(fixture, "a/b", 2), "a/b-c a/b/a/z a/b/c a/b0");
    assert_string_equal(list_keys(fixture, "a/b/", 1), "a/b/a/z a/b/c");
    assert_string_equal(list_keys(fixture, "nothing/", 1), "");
}

static void test_listing_many(void **state)
{
    Fixture *fixture = *state;
    int count = fixture->many_count;
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof(key), "many/%04d", (i * 7919) % count);
        put(fixture, key, "");
    }
    const char *token = NULL;
    int expected = 0;
    do {
        StoragePage page;
        assert_int_equal(storage_list(fixture->storage, "many/", token, 60, fixture->arena, &page,
                                      &fixture->error),
                         STATUS_OK);
        for (size_t i = 0; i < page.count; i++, expected++) {
            char key[32];
            snprintf(key, sizeof(key), "many/%04d", expected);
            assert_string_equal(page.objects[i].key, key);
        }
        token = page.next_page_token;
    } while (token != NULL);
    assert_int_equal(expected, count);
}

static void test_bad_keys_are_refused(void **state)
{
    Fixture *fixture = *state;
    char long_key[STORAGE_KEY_SIZE_MAX + 2];
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    const char *keys[] = {"",      "/a",  "a/",   "a//b", ".",      "..",   "a/../b",
                          "a/./b", "a b", "a\nb", "ä",    ".tmp/x", ".tmp", long_key};
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        assert_int_equal(storage_put(fixture->storage, keys[i], "x", 1, NULL, &fixture->error),
                         STATUS_INVALID_ARGUMENT);
        assert_int_equal(storage_remove(fixture->storage, keys[i], &fixture->error),
                         STATUS_INVALID_ARGUMENT);
    }
    long_key[STORAGE_KEY_SIZE_MAX] = '\0';
    long_key[200] = '/';
    long_key[400] = '/';
    put(fixture, long_key, "longest");
    assert_content(fixture, long_key, "longest");
}

static void test_free_aborts_unfinished_writers(void **state)
{
    Fixture *fixture = *state;
    StorageWriter *writer = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(storage_writer_open(fixture->storage, "w", NULL, &writer, &fixture->error),
                         STATUS_OK);
        assert_int_equal(storage_writer_write(writer, "x", 1, &fixture->error), STATUS_OK);
    }
    int64_t removed_count = -1;
    assert_int_equal(storage_remove_stale(fixture->storage, &removed_count, &fixture->error),
                     STATUS_OK);
    assert_int_equal(removed_count, 0); // they live
    storage_free(fixture->storage);
    fixture->storage = NULL;
    if (fixture->directory[0] != '\0') {
        int64_t size_bytes = -1;
        assert_int_equal(dir_size(fixture->directory, &size_bytes, NULL, &fixture->error),
                         STATUS_OK);
        assert_int_equal(size_bytes, 0);
    }
}

// --- large objects and many threads -------------------------------------------------------------

#define LARGE_SIZE ((size_t)40 * 1024 * 1024 + 12345)

static uint8_t *new_large(uint32_t seed)
{
    uint8_t *data = mem_alloc(LARGE_SIZE);
    for (size_t i = 0; i + 4 <= LARGE_SIZE; i += 4) {
        seed = seed * 1664525U + 1013904223U;
        memcpy(data + i, &seed, 4);
    }
    return data;
}

// In pieces that fit to nothing.
static Status write_large(Storage *storage, const char *key, const uint8_t *data,
                          const StorageWriteOptions *options, Error *error)
{
    StorageWriter *writer = NULL;
    RETURN_IF_ERROR(storage_writer_open(storage, key, options, &writer, error));
    for (size_t at = 0; at < LARGE_SIZE; at += 3000001) {
        Status status =
            storage_writer_write(writer, data + at, MIN(3000001, LARGE_SIZE - at), error);
        if (status != STATUS_OK) {
            storage_writer_abort(writer);
            return status;
        }
    }
    return storage_writer_commit(writer, error);
}

static void assert_reads(Fixture *fixture, const char *key, const uint8_t *expected, int64_t offset,
                         int64_t length, size_t size)
{
    StorageReader *reader = NULL;
    CLEANUP_FREE uint8_t *data = mem_alloc(size + 1);
    size_t done = 0;
    size_t piece = 1;
    assert_ok(storage_reader_open(fixture->storage, key, offset, length, &reader, &fixture->error),
              &fixture->error);
    while (piece > 0) {
        assert_ok(storage_reader_read(reader, data + done, MIN(1000003, size + 1 - done), &piece,
                                      &fixture->error),
                  &fixture->error);
        done += piece;
    }
    storage_reader_close(reader);
    assert_int_equal(done, size);
    assert_true(memcmp(data, expected + offset, size) == 0);
}

static void test_large_objects(void **state)
{
    Fixture *fixture = *state;
    const StorageWriteOptions create_only = {.is_create_only = true};
    CLEANUP_FREE uint8_t *data = new_large(1);
    CLEANUP_FREE uint8_t *other = new_large(2);
    Storage *storage = fixture->storage;
    Error *error = &fixture->error;
    assert_ok(write_large(storage, "large", data, &create_only, error), error);
    StorageObject object;
    assert_ok(storage_stat(storage, "large", &object, error), error);
    assert_int_equal(object.size_bytes, LARGE_SIZE);
    assert_reads(fixture, "large", data, 0, -1, LARGE_SIZE);
    assert_reads(fixture, "large", data, 16777215, 10000000, 10000000);
    assert_reads(fixture, "large", data, LARGE_SIZE - 10, 100, 10);
    assert_int_equal(write_large(storage, "large", other, &create_only, error),
                     STATUS_ALREADY_EXISTS);
    CLEANUP_FREE uint8_t *range = mem_alloc(LARGE_SIZE);
    assert_ok(storage_get_range(storage, "large", 7, LARGE_SIZE - 7, range, error), error);
    assert_true(memcmp(range, data + 7, LARGE_SIZE - 7) == 0);
    assert_int_equal(storage_get_range(storage, "large", 8, LARGE_SIZE - 7, range, error),
                     STATUS_DATA_LOSS);
    assert_ok(storage_put(storage, "large", other, LARGE_SIZE, NULL, error), error);
    assert_reads(fixture, "large", other, 1, -1, LARGE_SIZE - 1);
    StorageWriter *writer = NULL;
    assert_ok(storage_writer_open(storage, "given-up", NULL, &writer, error), error);
    assert_ok(storage_writer_write(writer, data, LARGE_SIZE, error), error);
    assert_missing(fixture, "given-up");
    storage_writer_abort(writer);
    assert_missing(fixture, "given-up");
}

typedef struct Crowd {
    Storage *storage;
    int number;
    bool is_good;
} Crowd;

static void *put_and_get(void *context)
{
    Crowd *one = context;
    Error error = {0};
    uint8_t data[5000];
    uint8_t back[5000];
    one->is_good = true;
    for (int i = 0; i < 6 && one->is_good; i++) {
        char key[64];
        snprintf(key, sizeof(key), "crowd/%d/%d", one->number, i);
        memset(data, one->number * 16 + i, sizeof(data));
        one->is_good =
            storage_put(one->storage, key, data, sizeof(data),
                        &(StorageWriteOptions){.is_create_only = true}, &error) == STATUS_OK &&
            storage_get_range(one->storage, key, 0, sizeof(back), back, &error) == STATUS_OK &&
            memcmp(data, back, sizeof(data)) == 0;
    }
    return NULL;
}

static void test_many_threads_at_once(void **state)
{
    Fixture *fixture = *state;
    Crowd crowd[6];
    pthread_t threads[ARRAY_COUNT(crowd)];
    for (size_t i = 0; i < ARRAY_COUNT(crowd); i++) {
        crowd[i] = (Crowd){.storage = fixture->storage, .number = (int)i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_get, &crowd[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(crowd); i++) {
        (void)pthread_join(threads[i], NULL);
        assert_true(crowd[i].is_good);
    }
}

// --- what only object stores have
// -----------------------------------------------------------------

static void assert_refused(const StorageOptions *options, Reason reason, const char *hint)
{
    Error error = {0};
    Storage *storage = NULL;
    StorageObject object;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoragePage page;
    assert_ok(storage_open(options, &storage, &error), &error);
    assert_int_not_equal(storage_put(storage, "k", "v", 1, NULL, &error), STATUS_OK);
    assert_string_equal(reason_slug(error.reason), reason_slug(reason));
    assert_contains(error.hint, hint);
    assert_null(strstr(error.message, "secret-that-is-wrong"));
    assert_int_not_equal(storage_list(storage, "", NULL, 10, arena, &page, &error), STATUS_OK);
    assert_string_equal(reason_slug(error.reason), reason_slug(reason));
    if (reason != REASON_STORAGE_BUCKET) {
        assert_int_not_equal(storage_stat(storage, "k", &object, &error), STATUS_OK);
        assert_string_equal(reason_slug(error.reason), reason_slug(reason));
    }
    storage_free(storage);
}

static void test_wrong_access_is_named(void **state)
{
    (void)state;
    CLEANUP_FREE char *location = new_location();
    CLEANUP(secret_done) Secret wrong = secret_from_text("a-secret-that-is-wrong");
    StorageOptions options = s3_server_options(&s3_server, location);
    options.secret_key = &wrong;
    assert_refused(&options, REASON_STORAGE_CREDENTIAL, "secret key");
    options = s3_server_options(&s3_server, location);
    options.access_key_id = "nobody:nowhere";
    assert_refused(&options, REASON_STORAGE_CREDENTIAL, "access key");
    options = s3_server_options(&s3_server, "s3://there-is-no-such-bucket");
    assert_refused(&options, REASON_STORAGE_BUCKET, "make the bucket");
}

#define EVERY_TEST(set_up)                                                                         \
    cmocka_unit_test_setup_teardown(test_objects_come_back_as_written, set_up, tear_down),         \
        cmocka_unit_test_setup_teardown(test_nothing_is_visible_before_commit, set_up, tear_down), \
        cmocka_unit_test_setup_teardown(test_create_only_never_replaces, set_up, tear_down),       \
        cmocka_unit_test_setup_teardown(test_ranges, set_up, tear_down),                           \
        cmocka_unit_test_setup_teardown(test_a_reader_outlives_removal, set_up, tear_down),        \
        cmocka_unit_test_setup_teardown(test_removing_is_repeatable, set_up, tear_down),           \
        cmocka_unit_test_setup_teardown(test_removes_many_at_once, set_up, tear_down),             \
        cmocka_unit_test_setup_teardown(test_listing_is_in_byte_order_of_whole_keys, set_up,       \
                                        tear_down),                                                \
        cmocka_unit_test_setup_teardown(test_listing_many, set_up, tear_down),                     \
        cmocka_unit_test_setup_teardown(test_bad_keys_are_refused, set_up, tear_down),             \
        cmocka_unit_test_setup_teardown(test_large_objects, set_up, tear_down),                    \
        cmocka_unit_test_setup_teardown(test_many_threads_at_once, set_up, tear_down),             \
        cmocka_unit_test_setup_teardown(test_free_aborts_unfinished_writers, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest memory_tests[] = {EVERY_TEST(set_up_memory)};
    const struct CMUnitTest filesystem_tests[] = {EVERY_TEST(set_up_filesystem)};
    const struct CMUnitTest s3_tests[] = {EVERY_TEST(set_up_s3),
                                          cmocka_unit_test(test_wrong_access_is_named)};
    const struct CMUnitTest gcs_tests[] = {EVERY_TEST(set_up_gcs)};
    int failed = cmocka_run_group_tests_name("memory", memory_tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("filesystem", filesystem_tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("s3 moto", s3_tests, start_moto, stop_server);
    failed += cmocka_run_group_tests_name("s3 swift", s3_tests, start_swift, stop_server);
    failed += cmocka_run_group_tests_name("gcs", gcs_tests, start_gcs, stop_gcs);
    return failed;
}
