// SPDX-License-Identifier: Apache-2.0
// Red when a log line is not one JSON object, is cut in the middle, or mixes with another thread's.
#include "tests/harness/harness.h"

#define LOG_MODULE "test"
#include "common/file.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

typedef struct Capture {
    char *directory;
    char *path;
    int stderr_copy;
} Capture;

static Capture capture_begin(void)
{
    Capture capture = {.directory = temp_dir_new()};
    capture.path = path_join(capture.directory, "log");
    capture.stderr_copy = dup(STDERR_FILENO);
    int fd = open(capture.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    (void)close(fd);
    return capture;
}

static char *capture_end(Capture *capture)
{
    assert_true(dup2(capture->stderr_copy, STDERR_FILENO) >= 0);
    (void)close(capture->stderr_copy);
    char *text = NULL;
    Error error = {0};
    assert_ok(file_read(capture->path, 16 * 1024 * 1024, &text, NULL, &error), &error);
    mem_free(capture->path);
    temp_dir_removep(&capture->directory);
    return text;
}

static Json *parse(const char *text, size_t size)
{
    Error error = {0};
    Json *json = NULL;
    assert_ok(json_parse(text, size, &json, &error), &error);
    return json;
}

static void test_json_lines(void **state)
{
    (void)state;
    Capture capture = capture_begin();
    log_configure(LOG_INFO, LOG_FORMAT_JSON, "holdfastd");
    log_debug("not shown", NULL);
    log_info("backup started", "backup", "b-1", "database", "say \"hi\"\n\xff", "shard", NULL,
             NULL);
    Error error = {0};
    error_set(&error, REASON_NOT_FOUND, "no such thing");
    error_hint(&error, "make one");
    log_error_record(LOG_ERROR, LOG_MODULE, &error, "request failed", "request", "r-1", NULL);
    CLEANUP_FREE char *text = capture_end(&capture);
    char *second = strchr(text, '\n') + 1;
    CLEANUP(json_freep) Json *json = parse(text, (size_t)(second - text));
    assert_string_equal(json_get_text(json, "level", ""), "info");
    assert_string_equal(json_get_text(json, "program", ""), "holdfastd");
    assert_string_equal(json_get_text(json, "module", ""), "test");
    assert_string_equal(json_get_text(json, "message", ""), "backup started");
    assert_string_equal(json_get_text(json, "backup", ""), "b-1");
    assert_string_equal(json_get_text(json, "database", ""), "say \"hi\"\n\xef\xbf\xbd");
    assert_int_equal(json_type(json_get(json, "shard")), JSON_NULL);
    assert_int_equal(strlen(json_get_text(json, "time", "")), 27);
    CLEANUP(json_freep) Json *failure = parse(second, strlen(second));
    assert_string_equal(json_get_text(failure, "reason", ""), "not-found");
    assert_string_equal(json_get_text(failure, "status", ""), "NOT_FOUND");
    assert_string_equal(json_get_text(failure, "error", ""), "no such thing");
    assert_string_equal(json_get_text(failure, "hint", ""), "make one");
    assert_string_equal(json_get_text(failure, "request", ""), "r-1");
    assert_int_equal(strncmp(json_get_text(failure, "origin", ""), "test_log.c:", 11), 0);
}

static void test_long_lines_stay_whole(void **state)
{
    (void)state;
    CLEANUP_FREE char *large = mem_alloc(100001);
    memset(large, 'x', 100000);
    for (int is_text = 0; is_text < 2; is_text++) {
        Capture capture = capture_begin();
        log_configure(LOG_DEBUG, is_text ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON, "p");
        log_warning("large", "a", large, "b", large, "c", large, "d", large, "e", large, "f",
                    "small", NULL);
        log_warning(large, "a", "b", NULL);
        CLEANUP_FREE char *text = capture_end(&capture);
        char *second = strchr(text, '\n') + 1;
        assert_true(second - text <= LIMIT_LOG_LINE_BYTES);
        assert_true(strlen(second) <= LIMIT_LOG_LINE_BYTES);
        assert_int_equal(second[strlen(second) - 1], '\n');
        if (is_text == 0) {
            CLEANUP(json_freep) Json *json = parse(text, (size_t)(second - text));
            assert_true(json_get_boolean(json, "truncated", false));
            assert_string_equal(json_get_text(json, "f", ""), "small");
            json_free(parse(second, strlen(second)));
        } else {
            assert_contains(text, "truncated=true");
        }
    }
}

static void test_text_format(void **state)
{
    (void)state;
    Capture capture = capture_begin();
    log_configure(LOG_INFO, LOG_FORMAT_TEXT, "p");
    log_warning("disk is\nfilling", "path", "/data", "left", "1 GiB", "x", NULL, NULL);
    CLEANUP_FREE char *text = capture_end(&capture);
    assert_string_equal(text + strcspn(text, " "),
                        " warning test: disk is filling path=/data left=\"1 GiB\" x=null\n");
}

static void *write_lines(void *context)
{
    for (int i = 0; i < 500; i++) {
        log_info("from a thread", "thread", (const char *)context, "filler",
                 "0123456789012345678901234567890123456789", NULL);
    }
    return NULL;
}

static void test_threads_do_not_mix(void **state)
{
    (void)state;
    Capture capture = capture_begin();
    log_configure(LOG_INFO, LOG_FORMAT_JSON, "p");
    char names[4][2] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    CLEANUP_FREE char *text = capture_end(&capture);
    int line_count = 0;
    for (char *line = text; *line != '\0'; line_count++) {
        char *end = strchr(line, '\n');
        json_free(parse(line, (size_t)(end - line)));
        line = end + 1;
    }
    assert_int_equal(line_count, 2000);
}

static void test_levels(void **state)
{
    (void)state;
    LogLevel level = LOG_DEBUG;
    assert_true(log_level_parse("warning", &level));
    assert_int_equal(level, LOG_WARNING);
    assert_false(log_level_parse("WARNING", &level));
    assert_false(log_level_parse(NULL, &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines),  cmocka_unit_test(test_long_lines_stay_whole),
        cmocka_unit_test(test_text_format), cmocka_unit_test(test_threads_do_not_mix),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
