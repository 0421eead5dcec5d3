// SPDX-License-Identifier: Apache-2.0
// If this goes red, backups are deleted that a policy keeps, or the other way round.
#include "server/service/retention.h"
#include "tests/harness/harness.h"

#define DAY_US (INT64_C(86400) * 1000000)
#define NOW_US (1000 * DAY_US)

// kind: s succeeded, u succeeded but unrestorable, f failed with parts, m by hand. One a day,
// newest first, the first one day old.
static void decide(const RetentionRule *rule, const char *kinds, const char *expected)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RetentionBackup backups[16] = {0};
    size_t count = 0;
    for (; kinds[count] != '\0'; count++) {
        char kind = kinds[count];
        backups[count] = (RetentionBackup){.id = "x",
                                           .checkpoint_us = NOW_US - ((int64_t)count + 1) * DAY_US,
                                           .is_succeeded = kind != 'f',
                                           .is_restorable = kind == 's' || kind == 'm',
                                           .is_manual = kind == 'm'};
    }
    retention_decide(arena, rule, NOW_US, backups, count);
    for (size_t i = 0; i < count; i++) {
        if (backups[i].is_kept != (expected[i] == '+')) {
            fail_msg("'%s', number %zu: %s", kinds, i, backups[i].why);
        }
        assert_true(backups[i].why != NULL && backups[i].why[0] != '\0');
    }
}

static void test_keeps_the_last(void **state)
{
    (void)state;
    RetentionRule rule = {.keep_last = 2};
    decide(&rule, "ssss", "++--");
    decide(&rule, "s", "+");
    decide(&rule, "", "");
    // Only restorable ones count.
    decide(&rule, "usus", "-+-+");
    decide(&rule, "fsss", "+++-");
    decide(&rule, "sfss", "+-+-");
    // By hand: neither deleted nor counted.
    decide(&rule, "msmsms", "+++++-");
}

static void test_keeps_the_young(void **state)
{
    (void)state;
    RetentionRule rule = {.keep_for_us = 3 * DAY_US};
    decide(&rule, "sssss", "+++--");
    decide(&rule, "ususs", "+++--");
    RetentionRule both = {.keep_last = 1, .keep_for_us = 2 * DAY_US};
    decide(&both, "ssss", "++--");
    RetentionRule other = {.keep_last = 3, .keep_for_us = 2 * DAY_US};
    decide(&other, "ssss", "+++-");
}

static void test_keeps_the_newest_restorable_whatever_the_rule(void **state)
{
    (void)state;
    RetentionRule rule = {.keep_for_us = 1000};
    decide(&rule, "sss", "+--");
    decide(&rule, "uus", "--+");
    decide(&rule, "ffs", "+++");
    decide(&rule, "ff", "++");
}

static void test_without_a_rule_keeps_everything(void **state)
{
    (void)state;
    RetentionRule rule = {0};
    decide(&rule, "susfm", "+++++");
}

static void test_says_why(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RetentionRule rule = {.keep_last = 2, .keep_for_us = 7 * DAY_US};
    RetentionBackup backups[4] = {0};
    const int64_t ages[] = {1, 2, 6, 9};
    for (size_t i = 0; i < 4; i++) {
        backups[i] = (RetentionBackup){.checkpoint_us = NOW_US - ages[i] * DAY_US,
                                       .is_succeeded = true,
                                       .is_restorable = true};
    }
    retention_decide(arena, &rule, NOW_US, backups, 4);
    assert_string_equal(backups[0].why, "newest restorable backup");
    assert_string_equal(backups[1].why, "within keep_last 2");
    assert_string_equal(backups[2].why, "younger than keep_for 7d");
    assert_string_equal(backups[3].why, "beyond keep_last 2 and older than keep_for 7d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_last),
        cmocka_unit_test(test_keeps_the_young),
        cmocka_unit_test(test_keeps_the_newest_restorable_whatever_the_rule),
        cmocka_unit_test(test_without_a_rule_keeps_everything),
        cmocka_unit_test(test_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
