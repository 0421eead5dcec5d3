// SPDX-License-Identifier: Apache-2.0
// holdfastd's options. If this goes red, a bad option is found too late, or tokens may cross a
// network in the clear.
#include "common/memory.h"
#include "common/text.h"
#include "server/server_directory.h"
#include "server/server_identity.h"
#include "server/server_options.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static Status load(ServerOptions *options, Error *error, const char *first, const char *second)
{
    char *arguments[] = {string_copy("holdfastd"), string_copy(first), string_copy(second), NULL};
    int count = first == NULL ? 1 : second == NULL ? 2 : 3;
    char *text = NULL;
    Status status = server_options_load(count, arguments, options, &text, error);
    mem_free(text);
    for (size_t i = 0; i < 3; i++) {
        mem_free(arguments[i]);
    }
    return status;
}

static void test_defaults_hang_together(void **state)
{
    (void)state;
    ServerOptions options = {0};
    Error error = {0};
    assert_ok(load(&options, &error, "--data-dir", "/tmp/x/"), &error);
    assert_string_equal(options.data_directory, "/tmp/x");
    assert_string_equal(options.instance_directory, "/tmp/x/instances");
    assert_string_equal(options.secret_key_file, "/tmp/x/secret.key");
    assert_string_equal(options.admin_token_file, "/tmp/x/admin-token");
    assert_string_equal(options_text(&options.set, "http-address"), "127.0.0.1:8080");
    server_options_done(&options);
}

static void refuse(const char *option, const char *value, const char *field)
{
    ServerOptions options = {0};
    Error error = {0};
    assert_int_equal(load(&options, &error, option, value), STATUS_INVALID_ARGUMENT);
    assert_string_equal(error.field, field);
    assert_int_equal(error.reason, REASON_OPTION_INVALID);
    assert_true(error.hint[0] != '\0');
}

static void test_refuses_bad_values(void **state)
{
    (void)state;
    static const char *const addresses[] = {"nonsense",    "127.0.0.1",       ":8080",
                                            "127.0.0.1:x", "127.0.0.1:65536", "::1:8080"};
    for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
        refuse("--http-address", addresses[i], "http-address");
        refuse("--agent-address", addresses[i], "agent-address");
    }
    refuse("--log-level", "loud", "log-level");
    refuse("--log-format", "xml", "log-format");
    refuse("--http-tls-certificate", "/x.pem", "http-tls-key");
    refuse("--data-dir", "", "data-dir");
}

static void test_no_clear_text_beyond_this_machine(void **state)
{
    (void)state;
    ServerOptions options = {0};
    Error error = {0};
    refuse("--http-address", "0.0.0.0:8080", "http-address");
    refuse("--grpc-address", "10.0.0.1:8081", "grpc-address");
    assert_ok(load(&options, &error, "--http-address", "[::1]:8080"), &error);
    server_options_done(&options);
    // Agents always speak TLS.
    assert_ok(load(&options, &error, "--agent-address", "10.0.0.1:8082"), &error);
    server_options_done(&options);
    assert_int_equal(setenv("HOLDFAST_INSECURE_LISTEN", "true", 1), 0);
    assert_ok(load(&options, &error, "--http-address", "0.0.0.0:8080"), &error);
    server_options_done(&options);
    assert_int_equal(unsetenv("HOLDFAST_INSECURE_LISTEN"), 0);
}

static void test_the_database_url_is_not_inherited(void **state)
{
    (void)state;
    ServerOptions options = {0};
    Error error = {0};
    refuse("--database-url", "postgresql://u:secret@h/d",
           "database-url"); // arguments show in process lists
    assert_int_equal(setenv("HOLDFAST_DATABASE_URL", "postgresql://u:secret@h/d", 1), 0);
    assert_ok(load(&options, &error, NULL, NULL), &error);
    assert_string_equal(options_text(&options.set, "database-url"), "postgresql://u:secret@h/d");
    assert_null(getenv("HOLDFAST_DATABASE_URL"));
    server_options_done(&options);
}

static void test_the_secret_key_file(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "secret.key");
    CLEANUP(secret_done) Secret made = {0};
    CLEANUP(secret_done) Secret read = {0};
    struct stat facts;
    Error error = {0};
    assert_ok(server_secret_key_load(path, &made, &error), &error);
    assert_int_equal(made.size, 32);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_ok(server_secret_key_load(path, &read, &error), &error);
    assert_memory_equal(read.data, made.data, 32);
    Secret unused = {0};
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(server_secret_key_load(path, &unused, &error), STATUS_FAILED_PRECONDITION);
    assert_contains(error.hint, "chmod 600");
    assert_int_equal(chmod(path, 0600), 0);
    write_file(path, "holdfast-secret-1:abc\n");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(server_secret_key_load(path, &unused, &error), STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_KEY_WRONG);
}

static void test_one_server_for_one_directory(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    ServerDirectory first = {0};
    ServerDirectory second = {0};
    Error error = {0};
    assert_ok(server_directory_open(directory, &first, &error), &error);
    assert_int_equal(server_directory_open(directory, &second, &error), STATUS_FAILED_PRECONDITION);
    assert_contains(error.message, "already");
    server_directory_close(&first);
    assert_ok(server_directory_open(directory, &second, &error), &error);
    assert_string_equal(first.server_id, second.server_id); // the same server, later
    server_directory_close(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_hang_together),
        cmocka_unit_test(test_refuses_bad_values),
        cmocka_unit_test(test_no_clear_text_beyond_this_machine),
        cmocka_unit_test(test_the_database_url_is_not_inherited),
        cmocka_unit_test(test_the_secret_key_file),
        cmocka_unit_test(test_one_server_for_one_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
