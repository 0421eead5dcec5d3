// SPDX-License-Identifier: Apache-2.0
// Red when a mistaken option is not told exactly, a secret shows up, or precedence changes.
#include "common/memory.h"
#include "common/options.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

static const OptionSpec specs[] = {
    {"http-address", OPTION_TEXT, "127.0.0.1:8080", 0, 0, false, "where to listen"},
    {"workers", OPTION_INTEGER, "4", 1, 64, false, "worker threads"},
    {"verbose", OPTION_BOOLEAN, "false", 0, 0, false, "say more | less"},
    {"cache", OPTION_BYTES, "64MiB", 4096, INT64_C(1) << 40, false, "cache size"},
    {"grace", OPTION_DURATION, "90s", 1000, 86400000, false, "time to finish"},
    {"database-url", OPTION_TEXT, NULL, 0, 0, true, "where the state is"},
};

static OptionSet make_set(void)
{
    return (OptionSet){.program = "holdfastd",
                       .environment = "HFTEST",
                       .summary = "Holdfast server",
                       .specs = specs,
                       .count = ARRAY_COUNT(specs)};
}

static Status load(OptionSet *set, const char *const *flags, char **ret_text, Error *error)
{
    *set = make_set();
    error_clear(error);
    char *arguments[16] = {NULL};
    int count = 0;
    arguments[count++] = string_copy("holdfastd");
    for (size_t i = 0; flags != NULL && flags[i] != NULL; i++) {
        arguments[count++] = string_copy(flags[i]);
    }
    char *text = NULL;
    Status status = options_load(set, count, arguments, &text, error);
    if (ret_text != NULL) {
        *ret_text = text;
    } else {
        assert_null(text);
    }
    for (int i = 0; i < count; i++) {
        mem_free(arguments[i]);
    }
    return status;
}

static int clear_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"HFTEST_HTTP_ADDRESS", "HFTEST_WORKERS", "HFTEST_CONFIG",
                                        "HFTEST_DATABASE_URL", "HFTEST_UNKNOWN", "HFTEST_CACHE"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        (void)unsetenv(names[i]);
    }
    return 0;
}

static void test_defaults_and_flags(void **state)
{
    (void)state;
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    assert_ok(load(&set, NULL, NULL, &error), &error);
    assert_string_equal(options_text(&set, "http-address"), "127.0.0.1:8080");
    assert_int_equal(options_number(&set, "workers"), 4);
    assert_false(options_boolean(&set, "verbose"));
    assert_int_equal(options_number(&set, "cache"), 64 * 1024 * 1024);
    assert_int_equal(options_number(&set, "grace"), 90000);
    assert_null(options_text(&set, "database-url"));
    assert_string_equal(set.values[0].origin, "default");
    options_done(&set);
    const char *const flags[] = {"--workers", "8",        "--verbose",       "--cache=1GB",
                                 "--grace",   "250000ms", "--http-address=", NULL};
    assert_ok(load(&set, flags, NULL, &error), &error);
    assert_int_equal(options_number(&set, "workers"), 8);
    assert_true(options_boolean(&set, "verbose"));
    assert_int_equal(options_number(&set, "cache"), 1000000000);
    assert_int_equal(options_number(&set, "grace"), 250000);
    assert_null(options_text(&set, "http-address")); // taken away
    assert_string_equal(set.values[1].origin, "flag");
}

static void test_precedence(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "holdfast.conf");
    write_file(path, "# a comment\n\n  workers = 10 \ncache=8192\r\nverbose = yes\n"
                     "http-address = a b = c # not a comment\ndatabase-url = postgresql://x\n");
    assert_int_equal(setenv("HFTEST_CONFIG", path, 1), 0);
    assert_int_equal(setenv("HFTEST_WORKERS", "20", 1), 0);
    assert_int_equal(setenv("HFTEST_CACHE", "", 1), 0);           // counts as not set
    assert_int_equal(setenv("HFTEST_UNKNOWN", "whatever", 1), 0); // somebody else's
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    assert_ok(load(&set, NULL, NULL, &error), &error);
    assert_int_equal(options_number(&set, "workers"), 20);
    assert_int_equal(options_number(&set, "cache"), 8192);
    assert_true(options_boolean(&set, "verbose"));
    assert_string_equal(options_text(&set, "http-address"), "a b = c # not a comment");
    assert_string_equal(options_text(&set, "database-url"), "postgresql://x");
    assert_string_equal(set.values[1].origin, "environment");
    assert_string_equal(set.values[3].origin, "file");
    options_done(&set);
    assert_ok(load(&set, (const char *const[]){"--workers=30", NULL}, NULL, &error), &error);
    assert_int_equal(options_number(&set, "workers"), 30);
    options_done(&set);
    CLEANUP_FREE char *other = path_join(directory, "other.conf");
    write_file(other, "cache = 16384");
    assert_ok(load(&set, (const char *const[]){"--config", other, NULL}, NULL, &error), &error);
    assert_int_equal(options_number(&set, "cache"), 16384);
}

static void refuse(const char *const *flags, const char *message, const char *field,
                   const char *hint)
{
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    assert_error(load(&set, flags, NULL, &error), &error, REASON_OPTION_INVALID, message);
    assert_string_equal(error.field, field);
    assert_string_equal(error.hint, hint);
}

#define FLAGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_flag_mistakes(void **state)
{
    (void)state;
    refuse(FLAGS("--htpt-address", "x"), "command line: there is no option '--htpt-address'",
           "htpt-address", "did you mean '--http-address'?");
    refuse(FLAGS("--colour=x"), "command line: there is no option '--colour'", "colour",
           "'holdfastd --help' lists all options");
    refuse(FLAGS("start"), "unexpected argument 'start'", "",
           "options are given as --key value or --key=value; 'holdfastd --help' lists them");
    refuse(FLAGS("--workers"), "--workers: the value is missing", "workers", "");
    refuse(FLAGS("--workers", "many"), "--workers: 'many' is not a valid value", "workers",
           "give a whole number");
    refuse(FLAGS("--workers=65"), "--workers: 65 is not between 1 and 64", "workers",
           "give a value between 1 and 64");
    refuse(FLAGS("--cache=1KiB"), "--cache: 1KiB is not between 4KiB and 1TiB", "cache",
           "give a value between 4KiB and 1TiB");
    refuse(FLAGS("--cache=12 parsecs"), "--cache: '12 parsecs' is not a valid value", "cache",
           "give a size such as 4096, 64MiB or 1GB");
    refuse(FLAGS("--grace=500ms"), "--grace: 500ms is not between 1s and 1d", "grace",
           "give a value between 1s and 1d");
    refuse(FLAGS("--grace=90"), "--grace: '90' is not a valid value", "grace",
           "give a duration such as 250ms, 90s, 15m, 12h or 7d");
    refuse(FLAGS("--verbose=maybe"), "--verbose: 'maybe' is not a valid value", "verbose",
           "give true or false");
    refuse(FLAGS("--database-url", "postgresql://secret"),
           "--database-url: a secret is not taken from the command line, where every user sees it",
           "database-url", "set HFTEST_DATABASE_URL, or 'database-url' in the configuration file");
}

static void refuse_file(const char *content, const char *message, const char *hint)
{
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "c");
    write_file(path, content);
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    CLEANUP_FREE char *expected = string_format("%s:%s", path, message);
    assert_error(load(&set, FLAGS("--config", path), NULL, &error), &error, REASON_OPTION_INVALID,
                 expected);
    assert_string_equal(error.hint, hint);
}

static void test_file_mistakes(void **state)
{
    (void)state;
    refuse_file("workers = 4\nworker = 5\n", "2: there is no option 'worker'",
                "did you mean 'workers'?");
    refuse_file("workers = 4\nworkers = 5\n", "2: 'workers' is given twice", "");
    refuse_file("hunter2\n", "1: expected 'key = value'",
                "comments start with # and stand alone on their line");
    refuse_file("workers = \n", "1: '' is not a valid value", "give a whole number");
    refuse_file("database-url = \xff\n", "1: the value is not valid", "");
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    assert_error(
        load(&set, FLAGS("--config=/no/such/file"), NULL, &error), &error, REASON_NOT_FOUND,
        "reading the configuration file: opening '/no/such/file': No such file or directory");
    assert_string_equal(error.field, "config");
}

static void test_environment_mistakes(void **state)
{
    (void)state;
    assert_int_equal(setenv("HFTEST_WORKERS", "0", 1), 0);
    refuse(NULL, "HFTEST_WORKERS: 0 is not between 1 and 64", "workers",
           "give a value between 1 and 64");
}

static void test_answers(void **state)
{
    (void)state;
    assert_int_equal(setenv("HFTEST_CONFIG", "/no/such/file", 1), 0); // help must work all the same
    CLEANUP(options_done) OptionSet set = {0};
    Error error = {0};
    CLEANUP_FREE char *version = NULL;
    assert_ok(load(&set, FLAGS("--version"), &version, &error), &error);
    assert_string_equal(version, "holdfastd " HOLDFAST_VERSION "\n");
    options_done(&set);
    CLEANUP_FREE char *help = NULL;
    assert_ok(load(&set, FLAGS("--help"), &help, &error), &error);
    assert_contains(help, "Holdfast server\n\nUsage: holdfastd [--option value]...\n");
    assert_contains(help, "--workers number");
    assert_contains(help, "worker threads [4]; 1 to 64");
    assert_contains(help, "HFTEST_DATABASE_URL");
    assert_null(strstr(help, "--database-url"));
    options_done(&set);
    CLEANUP_FREE char *reference = NULL;
    assert_ok(load(&set, FLAGS("--config-reference"), &reference, &error), &error);
    assert_string_equal(
        reference,
        "| Option | Environment | Type | Default | Range | Meaning |\n"
        "|---|---|---|---|---|---|\n"
        "| `http-address` | `HFTEST_HTTP_ADDRESS` | text | `127.0.0.1:8080` |  | where to listen "
        "|\n"
        "| `workers` | `HFTEST_WORKERS` | number | `4` | 1 to 64 | worker threads |\n"
        "| `verbose` | `HFTEST_VERBOSE` | boolean | `false` |  | say more \\| less |\n"
        "| `cache` | `HFTEST_CACHE` | size | `64MiB` | 4KiB to 1TiB | cache size |\n"
        "| `grace` | `HFTEST_GRACE` | duration | `90s` | 1s to 1d | time to finish |\n"
        "| `database-url` | `HFTEST_DATABASE_URL` | text, secret |  |  | where the state is |\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_and_flags, clear_environment),
        cmocka_unit_test_setup(test_precedence, clear_environment),
        cmocka_unit_test_setup(test_flag_mistakes, clear_environment),
        cmocka_unit_test_setup(test_file_mistakes, clear_environment),
        cmocka_unit_test_setup(test_environment_mistakes, clear_environment),
        cmocka_unit_test_setup(test_answers, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
