// SPDX-License-Identifier: Apache-2.0
// A real MariaDB or MySQL server of a test's own: in a directory, on a free port of 127.0.0.1, gone
// with the test. Both refuse to run as root: a test program calls scratch_mysql_drop_root first.
// MySQL is taken from the directory that the environment variable HOLDFAST_MYSQL_DIR names, or
// .dev/mysql of the checkout (tests/tools/fetch_mysql.sh).
#pragma once

#include "agent/engine/engine_mysql_client.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SCRATCH_MYSQL_PASSWORD "pa'ss\\word \"1"

typedef struct ScratchMysql {
    bool is_mysql;
    char *directory; // data directory
    char *socket_path;
    char *log_path;
    const char *const *options; // further ones, NULL-ended; borrowed
    const char *launcher;       // this program: servers are started through it, and end with it
    int port;
    int server_id;
    pid_t pid; // 0: stopped
} ScratchMysql;

// As root: becomes the user `holdfast` and starts the program anew, so that it may look into its
// own /proc.
void scratch_mysql_drop_root(char **arguments);
const char *scratch_mysql_directory(void); // of MySQL's programs
// Makes and starts a server with binary log, `root` without a password on its socket, and the user
// `holdfast` with the least privileges and SCRATCH_MYSQL_PASSWORD.
ScratchMysql *scratch_mysql_new(bool is_mysql, const char *launcher, const char *parent_directory,
                                const char *name, const char *const *options);
void scratch_mysql_free(ScratchMysql *server); // kills it; NULL is fine
void scratch_mysql_freep(ScratchMysql **server);
void scratch_mysql_start(ScratchMysql *server);
void scratch_mysql_stop(ScratchMysql *server);
void scratch_mysql_kill(ScratchMysql *server);                       // as a crash
MysqlClient *scratch_mysql_client(const ScratchMysql *server);       // as root
bool scratch_mysql_try(const ScratchMysql *server, const char *sql); // false when it fails
void scratch_mysql_run(const ScratchMysql *server,
                       const char *sql); // several statements with ';' at line ends
char *scratch_mysql_text(const ScratchMysql *server,
                         const char *sql); // all rows and columns, malloc'd
int64_t scratch_mysql_number(const ScratchMysql *server, const char *sql);
EngineSource
scratch_mysql_source(const ScratchMysql *server); // password is to be ended with secret_done
// All rows and columns of a query, malloc'd.
char *scratch_mysql_rows(MysqlClient *client, const char *sql);
