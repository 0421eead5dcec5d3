// SPDX-License-Identifier: Apache-2.0
// `holdfast-agent --child PROGRAM ARGUMENT...`: becomes PROGRAM, which the kernel kills (SIGKILL)
// when the thread that started it ends.
//
// The kernel's parent-death signal is tied to the *thread* that spawned the child, not to its
// process (prctl(2), PR_SET_PDEATHSIG): so an engine must be started by a thread that lives as long
// as the engine is wanted. The signal survives exec of ordinary programs (not of set-user-ID ones),
// but is not inherited by the program's own children.
#pragma once

// The environment variable that names the pid which must still be the parent; without it only
// adoption by init counts.
#define CHILD_PARENT_VARIABLE "HOLDFAST_CHILD_PARENT"
// The library that PROGRAM is to preload. It is not preloaded into the launcher, which may be built
// in a way that does not bear it (with a sanitizer).
#define CHILD_PRELOAD_VARIABLE "HOLDFAST_CHILD_PRELOAD"

// main() calls this when argv[1] is "--child". Returns only when the program cannot be started: an
// exit code.
int child_main(int argc, char **argv);
