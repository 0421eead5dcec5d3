// SPDX-License-Identifier: Apache-2.0
// If this goes red, schedules are read wrongly or fire at the wrong time. (Against real zones:
// tests/integration/test_store.c.)
#include "common/clock.h"
#include "server/service/cron.h"
#include "tests/harness/harness.h"

#include <string.h>

#define HOUR_US INT64_C(3600000000)

static const TimeZone UTC = {0};

static int64_t at(const char *text)
{
    int64_t time_us = 0;
    assert_true(time_parse(text, &time_us));
    return time_us;
}

static void expect_next(const char *schedule, const TimeZone *zone, const char *after,
                        const char *expected)
{
    Error error = {0};
    Cron cron;
    assert_ok(cron_parse(schedule, &cron, &error), &error);
    int64_t slot_us = 0;
    assert_true(cron_next(&cron, zone, at(after), &slot_us));
    char text[TIME_TEXT_SIZE];
    time_format(slot_us, text);
    assert_string_equal(text, expected);
}

static void test_reads_fields(void **state)
{
    (void)state;
    expect_next("30 2 * * *", &UTC, "2026-01-01T00:00:00Z", "2026-01-01T02:30:00Z");
    expect_next("30 2 * * *", &UTC, "2026-01-01T02:30:00Z", "2026-01-02T02:30:00Z");
    expect_next("30 2 * * *", &UTC, "2026-01-01T02:29:59.999999Z", "2026-01-01T02:30:00Z");
    expect_next("*/20 * * * *", &UTC, "2026-01-01T00:41:00Z", "2026-01-01T01:00:00Z");
    expect_next("5-9/2,50 * * * *", &UTC, "2026-01-01T00:06:00Z", "2026-01-01T00:07:00Z");
    expect_next("5-9/2,50 * * * *", &UTC, "2026-01-01T00:09:00Z", "2026-01-01T00:50:00Z");
    expect_next("0 0 * * MON", &UTC, "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z");
    expect_next("0 0 * * 7", &UTC, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    expect_next("0 0 * * fri-sat", &UTC, "2026-01-04T00:00:00Z", "2026-01-09T00:00:00Z");
    expect_next("0 0 31 * *", &UTC, "2026-04-01T00:00:00Z", "2026-05-31T00:00:00Z");
    expect_next("0 12 1 jan *", &UTC, "2026-02-01T00:00:00Z", "2027-01-01T12:00:00Z");
    expect_next("0 0 29 2 *", &UTC, "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
    expect_next("0 0 29 2 *", &UTC, "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z");
    // Both days restricted: either is enough. A star with a step does not restrict.
    expect_next("0 0 13 * 5", &UTC, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    expect_next("0 0 13 * 5", &UTC, "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z");
    expect_next("0 0 */2 * 5", &UTC, "2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z");
    expect_next("@hourly", &UTC, "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z");
    expect_next("@daily", &UTC, "2026-01-01T00:30:00Z", "2026-01-02T00:00:00Z");
    expect_next("@weekly", &UTC, "2026-01-01T00:30:00Z", "2026-01-04T00:00:00Z");
    expect_next("@monthly", &UTC, "2026-01-01T00:30:00Z", "2026-02-01T00:00:00Z");
    expect_next("  0\t0  * * 0 ", &UTC, "1969-12-30T00:00:00Z", "1970-01-04T00:00:00Z");
}

static void test_follows_the_clock_change(void **state)
{
    (void)state;
    // Berlin 2026: +1 h to 29 March 01:00 UTC, +2 h to 25 October 01:00 UTC.
    TimeZoneChange changes[] = {{0, 2 * HOUR_US}, {0, HOUR_US}};
    changes[0].at_us = at("2026-03-29T01:00:00Z");
    changes[1].at_us = at("2026-10-25T01:00:00Z");
    TimeZone berlin = {.first_offset_us = HOUR_US, .changes = changes, .change_count = 2};
    // 02:30 is skipped: at the moment of the change.
    expect_next("30 2 * * *", &berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
    expect_next("30 2 * * *", &berlin, "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    // Several skipped minutes, and 03:00 itself, are one slot.
    expect_next("0,30 2,3 * * *", &berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
    expect_next("0,30 2,3 * * *", &berlin, "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z");
    // 02:30 comes twice: the first time.
    expect_next("30 2 * * *", &berlin, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
    expect_next("30 2 * * *", &berlin, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
    expect_next("30 2 * * *", &berlin, "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z");
    // Every hour follows absolute time.
    expect_next("30 * * * *", &berlin, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    expect_next("30 * * * *", &berlin, "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z");
    expect_next("30 * * * *", &berlin, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z");
    expect_next("* 2 * * *", &berlin, "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z");
    expect_next("* 2 * * *", &berlin, "2026-10-25T00:59:00Z", "2026-10-25T01:00:00Z");
}

static void test_knows_what_never_fires(void **state)
{
    (void)state;
    static const char *const NEVER[] = {"0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * 31 feb *"};
    for (size_t i = 0; i < ARRAY_COUNT(NEVER); i++) {
        Error error = {0};
        Cron cron;
        int64_t slot_us;
        assert_ok(cron_parse(NEVER[i], &cron, &error), &error);
        assert_false(cron_next(&cron, &UTC, at("2026-01-01T00:00:00Z"), &slot_us));
    }
}

static void test_refuses_what_is_no_schedule(void **state)
{
    (void)state;
    static const char *const BAD[] = {"",
                                      " ",
                                      "* * * *",
                                      "* * * * * *",
                                      "60 * * * *",
                                      "* 24 * * *",
                                      "* * 0 * *",
                                      "* * 32 * *",
                                      "* * * 13 *",
                                      "* * * 0 *",
                                      "* * * * 8",
                                      "-1 * * * *",
                                      "5-1 * * * *",
                                      "*/0 * * * *",
                                      "*/60 * * * *",
                                      "5/10 * * * *",
                                      "1,, * * * *",
                                      "1- * * * *",
                                      "a * * * *",
                                      "* * * foo *",
                                      "* * * * monx",
                                      "@reboot",
                                      "@",
                                      "1;2 * * * *",
                                      "*/ * * * *",
                                      "99999999999 * * * *",
                                      ", * * * *",
                                      "** * * * *",
                                      "1-2-3 * * * *",
                                      "0 0 * * mon-",
                                      "*/-1 * * * *",
                                      "0x1 * * * *",
                                      "+1 * * * *",
                                      "1/x * * * *",
                                      "5-10/mon * * * *"};
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        Error error = {0};
        Cron cron;
        if (cron_parse(BAD[i], &cron, &error) == STATUS_OK) {
            fail_msg("'%s' was taken", BAD[i]);
        }
        assert_int_equal(error.reason, REASON_INVALID);
        assert_string_equal(error.field, "schedule");
        assert_true(error.hint[0] != '\0');
    }
    char longest[400];
    memset(longest, ' ', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memcpy(longest, "* * * * *", 9);
    longest[398] = '*';
    Error error = {0};
    Cron cron;
    assert_error(cron_parse(longest, &cron, &error), &error, REASON_INVALID,
                 "the schedule has more than 255 characters");
    assert_error(cron_parse("61 * * * *", &cron, &error), &error, REASON_INVALID,
                 "the minute of the schedule is '61'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_fields),
        cmocka_unit_test(test_follows_the_clock_change),
        cmocka_unit_test(test_knows_what_never_fires),
        cmocka_unit_test(test_refuses_what_is_no_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
