// SPDX-License-Identifier: Apache-2.0
// What the test files of the MySQL family share: one source and its seed.
#pragma once

#include "tests/integration/mysql_cycle.h"

static const bool is_mysql = TEST_IS_MYSQL;

typedef struct Fixture {
    char *root;
    ScratchMysql *source;
    Cycle cycle;
    CycleBackup seed; // of the source as set up
} Fixture;

extern Fixture shared; // for all tests of a program; those that break it come last
extern const char *const engine_name;

// An empty data directory fits, and MySQL's second one, and a backup of the objects; little more.
#define SMALL_DISK_MIB (TEST_IS_MYSQL ? 260 : 130)

// For main(): true when the program is to end with that code: it was the launcher of a child.
bool suite_prepare(int argc, char **argv, int *ret_exit_code);
const char *suite_program(void); // this test program, which is also the launcher of engine children
// For the group: an empty source, or one with everything that a copy could lose.
int suite_set_up(void **state);
int suite_set_up_objects(void **state);
int suite_tear_down(void **state);

// NULL: refused.
MysqlClient *suite_connect(int port, const char *username, const char *password, Error *error);
// A served backup answers every question as the source does now, to the backup's own accounts.
void assert_same_as_source(const CycleBackup *backup);
// The number of the last transaction in a position of one server: "0-1-42", "uuid:1-42".
int64_t last_transaction(const char *position);
