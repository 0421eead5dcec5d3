// SPDX-License-Identifier: Apache-2.0
// When this goes red, a restore that is tried again removes somebody's files, or does not get past
// its own.
#include "agent/restore_target.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/repository.h"
#include "tests/harness/harness.h"

#include <sys/stat.h>
#include <unistd.h>

#define OWNER "restore 1 shard 2"

static char *directory;
static char *target;

static int set_up(void **test_state)
{
    (void)test_state;
    directory = temp_dir_new();
    target = path_join(directory, "target");
    return 0;
}

static int tear_down(void **test_state)
{
    (void)test_state;
    mem_free(target);
    temp_dir_removep(&directory);
    return 0;
}

static void put(const char *name, const char *text)
{
    CLEANUP_FREE char *path = path_join(target, name);
    write_file(path, text);
}

static bool has(const char *name)
{
    CLEANUP_FREE char *path = path_join(target, name);
    return access(path, F_OK) == 0;
}

static Status prepare(const char *owner)
{
    Error error = {0};
    Status status = restore_target_prepare(target, owner, &error);
    assert_true(status == STATUS_OK || error.reason == REASON_TARGET_NOT_EMPTY);
    return status;
}

static void mark(const char *owner)
{
    Error error = {0};
    assert_ok(restore_target_mark(target, owner, &error), &error);
}

static void test_what_was_there_before_stays(void **test_state)
{
    (void)test_state;
    assert_int_equal(prepare(OWNER), STATUS_OK); // missing
    assert_int_equal(mkdir(target, 0700), 0);
    assert_int_equal(prepare(OWNER), STATUS_OK); // empty
    put("precious", "do not touch");
    assert_int_not_equal(prepare(OWNER), STATUS_OK);
    assert_true(has("precious"));
    // The mark of another restore, of another shard, a longer one, or none at all: not ours.
    static const char *const others[] = {
        "restore 2 shard 2\n", "restore 1 shard 3\n", OWNER "2\n", OWNER "\n\n", OWNER, "", "\n"};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        put(REPOSITORY_TARGET_MARK, others[i]);
        assert_int_not_equal(prepare(OWNER), STATUS_OK);
        assert_true(has("precious"));
    }
}

static void test_what_an_earlier_try_left_goes(void **test_state)
{
    (void)test_state;
    mark(OWNER);
    assert_int_equal(prepare(OWNER), STATUS_OK);
    mark(OWNER);
    CLEANUP_FREE char *below = path_join(target, "base");
    assert_int_equal(mkdir(below, 0700), 0);
    put("base/1", "page");
    put("PG_VERSION", "15");
    assert_int_not_equal(prepare("restore 1 shard 3"), STATUS_OK);
    assert_true(has("base/1"));
    assert_int_equal(prepare(OWNER), STATUS_OK);
    assert_false(has("base") || has("PG_VERSION") || has(REPOSITORY_TARGET_MARK));
    assert_int_equal(access(target, F_OK), 0); // it may be a mount point
}

static void test_a_restore_that_was_taken_is_not_emptied(void **test_state)
{
    (void)test_state;
    Error error = {0};
    mark(OWNER);
    put("PG_VERSION", "15");
    assert_int_not_equal(restore_target_mark(target, OWNER, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_TARGET_NOT_EMPTY);
    assert_ok(restore_target_unmark(target, &error), &error);
    assert_ok(restore_target_unmark(target, &error), &error);
    assert_int_not_equal(prepare(OWNER), STATUS_OK);
    assert_true(has("PG_VERSION"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_there_before_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_an_earlier_try_left_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_restore_that_was_taken_is_not_emptied, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
