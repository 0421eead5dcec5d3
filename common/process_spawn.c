// SPDX-License-Identifier: Apache-2.0
// posix_spawn with a clean start: our file descriptors, signal mask and handlers stay with us.
#include "common/process_spawn.h"

#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_FREE_FD 3

extern char **environ;

static void actions_done(posix_spawn_file_actions_t *actions)
{
    (void)posix_spawn_file_actions_destroy(actions); // cannot fail in glibc
}

static void attributes_done(posix_spawnattr_t *attributes)
{
    (void)posix_spawnattr_destroy(attributes); // cannot fail in glibc
}

static void need(int failed)
{
    // Preparing fails only for lack of memory or a negative descriptor.
    if (failed == ENOMEM) {
        mem_exhausted();
    }
    assert(failed == 0);
}

static void add_output(posix_spawn_file_actions_t *actions, const ProcessOptions *options,
                       int error_fd)
{
    const int flags = O_WRONLY | O_CREAT | O_APPEND;
    if (options->output_fd > 0) {
        need(posix_spawn_file_actions_adddup2(actions, options->output_fd, STDOUT_FILENO));
    } else if (options->output_path != NULL) {
        need(posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, options->output_path, flags,
                                              0640));
    }
    if (error_fd >= 0) {
        need(posix_spawn_file_actions_adddup2(actions, error_fd, STDERR_FILENO));
    } else if (options->output_path != NULL && options->output_fd <= 0) {
        need(posix_spawn_file_actions_adddup2(actions, STDOUT_FILENO, STDERR_FILENO));
    } else if (options->output_path != NULL) {
        need(posix_spawn_file_actions_addopen(actions, STDERR_FILENO, options->output_path, flags,
                                              0640));
    }
}

static void add_file_actions(posix_spawn_file_actions_t *actions, const ProcessOptions *options,
                             int error_fd)
{
    if (options->input_fd > 0) {
        need(posix_spawn_file_actions_adddup2(actions, options->input_fd, STDIN_FILENO));
    } else {
        need(posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
    }
    add_output(actions, options, error_fd);
    int first = FIRST_FREE_FD;
    if (options->keep_fd > 0) {
        assert(options->keep_fd >= FIRST_FREE_FD);
        for (; first < options->keep_fd; first++) {
            need(posix_spawn_file_actions_addclose(actions, first));
        }
        // Onto itself: takes close-on-exec away.
        need(posix_spawn_file_actions_adddup2(actions, options->keep_fd, options->keep_fd));
        first++;
    }
    // A foreign library may have opened something without close-on-exec.
    need(posix_spawn_file_actions_addclosefrom_np(actions, first));
    if (options->directory != NULL) {
        need(posix_spawn_file_actions_addchdir_np(actions, options->directory));
    }
}

static void set_attributes(posix_spawnattr_t *attributes, bool new_session)
{
    sigset_t signals;
    sigemptyset(&signals);
    need(posix_spawnattr_setsigmask(attributes, &signals));
    sigfillset(&signals); // SIGPIPE above all: we ignore it, programs rely on it
    need(posix_spawnattr_setsigdefault(attributes, &signals));
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (new_session) {
        flags |= POSIX_SPAWN_SETSID;
    }
    need(posix_spawnattr_setflags(attributes, flags));
}

static bool is_overridden(const char *entry, const char *const *additions)
{
    const char *equals = strchr(entry, '=');
    size_t key_size = equals == NULL ? strlen(entry) : (size_t)(equals - entry);
    for (size_t i = 0; additions != NULL && additions[i] != NULL; i++) {
        if (strncmp(additions[i], entry, key_size) == 0 && additions[i][key_size] == '=') {
            return true;
        }
    }
    return false;
}

// The array is the caller's to free, the texts are borrowed.
static const char **merged_environment(const char *const *additions)
{
    size_t count = 1;
    for (size_t i = 0; environ != NULL && environ[i] != NULL; i++) {
        count++;
    }
    for (size_t i = 0; additions != NULL && additions[i] != NULL; i++) {
        count++;
    }
    const char **result = mem_alloc_array(count, sizeof(char *));
    size_t filled = 0;
    for (size_t i = 0; additions != NULL && additions[i] != NULL; i++) {
        result[filled++] = additions[i];
    }
    for (size_t i = 0; environ != NULL && environ[i] != NULL; i++) {
        if (!is_overridden(environ[i], additions)) {
            result[filled++] = environ[i];
        }
    }
    return result;
}

static Status spawn_failure(const ProcessOptions *options, int number, Error *error)
{
    const char *name = options->arguments[0];
    struct stat facts;
    if (options->directory != NULL &&
        (stat(options->directory, &facts) != 0 || !S_ISDIR(facts.st_mode))) {
        return error_set(error, REASON_NOT_FOUND,
                         "starting '%s': the working directory '%s' does not exist", name,
                         options->directory);
    }
    CLEANUP(fd_closep)
    int output = options->output_path == NULL
                     ? INVALID_FD
                     : open(options->output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (options->output_path != NULL && output < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "starting '%s': opening '%s'", name,
                               options->output_path);
    }
    error_set_errno(error, REASON_INTERNAL, number, "starting '%s'", name);
    if (number == ENOENT) {
        return error_hint(error, "install the program, or add its directory to PATH");
    }
    return error->status;
}

Status process_spawn_with(const ProcessOptions *options, int error_fd, pid_t *ret_pid, Error *error)
{
    assert(options != NULL);
    assert(options->arguments != NULL);
    assert(options->arguments[0] != NULL);
    CLEANUP(actions_done) posix_spawn_file_actions_t actions;
    need(posix_spawn_file_actions_init(&actions));
    CLEANUP(attributes_done) posix_spawnattr_t attributes;
    need(posix_spawnattr_init(&attributes));
    add_file_actions(&actions, options, error_fd);
    set_attributes(&attributes, options->new_session);
    CLEANUP_FREE const char **environment = merged_environment(options->environment);
    // POSIX's prototype lacks the const that it promises; a copy of the pointers satisfies both.
    size_t count = 0;
    while (options->arguments[count] != NULL) {
        count++;
    }
    CLEANUP_FREE char **arguments = mem_alloc_array(count + 1, sizeof(char *));
    memcpy(arguments, options->arguments, count * sizeof(char *));
    CLEANUP_FREE char **variables = NULL;
    size_t variable_count = 0;
    while (environment[variable_count] != NULL) {
        variable_count++;
    }
    variables = mem_alloc_array(variable_count + 1, sizeof(char *));
    memcpy(variables, environment, variable_count * sizeof(char *));
    pid_t pid = 0;
    int failed = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, variables);
    if (failed != 0) {
        return spawn_failure(options, failed, error);
    }
    *ret_pid = pid;
    return STATUS_OK;
}
