// SPDX-License-Identifier: Apache-2.0
// What each instance may use. If this goes red, limits are exceeded, or bandwidth lies idle.
#include "server/service/resource_limits.h"
#include "tests/harness/harness.h"

#define MIB (INT64_C(1024) * 1024)

static int64_t share(BandwidthCap run, BandwidthCap repository, BandwidthCap fleet)
{
    const BandwidthCap caps[LIMIT_LEVEL_COUNT] = {
        [LIMIT_OF_RUN] = run, [LIMIT_OF_REPOSITORY] = repository, [LIMIT_OF_FLEET] = fleet};
    return bandwidth_share(caps, LIMIT_LEVEL_COUNT);
}

static BandwidthCap cap(int64_t bytes_per_second, int64_t user_count)
{
    return (BandwidthCap){.bytes_per_second = bytes_per_second, .user_count = user_count};
}

static void test_without_limits_there_is_none(void **state)
{
    (void)state;
    assert_int_equal(share(cap(0, 4), cap(0, 9), cap(0, 100)), 0);
    assert_int_equal(bandwidth_share(NULL, 0), 0);
}

static void test_a_limit_is_divided_among_those_who_share_it(void **state)
{
    (void)state;
    assert_int_equal(share(cap(8 * MIB, 4), cap(0, 9), cap(0, 100)), 2 * MIB);
    assert_int_equal(share(cap(0, 4), cap(9 * MIB, 9), cap(0, 100)), MIB);
    assert_int_equal(share(cap(0, 4), cap(0, 9), cap(100 * MIB, 100)), MIB);
    assert_int_equal(share(cap(8 * MIB, 1), cap(0, 1), cap(0, 1)), 8 * MIB);
}

static void test_the_smallest_part_holds(void **state)
{
    (void)state;
    assert_int_equal(share(cap(8 * MIB, 4), cap(9 * MIB, 9), cap(300 * MIB, 100)), MIB);
    assert_int_equal(share(cap(2 * MIB, 4), cap(9 * MIB, 9), cap(300 * MIB, 100)), MIB / 2);
    assert_int_equal(share(cap(8 * MIB, 4), cap(90 * MIB, 9), cap(100 * MIB, 100)), MIB);
}

// All together never get more than the cap, however many there are; and nobody gets "no limit".
static void test_the_sum_is_within_the_cap(void **state)
{
    (void)state;
    for (int64_t count = 1; count < 1000; count++) {
        int64_t part = share(cap(64 * 1024 + 7, count), cap(0, count), cap(0, count));
        assert_true(part > 0);
        assert_true(part * count <= 64 * 1024 + 7);
        assert_true((part + 1) * count > 64 * 1024 + 7);
    }
    assert_int_equal(share(cap(10, 1000), cap(0, 1), cap(0, 1)), 1);
    assert_int_equal(share(cap(10, 0), cap(0, 0), cap(0, 0)), 10);
}

static void check_refused(const Holdfast__V1__ResourceLimits *limits, const char *field)
{
    Error error = {0};
    assert_int_equal(resource_limits_check("policy.limits", limits, &error),
                     STATUS_INVALID_ARGUMENT);
    assert_string_equal(error.field, field);
    assert_true(error.hint[0] != '\0');
}

static void test_what_cannot_be_meant_is_refused(void **state)
{
    (void)state;
    static const int64_t rates[] = {-1, 1, 64 * 1024 - 1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(rates); i++) {
        Holdfast__V1__ResourceLimits limits = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
        limits.upload_bytes_per_second = rates[i];
        check_refused(&limits, "policy.limits.upload_bytes_per_second");
        limits.upload_bytes_per_second = 0;
        limits.download_bytes_per_second = rates[i];
        check_refused(&limits, "policy.limits.download_bytes_per_second");
        Holdfast__V1__BandwidthLimits bandwidth = HOLDFAST__V1__BANDWIDTH_LIMITS__INIT;
        bandwidth.download_bytes_per_second = rates[i];
        Error error = {0};
        assert_int_equal(bandwidth_limits_check("repository.limits", &bandwidth, &error),
                         STATUS_INVALID_ARGUMENT);
    }
    Holdfast__V1__ResourceLimits limits = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    limits.cpu_count = -1;
    check_refused(&limits, "policy.limits.cpu_count");
    limits.cpu_count = 1025;
    check_refused(&limits, "policy.limits.cpu_count");
    limits.cpu_count = 0;
    limits.memory_bytes = 64 * MIB - 1;
    check_refused(&limits, "policy.limits.memory_bytes");
    limits.memory_bytes = -64 * MIB;
    check_refused(&limits, "policy.limits.memory_bytes");
}

static void test_what_can_be_meant_is_taken(void **state)
{
    (void)state;
    Error error = {0};
    Holdfast__V1__ResourceLimits limits = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    assert_int_equal(resource_limits_check("limits", NULL, &error), STATUS_OK);
    assert_int_equal(resource_limits_check("limits", &limits, &error), STATUS_OK);
    limits.upload_bytes_per_second = 64 * 1024;
    limits.download_bytes_per_second = INT64_C(1) << 40;
    limits.cpu_count = 1;
    limits.memory_bytes = 64 * MIB;
    assert_int_equal(resource_limits_check("limits", &limits, &error), STATUS_OK);
}

// Own limits are laid over a policy's: what is 0 must not be among them.
static void test_what_is_zero_is_not_kept(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Holdfast__V1__ResourceLimits limits = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    assert_null(limits_to_json(arena, NULL));
    assert_null(limits_to_json(arena, &limits.base));
    limits.download_bytes_per_second = MIB;
    limits.cpu_count = 2;
    assert_string_equal(limits_to_json(arena, &limits.base),
                        "{\"download_bytes_per_second\":1048576,\"cpu_count\":2}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_limits_there_is_none),
        cmocka_unit_test(test_a_limit_is_divided_among_those_who_share_it),
        cmocka_unit_test(test_the_smallest_part_holds),
        cmocka_unit_test(test_the_sum_is_within_the_cap),
        cmocka_unit_test(test_what_cannot_be_meant_is_refused),
        cmocka_unit_test(test_what_can_be_meant_is_taken),
        cmocka_unit_test(test_what_is_zero_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
