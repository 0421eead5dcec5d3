// SPDX-License-Identifier: Apache-2.0
// Finding an engine's programs: what is not installed is told from what did not come to answer,
// since an attempt is given up for the first and made again after the second.
#include "agent/engine/engine_mysql_family.h"
#include "agent/engine/engine_postgresql_server.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <sys/stat.h>

// A program of that name that runs `script`.
static void make_program(const char *directory, const char *name, const char *script)
{
    CLEANUP_FREE char *path = path_join(directory, name);
    CLEANUP_FREE char *text = string_format("#!/bin/sh\n%s\n", script);
    write_file(path, text);
    assert_int_equal(chmod(path, 0755), 0);
}

static void assert_failure(Status status, const Error *error, Reason reason, const char *part)
{
    assert_int_equal(status, reason_status(reason));
    assert_int_equal(error->reason, reason);
    assert_contains(error->message, part);
}

static void test_mysql(void **state)
{
    (void)state;
    static const char *const names[] = {"mariadbd", "mysqld"};
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    make_program(directory, "mariadb-install-db", "exit 0");
    for (int is_mysql = 0; is_mysql <= 1; is_mysql++) {
        MysqlPrograms programs;
        Error error = {0};
        make_program(directory, names[is_mysql], "echo 'server  Ver 10.11.6-X for Linux'");
        assert_ok(mysql_programs_find(&programs, is_mysql, directory, &error), &error);
        assert_string_equal(programs.version, "10.11.6-X");
        assert_int_equal(programs.version_number, 101106);
        make_program(directory, names[is_mysql], "echo broken >&2; exit 127");
        assert_failure(mysql_programs_find(&programs, is_mysql, directory, &error), &error,
                       REASON_ENGINE_MISSING, "broken");
        make_program(directory, names[is_mysql], "echo 'something else'");
        assert_failure(mysql_programs_find(&programs, is_mysql, directory, &error), &error,
                       REASON_ENGINE_MISSING, "does not tell its version");
        make_program(directory, names[is_mysql], "kill -9 $$");
        assert_failure(mysql_programs_find(&programs, is_mysql, directory, &error), &error,
                       REASON_EXHAUSTED, "signal 9");
    }
}

static void test_postgresql(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    EngineOptions options = {.program_directory = directory};
    Error error = {0};
    make_program(directory, "postgres", "echo 'postgres (PostgreSQL) 999.1 (X)'");
    PostgresqlServer server = {.options = &options};
    assert_ok(postgresql_find_programs(&server, 999, &error), &error);
    assert_string_equal(server.program_directory, directory);
    static const char *const others[] = {"echo 'postgres (PostgreSQL) 998.1 (X)'", "exit 127"};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        make_program(directory, "postgres", others[i]);
        PostgresqlServer other = {.options = &options};
        assert_failure(postgresql_find_programs(&other, 999, &error), &error, REASON_ENGINE_MISSING,
                       "PostgreSQL 999 are not installed");
    }
    make_program(directory, "postgres", "kill -9 $$");
    PostgresqlServer killed = {.options = &options};
    assert_failure(postgresql_find_programs(&killed, 999, &error), &error, REASON_EXHAUSTED,
                   "signal 9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mysql),
        cmocka_unit_test(test_postgresql),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
