// SPDX-License-Identifier: Apache-2.0
// The fault injection that the repository's fault loops rely on. If this goes red, those loops
// prove nothing.
#include "common/clock.h"
#include "common/memory.h"
#include "storage/storage_drivers.h"

#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static void test_the_nth_call_fails_once(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP(storage_freep) Storage *storage = storage_memory_new();
    // put is three calls: open, write, commit.
    for (int call_number = 1; call_number <= 3; call_number++) {
        storage_memory_fail_at(storage, call_number, false);
        assert_int_equal(storage_put(storage, "k", "v", 1, NULL, &error), STATUS_UNAVAILABLE);
        assert_int_equal(error.reason, REASON_UNAVAILABLE);
        assert_int_equal(storage_memory_call_count(storage), call_number);
        StorageObject object;
        assert_int_equal(storage_stat(storage, "k", &object, &error), STATUS_NOT_FOUND);
    }
    storage_memory_fail_at(storage, 4, false);
    assert_int_equal(storage_put(storage, "k", "v", 1, NULL, &error), STATUS_OK);
    assert_int_equal(storage_remove(storage, "k", &error), STATUS_UNAVAILABLE);
    StorageObject object;
    assert_int_equal(storage_stat(storage, "k", &object, &error), STATUS_OK);
}

static void test_a_lost_reply_takes_effect(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP(storage_freep) Storage *storage = storage_memory_new();
    storage_memory_fail_at(storage, 3, true);
    assert_int_equal(storage_put(storage, "k", "v", 1, NULL, &error), STATUS_UNAVAILABLE);
    StorageObject object;
    assert_int_equal(storage_stat(storage, "k", &object, &error), STATUS_OK);
    storage_memory_fail_at(storage, 1, true);
    assert_int_equal(storage_remove(storage, "k", &error), STATUS_UNAVAILABLE);
    assert_int_equal(storage_stat(storage, "k", &object, &error), STATUS_NOT_FOUND);
}

static void test_a_locked_object_stays_until_its_time(void **state)
{
    (void)state;
    Error error = {0};
    StorageObject object;
    CLEANUP(storage_freep) Storage *storage = storage_memory_new();
    int64_t until_us = clock_now_us() + INT64_C(3600) * 1000000;
    assert_int_equal(storage_put(storage, "a/1", "v", 1, NULL, &error), STATUS_OK);
    assert_int_equal(storage_put(storage, "b/1", "v", 1, NULL, &error), STATUS_OK);
    storage_memory_lock(storage, "a/", until_us);
    assert_int_equal(storage_remove(storage, "a/1", &error), STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_OBJECT_LOCKED);
    assert_int_equal(storage_stat(storage, "a/1", &object, &error), STATUS_OK);
    assert_int_equal(object.locked_until_us, until_us);
    StorageRemoval removals[] = {{.key = "a/1"}, {.key = "b/1"}};
    assert_int_equal(storage_remove_many(storage, removals, 2, &error), STATUS_OK);
    assert_true(removals[0].is_locked);
    assert_false(removals[1].is_locked);
    assert_int_equal(storage_stat(storage, "b/1", &object, &error), STATUS_NOT_FOUND);
    storage_memory_lock(storage, "a/", clock_now_us() - 1);
    assert_int_equal(storage_remove(storage, "a/1", &error), STATUS_OK);
    assert_int_equal(storage_stat(storage, "a/1", &object, &error), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_nth_call_fails_once),
        cmocka_unit_test(test_a_lost_reply_takes_effect),
        cmocka_unit_test(test_a_locked_object_stays_until_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
