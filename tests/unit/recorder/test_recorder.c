// SPDX-License-Identifier: Apache-2.0
// When this goes red, a backup may refer to what its parent had where the engine wrote something
// else: the recorder did not see a write, or its answer was believed when it must not be.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "recorder/recorder.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_SIZE RECORDER_BLOCK_SIZE
#define BLOCK_COUNT 21 // the last one is short
#define FILE_SIZE (20 * BLOCK_SIZE + 100)
#define WAIT_MS 60000

typedef struct Case {
    char *root, *data, *path, *other, *table;
    uint8_t *before; // content of "a" when recording began
    Recorder *recorder;
} Case;

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i / BLOCK_SIZE % 5 == 3 ? 0 : i * 2654435761u >> 13);
    }
}

static void make_file(const char *directory, const char *name, const uint8_t *bytes)
{
    Error error = {0};
    CLEANUP_FREE char *path = path_join(directory, name);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_ok(file_write_all(fd, bytes, FILE_SIZE, &error), &error);
}

static void case_begin(Case *test, const char *agent)
{
    Error error = {0};
    test->root = temp_dir_new();
    test->data = path_join(test->root, "data");
    test->path = path_join(test->data, "a");
    test->other = path_join(test->root, "other");
    test->table = path_join(test->root, "table");
    test->before = mem_alloc(FILE_SIZE);
    fill(test->before, FILE_SIZE);
    assert_int_equal(mkdir(test->data, 0700), 0);
    make_file(test->data, "a", test->before);
    make_file(test->data, "b", test->before);
    test->recorder = recorder_new(agent, test->table);
    assert_ok(recorder_begin(test->recorder, test->data, &error), &error);
}

static void case_end(Case *test)
{
    recorder_free(test->recorder);
    assert_int_not_equal(access(test->table, F_OK), 0);
    temp_dir_removep(&test->root);
    mem_free(test->data);
    mem_free(test->path);
    mem_free(test->other);
    mem_free(test->table);
    mem_free(test->before);
}

static pid_t start_writer(const Case *test, const char *operation, int seed, const char *count)
{
    Error error = {0};
    char seed_text[16];
    (void)snprintf(seed_text, sizeof(seed_text), "%d", seed);
    const char *arguments[] = {TEST_WRITER, test->path, test->other, seed_text,
                               operation,   count,      NULL};
    const char *library = recorder_library_path(test->recorder);
    CLEANUP_FREE char *preload = string_format("LD_PRELOAD=%s", library == NULL ? "" : library);
    CLEANUP_FREE char *table = string_format(RECORDER_TABLE_VARIABLE "=%s", test->table);
    const char *environment[] = {preload, table, NULL};
    ProcessOptions options = {.arguments = arguments, .environment = environment};
    pid_t pid = 0;
    assert_ok(process_spawn(&options, &pid, &error), &error);
    recorder_note_launch(test->recorder, pid);
    return pid;
}

static void run_writer(const Case *test, const char *operation, int seed, const char *count)
{
    Error error = {0};
    bool is_done = false;
    int code = -1;
    pid_t pid = start_writer(test, operation, seed, count);
    assert_ok(process_wait(pid, WAIT_MS, &is_done, &code, &error), &error);
    assert_true(is_done);
    if (code != 0) {
        fail_msg("the writer's operation '%s' ended with %d", operation, code);
    }
}

typedef struct Comparison {
    int changed, written, blocks;
} Comparison;

// No block of "a" differs that is not said to be written.
static Comparison compare(const Case *test, const char *what)
{
    Error error = {0};
    CLEANUP_FREE char *now = NULL;
    size_t size = 0;
    assert_ok(file_read(test->path, 64 * 1024 * 1024, &now, &size, &error), &error);
    Comparison result = {.blocks = (int)((size + BLOCK_SIZE - 1) / BLOCK_SIZE)};
    RecorderView view;
    recorder_view(test->recorder, "a", &view);
    for (int i = 0; i < result.blocks; i++) {
        size_t offset = (size_t)i * BLOCK_SIZE;
        size_t new_size = MIN(size - offset, BLOCK_SIZE);
        size_t old_size = offset < FILE_SIZE ? MIN(FILE_SIZE - offset, BLOCK_SIZE) : 0;
        bool is_changed =
            new_size != old_size || memcmp(now + offset, test->before + offset, new_size) != 0;
        bool is_written = recorder_view_is_written(&view, (int64_t)offset, (int64_t)new_size);
        if (is_changed && !is_written) {
            fail_msg("%s: block %d of %d changed and is not marked", what, i, result.blocks);
        }
        result.changed += is_changed;
        result.written += is_written;
    }
    return result;
}

// With one mark the bitmap is believed: a write that is not seen is not covered up by reading all.
static void mark_last_block(const Case *test)
{
    CLEANUP(fd_closep) int fd = open(test->path, O_RDONLY);
    assert_true(fd >= 0);
    recorder_note_write(test->recorder, fd, FILE_SIZE - 1, 1);
}

static bool is_untouched(const Case *test, const char *name)
{
    RecorderView view;
    recorder_view(test->recorder, name, &view);
    return view.is_untouched && !recorder_view_is_written(&view, 0, FILE_SIZE);
}

static void test_every_way_of_writing_is_seen(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buffer_done) Buffer list = {0};
    buffer_init(&list, 65536);
    const char *const arguments[] = {TEST_WRITER, "list", NULL};
    ProcessOptions options = {.arguments = arguments};
    assert_ok(process_run(&options, WAIT_MS, REASON_INTERNAL, &list, &error), &error);
    size_t count = 0;
    char **names = text_split(arena, (char *)list.data, '\n', &count);
    assert_true(count > 40);
    for (size_t i = 0; i < 2 * count; i++) {
        const char *name = names[i / 2];
        if (name[0] == '\0') {
            continue;
        }
        Case test = {0};
        case_begin(&test, TEST_AGENT);
        mark_last_block(&test);
        run_writer(&test, name, (int)i, NULL);
        assert_int_equal(recorder_state(test.recorder), RECORDER_TRUSTED);
        (void)compare(&test, name);
        assert_true(is_untouched(&test, "b"));
        case_end(&test);
    }
}

static void test_mixtures_are_seen(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 12; seed++) {
        Case test = {0};
        char what[32];
        (void)snprintf(what, sizeof(what), "mixture %d", seed);
        case_begin(&test, TEST_AGENT);
        mark_last_block(&test);
        run_writer(&test, "mixture", seed, seed % 2 == 0 ? "4" : "30");
        assert_int_equal(recorder_state(test.recorder), RECORDER_TRUSTED);
        (void)compare(&test, what);
        case_end(&test);
    }
}

static void test_a_write_marks_what_it_touches_and_no_more(void **state)
{
    (void)state;
    static const char *const precise[] = {"write",      "writev",          "pwrite",  "direct",
                                          "pwritev2",   "copy_file_range", "splice",  "aio_write",
                                          "kernel_aio", "map_only_read",   "program", "child"};
    for (size_t i = 0; i < ARRAY_COUNT(precise); i++) {
        Case test = {0};
        case_begin(&test, TEST_AGENT);
        mark_last_block(&test);
        run_writer(&test, precise[i], 5, NULL);
        Comparison found = compare(&test, precise[i]);
        assert_in_range(found.changed, 1, 2);
        assert_in_range(found.written, found.changed + 1, found.changed + 2);
        case_end(&test);
    }
}

// False: it was killed at a moment when it had moved the file away.
static bool kill_writer(int seed)
{
    Case test = {0};
    case_begin(&test, TEST_AGENT);
    mark_last_block(&test);
    pid_t pid = start_writer(&test, "mixture", seed, "1000000");
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    struct stat facts = {0};
    do {
        clock_sleep_ms(1);
    } while ((stat(test.path, &facts) != 0 || facts.st_size == FILE_SIZE) &&
             clock_monotonic_ms() < deadline_ms);
    process_stop(pid, SIGKILL, 0);
    assert_int_equal(recorder_state(test.recorder), RECORDER_TRUSTED);
    bool is_there = stat(test.path, &facts) == 0;
    if (is_there) {
        (void)compare(&test, "killed");
    }
    case_end(&test);
    return is_there;
}

static void test_a_writer_that_is_killed_has_noted_what_it_wrote(void **state)
{
    (void)state;
    int seed = 3;
    while (!kill_writer(seed)) {
        assert_true(++seed < 20);
    }
}

// --- when not to believe
// --------------------------------------------------------------------------

static void assert_nothing_is_believed(Case *test, RecorderState state, const char *operation)
{
    run_writer(test, operation, 5, NULL);
    assert_int_equal(recorder_state(test->recorder), state);
    run_writer(test, "pwrite", 5, NULL);
    assert_int_equal(compare(test, operation).written, BLOCK_COUNT);
    assert_int_equal(recorder_state(test->recorder), state);
    case_end(test);
}

static void test_an_engine_without_the_library_is_not_believed(void **state)
{
    (void)state;
    Case test = {0};
    case_begin(&test, "/nowhere/holdfast-agent");
    assert_null(recorder_library_path(test.recorder));
    assert_nothing_is_believed(&test, RECORDER_ABSENT, "pwrite");
}

static void test_a_table_of_another_version_is_not_written(void **state)
{
    (void)state;
    Case test = {0};
    Error error = {0};
    case_begin(&test, TEST_AGENT);
    int fd = open(test.table, O_WRONLY);
    const uint32_t version = RECORDER_TABLE_VERSION + 1;
    assert_ok(
        file_write_all_at(fd, &version, sizeof(version), offsetof(RecorderHeader, version), &error),
        &error);
    fd_closep(&fd);
    assert_nothing_is_believed(&test, RECORDER_ABSENT, "pwrite");
}

static void test_what_the_library_cannot_follow_is_a_doubt(void **state)
{
    (void)state;
    static const char *const blind[] = {"bare_program", "ring"};
    for (size_t i = 0; i < ARRAY_COUNT(blind); i++) {
        Case test = {0};
        case_begin(&test, TEST_AGENT);
        assert_nothing_is_believed(&test, RECORDER_DOUBTED, blind[i]);
    }
}

static void test_a_file_that_somebody_else_changed_is_read(void **state)
{
    (void)state;
    Case test = {0};
    Error error = {0};
    case_begin(&test, TEST_AGENT);
    assert_true(is_untouched(&test, "a"));
    int fd = open(test.path, O_WRONLY);
    assert_ok(file_write_all_at(fd, "x", 1, 3 * BLOCK_SIZE, &error), &error);
    assert_int_equal(compare(&test, "unseen").written, BLOCK_COUNT);
    recorder_note_write(test.recorder, fd, 3 * BLOCK_SIZE, 1); // it is us, and we say so
    assert_int_equal(compare(&test, "said").written, 1);
    fd_closep(&fd);
    case_end(&test);
}

static void test_a_new_file_under_an_old_path_is_read(void **state)
{
    (void)state;
    Case test = {0};
    case_begin(&test, TEST_AGENT);
    CLEANUP_FREE char *b = path_join(test.data, "b");
    assert_int_equal(rename(b, test.path), 0); // the same bytes, but who knows that?
    assert_int_equal(compare(&test, "renamed").written, BLOCK_COUNT);
    RecorderView view;
    recorder_view(test.recorder, "b", &view);
    assert_true(recorder_view_is_written(&view, 0, 1)); // there is none
    recorder_view(test.recorder, "c", &view);
    assert_true(recorder_view_is_written(&view, 0, 1)); // never was
    case_end(&test);
}

static void test_without_recording_everything_is_written(void **state)
{
    (void)state;
    CLEANUP(recorder_freep) Recorder *recorder = recorder_new(TEST_AGENT, "/nowhere/table");
    recorder_note_launch(recorder, 1);
    recorder_note_write(recorder, 0, 0, 1);
    assert_null(recorder_library_path(recorder));
    assert_int_equal(recorder_state(recorder), RECORDER_OFF);
    RecorderView view;
    recorder_view(recorder, "a", &view);
    assert_true(recorder_view_is_written(&view, 0, 1));
    Error error = {0};
    assert_error(recorder_begin(recorder, "/nowhere", &error), &error, REASON_NOT_FOUND,
                 "opening '/nowhere': No such file or directory");
    assert_int_equal(recorder_state(recorder), RECORDER_OFF);
}

static void test_a_library_that_ld_preload_cannot_name_is_not_used(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *root = temp_dir_new();
    CLEANUP_FREE char *directory = path_join(root, "a b");
    CLEANUP_FREE char *library = path_join(directory, RECORDER_LIBRARY_NAME);
    CLEANUP_FREE char *agent = path_join(directory, "holdfast-agent");
    CLEANUP_FREE char *data = path_join(root, "data");
    CLEANUP_FREE char *table = path_join(root, "table");
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(mkdir(data, 0700), 0);
    write_file(library, "");
    Error error = {0};
    CLEANUP(recorder_freep) Recorder *recorder = recorder_new(agent, table);
    assert_ok(recorder_begin(recorder, data, &error), &error);
    assert_null(recorder_library_path(recorder));
    assert_int_equal(recorder_state(recorder), RECORDER_TRUSTED); // nothing was started
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_of_writing_is_seen),
        cmocka_unit_test(test_mixtures_are_seen),
        cmocka_unit_test(test_a_write_marks_what_it_touches_and_no_more),
        cmocka_unit_test(test_a_writer_that_is_killed_has_noted_what_it_wrote),
        cmocka_unit_test(test_an_engine_without_the_library_is_not_believed),
        cmocka_unit_test(test_a_table_of_another_version_is_not_written),
        cmocka_unit_test(test_what_the_library_cannot_follow_is_a_doubt),
        cmocka_unit_test(test_a_file_that_somebody_else_changed_is_read),
        cmocka_unit_test(test_a_new_file_under_an_old_path_is_read),
        cmocka_unit_test(test_without_recording_everything_is_written),
        cmocka_unit_test(test_a_library_that_ld_preload_cannot_name_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
