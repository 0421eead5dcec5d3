// SPDX-License-Identifier: Apache-2.0
// Red when names, sizes, durations or times from outside are read wrongly.
#include "common/clock.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <string.h>

static void test_questions(void **state)
{
    (void)state;
    assert_true(text_equal(NULL, NULL));
    assert_false(text_equal(NULL, ""));
    assert_true(text_equal("a", "a"));
    assert_true(text_has_prefix("backup", "back"));
    assert_false(text_has_prefix("back", "backup"));
    assert_true(text_has_suffix("backup", "up"));
    assert_false(text_has_suffix("up", "backup"));
    assert_true(text_is_empty(NULL));
    assert_true(text_is_empty(""));
    assert_false(text_is_empty(" "));
}

static void test_label(void **state)
{
    (void)state;
    char longest[65];
    memset(longest, 'a', 64);
    longest[64] = '\0';
    assert_false(text_is_label(longest));
    longest[63] = '\0';
    assert_true(text_is_label(longest));
    assert_true(text_is_label("shop-1"));
    assert_true(text_is_label("0"));
    static const char *const wrong[] = {"", "-a", "a-", "A", "a_b", "a.b", "a b", "a\n", "ä"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_false(text_is_label(wrong[i]));
    }
    assert_false(text_is_label(NULL));
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const right[] = {
        "", "a", "ä", "€", "\xf0\x9f\x90\xb3", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
    static const char *const wrong[] = {"\x80",         "\xc0\x80",
                                        "\xc1\xbf",     "\xe0\x80\x80",
                                        "\xed\xa0\x80", "\xf0\x80\x80\x80",
                                        "\xf5\x80",     "\xf4\x90\x80\x80",
                                        "\xe2\x82",     "a\xff",
                                        "\xc3(",        "\xf0\x9f\x90("};
    for (size_t i = 0; i < ARRAY_COUNT(right); i++) {
        assert_true(text_is_utf8(right[i], strlen(right[i])));
    }
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_false(text_is_utf8(wrong[i], strlen(wrong[i])));
    }
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_true(text_to_int64("-9223372036854775808", &value));
    assert_true(value == INT64_MIN);
    static const char *const wrong[] = {"", " 1", "1 ", "+1", "0x10", "1.0", "9223372036854775808",
                                        "-"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_false(text_to_int64(wrong[i], &value));
    }
    assert_true(text_to_bytes("4096", &value) && value == 4096);
    assert_true(text_to_bytes("64MiB", &value) && value == 64 * 1024 * 1024);
    assert_true(text_to_bytes("1GB", &value) && value == 1000000000);
    assert_true(text_to_bytes("2TiB", &value) && value == INT64_C(2) << 40);
    assert_false(text_to_bytes("9223372036854775807KiB", &value));
    assert_false(text_to_bytes("-1", &value));
    assert_false(text_to_bytes("1 MiB", &value));
    assert_false(text_to_bytes("1mib", &value));
    assert_true(text_to_duration_ms("250ms", &value) && value == 250);
    assert_true(text_to_duration_ms("90s", &value) && value == 90000);
    assert_true(text_to_duration_ms("15m", &value) && value == 900000);
    assert_true(text_to_duration_ms("12h", &value) && value == 43200000);
    assert_true(text_to_duration_ms("7d", &value) && value == 604800000);
    assert_true(text_to_duration_ms("0", &value) && value == 0);
    assert_false(text_to_duration_ms("90", &value)); // of what?
    assert_false(text_to_duration_ms("-1s", &value));
    assert_false(text_to_duration_ms("106751991168d", &value));
    assert_false(text_to_duration_ms(NULL, &value));
}

static void test_split_and_distance(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t count = 0;
    char **pieces = text_split(arena, "a,,bc,", ',', &count);
    assert_int_equal(count, 4);
    assert_string_equal(pieces[0], "a");
    assert_string_equal(pieces[1], "");
    assert_string_equal(pieces[2], "bc");
    assert_string_equal(pieces[3], "");
    assert_null(pieces[4]);
    pieces = text_split(arena, "", ',', NULL);
    assert_string_equal(pieces[0], "");
    assert_null(pieces[1]);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("http-adress", "http-address"), 1);
    assert_int_equal(text_distance("naem", "name"), 1);
    assert_int_equal(text_distance("same", "same"), 0);
}

static void check_time(const char *text, int64_t expected_us, const char *formatted)
{
    int64_t time_us = 0;
    if (!time_parse(text, &time_us)) {
        fail_msg("'%s' was refused", text);
    }
    assert_true(time_us == expected_us);
    char again[TIME_TEXT_SIZE];
    time_format(time_us, again);
    assert_string_equal(again, formatted);
}

static void test_time(void **state)
{
    (void)state;
    check_time("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
    check_time("2026-11-21T08:00:00.123456Z", 1795248000123456, "2026-11-21T08:00:00.123456Z");
    check_time("2026-11-21T10:00:00.5+02:00", 1795248000500000, "2026-11-21T08:00:00.500000Z");
    check_time("2026-11-21t03:30:00-04:30", 1795248000000000, "2026-11-21T08:00:00Z");
    check_time("1969-12-31T23:59:59.999999999Z", -1, "1969-12-31T23:59:59.999999Z");
    check_time("2024-02-29T12:00:00Z", 1709208000000000, "2024-02-29T12:00:00Z");
    check_time("0001-01-01T00:00:00Z", INT64_C(-62135596800) * 1000000, "0001-01-01T00:00:00Z");
    check_time("2016-12-31T23:59:60Z", 1483228800000000, "2017-01-01T00:00:00Z");
    static const char *const wrong[] = {
        "",
        "2026-11-21",
        "2026-11-21T08:00:00",
        "2026-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:60:00Z",
        "2026-11-21T08:00:00.Z",
        "2026-11-21T08:00:00.1234567890Z",
        "2026-11-21T08:00:00Zx",
        "2026-11-21T08:00:00+2:00",
        "2026-11-21T08:00:00+24:00",
        "26-11-21T08:00:00Z",
        "2026-00-21T08:00:00Z",
        "2026-11-00T08:00:00Z",
    };
    int64_t time_us = 0;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_false(time_parse(wrong[i], &time_us));
    }
    assert_false(time_parse(NULL, &time_us));
    char text[TIME_TEXT_SIZE];
    time_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    time_format(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00Z");
}

static void test_clock(void **state)
{
    (void)state;
    int64_t start_ms = clock_monotonic_ms();
    clock_sleep_ms(20);
    assert_true(clock_monotonic_ms() - start_ms >= 19);
    clock_sleep_ms(-5);
    assert_true(clock_now_us() > INT64_C(1700000000) * 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_label),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_split_and_distance),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
