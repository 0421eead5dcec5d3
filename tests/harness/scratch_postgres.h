// SPDX-License-Identifier: Apache-2.0
// A real PostgreSQL server of a test's own: in a directory, on a free port of 127.0.0.1, gone with
// the test. PostgreSQL refuses to run as root: a test program calls scratch_postgres_drop_root
// first.
#pragma once

#include "common/attributes.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SCRATCH_POSTGRES_PASSWORD "se:cret\\word'1"

typedef struct ScratchPostgres {
    char *directory; // data directory
    char *socket_directory;
    char *log_path;
    int port;
    pid_t pid; // 0: stopped
} ScratchPostgres;

// As root: becomes the user `holdfast`. Files in the current directory stay out of reach.
void scratch_postgres_drop_root(void);
// False: PostgreSQL's programs are not on this machine (a test skips then).
bool scratch_postgres_is_installed(void);
// Makes a cluster with checksums, superuser `admin`, and the role `holdfast` with the least
// privileges and SCRATCH_POSTGRES_PASSWORD, and starts it. `settings`: more lines for
// postgresql.conf.
ScratchPostgres *scratch_postgres_new(const char *parent_directory, const char *name,
                                      const char *settings);
// A standby made from another server's files while that runs; started.
ScratchPostgres *scratch_postgres_new_standby(const ScratchPostgres *primary,
                                              const char *parent_directory, const char *name);
void scratch_postgres_free(ScratchPostgres *server); // stops it; NULL is fine
void scratch_postgres_freep(ScratchPostgres **server);
void scratch_postgres_start(ScratchPostgres *server); // on its port; waits until it answers
void scratch_postgres_stop(ScratchPostgres *server);  // fast shutdown
void scratch_postgres_kill(ScratchPostgres *server);  // as a crash
// As `admin`, through the socket: the first value of the last statement, malloc'd; fails the test
// on an error.
char *scratch_postgres_text(const ScratchPostgres *server, const char *sql);
int64_t scratch_postgres_number(const ScratchPostgres *server, const char *sql);
void scratch_postgres_run(const ScratchPostgres *server, const char *sql);
// The same on any server: through `host` (a socket's directory or an address).
char *scratch_postgres_text_at(const char *host, int port, const char *username,
                               const char *password, const char *sql);
// "<bin directory>/name" of the installed programs.
char *scratch_postgres_program(const char *name);
