// SPDX-License-Identifier: Apache-2.0
// Starting programs: they record when they are given our environment. One that is not given it may
// write what nobody sees.
#include "recorder/preload/preload.h"

#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENT_COUNT_MAX 1024

extern char **environ;

static void note_start(char *const *environment)
{
    bool has_table = false;
    bool has_library = false;
    for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
        has_table = has_table || strncmp(environment[i], RECORDER_TABLE_VARIABLE "=",
                                         sizeof(RECORDER_TABLE_VARIABLE)) == 0;
        has_library = has_library || (strncmp(environment[i], "LD_PRELOAD=", 11) == 0 &&
                                      strstr(environment[i], RECORDER_LIBRARY_NAME) != NULL);
    }
    if (!has_table || !has_library) {
        preload_doubt(RECORDER_DOUBT_EXEC);
    }
}

INTERPOSED(int, execve, (const char *path, char *const arguments[], char *const environment[]))
{
    note_start(environment);
    return next_execve()(path, arguments, environment);
}

INTERPOSED(int, execv, (const char *path, char *const arguments[]))
{
    note_start(environ);
    return next_execv()(path, arguments);
}

INTERPOSED(int, execvp, (const char *file, char *const arguments[]))
{
    note_start(environ);
    return next_execvp()(file, arguments);
}

INTERPOSED(int, execvpe, (const char *file, char *const arguments[], char *const environment[]))
{
    note_start(environment);
    return next_execvpe()(file, arguments, environment);
}

INTERPOSED(int, fexecve, (int fd, char *const arguments[], char *const environment[]))
{
    note_start(environment);
    return next_fexecve()(fd, arguments, environment);
}

INTERPOSED(int, execveat,
           (int directory_fd, const char *path, char *const arguments[], char *const environment[],
            int flags))
{
    note_start(environment);
    return next_execveat()(directory_fd, path, arguments, environment, flags);
}

// Gathers what execl and its kin are given; false when it is more than anybody writes down.
static bool gather(const char *first, va_list *rest, char *arguments[ARGUMENT_COUNT_MAX])
{
    union {
        const char *in;
        char *out; // exec's prototype lacks the const that it promises
    } argument = {.in = first};
    size_t count = 0;
    for (; argument.in != NULL && count + 1 < ARGUMENT_COUNT_MAX; count++) {
        arguments[count] = argument.out;
        argument.in = va_arg(*rest, const char *);
    }
    arguments[count] = NULL;
    if (argument.in != NULL) {
        errno = E2BIG;
    }
    return argument.in == NULL;
}

// Defines the kin of `next` that is given a list where that is given an array.
#define INTERPOSED_LIST(name, next)                                                                \
    INTERPOSED(int, name, (const char *path, const char *first, ...))                              \
    {                                                                                              \
        char *arguments[ARGUMENT_COUNT_MAX];                                                       \
        va_list rest;                                                                              \
        va_start(rest, first);                                                                     \
        bool fits = gather(first, &rest, arguments);                                               \
        va_end(rest);                                                                              \
        note_start(environ);                                                                       \
        return fits ? next(path, arguments) : -1;                                                  \
    }

INTERPOSED_LIST(execl, next_execv())
INTERPOSED_LIST(execlp, next_execvp())

INTERPOSED(int, execle, (const char *path, const char *first, ...))
{
    char *arguments[ARGUMENT_COUNT_MAX];
    va_list rest;
    va_start(rest, first);
    bool fits = gather(first, &rest, arguments);
    char *const *environment = fits ? va_arg(rest, char *const *) : NULL;
    va_end(rest);
    note_start(environment);
    return fits ? next_execve()(path, arguments, environment) : -1;
}

INTERPOSED(int, posix_spawn,
           (pid_t *restrict pid, const char *restrict path,
            const posix_spawn_file_actions_t *restrict actions,
            const posix_spawnattr_t *restrict attributes, char *const arguments[restrict],
            char *const environment[restrict]))
{
    note_start(environment);
    return next_posix_spawn()(pid, path, actions, attributes, arguments, environment);
}

INTERPOSED(int, posix_spawnp,
           (pid_t *restrict pid, const char *restrict file,
            const posix_spawn_file_actions_t *restrict actions,
            const posix_spawnattr_t *restrict attributes, char *const arguments[restrict],
            char *const environment[restrict]))
{
    note_start(environment);
    return next_posix_spawnp()(pid, file, actions, attributes, arguments, environment);
}

INTERPOSED(int, system, (const char *command))
{
    note_start(environ);
    return next_system()(command);
}

INTERPOSED(FILE *, popen, (const char *command, const char *mode))
{
    note_start(environ);
    return next_popen()(command, mode);
}
