// SPDX-License-Identifier: Apache-2.0
// Red when JSON from outside can exhaust us or mean two things, or when ours is not valid.
#include "common/json.h"
#include "common/limits.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Json *parse(const char *text)
{
    Error error = {0};
    Json *json = NULL;
    assert_ok(json_parse(text, strlen(text), &json, &error), &error);
    return json;
}

static void refuse(const char *text, size_t size, const char *message)
{
    Error error = {0};
    Json *json = NULL;
    Status status = json_parse(text, size, &json, &error);
    assert_error(status, &error, REASON_MALFORMED_JSON, message);
    assert_null(json);
}

static void test_getters(void **state)
{
    (void)state;
    CLEANUP(json_freep)
    Json *json =
        parse("{\"a\": \"text\", \"b\": [1, -2.5, true], \"c\": null, \"d\": 9007199254740992,"
              "\"\\u00e4\\ud83d\\udc33\": 1e3}");
    assert_int_equal(json_type(json), JSON_OBJECT);
    assert_int_equal(json_count(json), 5);
    assert_string_equal(json_get_text(json, "a", ""), "text");
    assert_string_equal(json_get_text(json, "b", "other"), "other");
    assert_null(json_get(json, "A")); // keys have a case
    assert_int_equal(json_type(json_get(json, "c")), JSON_NULL);
    assert_true(json_get_integer(json, "d", 0) == INT64_C(1) << 53);
    assert_int_equal(json_get_integer(json, "ä🐳", 0), 1000);
    const Json *list = json_get(json, "b");
    assert_int_equal(json_integer(json_item(list, 0), 9), 1);
    assert_int_equal(json_integer(json_item(list, 1), 9), 9); // a fraction is no integer
    assert_true(json_number(json_item(list, 1), 0) == -2.5);
    assert_true(json_boolean(json_item(list, 2), false));
    assert_null(json_item(list, 3));
    assert_null(json_item(json, 0));
    assert_null(json_get(list, "a"));
    const char *key = NULL;
    assert_non_null(json_member(json, 1, &key));
    assert_string_equal(key, "b");
    assert_int_equal(json_count(NULL), 0);
    assert_string_equal(json_text(NULL, "none"), "none");
    assert_false(json_get_boolean(json, "a", false));
    assert_string_equal(json_key(json_next(json_first(json))), "b");
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "line 1, column 1: expected a value"},
        {"{\"a\": 1} x", "line 1, column 10: something follows the value"},
        {"{\"a\": 1,\n \"b\" 2}", "line 2, column 6: expected ':'"},
        {"{\"a\": 1,}", "line 1, column 9: expected a text in double quotes"},
        {"[1, 2", "line 1, column 6: expected ',' or ']'"},
        {"{\"a\": 1", "line 1, column 8: expected ',' or '}'"},
        {"[01]", "line 1, column 3: a number may not start with 0"},
        {"[1.]", "line 1, column 4: expected a digit"},
        {"[-]", "line 1, column 3: expected a digit"},
        {"[+1]", "line 1, column 2: expected a value"},
        {"[1e400]", "a number is out of range"},
        {"nulL", "line 1, column 1: expected a value"},
        {"NaN", "line 1, column 1: expected a value"},
        {"'a'", "line 1, column 1: expected a value"},
        {"\"a", "line 1, column 3: the text is not closed"},
        {"\"a\nb\"", "line 1, column 3: a control character in a text"},
        {"\"\\x\"", "line 1, column 3: unknown escape"},
        {"\"\\u00g0\"", "line 1, column 6: expected four hexadecimal digits"},
        {"\"\\u0000\"", "line 1, column 8: a text may not contain NUL"},
        {"\"\\ud800\"", "line 1, column 8: a surrogate without its second half"},
        {"\"\\udc00\"", "line 1, column 8: a surrogate without its first half"},
        {"\"\xff\"", "line 1, column 2: the text is not UTF-8"},
        {"\xef\xbb\xbf{}", "line 1, column 1: expected a value"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", "the key 'a' is repeated"},
        {"[{\"x\": {\"k\": 1, \"\\u006b\": 2}}]", "the key 'k' is repeated"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        refuse(cases[i].text, strlen(cases[i].text), cases[i].message);
    }
    refuse("1\0", 2, "line 1, column 2: something follows the value");
    refuse("\"a\0b\"", 5, "line 1, column 3: a control character in a text");
    char digits[80];
    memset(digits, '1', sizeof(digits));
    refuse(digits, sizeof(digits), "line 1, column 81: the number is too long");
    // The text need not end with NUL: only its bytes are looked at.
    char *exact = mem_alloc(4);
    memcpy(exact, "[12]", 4);
    exact = mem_realloc_array(exact, 4, 1);
    Json *json = NULL;
    Error error = {0};
    assert_ok(json_parse(exact, 4, &json, &error), &error);
    json_free(json);
    refuse(exact, 3, "line 1, column 4: expected ',' or ']'");
    mem_free(exact);
}

static void test_depth(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, 4 * 1024 * 1024);
    for (int i = 0; i < LIMIT_JSON_DEPTH; i++) {
        buffer_append_text(&text, "[");
    }
    for (int i = 0; i < LIMIT_JSON_DEPTH; i++) {
        buffer_append_text(&text, "]");
    }
    json_free(parse(buffer_text(&text)));
    buffer_clear(&text);
    for (int i = 0; i < 1024 * 1024; i++) {
        buffer_append_text(&text, i % 2 == 0 ? "[" : "{\"a\":");
    }
    Error error = {0};
    Json *json = NULL;
    assert_int_equal(json_parse(buffer_text(&text), text.size, &json, &error),
                     STATUS_INVALID_ARGUMENT);
    assert_contains(error.message, "nested too deeply");
}

static void test_many_keys(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, LIMIT_HTTP_BODY_BYTES);
    buffer_append_text(&text, "{");
    for (int i = 0; i < 80000; i++) {
        buffer_append_format(&text, "\"%d\":0,", i);
    }
    buffer_append_text(&text, "\"79999\":1}");
    assert_false(text.is_overflowed);
    refuse(buffer_text(&text), text.size, "the key '79999' is repeated");
}

static void test_write(void **state)
{
    (void)state;
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_text(json, "text", "a\"b\\c\n\t\x01\x7f/ä\xff.");
    json_set_text(json, "none", NULL);
    json_set_integer(json, "large", INT64_MAX);
    json_set_integer(json, "small", INT64_MIN);
    json_set(json, "pi", json_new_number(3.25));
    json_set(json, "third", json_new_number(1.0 / 3));
    json_set(json, "infinite", json_new_number((double)INFINITY));
    json_set_boolean(json, "yes", true);
    Json *list = json_new_array();
    json_add(list, json_new_integer(-1));
    json_add(list, json_new_null());
    json_add(list, json_new_object());
    json_set(json, "list", list);
    json_set_boolean(json, "yes", false); // replaces, in place
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, 1000);
    assert_true(json_write(json, false, &text));
    assert_string_equal(
        buffer_text(&text),
        "{\"text\":\"a\\\"b\\\\c\\n\\t\\u0001\\u007f/ä\xef\xbf\xbd.\",\"none\":null,"
        "\"large\":9223372036854775807,\"small\":-9223372036854775808,\"pi\":3.25,"
        "\"third\":0.33333333333333331,\"infinite\":null,\"yes\":false,"
        "\"list\":[-1,null,{}]}");
    CLEANUP(json_freep) Json *again = parse(buffer_text(&text));
    assert_true(json_number(json_get(again, "third"), 0) == 1.0 / 3);
    assert_true(json_get_integer(json, "large", 0) == INT64_MAX);
    buffer_clear(&text);
    assert_true(json_write(json_get(json, "list"), true, &text));
    assert_string_equal(buffer_text(&text), "[\n  -1,\n  null,\n  {}\n]");
    CLEANUP(buffer_done) Buffer small = {0};
    buffer_init(&small, 20);
    assert_false(json_write(json, false, &small));
    assert_true(small.size <= 20);
}

// Whatever bytes come, parsing ends well, and what it accepts is written and accepted again.
static void test_random_bytes(void **state)
{
    (void)state;
    static const char alphabet[] = "{}[]\",:\\u0123456789eE+-.truefalsn \n\xc3\xa4\xff";
    unsigned seed = 1;
    int accepted_count = 0;
    for (int round = 0; round < 50000; round++) {
        char text[24];
        size_t size = (size_t)(rand_r(&seed) % 24);
        for (size_t i = 0; i < size; i++) {
            text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        }
        Error error = {0};
        CLEANUP(json_freep) Json *json = NULL;
        if (json_parse(text, size, &json, &error) != STATUS_OK) {
            continue;
        }
        accepted_count++;
        CLEANUP(buffer_done) Buffer written = {0};
        buffer_init(&written, 1000);
        assert_true(json_write(json, false, &written));
        json_free(parse(buffer_text(&written)));
    }
    assert_true(accepted_count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_getters), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth),   cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_write),   cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
