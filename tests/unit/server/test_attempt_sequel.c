// SPDX-License-Identifier: Apache-2.0
// What comes after a failed attempt. If this goes red, a shard is given up too early, tried for
// ever, or a broken parent is used again.
#include "server/service/attempt_sequel.h"
#include "tests/harness/harness.h"

static AttemptSequel after(Reason reason, bool is_seed, int64_t plain_failure_count)
{
    return attempt_sequel(reason_slug(reason), is_seed, plain_failure_count, plain_failure_count);
}

static void test_what_passes_is_tried_three_times(void **state)
{
    (void)state;
    static const Reason reasons[] = {
        REASON_SOURCE_UNREACHABLE, REASON_ENGINE_FAILED, REASON_SOURCE_CHANGED, REASON_DISK_FULL,
        REASON_REPLAY_STALLED,     REASON_INTERNAL,      REASON_LAUNCH_FAILED};
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        for (int is_seed = 0; is_seed < 2; is_seed++) {
            assert_int_equal(after(reasons[i], is_seed, 1), ATTEMPT_RETRY);
            assert_int_equal(after(reasons[i], is_seed, 2), ATTEMPT_RETRY);
            assert_int_equal(after(reasons[i], is_seed, 3), ATTEMPT_GIVE_UP);
        }
    }
    assert_int_equal(attempt_sequel("of-a-newer-agent", false, 1, 1), ATTEMPT_RETRY);
}

static void test_losing_a_machine_says_nothing_of_the_shard(void **state)
{
    (void)state;
    assert_int_equal(attempt_sequel("instance-lost", false, 9, 9), ATTEMPT_RETRY);
    assert_int_equal(attempt_sequel("lease-lost", true, 9, 9), ATTEMPT_RETRY);
    assert_int_equal(attempt_sequel("lease-lost", true, ATTEMPT_COUNT_MAX, 0), ATTEMPT_GIVE_UP);
}

static void test_what_a_person_must_cure_is_not_tried_again(void **state)
{
    (void)state;
    static const Reason reasons[] = {REASON_SOURCE_AUTHENTICATION,
                                     REASON_SOURCE_PRIVILEGES,
                                     REASON_SOURCE_CONFIGURATION,
                                     REASON_REPOSITORY_UNWRITABLE,
                                     REASON_REPOSITORY_MISSING,
                                     REASON_KEY_MISSING,
                                     REASON_KEY_WRONG,
                                     REASON_ENGINE_MISSING,
                                     REASON_SOURCE_TLS};
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        assert_int_equal(after(reasons[i], false, 1), ATTEMPT_GIVE_UP);
        assert_int_equal(after(reasons[i], true, 1), ATTEMPT_GIVE_UP);
    }
}

static void test_a_parent_that_cannot_go_on_is_left(void **state)
{
    (void)state;
    assert_int_equal(after(REASON_LOGS_GONE, false, 1), ATTEMPT_RESEED);
    assert_int_equal(after(REASON_SOURCE_DIVERGED, false, 3), ATTEMPT_RESEED);
    assert_int_equal(after(REASON_ENGINE_VERSION, false, 1), ATTEMPT_RESEED);
    assert_int_equal(after(REASON_PARENT_UNRESTORABLE, false, 1), ATTEMPT_OLDER_PARENT);
    assert_int_equal(after(REASON_OBJECT_CORRUPT, false, 1), ATTEMPT_OLDER_PARENT);
    assert_int_equal(after(REASON_OBJECT_MISSING, false, 3), ATTEMPT_OLDER_PARENT);
    // A seed has no parent to leave.
    assert_int_equal(after(REASON_LOGS_GONE, true, 1), ATTEMPT_RETRY);
    assert_int_equal(after(REASON_OBJECT_CORRUPT, true, 3), ATTEMPT_GIVE_UP);
    assert_int_equal(after(REASON_ENGINE_VERSION, true, 1), ATTEMPT_GIVE_UP);
}

static void test_a_bad_page_means_one_new_copy(void **state)
{
    (void)state;
    assert_int_equal(after(REASON_PAGE_CORRUPT, false, 1), ATTEMPT_RESEED);
    assert_int_equal(after(REASON_PAGE_CORRUPT, true, 1), ATTEMPT_GIVE_UP);
}

static void test_nothing_goes_on_for_ever(void **state)
{
    (void)state;
    assert_int_equal(attempt_sequel("object-corrupt", false, ATTEMPT_COUNT_MAX, 0),
                     ATTEMPT_GIVE_UP);
    assert_int_equal(attempt_sequel("logs-gone", false, ATTEMPT_COUNT_MAX, 0), ATTEMPT_GIVE_UP);
}

static void test_waits_longer_each_time(void **state)
{
    (void)state;
    assert_int_equal(attempt_backoff_ms("", 0), 0);
    assert_true(attempt_backoff_ms("instance-lost", 1) > 0);
    assert_true(attempt_backoff_ms("instance-lost", 2) > attempt_backoff_ms("instance-lost", 1));
    assert_true(attempt_backoff_ms("instance-lost", 1000) <= 60000);
    assert_true(attempt_backoff_ms("source-unreachable", 1) >=
                5 * attempt_backoff_ms("instance-lost", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_passes_is_tried_three_times),
        cmocka_unit_test(test_losing_a_machine_says_nothing_of_the_shard),
        cmocka_unit_test(test_what_a_person_must_cure_is_not_tried_again),
        cmocka_unit_test(test_a_parent_that_cannot_go_on_is_left),
        cmocka_unit_test(test_a_bad_page_means_one_new_copy),
        cmocka_unit_test(test_nothing_goes_on_for_ever),
        cmocka_unit_test(test_waits_longer_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
