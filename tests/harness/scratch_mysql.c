// SPDX-License-Identifier: Apache-2.0
// Real MariaDB and MySQL servers for tests.
#include "tests/harness/scratch_mysql.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START_MS 60000
#define INSTALL_MS 120000
#define STATEMENT_MS 60000

void scratch_mysql_drop_root(char **arguments)
{
    if (geteuid() != 0) {
        return;
    }
    const struct passwd *user =
        getpwnam("holdfast"); // NOLINT(concurrency-mt-unsafe): before any thread
    if (user == NULL || setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 ||
        setuid(user->pw_uid) != 0 || chdir("/tmp") != 0) {
        (void)fprintf(stderr, "cannot become the user 'holdfast': create it with "
                              "useradd --system --no-create-home holdfast\n");
        exit(1);
    }
    execv("/proc/self/exe", arguments);
    perror("starting again");
    exit(1);
}

const char *scratch_mysql_directory(void)
{
    const char *directory = getenv("HOLDFAST_MYSQL_DIR");
    return directory != NULL ? directory : TEST_SOURCE_DIRECTORY "/.dev/mysql";
}

static char *program(bool is_mysql)
{
    return is_mysql ? string_format("%s/mysqld", scratch_mysql_directory())
                    : string_copy("/usr/sbin/mariadbd");
}

// A server that starts removes the temporary tables of every other one that shares its tmpdir.
static char *temporary(const ScratchMysql *server)
{
    CLEANUP_FREE char *path = string_format("%s.tmp", server->directory);
    Error error = {0};
    assert_ok(dir_create_all(path, 0700, &error), &error);
    return string_format("--tmpdir=%s", path);
}

static void install(const ScratchMysql *server)
{
    CLEANUP_FREE char *tmpdir = temporary(server);
    CLEANUP_FREE char *server_program = program(server->is_mysql);
    CLEANUP_FREE char *data = string_format("--datadir=%s", server->directory);
    const char *const mysql[] = {server_program,
                                 "--no-defaults",
                                 "--initialize-insecure",
                                 data,
                                 tmpdir,
                                 "--innodb-redo-log-capacity=32M",
                                 "--innodb-flush-log-at-trx-commit=0",
                                 "--innodb-doublewrite=OFF",
                                 NULL};
    const char *const mariadb[] = {"mariadb-install-db",
                                   "--no-defaults",
                                   data,
                                   tmpdir,
                                   "--auth-root-authentication-method=normal",
                                   "--skip-test-db",
                                   "--innodb-log-file-size=32M",
                                   NULL};
    ProcessOptions options = {.arguments = server->is_mysql ? mysql : mariadb,
                              .output_path = server->log_path};
    Error error = {0};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 65536);
    assert_ok(process_run(&options, INSTALL_MS, REASON_ENGINE_FAILED, &output, &error), &error);
}

static void make_user(const ScratchMysql *server)
{
    const char *const privileges = server->is_mysql
                                       ? "REPLICATION SLAVE, BACKUP_ADMIN, PROCESS"
                                       : "REPLICATION SLAVE, SELECT, RELOAD, SHOW VIEW, TRIGGER";
    if (server->is_mysql) {
        scratch_mysql_run(server, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    scratch_mysql_run(server,
                      arena_format(arena, "CREATE USER holdfast@'127.0.0.1' IDENTIFIED BY %s",
                                   mysql_quote_text(arena, SCRATCH_MYSQL_PASSWORD)));
    scratch_mysql_run(server,
                      arena_format(arena, "GRANT %s ON *.* TO holdfast@'127.0.0.1'", privileges));
}

ScratchMysql *scratch_mysql_new(bool is_mysql, const char *launcher, const char *parent_directory,
                                const char *name, const char *const *options)
{
    static const char *const no_options[] = {NULL};
    ScratchMysql *server = mem_alloc(sizeof(*server));
    Error error = {0};
    server->is_mysql = is_mysql;
    server->launcher = launcher;
    server->options = options == NULL ? no_options : options;
    server->directory = path_join(parent_directory, name);
    server->socket_path = string_format("%s.sock", server->directory);
    server->log_path = string_format("%s.log", server->directory);
    server->port = free_port();
    server->server_id = server->port;
    assert_ok(dir_create_all(server->directory, 0700, &error), &error);
    install(server);
    scratch_mysql_start(server);
    make_user(server);
    return server;
}

void scratch_mysql_free(ScratchMysql *server)
{
    if (server != NULL) {
        scratch_mysql_kill(server);
        mem_free(server->directory);
        mem_free(server->socket_path);
        mem_free(server->log_path);
        mem_free(server);
    }
}

void scratch_mysql_freep(ScratchMysql **server)
{
    scratch_mysql_free(*server);
    *server = NULL;
}

static void wait_until_up(ScratchMysql *server)
{
    int64_t deadline_ms = clock_monotonic_ms() + START_MS;
    for (;;) {
        Error error = {0};
        MysqlClient *client = NULL;
        if (mysql_client_open_local(server->socket_path, "root", "", NULL, 5000, &client, &error) ==
            STATUS_OK) {
            mysql_client_free(client);
            return;
        }
        bool is_done = false;
        int code = 0;
        if (process_wait(server->pid, 0, &is_done, &code, &error) != STATUS_OK || is_done ||
            clock_monotonic_ms() > deadline_ms) {
            fail_msg("the server does not start, see %s: %s", server->log_path, error.message);
        }
        clock_sleep_ms(20);
    }
}

void scratch_mysql_start(ScratchMysql *server)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *arguments[64] = {server->launcher, "--child", program(server->is_mysql),
                                 "--no-defaults"};
    size_t count = 4;
    CLEANUP_FREE char *tmpdir = temporary(server);
    arguments[count++] = tmpdir;
    arguments[count++] = arena_format(arena, "--datadir=%s", server->directory);
    arguments[count++] = arena_format(arena, "--socket=%s", server->socket_path);
    arguments[count++] = arena_format(arena, "--pid-file=%s.pid", server->directory);
    arguments[count++] = arena_format(arena, "--port=%d", server->port);
    arguments[count++] = arena_format(arena, "--server-id=%d", server->server_id);
    static const char *const both[] = {"--bind-address=127.0.0.1",
                                       "--log-bin=binlog",
                                       "--binlog-format=ROW",
                                       "--innodb-buffer-pool-size=64M",
                                       "--innodb-flush-log-at-trx-commit=2",
                                       "--sync-binlog=0",
                                       "--innodb-buffer-pool-dump-at-shutdown=OFF",
                                       "--performance-schema=OFF",
                                       "--max-allowed-packet=64M",
                                       NULL};
    static const char *const mysql[] = {
        "--gtid-mode=ON",          "--enforce-gtid-consistency=ON",  "--mysqlx=OFF",
        "--secure-file-priv=NULL", "--innodb-redo-log-capacity=32M", NULL};
    static const char *const mariadb[] = {"--gtid-strict-mode=ON", "--innodb-log-file-size=32M",
                                          NULL};
    const char *const *const lists[] = {both, server->is_mysql ? mysql : mariadb, server->options};
    for (size_t list = 0; list < ARRAY_COUNT(lists); list++) {
        for (const char *const *option = lists[list]; *option != NULL; option++) {
            arguments[count++] = *option;
        }
    }
    ProcessOptions options = {.arguments = arguments,
                              .directory = server->directory,
                              .output_path = server->log_path,
                              .new_session = true};
    Error error = {0};
    assert_ok(process_spawn(&options, &server->pid, &error), &error);
    wait_until_up(server);
    mem_free((void *)(uintptr_t)arguments[2]);
}

void scratch_mysql_stop(ScratchMysql *server)
{
    if (server->pid != 0) {
        process_stop(server->pid, SIGTERM, START_MS);
        server->pid = 0;
    }
}

void scratch_mysql_kill(ScratchMysql *server)
{
    if (server->pid != 0) {
        process_stop(server->pid, SIGKILL, 0);
        server->pid = 0;
    }
}

MysqlClient *scratch_mysql_client(const ScratchMysql *server)
{
    MysqlClient *client = NULL;
    Error error = {0};
    assert_ok(
        mysql_client_open_local(server->socket_path, "root", "", NULL, 10000, &client, &error),
        &error);
    return client;
}

bool scratch_mysql_try(const ScratchMysql *server, const char *sql)
{
    MysqlClient *client = NULL;
    Error error = {0};
    if (mysql_client_open_local(server->socket_path, "root", "", NULL, 2000, &client, &error) !=
        STATUS_OK) {
        return false;
    }
    bool is_done = mysql_client_run(client, STATEMENT_MS, &error, "%s", sql) == STATUS_OK;
    mysql_client_free(client);
    return is_done;
}

void scratch_mysql_run(const ScratchMysql *server, const char *sql)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(mysql_client_freep) MysqlClient *client = scratch_mysql_client(server);
    for (char *statement = arena_string(arena, sql); statement != NULL;) {
        char *end = strstr(statement, ";\n");
        if (end != NULL) {
            *end = '\0';
        }
        Error error = {0};
        if (statement[strspn(statement, " \n")] != '\0') {
            assert_ok(mysql_client_run(client, STATEMENT_MS, &error, "%s", statement), &error);
        }
        statement = end == NULL ? NULL : end + 2;
    }
}

char *scratch_mysql_rows(MysqlClient *client, const char *sql)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    Error error = {0};
    assert_ok(mysql_client_query(client, STATEMENT_MS, &result, &error, "%s", sql), &error);
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, 64 * 1024 * 1024);
    for (MYSQL_ROW row = mysql_fetch_row(result); row != NULL; row = mysql_fetch_row(result)) {
        for (unsigned int i = 0; i < mysql_num_fields(result); i++) {
            buffer_append_format(&text, "%s%s", i == 0 ? (text.size == 0 ? "" : "\n") : "|",
                                 row[i] == NULL ? "NULL" : row[i]);
        }
    }
    return buffer_take_text(&text);
}

char *scratch_mysql_text(const ScratchMysql *server, const char *sql)
{
    CLEANUP(mysql_client_freep) MysqlClient *client = scratch_mysql_client(server);
    return scratch_mysql_rows(client, sql);
}

int64_t scratch_mysql_number(const ScratchMysql *server, const char *sql)
{
    CLEANUP_FREE char *text = scratch_mysql_text(server, sql);
    int64_t number = 0;
    assert_true(text_to_int64(text, &number));
    return number;
}

EngineSource scratch_mysql_source(const ScratchMysql *server)
{
    return (EngineSource){.host = "127.0.0.1",
                          .port = server->port,
                          .username = "holdfast",
                          .password = secret_from_text(SCRATCH_MYSQL_PASSWORD),
                          .tls_mode = "prefer"};
}
