// SPDX-License-Identifier: Apache-2.0
// Red when a file can be half written, a tree is walked out of order, or removal leaves its root.
#include "common/file.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_read(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "a");
    write_file(path, "0123456789");
    Error error = {0};
    CLEANUP_FREE char *data = NULL;
    size_t size = 0;
    assert_ok(file_read(path, 10, &data, &size, &error), &error);
    assert_string_equal(data, "0123456789");
    assert_int_equal(size, 10);
    char *untouched = NULL;
    CLEANUP_FREE char *too_large = string_format("'%s' is larger than 9 bytes", path);
    assert_error(file_read(path, 9, &untouched, &size, &error), &error, REASON_EXHAUSTED,
                 too_large);
    assert_null(untouched);
    CLEANUP_FREE char *missing =
        string_format("opening '%s/b': No such file or directory", directory);
    CLEANUP_FREE char *other = path_join(directory, "b");
    assert_error(file_read(other, 9, &untouched, &size, &error), &error, REASON_NOT_FOUND, missing);
    assert_int_not_equal(file_read(directory, 9, &untouched, &size, &error), STATUS_OK);
    write_file(path, "");
    CLEANUP_FREE char *empty = NULL;
    assert_ok(file_read(path, 0, &empty, NULL, &error), &error);
    assert_string_equal(empty, "");
    CLEANUP_FREE char *status = NULL; // a file that says it is empty and is not
    assert_ok(file_read("/proc/self/status", 65536, &status, &size, &error), &error);
    assert_contains(status, "Pid:");
}

static void test_write_atomic(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "a");
    Error error = {0};
    assert_ok(file_write_atomic(path, "one", 3, 0600, &error), &error);
    assert_ok(file_write_atomic(path, "second", 6, 0640, &error), &error);
    CLEANUP_FREE char *data = NULL;
    assert_ok(file_read(path, 100, &data, NULL, &error), &error);
    assert_string_equal(data, "second");
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0640);
    // A failure leaves neither a new file nor a temporary one, and the old content.
    CLEANUP_FREE char *target = path_join(directory, "directory");
    assert_ok(dir_create_all(target, 0755, &error), &error);
    CLEANUP_FREE char *inside = path_join(target, "x");
    write_file(inside, "x");
    assert_int_not_equal(file_write_atomic(target, "x", 1, 0600, &error), STATUS_OK);
    CLEANUP_FREE char *nowhere = path_join(directory, "no/where");
    assert_int_equal(file_write_atomic(nowhere, "x", 1, 0600, &error), STATUS_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    assert_ok(dir_remove_all(target, &error), &error);
    bool is_empty = false;
    assert_ok(dir_is_empty(directory, &is_empty, &error), &error);
    assert_true(is_empty);
    if (access("/dev/full", W_OK) == 0) {
        CLEANUP(fd_closep) int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        assert_error(file_write_all(fd, "x", 1, &error), &error, REASON_DISK_FULL,
                     "writing 1 bytes: No space left on device");
    }
}

static void test_positions(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "a");
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    Error error = {0};
    assert_ok(file_write_all_at(fd, "abcdef", 6, 4, &error), &error);
    assert_ok(file_write_all(fd, "wxyz", 4, &error), &error);
    char data[16] = "";
    size_t size = 0;
    assert_ok(file_read_at(fd, data, sizeof(data), 2, &size, &error), &error);
    assert_int_equal(size, 8);
    assert_memory_equal(data, "yzabcdef", 8);
    assert_ok(file_read_at(fd, data, sizeof(data), 100, &size, &error), &error);
    assert_int_equal(size, 0);
    assert_int_not_equal(file_read_at(INVALID_FD, data, 1, 0, &size, &error), STATUS_OK);
}

static Status note_file(void *context, const char *relative_path, int64_t size_bytes, Error *error)
{
    char *seen = context;
    size_t size = strlen(seen);
    (void)snprintf(seen + size, 512 - size, "%s:%d ", relative_path, (int)size_bytes);
    if (strcmp(relative_path, "stop") == 0) {
        return error_set(error, REASON_CANCELED, "enough");
    }
    return STATUS_OK;
}

static void make(const char *directory, const char *name, const char *text)
{
    Error error = {0};
    CLEANUP_FREE char *path = path_join(directory, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_ok(dir_create_all(path, 0755, &error), &error);
    *slash = '/';
    write_file(path, text);
}

static void test_walk(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    make(directory, "a/x", "1");
    make(directory, "a.txt", "22");
    make(directory, "a/b/c", "");
    make(directory, "B", "333");
    make(directory, "a0", "");
    CLEANUP_FREE char *pipe = path_join(directory, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    char seen[512] = "";
    Error error = {0};
    assert_ok(dir_walk(directory, note_file, seen, &error), &error);
    // Byte order of the whole path: '.' < '/' < '0'.
    assert_string_equal(seen, "B:3 a.txt:2 a/b/c:0 a/x:1 a0:0 ");
    CLEANUP_FREE char *slashes = string_format("%s//", directory);
    seen[0] = '\0';
    assert_ok(dir_walk(slashes, note_file, seen, &error), &error);
    assert_string_equal(seen, "B:3 a.txt:2 a/b/c:0 a/x:1 a0:0 ");
    make(directory, "stop", "");
    assert_error(dir_walk(directory, note_file, seen, &error), &error, REASON_CANCELED, "enough");
    CLEANUP_FREE char *link = path_join(directory, "A");
    assert_int_equal(symlink("nowhere", link), 0);
    CLEANUP_FREE char *expected = string_format("'%s' is a symbolic link", link);
    assert_error(dir_walk(directory, note_file, seen, &error), &error, REASON_PRECONDITION,
                 expected);
    CLEANUP_FREE char *file = path_join(directory, "B");
    assert_int_equal(dir_walk(file, note_file, seen, &error), STATUS_FAILED_PRECONDITION);
    CLEANUP_FREE char *missing = path_join(directory, "missing");
    assert_int_equal(dir_walk(missing, note_file, seen, &error), STATUS_NOT_FOUND);
}

static void test_sizes(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    make(directory, "a/x", "12345");
    CLEANUP_FREE char *sparse = path_join(directory, "sparse");
    CLEANUP(fd_closep) int fd = open(sparse, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 1024 * 1024), 0);
    Error error = {0};
    int64_t size_bytes = 0;
    int64_t disk_bytes = 0;
    assert_ok(dir_size(directory, &size_bytes, &disk_bytes, &error), &error);
    assert_int_equal(size_bytes, 1024 * 1024 + 5);
    assert_true(disk_bytes < 1024 * 1024);
    assert_ok(dir_size(directory, NULL, NULL, &error), &error);
    int64_t free_bytes = 0;
    assert_ok(disk_free_bytes(directory, &free_bytes, &error), &error);
    assert_true(free_bytes > 0);
}

static void test_create_and_remove(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    Error error = {0};
    CLEANUP_FREE char *deep = path_join(directory, "a//b/c/");
    assert_ok(dir_create_all(deep, 0750, &error), &error);
    assert_ok(dir_create_all(deep, 0750, &error), &error); // again is fine
    make(directory, "keep/x", "");
    CLEANUP_FREE char *keep = path_join(directory, "keep");
    CLEANUP_FREE char *link = path_join(directory, "a/link");
    assert_int_equal(symlink(keep, link), 0);
    CLEANUP_FREE char *root = path_join(directory, "a");
    assert_ok(dir_remove_all(root, &error), &error);
    assert_ok(dir_remove_all(root, &error), &error); // missing is fine
    assert_int_not_equal(access(root, F_OK), 0);
    CLEANUP_FREE char *kept = path_join(directory, "keep/x");
    assert_int_equal(access(kept, F_OK), 0); // removal does not follow links
    CLEANUP_FREE char *below_file = path_join(kept, "y");
    CLEANUP_FREE char *expected = string_format("'%s' exists and is not a directory", kept);
    assert_error(dir_create_all(below_file, 0755, &error), &error, REASON_PRECONDITION, expected);
    bool is_empty = true;
    assert_ok(dir_is_empty(keep, &is_empty, &error), &error);
    assert_false(is_empty);
    assert_ok(dir_is_empty(root, &is_empty, &error), &error);
    assert_true(is_empty);
    assert_ok(dir_sync(directory, &error), &error);
    assert_int_equal(dir_sync(root, &error), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),      cmocka_unit_test(test_write_atomic),
        cmocka_unit_test(test_positions), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_sizes),     cmocka_unit_test(test_create_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
