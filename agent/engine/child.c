// SPDX-License-Identifier: Apache-2.0
// The launcher of engine processes; see child.h. It runs alone in a fresh process and logs plainly
// to stderr, which is the engine's log.
#include "agent/engine/child.h"

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
    execvp(argv[2], argv + 2);
    (void)fprintf(stderr, "cannot start '%s': %s\n", argv[2], strerror(errno));
    return EXIT_NOT_STARTED;
}
