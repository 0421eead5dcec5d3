// SPDX-License-Identifier: Apache-2.0
// What the test files of the MySQL family share: one source, its seed, and the tests of failures.
#pragma once

#include "tests/integration/mysql_cycle.h"

static const bool is_mysql = TEST_IS_MYSQL;

typedef struct Fixture {
    char *root;
    ScratchMysql *source;
    Cycle cycle;
    CycleBackup seed; // of the source as set up
} Fixture;

extern Fixture shared; // for all tests; those that break it come last

// A served backup answers every question as the source does now, to the backup's own accounts.
void assert_same_as_source(const CycleBackup *backup);
// The number of the last transaction in a position of one server: "0-1-42", "uuid:1-42".
int64_t last_transaction(const char *position);

// mysql_failures.c
void test_verified_tls(void **state);
void test_source_restarts_in_the_middle(void **state);
void test_stall_and_cancel(void **state);
void test_failover(void **state);
void test_purged_logs_are_named_at_once(void **state);
void test_diverged_sources_are_refused(void **state);
void test_wrong_credentials_are_named(void **state);
