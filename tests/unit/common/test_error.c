// SPDX-License-Identifier: Apache-2.0
// Red when clients would see wrong statuses, or messages lose their cause.
#include "common/text.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void test_set_and_wrap(void **state)
{
    (void)state;
    Error error = {0};
    Status status = error_set(&error, REASON_NOT_FOUND, "database '%s' does not exist", "shop");
    assert_error(status, &error, REASON_NOT_FOUND, "database 'shop' does not exist");
    assert_non_null(strstr(error.file, "test_error.c"));
    error_field(&error, "policy.%s", "database");
    error_hint(&error, "create it with '%s'", "holdfast database create");
    assert_int_equal(error_wrap(&error, "starting backup %d", 7), STATUS_NOT_FOUND);
    assert_string_equal(error.message, "starting backup 7: database 'shop' does not exist");
    assert_string_equal(error.field, "policy.database");
    assert_string_equal(error.hint, "create it with 'holdfast database create'");
    // An error may be made from its own words.
    error_set(&error, REASON_INTERNAL, "again: %s", error.message);
    assert_string_equal(error.message, "again: starting backup 7: database 'shop' does not exist");
    assert_string_equal(error.hint, "");
    assert_string_equal(error.field, "");
    error_clear(&error);
    assert_int_equal(error.status, STATUS_OK);
}

static void test_errno(void **state)
{
    (void)state;
    static const struct {
        int number;
        Reason reason;
    } cases[] = {{ENOSPC, REASON_DISK_FULL}, {EDQUOT, REASON_DISK_FULL},
                 {ENOENT, REASON_NOT_FOUND}, {EACCES, REASON_FORBIDDEN},
                 {EPERM, REASON_FORBIDDEN},  {EIO, REASON_ENGINE_FAILED}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        Error error = {0};
        error_set_errno(&error, REASON_ENGINE_FAILED, cases[i].number, "opening '%s'", "a");
        assert_int_equal(error.reason, cases[i].reason);
        assert_contains(error.message, "opening 'a': ");
        assert_contains(error.message, strerror(cases[i].number));
    }
}

static void test_long_messages_are_cut_at_characters(void **state)
{
    (void)state;
    char text[4096];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = shift; i + 3 < sizeof(text); i += 3) {
            memcpy(text + i, "\xe2\x82\xac", 3);
        }
        text[sizeof(text) - 10] = '\0';
        Error error = {0};
        error_set(&error, REASON_INTERNAL, "%s", text);
        assert_true(text_is_utf8(error.message, strlen(error.message)));
        assert_true(strlen(error.message) >= sizeof(error.message) - 4);
        error_wrap(&error, "%s", "outer");
        assert_true(text_is_utf8(error.message, strlen(error.message)));
        error_set_errno(&error, REASON_INTERNAL, EIO, "%s", text);
        assert_true(text_has_suffix(error.message, strerror(EIO)));
    }
}

static void test_tables(void **state)
{
    (void)state;
    for (int i = 0; i < REASON_COUNT; i++) {
        assert_int_equal(reason_from_slug(reason_slug((Reason)i)), i);
        assert_true(reason_title((Reason)i)[0] != '\0');
        assert_true((reason_status((Reason)i) == STATUS_OK) == (i == REASON_NONE));
    }
    assert_int_equal(reason_from_slug("from-the-future"), REASON_INTERNAL);
    assert_int_equal(reason_from_slug(NULL), REASON_INTERNAL);
    assert_int_equal(reason_http(REASON_BODY_TOO_LARGE), 413);
    assert_int_equal(reason_http(REASON_ETAG_MISMATCH), 412);
    assert_int_equal(reason_http(REASON_NOT_FOUND), 404);
    assert_int_equal(status_http(STATUS_UNAVAILABLE), 503);
    assert_string_equal(status_name(STATUS_DATA_LOSS), "DATA_LOSS");
    assert_string_equal(status_text(STATUS_DATA_LOSS), "data loss");
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_DATA_LOSS), 10);
    assert_true(status_is_retryable(STATUS_UNAVAILABLE));
    assert_false(status_is_retryable(STATUS_NOT_FOUND));
    assert_string_equal(status_name((Status)99), "UNKNOWN"); // what a newer peer may send
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wrap),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_long_messages_are_cut_at_characters),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
