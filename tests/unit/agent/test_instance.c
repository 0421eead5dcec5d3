// SPDX-License-Identifier: Apache-2.0
// When this goes red, the agent misreads its birth record, shares its directory, or leaves the join
// secret on disk.
#include "agent/instance.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define JOIN                                                                                       \
    "{\"instance_id\":\"i-1\",\"server_addresses\":[\"127.0.0.1:1\",\"[::1]:2\"],"                 \
    "\"certificate_pem\":\"PEM\",\"join_secret\":\"s3cret\",\"deadman_ms\":30000,"                 \
    "\"lifetime_ms\":60000}"

static char *directory;

static int set_up(void **test_state)
{
    (void)test_state;
    directory = temp_dir_new();
    return directory == NULL;
}

static int tear_down(void **test_state)
{
    (void)test_state;
    temp_dir_removep(&directory);
    return 0;
}

static void write_join(const char *text)
{
    Error error = {0};
    CLEANUP_FREE char *path = string_format("%s/join.json", directory);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, &error), STATUS_OK);
}

static void test_reads_what_the_provisioner_wrote(void **test_state)
{
    (void)test_state;
    write_join(JOIN);
    Instance instance = {0};
    Error error = {0};
    assert_int_equal(instance_open(directory, &instance, &error), STATUS_OK);
    assert_string_equal(instance.instance_id, "i-1");
    assert_int_equal(instance.address_count, 2);
    assert_string_equal(instance.addresses[1], "[::1]:2");
    assert_string_equal(secret_text(&instance.join_secret), "s3cret");
    assert_int_equal(instance.deadman_ms, 30000);
    struct stat work = {0};
    assert_int_equal(stat(instance.work_directory, &work), 0);
    assert_int_equal(work.st_mode & 0777, 0700);
    instance_done(&instance);
}

// Sockets have short names only: an instance far down is as good as another one.
static void test_a_directory_far_down_has_room_for_sockets(void **test_state)
{
    (void)test_state;
    char *home = directory;
    CLEANUP_FREE char *deep = string_format("%s/%0200d", home, 0);
    assert_int_equal(mkdir(deep, 0700), 0);
    directory = deep;
    write_join(JOIN);
    directory = home;
    Instance instance = {0};
    Error error = {0};
    assert_int_equal(instance_open(deep, &instance, &error), STATUS_OK);
    assert_true(strlen(instance.work_directory) + sizeof("/.s.PGSQL.65535") < 108);
    CLEANUP_FREE char *name = string_format("%s/socket", instance.work_directory);
    CLEANUP_FREE char *place = string_format("%s/work/socket", deep);
    struct stat facts = {0};
    write_file(name, "");
    assert_int_equal(stat(place, &facts), 0);
    instance_done(&instance);
}

static void test_two_agents_cannot_share_a_directory(void **test_state)
{
    (void)test_state;
    write_join(JOIN);
    Instance first = {0};
    Instance second = {0};
    Error error = {0};
    assert_int_equal(instance_open(directory, &first, &error), STATUS_OK);
    assert_int_equal(instance_open(directory, &second, &error), STATUS_ALREADY_EXISTS);
    instance_done(&first);
    assert_int_equal(instance_open(directory, &second, &error), STATUS_OK);
    instance_done(&second);
}

static void test_the_used_secret_leaves_the_disk(void **test_state)
{
    (void)test_state;
    write_join(JOIN);
    Instance instance = {0};
    Error error = {0};
    assert_int_equal(instance_open(directory, &instance, &error), STATUS_OK);
    assert_int_equal(instance_forget_secret(&instance, &error), STATUS_OK);
    instance_done(&instance);
    CLEANUP_FREE char *path = string_format("%s/join.json", directory);
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, 4096, &text, &size, &error), STATUS_OK);
    assert_null(strstr(text, "s3cret"));
    struct stat file = {0};
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    // Whoever is started there again is told why it cannot join.
    assert_int_equal(instance_open(directory, &instance, &error), STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, "join_secret"));
}

static void test_refuses_what_is_not_a_birth_record(void **test_state)
{
    (void)test_state;
    const char *const bad[] = {
        "",
        "[]",
        "{\"instance_id\":\"i-1\"}",
        "{\"instance_id\":\"i-1\",\"server_addresses\":[],\"certificate_pem\":\"PEM\","
        "\"join_secret\":\"s\",\"deadman_ms\":1,\"lifetime_ms\":1}",
        "{\"instance_id\":\"i-1\",\"server_addresses\":[\"nowhere\"],\"certificate_pem\":\"PEM\","
        "\"join_secret\":\"s\",\"deadman_ms\":1,\"lifetime_ms\":1}",
        "{\"instance_id\":\"i-1\",\"server_addresses\":[\"a:1\"],"
        "\"join_secret\":\"s\",\"deadman_ms\":1,\"lifetime_ms\":1}",
        "{\"instance_id\":\"i-1\",\"server_addresses\":[\"a:1\"],\"certificate_pem\":\"PEM\","
        "\"join_secret\":\"s\"}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        write_join(bad[i]);
        Instance instance = {0};
        Error error = {0};
        assert_int_not_equal(instance_open(directory, &instance, &error), STATUS_OK);
        assert_true(error.message[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_what_the_provisioner_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_directory_far_down_has_room_for_sockets, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_two_agents_cannot_share_a_directory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_used_secret_leaves_the_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_is_not_a_birth_record, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
