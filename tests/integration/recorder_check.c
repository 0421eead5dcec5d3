// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/recorder_check.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GONE_MS 30000

Recorder *recorder_check_begin(const char *data_directory, char *table_path)
{
    Error error = {0};
    Recorder *recorder = recorder_new(TEST_AGENT, table_path);
    assert_ok(recorder_begin(recorder, data_directory, &error), &error);
    assert_non_null(recorder_library_path(recorder));
    return recorder;
}

void recorder_check_file(const Recorder *recorder, const char *data_directory,
                         const char *restored_directory, const char *path, RecorderCheck *check)
{
    CLEANUP_FREE char *new_path = path_join(data_directory, path);
    CLEANUP_FREE char *old_path = path_join(restored_directory, path);
    CLEANUP(fd_closep) int new_fd = open(new_path, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int old_fd = open(old_path, O_RDONLY | O_CLOEXEC);
    static uint8_t now[RECORDER_BLOCK_SIZE];
    static uint8_t before[RECORDER_BLOCK_SIZE];
    RecorderView view;
    recorder_view(recorder, path, &view);
    for (int64_t offset = 0;; offset += RECORDER_BLOCK_SIZE) {
        Error error = {0};
        size_t size = 0;
        size_t old_size = 0;
        assert_ok(file_read_at(new_fd, now, sizeof(now), offset, &size, &error), &error);
        if (size == 0) {
            return;
        }
        if (old_fd >= 0) {
            assert_ok(file_read_at(old_fd, before, sizeof(before), offset, &old_size, &error),
                      &error);
        }
        bool is_changed = size != old_size || memcmp(now, before, size) != 0;
        bool is_written = recorder_view_is_written(&view, offset, (int64_t)size);
        if (is_changed && !is_written) {
            fail_msg("'%s' differs at %lld and is not marked", path, (long long)offset);
        }
        check->size_bytes += (int64_t)size;
        check->changed_bytes += is_changed ? (int64_t)size : 0;
        check->written_bytes += is_written ? (int64_t)size : 0;
    }
}

typedef struct TreeCheck {
    const Recorder *recorder;
    const char *data_directory, *restored_directory;
    RecorderCheck *check;
} TreeCheck;

static Status check_one(void *context, const char *path, int64_t size_bytes, Error *error)
{
    const TreeCheck *tree = context;
    (void)size_bytes;
    (void)error;
    recorder_check_file(tree->recorder, tree->data_directory, tree->restored_directory, path,
                        tree->check);
    return STATUS_OK;
}

void recorder_check_tree(const Recorder *recorder, const char *data_directory,
                         const char *restored_directory, RecorderCheck *check)
{
    Error error = {0};
    TreeCheck tree = {recorder, data_directory, restored_directory, check};
    assert_ok(dir_walk(data_directory, check_one, &tree, &error), &error);
}

void recorder_check_end(const Recorder *recorder, const RecorderCheck *check, const char *what)
{
    assert_int_equal(recorder_state(recorder), RECORDER_TRUSTED);
    print_message("  %s: of %lld KiB differ %lld, marked are %lld\n", what,
                  (long long)(check->size_bytes >> 10), (long long)(check->changed_bytes >> 10),
                  (long long)(check->written_bytes >> 10));
    assert_true(check->written_bytes < check->size_bytes);
}

static void wait_gone(pid_t pid)
{
    ProcessIdentity identity;
    int64_t deadline_ms = clock_monotonic_ms() + GONE_MS;
    while (process_identify(pid, &identity) && process_is_alive(&identity)) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(5);
    }
}

void recorder_check_kill(const char *directory, const char *pid_file)
{
    Error error = {0};
    size_t pid_size = 0;
    CLEANUP_FREE char *pid_path = path_join(directory, pid_file);
    CLEANUP_FREE char *pid_text = NULL;
    assert_ok(file_read(pid_path, 4096, &pid_text, &pid_size, &error), &error);
    pid_t pid = (pid_t)strtol(pid_text, NULL, 10);
    assert_true(pid > 1);
    CLEANUP_FREE char *path = string_format("/proc/%d/task/%d/children", (int)pid, (int)pid);
    CLEANUP_FREE char *text = NULL;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t size = 0;
    size_t count = 0;
    assert_int_equal(kill(pid, SIGSTOP), 0); // it must not make new ones, or wait for these
    assert_ok(file_read(path, 65536, &text, &size, &error), &error);
    char **children = text_split(arena, text, ' ', &count);
    for (size_t i = 0; i < count; i++) {
        int64_t child = 0;
        if (text_to_int64(children[i], &child) && child > 1) {
            assert_int_equal(kill((pid_t)child, SIGKILL), 0);
            wait_gone((pid_t)child);
        }
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_gone(pid);
}
