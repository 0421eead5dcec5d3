// SPDX-License-Identifier: Apache-2.0
// Another wrapping key, another data key, no key any more. If this goes red, a rotation that is
// killed costs backups, or a destroyed key still opens them.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/key_wrapper_driver.h"
#include "repository/repository_keys.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define DATABASE_COUNT 3
#define CALL_COUNT_MAX 500
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"

// A service that fails at its n-th call, before or after the effect.
typedef struct TestService {
    int call_count, fail_at; // 0: never
} TestService;

typedef struct TestWrapper {
    KeyWrapper base;
    KeyWrapper *inner;
    TestService *service;
} TestWrapper;

static Status service_call(TestWrapper *wrapper, Error *error)
{
    TestService *service = wrapper->service;
    return ++service->call_count == service->fail_at
               ? error_set(error, REASON_UNAVAILABLE, "the key service is away")
               : STATUS_OK;
}

static void test_wrapper_free(KeyWrapper *wrapper)
{
    key_wrapper_free(((TestWrapper *)wrapper)->inner);
    mem_free(wrapper);
}

static Status test_wrap(KeyWrapper *base, const WrapContext *context, const Secret *key,
                        Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error)
{
    TestWrapper *wrapper = (TestWrapper *)base;
    RETURN_IF_ERROR(service_call(wrapper, error));
    return key_wrapper_wrap(wrapper->inner, context, key, arena, ret_wrapped, ret_size, error);
}

static Status test_unwrap(KeyWrapper *base, const WrapContext *context, const uint8_t *wrapped,
                          size_t size, Secret *ret_key, Error *error)
{
    TestWrapper *wrapper = (TestWrapper *)base;
    RETURN_IF_ERROR(service_call(wrapper, error));
    return key_wrapper_unwrap(wrapper->inner, context, wrapped, size, ret_key, error);
}

static const KeyWrapperOperations TEST_OPERATIONS = {
    .kind = "testkms", .free = test_wrapper_free, .wrap = test_wrap, .unwrap = test_unwrap};

static KeyWrapper *test_wrapper_new(TestService *service)
{
    uint8_t bytes[AES256_KEY_SIZE];
    crypto_random(bytes, sizeof(bytes));
    CLEANUP(secret_done) Secret key = secret_from_bytes(bytes, sizeof(bytes));
    TestWrapper *wrapper = mem_alloc(sizeof(*wrapper));
    key_wrapper_base_init(&wrapper->base, &TEST_OPERATIONS, "keys/one");
    wrapper->inner = key_wrapper_from_key(&key);
    wrapper->service = service;
    return &wrapper->base;
}

// A repository with some databases' keys, and the wrapping keys to rotate from and to.
typedef struct Keys {
    Fixture *fixture;
    char databases[DATABASE_COUNT][UUID_TEXT_SIZE];
    DataKey keys[DATABASE_COUNT];
    TestService service;
    KeyWrapper *from, *to;
} Keys;

static int set_up(void **state)
{
    Keys *keys = mem_alloc(sizeof(*keys));
    void *fixture = NULL;
    fixture_set_up_memory(&fixture);
    keys->fixture = fixture;
    keys->from = key_wrapper_from_key(&keys->fixture->wrapping_key);
    keys->to = test_wrapper_new(&keys->service);
    for (int i = 0; i < DATABASE_COUNT; i++) {
        crypto_uuid(keys->databases[i]);
        assert_ok(keys->fixture, repository_data_key(keys->fixture->repository, keys->databases[i],
                                                     true, &keys->keys[i], &keys->fixture->error));
    }
    *state = keys;
    return 0;
}

static int tear_down(void **state)
{
    Keys *keys = *state;
    void *fixture = keys->fixture;
    for (int i = 0; i < DATABASE_COUNT; i++) {
        data_key_done(&keys->keys[i]);
    }
    key_wrapper_free(keys->from);
    key_wrapper_free(keys->to);
    fixture_tear_down(&fixture);
    mem_free(keys);
    return 0;
}

// Whether a wrapping key is one of the repository's and gives every data key as it was.
static bool opens_everything(Keys *keys, KeyWrapper *wrapper)
{
    Error error = {0};
    Repository *repository = NULL;
    bool is_known = false;
    assert_int_equal(repository_borrow(keys->fixture->storage, wrapper, &repository, &error),
                     STATUS_OK);
    assert_int_equal(wrapping_key_is_known(repository, &is_known, &error), STATUS_OK);
    bool opens = is_known;
    for (int i = 0; i < DATABASE_COUNT; i++) {
        CLEANUP(data_key_done) DataKey key = {0};
        Status status = repository_data_key_by_id(repository, keys->databases[i], keys->keys[i].id,
                                                  &key, &error);
        opens = opens && status == STATUS_OK;
        if (status == STATUS_OK) {
            assert_memory_equal(key.bytes.data, keys->keys[i].bytes.data, AES256_KEY_SIZE);
        } else {
            assert_int_equal(error.reason, REASON_KEY_MISSING); // and never damage
        }
    }
    repository_return(repository);
    return opens;
}

static Status rotate(Keys *keys, RotateResult *ret_result)
{
    Storage *storage = keys->fixture->storage;
    Error *error = &keys->fixture->error;
    RETURN_IF_ERROR(repository_add_wrapping_key(storage, keys->from, keys->to, ret_result, error));
    return repository_remove_wrapping_key(storage, keys->from, keys->to, ret_result, error);
}

static void test_the_new_key_opens_everything_and_the_old_one_nothing(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    Manifest *manifest = NULL;
    RotateResult result = {0};
    source_write(fixture, "a", 2 * EXTENT, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    const char *digest = tree_digest(fixture, fixture->source);
    int64_t bytes = stored_bytes(fixture, "shards/");
    assert_ok(fixture, rotate(keys, &result));
    assert_int_equal(result.key_count, DATABASE_COUNT + 1);
    assert_int_equal(result.removed_count, DATABASE_COUNT + 1);
    assert_int_equal(result.lost_count, 0);
    assert_true(opens_everything(keys, keys->to));
    assert_false(opens_everything(keys, keys->from));
    assert_int_equal(stored_bytes(fixture, "shards/"), bytes); // no data was touched
    assert_restores(fixture, manifest, digest);
    // Again: nothing is left to do.
    assert_ok(fixture, rotate(keys, &result));
    assert_int_equal(result.rewrapped_count, 0);
    assert_int_equal(result.removed_count, 0);
    assert_true(opens_everything(keys, keys->to));
}

static void test_a_key_that_opens_nothing_cannot_rotate(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    CLEANUP(secret_done) Secret wrong = secret_copy(&fixture->wrapping_key);
    wrong.data[0] ^= 1;
    KeyWrapper *other = key_wrapper_from_key(&wrong);
    RotateResult result = {0};
    int count = object_count(fixture, "");
    assert_reason(
        fixture,
        repository_add_wrapping_key(fixture->storage, other, keys->to, &result, &fixture->error),
        REASON_KEY_WRONG);
    assert_non_null(strstr(fixture->error.hint, key_wrapper_name(keys->from)));
    assert_reason(fixture,
                  repository_remove_wrapping_key(fixture->storage, keys->from, keys->to, &result,
                                                 &fixture->error),
                  REASON_PRECONDITION);
    assert_reason(fixture,
                  repository_add_wrapping_key(fixture->storage, keys->from, keys->from, &result,
                                              &fixture->error),
                  REASON_INVALID);
    assert_int_equal(object_count(fixture, ""), count);
    key_wrapper_free(other);
}

// At every moment one of the keys opens everything, and the rotation goes on where it was.
static void rotate_with_faults(Keys *keys, bool is_storage, bool is_lost_reply)
{
    Fixture *fixture = keys->fixture;
    RotateResult result = {0};
    int failure_count = 0;
    for (int call = 1;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        keys->service = (TestService){.fail_at = is_storage ? 0 : call};
        storage_memory_fail_at(fixture->storage, is_storage ? call : 0, is_lost_reply);
        Status status = rotate(keys, &result);
        storage_memory_fail_at(fixture->storage, 0, false);
        keys->service = (TestService){0};
        assert_true(opens_everything(keys, keys->from) || opens_everything(keys, keys->to));
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        failure_count++;
    }
    assert_true(failure_count > (is_storage ? 10 : 2));
    assert_true(opens_everything(keys, keys->to));
    assert_false(opens_everything(keys, keys->from));
    // A record and a wrapping for each key, the wrapping key and the repository's object.
    assert_int_equal(object_count(fixture, "keys/"), 2 * (DATABASE_COUNT + 1));
    assert_int_equal(object_count(fixture, "wrapping-keys/"), 1);
}

static void test_rotation_with_storage_faults(void **state)
{
    rotate_with_faults(*state, true, false);
}

static void test_rotation_with_lost_replies(void **state)
{
    rotate_with_faults(*state, true, true);
}

static void test_rotation_with_service_faults(void **state)
{
    rotate_with_faults(*state, false, false);
}

// The same from the service's key to a key file, started from the beginning at each fault.
static void test_rotation_away_from_a_service(void **state)
{
    Keys *keys = *state;
    RotateResult result = {0};
    assert_ok(keys->fixture, rotate(keys, &result));
    KeyWrapper *file = keys->from;
    keys->from = keys->to;
    keys->to = file;
    rotate_with_faults(keys, false, false);
}

// A server goes on with the old key while it is rotated.
static void test_a_data_key_made_during_a_rotation(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    RotateResult result = {0};
    CLEANUP(data_key_done) DataKey late = {0};
    CLEANUP(data_key_done) DataKey read = {0};
    Repository *repository = NULL;
    assert_ok(fixture, repository_add_wrapping_key(fixture->storage, keys->from, keys->to, &result,
                                                   &fixture->error));
    assert_ok(fixture,
              repository_data_key(fixture->repository, SHARD_ID, true, &late, &fixture->error));
    assert_ok(fixture, repository_remove_wrapping_key(fixture->storage, keys->from, keys->to,
                                                      &result, &fixture->error));
    assert_int_equal(result.rewrapped_count, 1);
    assert_ok(fixture, repository_borrow(fixture->storage, keys->to, &repository, &fixture->error));
    assert_ok(fixture, repository_data_key(repository, SHARD_ID, false, &read, &fixture->error));
    assert_memory_equal(read.bytes.data, late.bytes.data, AES256_KEY_SIZE);
    // After it nobody makes one under the old key any more.
    data_key_done(&read);
    assert_reason(
        fixture,
        repository_data_key(fixture->repository, OTHER_SHARD_ID, true, &read, &fixture->error),
        REASON_KEY_WRONG);
    assert_ok(fixture,
              repository_data_key(repository, OTHER_SHARD_ID, true, &read, &fixture->error));
    repository_return(repository);
}

// Two makers with different wrapping keys must not make two keys of one id.
static void test_makers_with_different_wrapping_keys(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    RotateResult result = {0};
    Repository *other = NULL;
    assert_ok(fixture, repository_add_wrapping_key(fixture->storage, keys->from, keys->to, &result,
                                                   &fixture->error));
    assert_ok(fixture, repository_borrow(fixture->storage, keys->to, &other, &fixture->error));
    for (int call = 1; call < 12; call++) {
        CLEANUP(data_key_done) DataKey first = {0};
        CLEANUP(data_key_done) DataKey second = {0};
        CLEANUP(data_key_done) DataKey third = {0};
        char database_id[UUID_TEXT_SIZE];
        crypto_uuid(database_id);
        // One is killed anywhere in the making; the other makes the key.
        storage_memory_fail_at(fixture->storage, call, false);
        Status status =
            repository_data_key(fixture->repository, database_id, true, &first, &fixture->error);
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_ok(fixture, repository_data_key(other, database_id, true, &second, &fixture->error));
        Status again =
            repository_data_key(fixture->repository, database_id, true, &third, &fixture->error);
        if (again == STATUS_OK) {
            // Each seals with a key that its own wrapping gives; the ids tell them apart.
            assert_true(strcmp(third.id, second.id) != 0 ||
                        crypto_equal(third.bytes.data, second.bytes.data, AES256_KEY_SIZE));
        } else {
            assert_int_not_equal(status, STATUS_OK); // nothing was sealed with it
            assert_int_equal(fixture->error.reason, REASON_OBJECT_CORRUPT);
        }
    }
    // What the killed ones left does not stand in the way.
    assert_ok(fixture, rotate(keys, &result));
    repository_return(other);
}

// --- new data keys ----------------------------------------------------------------------------

static void test_a_new_data_key_is_for_seeds_from_now_on(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    Manifest *seed = NULL;
    Manifest *child = NULL;
    Manifest *second_seed = NULL;
    source_write(fixture, "a", 2 * EXTENT, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    CLEANUP(data_key_done) DataKey first = data_key_copy(&fixture->key);
    CLEANUP(data_key_done) DataKey second = {0};
    CLEANUP(data_key_done) DataKey found = {0};
    assert_ok(fixture, repository_data_key_renew(fixture->repository, DATABASE_ID, &second,
                                                 &fixture->error));
    assert_string_not_equal(first.id, second.id);
    assert_memory_not_equal(first.bytes.data, second.bytes.data, AES256_KEY_SIZE);
    assert_ok(fixture, repository_data_key(fixture->repository, DATABASE_ID, false, &found,
                                           &fixture->error));
    assert_string_equal(found.id, second.id);
    // A child is sealed with its parent's.
    data_key_done(&found);
    assert_ok(fixture, manifest_data_key(fixture->repository, DATABASE_ID, SHARD_ID, seed->id,
                                         &found, &fixture->error));
    assert_string_equal(found.id, first.id);
    source_patch(fixture, "a", 0, 10, 2);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_string_equal(child->key_id, first.id);
    data_key_done(&fixture->key);
    fixture->key = data_key_copy(&second);
    assert_ok(fixture, fixture_publish(fixture, NULL, &second_seed));
    assert_string_equal(second_seed->key_id, second.id);
    const char *digest = tree_digest(fixture, fixture->source);
    assert_restores(fixture, second_seed, digest);
    data_key_done(&fixture->key);
    fixture->key = data_key_copy(&first);
    assert_restores(fixture, child, digest);
}

static void test_renewing_with_lost_replies(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    for (int lost = 0; lost < 2; lost++) {
        Status status = STATUS_UNAVAILABLE;
        for (int call = 1; status != STATUS_OK; call++) {
            CLEANUP(data_key_done) DataKey first = {0};
            CLEANUP(data_key_done) DataKey key = {0};
            CLEANUP(data_key_done) DataKey newest = {0};
            char database_id[UUID_TEXT_SIZE];
            assert_true(call < CALL_COUNT_MAX);
            crypto_uuid(database_id);
            assert_ok(fixture, repository_data_key(fixture->repository, database_id, true, &first,
                                                   &fixture->error));
            storage_memory_fail_at(fixture->storage, call, lost == 1);
            status =
                repository_data_key_renew(fixture->repository, database_id, &key, &fixture->error);
            storage_memory_fail_at(fixture->storage, 0, false);
            assert_ok(fixture, repository_data_key(fixture->repository, database_id, false, &newest,
                                                   &fixture->error));
            assert_true(status != STATUS_OK || strcmp(newest.id, key.id) == 0);
        }
    }
}

// --- no key any more --------------------------------------------------------------------------

static void test_a_destroyed_key_opens_nothing_and_says_when(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    Manifest *manifest = NULL;
    Manifest *read = NULL;
    DestroyResult result = {0};
    CLEANUP(data_key_done) DataKey key = {0};
    source_write(fixture, "a", 2 * EXTENT, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    write_set(fixture, BACKUP_ID, manifest);
    assert_ok(fixture, repository_destroy_data_keys(fixture->repository, DATABASE_ID, NULL, &result,
                                                    &fixture->error));
    assert_int_equal(result.key_count, 1);
    assert_int_equal(result.wrapping_count, 1);
    assert_reason(fixture,
                  manifest_open(fixture->repository, DATABASE_ID, SHARD_ID, manifest->id,
                                fixture->arena, &key, &read, &fixture->error),
                  REASON_KEY_MISSING);
    assert_non_null(strstr(fixture->error.message, "was destroyed on 20"));
    BackupSet *set = NULL;
    assert_reason(fixture,
                  backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID, fixture->arena, &set,
                                  &fixture->error),
                  REASON_KEY_MISSING);
    assert_true(opens_everything(keys, keys->from)); // of the other databases
    // The next seed has another key.
    assert_ok(fixture,
              repository_data_key(fixture->repository, DATABASE_ID, true, &key, &fixture->error));
    assert_string_not_equal(key.id, fixture->key.id);
    // A rotation does not bring it back.
    RotateResult rotated = {0};
    assert_ok(fixture, rotate(keys, &rotated));
    char object[OBJECT_KEY_SIZE];
    snprintf(object, sizeof(object), "keys/%s/%s.", DATABASE_ID, fixture->key.id);
    assert_int_equal(object_count(fixture, object), 1); // ".destroyed"
}

static void test_destroying_with_faults(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    DestroyResult result = {0};
    CLEANUP(data_key_done) DataKey second = {0};
    assert_ok(fixture, repository_data_key_renew(fixture->repository, DATABASE_ID, &second,
                                                 &fixture->error));
    for (int call = 1;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, call % 2 == 0);
        Status status = repository_destroy_data_keys(fixture->repository, DATABASE_ID, NULL,
                                                     &result, &fixture->error);
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_true(opens_everything(keys, keys->from));
        if (status == STATUS_OK) {
            break;
        }
    }
    const char *ids[] = {fixture->key.id, second.id};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        DataKey key = {0};
        assert_reason(fixture,
                      repository_data_key_by_id(fixture->repository, DATABASE_ID, ids[i], &key,
                                                &fixture->error),
                      REASON_KEY_MISSING);
        assert_non_null(strstr(fixture->error.message, "was destroyed on"));
    }
    assert_int_equal(object_count(fixture, "keys/" DATABASE_ID "/"), 4);
}

static void test_a_lost_key_is_told(void **state)
{
    Keys *keys = *state;
    Fixture *fixture = keys->fixture;
    DataKey key = {0};
    char object[OBJECT_KEY_SIZE];
    key_wrapping_object_key(DATABASE_ID, fixture->key.id, key_wrapper_id(keys->from), object);
    assert_ok(fixture, storage_remove(fixture->storage, object, &fixture->error));
    assert_reason(fixture,
                  repository_data_key_by_id(fixture->repository, DATABASE_ID, fixture->key.id, &key,
                                            &fixture->error),
                  REASON_KEY_MISSING);
    assert_non_null(strstr(fixture->error.message, "is not in the repository"));
    assert_non_null(strstr(fixture->error.hint, object));
    // One that another key wraps.
    RotateResult result = {0};
    Repository *repository = NULL;
    assert_ok(fixture, repository_add_wrapping_key(fixture->storage, keys->from, keys->to, &result,
                                                   &fixture->error));
    assert_int_equal(result.lost_count, 1);
    assert_ok(fixture, repository_borrow(fixture->storage, keys->to, &repository, &fixture->error));
    key_wrapping_object_key(keys->databases[0], keys->keys[0].id, key_wrapper_id(keys->to), object);
    assert_ok(fixture, storage_remove(fixture->storage, object, &fixture->error));
    assert_reason(fixture,
                  repository_data_key_by_id(repository, keys->databases[0], keys->keys[0].id, &key,
                                            &fixture->error),
                  REASON_KEY_MISSING);
    assert_non_null(strstr(fixture->error.message, key_wrapper_id(keys->from)));
    repository_return(repository);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_new_key_opens_everything_and_the_old_one_nothing),
        TEST(test_a_key_that_opens_nothing_cannot_rotate),
        TEST(test_rotation_with_storage_faults),
        TEST(test_rotation_with_lost_replies),
        TEST(test_rotation_with_service_faults),
        TEST(test_rotation_away_from_a_service),
        TEST(test_a_data_key_made_during_a_rotation),
        TEST(test_makers_with_different_wrapping_keys),
        TEST(test_a_new_data_key_is_for_seeds_from_now_on),
        TEST(test_renewing_with_lost_replies),
        TEST(test_a_destroyed_key_opens_nothing_and_says_when),
        TEST(test_destroying_with_faults),
        TEST(test_a_lost_key_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
