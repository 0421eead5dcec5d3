// SPDX-License-Identifier: Apache-2.0
// Red when children leak, are waited for for ever, inherit what they must not, or are mistaken for
// others.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/process_spawn.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL(script) ((const char *const[]){"sh", "-c", (script), NULL})

static void assert_no_children(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void run_shell(const char *script, const char *expected)
{
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    Error error = {0};
    ProcessOptions options = {.arguments = SHELL(script)};
    assert_ok(process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    assert_string_equal(buffer_text(&output), expected);
}

static void test_run(void **state)
{
    (void)state;
    run_shell("echo hello; echo noise >&2", "hello\n");
    run_shell("cat; echo end", "end\n"); // stdin is empty, not ours
    Error error = {0};
    ProcessOptions failing = {.arguments = SHELL("echo out; echo 'no such thing' >&2; exit 3")};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 100);
    assert_error(process_run(&failing, 20000, REASON_ENGINE_FAILED, &output, &error), &error,
                 REASON_ENGINE_FAILED, "'sh' failed with exit code 3: no such thing");
    ProcessOptions killed = {.arguments = SHELL("kill -9 $$")};
    assert_error(process_run(&killed, 20000, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_EXHAUSTED, "'sh' was ended by signal 9 (Killed)");
    assert_contains(error.hint, "memory");
    ProcessOptions terminated = {.arguments = SHELL("kill -15 $$")};
    assert_error(process_run(&terminated, 20000, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_EXHAUSTED, "'sh' was ended by signal 15 (Terminated)");
    ProcessOptions aborted = {.arguments = SHELL("ulimit -c 0; kill -6 $$")};
    assert_error(process_run(&aborted, 20000, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_ENGINE_FAILED, "'sh' was ended by signal 6 (Aborted)");
    ProcessOptions missing = {.arguments = (const char *const[]){"no-such-program-at-all", NULL}};
    assert_error(process_run(&missing, 20000, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_NOT_FOUND, "starting 'no-such-program-at-all': No such file or directory");
    assert_contains(error.hint, "PATH");
    ProcessOptions elsewhere = {.arguments = SHELL("true"), .directory = "/no/such/place"};
    assert_error(process_run(&elsewhere, 20000, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_NOT_FOUND,
                 "starting 'sh': the working directory '/no/such/place' does not exist");
    assert_no_children();
}

static void test_output_limits(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 1000);
    Error error = {0};
    // Ten times what a pipe holds: the child must not block on what we do not keep.
    ProcessOptions options = {
        .arguments = SHELL("head -c 700000 /dev/zero | tr '\\0' x; head -c 700000 /dev/zero |"
                           " tr '\\0' y >&2; printf tail >&2; exit 1")};
    Status status = process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error);
    assert_int_equal(status, reason_status(REASON_ENGINE_FAILED));
    assert_int_equal(output.size, 1000);
    assert_true(output.is_overflowed);
    assert_true(text_has_suffix(error.message, "yyytail"));
    assert_true(strlen(error.message) > 1024);
    assert_true(strlen(error.message) < 1100);
    assert_no_children();
}

static void test_run_timeout_ends_the_group(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    Error error = {0};
    ProcessOptions options = {.arguments =
                                  SHELL("trap '' TERM; sleep 100 & echo $! > pid; wait; wait"),
                              .directory = directory};
    int64_t start_ms = clock_monotonic_ms();
    assert_error(process_run(&options, 300, REASON_ENGINE_FAILED, NULL, &error), &error,
                 REASON_DEADLINE, "'sh' did not end within 300 ms");
    assert_true(clock_monotonic_ms() - start_ms < 10000);
    assert_no_children();
    CLEANUP_FREE char *path = path_join(directory, "pid");
    CLEANUP_FREE char *text = NULL;
    assert_ok(file_read(path, 100, &text, NULL, &error), &error);
    ProcessIdentity identity = {0};
    int64_t deadline_ms = clock_monotonic_ms() + 5000;
    bool is_alive = true;
    while (is_alive && clock_monotonic_ms() < deadline_ms) {
        is_alive = process_identify(atoi(text), &identity) && process_is_alive(&identity);
        clock_sleep_ms(10);
    }
    assert_false(is_alive); // the grandchild went with the group
}

static void test_run_does_not_wait_for_grandchildren(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 100);
    int64_t start_ms = clock_monotonic_ms();
    ProcessOptions options = {.arguments = SHELL("sleep 5 & echo $!")};
    assert_ok(process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    assert_true(clock_monotonic_ms() - start_ms < 4000);
    assert_int_equal(kill(atoi(buffer_text(&output)), SIGKILL), 0);
}

static void test_environment_and_descriptors(void **state)
{
    (void)state;
    assert_int_equal(setenv("HOLDFAST_TEST_A", "old", 1), 0);
    assert_int_equal(setenv("HOLDFAST_TEST_AB", "kept", 1), 0);
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "file");
    write_file(path, "content");
    int leaked = dup(STDIN_FILENO); // no close-on-exec, as careless libraries do
    CLEANUP(fd_closep) int kept = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    Error error = {0};
    CLEANUP_FREE char *script =
        string_format("echo $HOLDFAST_TEST_A $HOLDFAST_TEST_AB; pwd; cat <&%d; echo;"
                      "for fd in /proc/self/fd/*; do f=${fd##*/}; [ $f -gt 2 ] && [ $f -lt 10 ] &&"
                      " readlink $fd; done; true",
                      kept);
    ProcessOptions options = {.arguments = SHELL(script),
                              .environment = (const char *const[]){"HOLDFAST_TEST_A=new", NULL},
                              .directory = directory,
                              .keep_fd = kept};
    assert_ok(process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    CLEANUP_FREE char *expected = string_format("new kept\n%s\ncontent\n", directory);
    assert_int_equal(strncmp(buffer_text(&output), expected, strlen(expected)), 0);
    assert_int_equal(fcntl(kept, F_GETFD), FD_CLOEXEC); // ours is as it was
    buffer_clear(&output);
    CLEANUP_FREE char *probe =
        string_format("[ -e /proc/self/fd/%d ] && echo leaked; true", leaked);
    ProcessOptions probing = {.arguments = SHELL(probe)};
    assert_ok(process_run(&probing, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    assert_string_equal(buffer_text(&output), "");
    (void)close(leaked);
}

static void test_signals_are_default_in_the_child(void **state)
{
    (void)state;
    assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    Error error = {0};
    ProcessOptions options = {.arguments = SHELL("cat /proc/self/status")};
    assert_ok(process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    assert_contains(buffer_text(&output), "SigBlk:\t0000000000000000\n");
    unsigned long long ignored = ~0ull;
    assert_int_equal(sscanf(strstr(buffer_text(&output), "SigIgn:"), "SigIgn: %llx", &ignored), 1);
    // 32 and 33 are the C library's own.
    assert_int_equal(ignored & ((1ull << 31) - 1), 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
}

static void test_wait_and_stop(void **state)
{
    (void)state;
    Error error = {0};
    pid_t pid = 0;
    bool is_done = true;
    int code = -1;
    ProcessOptions options = {.arguments = SHELL("exec sleep 100"), .new_session = true};
    assert_ok(process_spawn(&options, &pid, &error), &error);
    int64_t start_ms = clock_monotonic_ms();
    assert_ok(process_wait(pid, 50, &is_done, &code, &error), &error);
    assert_false(is_done);
    assert_true(clock_monotonic_ms() - start_ms >= 50);
    assert_int_equal(getpgid(pid), pid);
    process_stop(pid, 0, 5000);
    assert_no_children();
    // One that does not listen is killed.
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *ready = path_join(directory, "ready");
    ProcessOptions deaf = {.arguments =
                               SHELL("trap '' TERM; : > ready; while :; do sleep 0.05; done"),
                           .directory = directory,
                           .new_session = true};
    assert_ok(process_spawn(&deaf, &pid, &error), &error);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    while (access(ready, F_OK) != 0 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(5);
    }
    process_stop(pid, SIGTERM, 100);
    assert_no_children();
    ProcessOptions quick = {.arguments = SHELL("exit 7")};
    assert_ok(process_spawn(&quick, &pid, &error), &error);
    assert_ok(process_wait(pid, -1, &is_done, &code, &error), &error);
    assert_true(is_done);
    assert_int_equal(code, 7);
    assert_int_equal(process_wait(pid, 0, &is_done, &code, &error), STATUS_FAILED_PRECONDITION);
    process_stop(pid, SIGTERM, 100); // reaped already: nothing happens
    ProcessOptions dying = {.arguments = SHELL("kill -15 $$")};
    assert_ok(process_spawn(&dying, &pid, &error), &error);
    assert_ok(process_wait(pid, 20000, &is_done, &code, &error), &error);
    assert_int_equal(code, 128 + 15);
}

static void test_output_file(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *path = path_join(directory, "log");
    write_file(path, "before\n");
    Error error = {0};
    ProcessOptions options = {.arguments = SHELL("echo out; echo err >&2"), .output_path = path};
    pid_t pid = 0;
    bool is_done = false;
    int code = 0;
    assert_ok(process_spawn(&options, &pid, &error), &error);
    assert_ok(process_wait(pid, 20000, &is_done, &code, &error), &error);
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 100);
    assert_ok(process_run(&options, 20000, REASON_ENGINE_FAILED, &output, &error), &error);
    CLEANUP_FREE char *text = NULL;
    assert_ok(file_read(path, 1000, &text, NULL, &error), &error);
    assert_string_equal(text, "before\nout\nerr\nerr\n"); // the second run's stdout was collected
    assert_string_equal(buffer_text(&output), "out\n");
    options.output_path = "/no/such/place/log";
    assert_error(process_spawn(&options, &pid, &error), &error, REASON_NOT_FOUND,
                 "starting 'sh': opening '/no/such/place/log': No such file or directory");
}

static void test_identity(void **state)
{
    (void)state;
    ProcessIdentity own = {0};
    assert_true(process_identify(getpid(), &own));
    assert_true(process_is_alive(&own));
    assert_int_equal(strlen(own.boot_id), 36);
    ProcessIdentity recycled = own; // the same number, another process
    recycled.start_ticks++;
    assert_false(process_is_alive(&recycled));
    ProcessIdentity rebooted = own;
    rebooted.boot_id[0] = rebooted.boot_id[0] == '0' ? '1' : '0';
    assert_false(process_is_alive(&rebooted));
    ProcessIdentity none = {0};
    assert_false(process_identify(0, &none));
    assert_false(process_identify(-5, &none));
    assert_false(process_is_alive(&none));
    Error error = {0};
    pid_t pid = 0;
    ProcessOptions options = {.arguments = SHELL("exec sleep 100")};
    assert_ok(process_spawn(&options, &pid, &error), &error);
    ProcessIdentity child = {0};
    assert_true(process_identify(pid, &child));
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(process_is_alive(&child)); // a zombie is not alive
    process_stop(pid, 0, 0);
    assert_false(process_identify(pid, &child));
}

static void test_stat_with_any_name(void **state)
{
    (void)state;
    char current = '\0';
    uint64_t ticks = 0;
    assert_true(process_parse_stat(
        "12 (a) R 1 (b c)) S 1 1 1 0 -1 4 5 0 0 0 0 0 0 0 20 0 1 0 4711 9 8\n", &current, &ticks));
    assert_int_equal(current, 'S');
    assert_int_equal(ticks, 4711);
    assert_false(process_parse_stat("", &current, &ticks));
    assert_false(process_parse_stat("12 (a", &current, &ticks));
    assert_false(process_parse_stat("12 (a)", &current, &ticks));
    assert_false(process_parse_stat("12 (a) S 1 1", &current, &ticks));
    assert_false(process_parse_stat("12 (a) S 1 1 1 0 -1 4 5 0 0 0 0 0 0 0 20 0 1 0 -4711 9",
                                    &current, &ticks));
    assert_false(process_parse_stat("12 (a) S 1 1 1 0 -1 4 5 0 0 0 0 0 0 0 20 0 1 0 47x 9",
                                    &current, &ticks));
}

static void test_find(void **state)
{
    (void)state;
    char path[4096];
    assert_true(program_find((const char *const[]){"no-such-program", "sh", NULL}, path));
    assert_true(text_has_suffix(path, "/sh"));
    assert_true(program_find((const char *const[]){"/no/such", "/bin/sh", NULL}, path));
    assert_string_equal(path, "/bin/sh");
    assert_false(
        program_find((const char *const[]){"no-such-program", "/etc", "/etc/passwd", NULL}, path));
    assert_false(program_find((const char *const[]){NULL}, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_output_limits),
        cmocka_unit_test(test_run_timeout_ends_the_group),
        cmocka_unit_test(test_run_does_not_wait_for_grandchildren),
        cmocka_unit_test(test_environment_and_descriptors),
        cmocka_unit_test(test_signals_are_default_in_the_child),
        cmocka_unit_test(test_wait_and_stop),
        cmocka_unit_test(test_output_file),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_stat_with_any_name),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
