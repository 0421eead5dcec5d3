// SPDX-License-Identifier: Apache-2.0
// One source of the MySQL family for all tests of a program.
#include "tests/integration/mysql_suite.h"

#include "agent/engine/child.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"
#include "tests/integration/mysql_objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Fixture shared;
const char *const engine_name = TEST_IS_MYSQL ? "mysql" : "mariadb";

static char program_path[4096]; // of this test: also the launcher of engine children

const char *suite_program(void)
{
    return program_path;
}

bool suite_prepare(int argc, char **argv, int *ret_exit_code)
{
    if (argc > 2 && text_equal(argv[1], "--child")) {
        *ret_exit_code = child_main(argc, argv);
        return true;
    }
    ssize_t size = readlink("/proc/self/exe", program_path, sizeof(program_path) - 1);
    assert_true(size > 0);
    (void)small_disk_new(SMALL_DISK_MIB);
    scratch_mysql_drop_root(argv);
    cmocka_set_test_filter(argc == 2 ? argv[1] : NULL);
    return false;
}

int suite_set_up(void **state)
{
    (void)state;
    shared.root = temp_dir_new();
    shared.source = scratch_mysql_new(is_mysql, program_path, shared.root, "source", NULL);
    shared.cycle = (Cycle){.source = shared.source, .launcher = program_path, .root = shared.root};
    return 0;
}

int suite_set_up_objects(void **state)
{
    suite_set_up(state);
    scratch_mysql_run(shared.source, MYSQL_OBJECTS);
    if (!is_mysql) {
        scratch_mysql_run(shared.source, MARIADB_OBJECTS);
    }
    return 0;
}

int suite_tear_down(void **state)
{
    (void)state;
    scratch_mysql_freep(&shared.source);
    if (getenv("CYCLE_KEEP") == NULL) {
        temp_dir_removep(&shared.root);
    }
    return 0;
}

MysqlClient *suite_connect(int port, const char *username, const char *password, Error *error)
{
    EngineSource source = {
        .host = "127.0.0.1", .port = port, .username = username, .tls_mode = "prefer"};
    source.password = secret_from_text(password);
    MysqlClient *client = NULL;
    (void)mysql_client_open_source(&source, NULL, 10000, &client, error);
    secret_done(&source.password);
    return client;
}

void assert_same_as_source(const CycleBackup *backup)
{
    Error error = {0};
    CycleRun run = {0};
    int port = 0;
    assert_ok(cycle_serve(&shared.cycle, backup, &port, &run, &error), &error);
    CLEANUP(mysql_client_freep)
    MysqlClient *ours = suite_connect(port, "app", "app-secret", &error);
    assert_non_null(ours);
    CLEANUP(mysql_client_freep) MysqlClient *theirs = scratch_mysql_client(shared.source);
    // Only `app` can look, so both are asked as `app`: definitions are shown to the privileged
    // only.
    CLEANUP(mysql_client_freep)
    MysqlClient *source = suite_connect(shared.source->port, "app", "app-secret", &error);
    assert_non_null(source);
    for (size_t i = 0; i < MYSQL_QUESTION_COUNT; i++) {
        CLEANUP_FREE char *expected = scratch_mysql_rows(source, MYSQL_QUESTIONS[i]);
        CLEANUP_FREE char *got = scratch_mysql_rows(ours, MYSQL_QUESTIONS[i]);
        if (!text_equal(expected, got)) {
            (void)fprintf(stderr, "%s\n--- source\n%s\n--- backup\n%s\n", MYSQL_QUESTIONS[i],
                          expected, got);
            fail();
        }
    }
    assert_null(suite_connect(port, "root", "wrong", &error));
    assert_int_equal(error.reason, REASON_SOURCE_AUTHENTICATION);
    mysql_client_freep(&ours);
    cycle_end(&run);
    error_clear(&error);
    assert_null(suite_connect(port, "app", "app-secret", &error)); // gone with its engine
}

int64_t last_transaction(const char *position)
{
    return strtoll(strrchr(position, '-') + 1, NULL, 10);
}
