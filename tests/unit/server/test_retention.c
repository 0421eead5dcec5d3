// SPDX-License-Identifier: Apache-2.0
// If this goes red, backups are deleted that a policy keeps, or the other way round.
#include "common/buffer.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "server/service/retention.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

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

// A backup of each age in days; local time is UTC.
static void fill(RetentionBackup *backups, const int *ages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        backups[i] = (RetentionBackup){.checkpoint_us = NOW_US - ages[i] * DAY_US,
                                       .local_us = NOW_US - ages[i] * DAY_US,
                                       .is_succeeded = true,
                                       .is_restorable = true};
    }
}

static void test_says_why(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RetentionRule rule = {.keep_last = 2, .keep_for_us = 7 * DAY_US};
    RetentionBackup backups[4] = {0};
    static const int AGES[] = {1, 2, 6, 9};
    fill(backups, AGES, 4);
    retention_decide(arena, &rule, NOW_US, backups, 4);
    assert_string_equal(backups[0].why,
                        "newest restorable backup, within keep_last 2, younger than keep_for 7d");
    assert_string_equal(backups[1].why, "within keep_last 2, younger than keep_for 7d");
    assert_string_equal(backups[2].why, "younger than keep_for 7d");
    assert_string_equal(backups[3].why, "beyond keep_last 2 and older than keep_for 7d");
    // The day 1000 after 1970 is Wednesday, the 27th of September 1972.
    RetentionRule periods = {.keep_last = 1, .keep_periods = {1, 2, 1, 1, 1}};
    retention_decide(arena, &periods, NOW_US, backups, 4);
    assert_string_equal(backups[0].why,
                        "newest restorable backup, within keep_last 1, newest of hour 1972-09-26 "
                        "00:00 (keep_hourly 1), newest of day 1972-09-26 (keep_daily 2), newest of "
                        "week 1972-W39 (keep_weekly 1), newest of month 1972-09 (keep_monthly 1), "
                        "newest of year 1972 (keep_yearly 1)");
    assert_string_equal(backups[1].why, "newest of day 1972-09-25 (keep_daily 2)");
    assert_string_equal(backups[2].why,
                        "beyond keep_last 1, not kept by keep_hourly 1, not kept by keep_daily 2, "
                        "not kept by keep_weekly 1, not kept by keep_monthly 1, not kept by "
                        "keep_yearly 1");
}

static void test_pins_and_holds_keep_whatever_the_rule_says(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RetentionRule rule = {.keep_last = 1};
    RetentionBackup backups[4] = {0};
    static const int AGES[] = {1, 2, 3, 4};
    fill(backups, AGES, 4);
    backups[1].is_pinned = true;
    backups[2].is_pinned = backups[2].is_held = true;
    backups[2].pinned_until = "1973-01-01 00:00 UTC";
    retention_decide(arena, &rule, NOW_US, backups, 4);
    assert_string_equal(backups[1].why, "pinned");
    assert_string_equal(backups[2].why, "on legal hold, pinned until 1973-01-01 00:00 UTC");
    assert_int_equal(backups[2].kept_by, 1U << RETENTION_BY_HOLD | 1U << RETENTION_BY_PIN);
    assert_false(backups[3].is_kept);
    // One that does not restore is kept by a pin too, and does not count.
    backups[0].is_restorable = false;
    backups[0].is_pinned = true;
    retention_decide(arena, &rule, NOW_US, backups, 4);
    assert_string_equal(backups[1].why, "pinned, newest restorable backup, within keep_last 1");
}

// --- against brute force ---

static const char *kept_by_words(Arena *arena, const RetentionBackup *backup)
{
    // In the order of the alphabet, as the oracle has them.
    static const RetentionKeeper ORDER[] = {
        RETENTION_BY_INCOMPLETE, RETENTION_BY_DAY,   RETENTION_BY_AGE,  RETENTION_BY_HOUR,
        RETENTION_BY_LAST,       RETENTION_BY_MONTH, RETENTION_BY_WEEK, RETENTION_BY_YEAR,
        RETENTION_BY_MANUAL,     RETENTION_BY_NEWEST};
    const char *text = "";
    for (size_t i = 0; i < ARRAY_COUNT(ORDER); i++) {
        if ((backup->kept_by & (1U << ORDER[i])) != 0) {
            text = arena_format(arena, "%s%s%s", text, text[0] == '\0' ? "" : ",",
                                retention_keeper_word(ORDER[i]));
        }
    }
    return text;
}

static RetentionRule read_rule(const char *text)
{
    RetentionRule rule = {0};
    char *end = NULL;
    rule.keep_last = (int)strtoll(text, &end, 10);
    rule.keep_for_us = strtoll(end + 1, &end, 10);
    for (size_t period = 0; period < RETENTION_PERIOD_COUNT; period++) {
        rule.keep_periods[period] = (int)strtoll(end + 1, &end, 10);
    }
    return rule;
}

static void check_line(char *line)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *rest = NULL;
    int64_t now_us = strtoll(strtok_r(line, "|", &rest), NULL, 10);
    RetentionRule rule = read_rule(strtok_r(NULL, "|", &rest));
    RetentionBackup backups[64] = {0};
    const char *expected[64];
    size_t count = 0;
    for (char *text = strtok_r(NULL, " ", &rest); text != NULL; text = strtok_r(NULL, " ", &rest)) {
        char *end = NULL;
        RetentionBackup *backup = &backups[count];
        backup->checkpoint_us = strtoll(text, &end, 10);
        backup->local_us = strtoll(end + 1, &end, 10);
        backup->is_succeeded = end[1] != 'f';
        backup->is_restorable = end[1] == 's' || end[1] == 'm';
        backup->is_manual = end[1] == 'm';
        expected[count++] = end + 3;
    }
    retention_decide(arena, &rule, now_us, backups, count);
    for (size_t i = 0; i < count; i++) {
        const char *words = kept_by_words(arena, &backups[i]);
        if (!text_equal(words, expected[i]) || backups[i].is_kept != (words[0] != '\0')) {
            fail_msg("at %lld, number %zu: '%s', not '%s': %s", (long long)now_us, i, words,
                     expected[i], backups[i].why);
        }
    }
}

static void test_agrees_with_brute_force(void **state)
{
    (void)state;
    const char *arguments[] = {"/usr/bin/python3", "-I", TEST_RETENTION_ORACLE, NULL};
    ProcessOptions process = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 16 * 1024 * 1024);
    Error error = {0};
    assert_int_equal(process_run(&process, 120000, REASON_INTERNAL, &output, &error), STATUS_OK);
    CLEANUP_FREE char *text = buffer_take_text(&output);
    int count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), count++) {
        check_line(line);
    }
    assert_true(count >= 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_last),
        cmocka_unit_test(test_keeps_the_young),
        cmocka_unit_test(test_keeps_the_newest_restorable_whatever_the_rule),
        cmocka_unit_test(test_without_a_rule_keeps_everything),
        cmocka_unit_test(test_says_why),
        cmocka_unit_test(test_pins_and_holds_keep_whatever_the_rule_says),
        cmocka_unit_test(test_agrees_with_brute_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
