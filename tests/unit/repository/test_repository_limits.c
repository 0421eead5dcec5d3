// SPDX-License-Identifier: Apache-2.0
// Bandwidth that is changed under way. If this goes red, a limit that changes often is none, or a
// higher one has to wait for the end of the lower one.
#include "common/clock.h"
#include "repository/repository_limits.h"
#include "tests/harness/harness.h"

static int64_t wait_ms(Limits *limits, size_t size)
{
    atomic_bool is_stopping;
    atomic_init(&is_stopping, false);
    int64_t started_ms = clock_monotonic_ms();
    limits_wait_upload(limits, size, &is_stopping);
    return clock_monotonic_ms() - started_ms;
}

static void test_what_is_owed_stays_owed_at_the_new_rate(void **state)
{
    (void)state;
    CLEANUP(limits_freep) Limits *limits = limits_new();
    limits_set_bandwidth(limits, 1000, 0);
    (void)wait_ms(limits, 1000); // goes at once, and is owed for a second
    for (int i = 0; i < 100; i++) {
        limits_set_bandwidth(limits, 1000 + i % 2, 0);
    }
    limits_set_bandwidth(limits, 2000, 0);
    assert_true(wait_ms(limits, 1) >= 300); // of the half second that is left of it
}

static void test_a_higher_rate_works_at_once(void **state)
{
    (void)state;
    CLEANUP(limits_freep) Limits *limits = limits_new();
    limits_set_bandwidth(limits, 1, 0);
    (void)wait_ms(limits, 1000000); // owed for eleven days
    limits_set_bandwidth(limits, INT64_C(1000) * 1000 * 1000, 0);
    (void)wait_ms(limits, 1); // the test's own time limit would tell
    limits_set_bandwidth(limits, 1, 0);
    (void)wait_ms(limits, 1000000);
    limits_set_bandwidth(limits, 0, 0);
    (void)wait_ms(limits, 1000000);
    (void)wait_ms(limits, 1000000);
}

// Within a transfer: pieces go at the rate, and at a MiB a second at the least.
static void test_a_transfer_is_paced(void **state)
{
    (void)state;
    CLEANUP(limits_freep) Limits *limits = limits_new();
    limits_set_bandwidth(limits, INT64_C(2048) * 1024, 1);
    int64_t started_ms = clock_monotonic_ms();
    for (int i = 0; i < 64; i++) {
        limits_pace(limits, true, 32 * 1024);
    }
    assert_true(clock_monotonic_ms() - started_ms >= 950);
    for (int i = 0; i < 16; i++) {
        limits_pace(limits, false, 16 * 1024); // else in days
    }
    limits_set_bandwidth(limits, 0, 0);
    for (int i = 0; i < 1000; i++) {
        limits_pace(limits, true, 1024 * 1024);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_owed_stays_owed_at_the_new_rate),
        cmocka_unit_test(test_a_higher_rate_works_at_once),
        cmocka_unit_test(test_a_transfer_is_paced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
