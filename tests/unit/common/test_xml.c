// SPDX-License-Identifier: Apache-2.0
// Red when an answer in XML is read wrongly, or a hostile one costs more than its bytes.
#include "common/buffer.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/xml.h"
#include "tests/harness/harness.h"

#include <string.h>

static bool collect(void *context, const char *path, const char *text)
{
    Buffer *seen = context;
    return buffer_append_format(seen, "%s=%s;", path, text);
}

static void assert_read(const char *xml, const char *expected)
{
    Error error = {0};
    Buffer seen;
    buffer_init(&seen, 4096);
    assert_ok(xml_read(xml, strlen(xml), collect, &seen, &error), &error);
    assert_string_equal(buffer_text(&seen), expected);
    buffer_done(&seen);
}

static void test_elements_come_with_path_and_text(void **state)
{
    (void)state;
    assert_read("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                "<A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n <B>\n  <C>x &amp; y</C>"
                "<D/>\n </B> <C>&lt;1&gt; &#x41;</C></A>",
                "A/B/C=x & y;A/B/D=;A/B=;A/C=<1> A;A=;");
}

static void test_find(void **state)
{
    (void)state;
    char text[8];
    const char *xml = "<Error><Inner><Code>no</Code></Inner><Code>yes</Code><Long>123456789</Long>"
                      "</Error>";
    assert_true(xml_find(xml, strlen(xml), "Code", text, sizeof(text)));
    assert_string_equal(text, "yes");
    assert_true(xml_find(xml, strlen(xml), "Inner/Code", text, sizeof(text)));
    assert_string_equal(text, "no");
    assert_false(xml_find(xml, strlen(xml), "Long", text, sizeof(text)));
    assert_string_equal(text, "");
    assert_false(xml_find("<html><p>gone", 13, "Code", text, sizeof(text)));
    assert_false(xml_find(NULL, 0, "Code", text, sizeof(text)));
}

static void test_what_is_refused(void **state)
{
    (void)state;
    Error error = {0};
    Buffer seen;
    buffer_init(&seen, 1 << 20);
    char deep[121] = "";
    for (int i = 0; i < 40; i++) {
        memcpy(deep + (ptrdiff_t)3 * i, "<a>", 4);
    }
    CLEANUP_FREE char *long_text = mem_alloc(80 * 1024);
    memset(long_text, 'x', 70 * 1024);
    memcpy(long_text, "<a>", 3);
    const char *bad[] = {
        "",
        "not XML",
        "<a><b></a>",
        "<a>",
        "<a/><b/>",
        "<a>&unknown;</a>",
        deep,
        long_text,
        "<!DOCTYPE a [<!ENTITY b \"cccccccc\"><!ENTITY d \"&b;&b;\">]><a>&d;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<a>\x01</a>",
        "<a>\xff</a>",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(xml_read(bad[i], strlen(bad[i]), collect, &seen, &error),
                         STATUS_INVALID_ARGUMENT);
    }
    buffer_done(&seen);
}

static void test_text_is_escaped(void **state)
{
    (void)state;
    Buffer xml;
    buffer_init(&xml, 100);
    xml_write_text("\"a\" <b> & c", &xml);
    assert_string_equal(buffer_text(&xml), "&quot;a&quot; &lt;b&gt; &amp; c");
    buffer_done(&xml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_come_with_path_and_text),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_text_is_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
