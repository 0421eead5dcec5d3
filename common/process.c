// SPDX-License-Identifier: Apache-2.0
// Starting and ending child processes.
#include "common/process.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process_spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STDERR_TAIL_BYTES 1024
#define FALLBACK_POLL_MS 20
#define RUN_GRACE_MS 2000

int process_open_pidfd(pid_t pid)
{
    // By number: glibc has the wrapper only since 2.36. The kernel sets close-on-exec itself.
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

Status process_spawn(const ProcessOptions *options, pid_t *ret_pid, Error *error)
{
    return process_spawn_with(options, INVALID_FD, ret_pid, error);
}

static int64_t deadline_after(int64_t timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : clock_monotonic_ms() + timeout_ms;
}

static int poll_ms_until(int64_t deadline_ms)
{
    if (deadline_ms == INT64_MAX) {
        return -1;
    }
    int64_t left_ms = deadline_ms - clock_monotonic_ms();
    return (int)MAX(0, MIN(left_ms, 1000 * 1000));
}

static int code_of(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

// One look. False in ret_done: it still runs.
static Status reap(pid_t pid, bool *ret_done, int *ret_code, Error *error)
{
    int wait_status = 0;
    pid_t reaped = 0;
    do {
        reaped = waitpid(pid, &wait_status, WNOHANG);
    } while (reaped < 0 && errno == EINTR);
    if (reaped < 0) {
        return error_set_errno(error, REASON_PRECONDITION, errno, "waiting for process %d",
                               (int)pid);
    }
    *ret_done = reaped == pid;
    if (*ret_done) {
        *ret_code = code_of(wait_status);
    }
    return STATUS_OK;
}

Status process_wait(pid_t pid, int64_t timeout_ms, bool *ret_done, int *ret_code, Error *error)
{
    assert(pid > 0);
    int64_t deadline_ms = deadline_after(timeout_ms);
    CLEANUP(fd_closep) int pidfd = process_open_pidfd(pid);
    for (;;) {
        RETURN_IF_ERROR(reap(pid, ret_done, ret_code, error));
        if (*ret_done || clock_monotonic_ms() >= deadline_ms) {
            return STATUS_OK;
        }
        int poll_ms = poll_ms_until(deadline_ms);
        if (pidfd >= 0) {
            struct pollfd wanted = {.fd = pidfd, .events = POLLIN};
            (void)poll(&wanted, 1, poll_ms); // whatever woke us, the loop looks again
        } else {
            clock_sleep_ms(poll_ms < 0 ? FALLBACK_POLL_MS : MIN(poll_ms, FALLBACK_POLL_MS));
        }
    }
}

static void kill_hard(pid_t pid)
{
    // The group only when it is the child's own: never ours.
    if (getpgid(pid) == pid && pid != getpgrp()) {
        (void)kill(-pid, SIGKILL); // gone already is fine
    }
    (void)kill(pid, SIGKILL);
}

// A process that is not our child (it outlived its starter) can be ended, but not reaped.
static void stop_foreign(pid_t pid, int64_t grace_ms)
{
    CLEANUP(fd_closep) int pidfd = process_open_pidfd(pid);
    if (pidfd < 0) {
        return;
    }
    for (int round = 0; round < 2; round++) {
        int64_t deadline_ms = deadline_after(round == 0 ? grace_ms : RUN_GRACE_MS);
        struct pollfd wanted = {.fd = pidfd, .events = POLLIN};
        while (poll(&wanted, 1, poll_ms_until(deadline_ms)) < 0 && errno == EINTR) {
        }
        if ((wanted.revents & POLLIN) != 0) {
            return;
        }
        kill_hard(pid);
    }
}

void process_stop(pid_t pid, int polite_signal, int64_t grace_ms)
{
    assert(pid > 0);
    assert(grace_ms >= 0);
    Error error = {0};
    bool is_done = false;
    int code = 0;
    if (reap(pid, &is_done, &code, &error) != STATUS_OK) {
        if (kill(pid, polite_signal > 0 ? polite_signal : SIGTERM) == 0) {
            stop_foreign(pid, grace_ms);
        }
        return;
    }
    if (is_done) {
        return;
    }
    (void)kill(pid, polite_signal > 0 ? polite_signal : SIGTERM);
    if (process_wait(pid, grace_ms, &is_done, &code, &error) == STATUS_OK && is_done) {
        return;
    }
    kill_hard(pid);
    (void)process_wait(pid, -1, &is_done, &code, &error); // a killed child always ends
}

typedef struct Run {
    pid_t pid;
    int pidfd;
    int output_fd; // both become INVALID_FD at their end
    int error_fd;
    int copy_fd; // where stderr goes as well, or INVALID_FD
    Buffer *output;
    char tail[STDERR_TAIL_BYTES];
    size_t tail_size;
} Run;

static void run_done(Run *run)
{
    fd_closep(&run->pidfd);
    fd_closep(&run->output_fd);
    fd_closep(&run->error_fd);
    fd_closep(&run->copy_fd);
}

static void keep_tail(Run *run, const char *data, size_t size)
{
    if (size >= sizeof(run->tail)) {
        memcpy(run->tail, data + size - sizeof(run->tail), sizeof(run->tail));
        run->tail_size = sizeof(run->tail);
        return;
    }
    size_t kept = MIN(run->tail_size, sizeof(run->tail) - size);
    memmove(run->tail, run->tail + run->tail_size - kept, kept);
    memcpy(run->tail + kept, data, size);
    run->tail_size = kept + size;
}

// The part that fits is kept, the rest is read and forgotten so that the child does not block.
static void keep_output(Run *run, const char *data, size_t size)
{
    Buffer *output = run->output;
    if (output == NULL || output->is_overflowed) {
        return;
    }
    size_t fitting = MIN(size, output->size_max - output->size);
    buffer_append(output, data, fitting);
    if (fitting < size) {
        output->is_overflowed = true;
    }
}

// Reads what there is; true when something came or the pipe ended.
static bool read_pipe(Run *run, int *fd)
{
    char data[16384];
    ssize_t got = read(*fd, data, sizeof(data));
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            fd_closep(fd);
        }
        return false;
    }
    if (got == 0) {
        fd_closep(fd);
        return true;
    }
    if (fd == &run->output_fd) {
        keep_output(run, data, (size_t)got);
        return true;
    }
    keep_tail(run, data, (size_t)got);
    if (run->copy_fd >= 0) {
        Error ignored = {0};
        (void)file_write_all(run->copy_fd, data, (size_t)got, &ignored); // the log is a courtesy
    }
    return true;
}

static bool has_ended(const Run *run)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == run->pid;
}

// Until the child ends or the deadline passes. Its own children may keep the pipes open; they are
// not waited for.
static bool pump(Run *run, int64_t deadline_ms)
{
    while (!has_ended(run)) {
        int poll_ms = poll_ms_until(deadline_ms);
        if (poll_ms == 0) {
            return false;
        }
        struct pollfd wanted[3] = {{.fd = run->output_fd, .events = POLLIN},
                                   {.fd = run->error_fd, .events = POLLIN},
                                   {.fd = run->pidfd, .events = POLLIN}};
        if (run->pidfd < 0) {
            poll_ms = poll_ms < 0 ? FALLBACK_POLL_MS : MIN(poll_ms, FALLBACK_POLL_MS);
        }
        (void)poll(wanted, ARRAY_COUNT(wanted), poll_ms); // the loop looks again in any case
        if (wanted[0].revents != 0) {
            read_pipe(run, &run->output_fd);
        }
        if (wanted[1].revents != 0) {
            read_pipe(run, &run->error_fd);
        }
    }
    // What was written before the end is in the pipes. The bound is against a grandchild that
    // writes for ever.
    for (int i = 0; i < 1024 && run->output_fd >= 0 && read_pipe(run, &run->output_fd); i++) {
    }
    for (int i = 0; i < 1024 && run->error_fd >= 0 && read_pipe(run, &run->error_fd); i++) {
    }
    return true;
}

static Status open_pipe(int *ret_read_fd, int *ret_write_fd, Error *error)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return error_set_errno(error, REASON_EXHAUSTED, errno, "making a pipe");
    }
    // Only our end: the program expects a blocking one.
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) {
        int number = errno;
        (void)close(fds[0]);
        (void)close(fds[1]);
        return error_set_errno(error, REASON_EXHAUSTED, number, "making a pipe");
    }
    *ret_read_fd = fds[0];
    *ret_write_fd = fds[1];
    return STATUS_OK;
}

static Status run_begin(Run *run, const ProcessOptions *options, Error *error)
{
    CLEANUP(fd_closep) int output_end = INVALID_FD;
    CLEANUP(fd_closep) int error_end = INVALID_FD;
    RETURN_IF_ERROR(open_pipe(&run->output_fd, &output_end, error));
    RETURN_IF_ERROR(open_pipe(&run->error_fd, &error_end, error));
    if (options->output_path != NULL) {
        run->copy_fd = open(options->output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (run->copy_fd < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'",
                                   options->output_path);
        }
    }
    ProcessOptions own = *options;
    own.output_path = NULL;
    own.output_fd = output_end;
    own.new_session = true; // so that a timeout ends its children too
    RETURN_IF_ERROR(process_spawn_with(&own, error_end, &run->pid, error));
    run->pidfd = process_open_pidfd(run->pid);
    return STATUS_OK;
}

static Status run_failure(const Run *run, const char *name, int code, Reason otherwise,
                          Error *error)
{
    const char *tail = run->tail;
    size_t size = run->tail_size;
    while (size > 0 && strchr(" \t\r\n", tail[size - 1]) != NULL) {
        size--;
    }
    const char *separator = size > 0 ? ": " : "";
    if (code > 128) {
        int number = code - 128;
        // Somebody else ended it, the kernel when memory ran out above all: that is no answer to
        // what it was asked.
        bool is_from_outside = number == SIGKILL || number == SIGTERM;
        (void)error_set(error, is_from_outside ? REASON_EXHAUSTED : otherwise,
                        "'%s' was ended by signal %d (%s)%s%.*s", name, number, strsignal(number),
                        separator, (int)size, tail);
        return number == SIGKILL ? error_hint(error, "the kernel ends programs so when the memory"
                                                     " runs out; give the machine more of it")
                                 : error->status;
    }
    return error_set(error, otherwise, "'%s' failed with exit code %d%s%.*s", name, code, separator,
                     (int)size, tail);
}

Status process_run(const ProcessOptions *options, int64_t timeout_ms, Reason otherwise,
                   Buffer *output, Error *error)
{
    assert(options != NULL);
    assert(options->output_fd <= 0); // stdout is ours here
    CLEANUP(run_done)
    Run run = {.pidfd = INVALID_FD,
               .output_fd = INVALID_FD,
               .error_fd = INVALID_FD,
               .copy_fd = INVALID_FD,
               .output = output};
    RETURN_IF_ERROR(run_begin(&run, options, error));
    const char *name = options->arguments[0];
    if (!pump(&run, deadline_after(timeout_ms))) {
        process_stop(run.pid, SIGTERM, RUN_GRACE_MS);
        error_set(error, REASON_DEADLINE, "'%s' did not end within %lld ms", name,
                  (long long)timeout_ms);
        return error->status;
    }
    bool is_done = false;
    int code = 0;
    RETURN_IF_ERROR(process_wait(run.pid, -1, &is_done, &code, error));
    return code == 0 ? STATUS_OK : run_failure(&run, name, code, otherwise, error);
}
