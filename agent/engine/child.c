// SPDX-License-Identifier: Apache-2.0
// The launcher of engine processes; see child.h. It runs alone in a fresh process and logs plainly
// to stderr, which is the engine's log.
#include "agent/engine/child.h"

#include "common/memory.h"
#include "common/text.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define EXIT_PARENT_GONE 3
#define EXIT_NOT_STARTED 127

// The parent may have died before prctl took effect; then the signal never comes and we must not go
// on.
static bool is_parent_gone(void)
{
    int64_t expected = 0;
    if (text_to_int64(getenv(CHILD_PARENT_VARIABLE), &expected)) {
        return getppid() != (pid_t)expected;
    }
    return getppid() == 1;
}

static bool set_preload(void)
{
    const char *library = getenv(CHILD_PRELOAD_VARIABLE);
    if (library == NULL) {
        return true;
    }
    const char *others = getenv("LD_PRELOAD");
    CLEANUP_FREE char *all = string_format("%s%s%s", library, text_is_empty(others) ? "" : ":",
                                           text_is_empty(others) ? "" : others);
    bool is_set = setenv("LD_PRELOAD", all, 1) == 0;
    (void)unsetenv(CHILD_PRELOAD_VARIABLE); // ours alone
    return is_set;
}

int child_main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: --child PROGRAM [ARGUMENT...]\n");
        return EXIT_USAGE;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        (void)fprintf(stderr, "cannot ask for the parent-death signal: %s\n", strerror(errno));
        return EXIT_NOT_STARTED;
    }
    if (is_parent_gone()) {
        return EXIT_PARENT_GONE;
    }
    (void)unsetenv(CHILD_PARENT_VARIABLE); // ours alone
    if (!set_preload()) {
        (void)fprintf(stderr, "cannot set the environment: %s\n", strerror(errno));
        return EXIT_NOT_STARTED;
    }
    execvp(argv[2], argv + 2);
    (void)fprintf(stderr, "cannot start '%s': %s\n", argv[2], strerror(errno));
    return EXIT_NOT_STARTED;
}
