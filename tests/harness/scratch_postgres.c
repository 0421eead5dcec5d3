// SPDX-License-Identifier: Apache-2.0
// A real PostgreSQL server for tests.
#include "tests/harness/scratch_postgres.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"

#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START_MS 30000
#define STOP_MS 30000

void scratch_postgres_drop_root(void)
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
}

static bool find_programs(char ret_path[4096])
{
    static const char *const candidates[] = {"/usr/lib/postgresql/18/bin/postgres",
                                             "/usr/lib/postgresql/17/bin/postgres",
                                             "/usr/lib/postgresql/16/bin/postgres",
                                             "/usr/lib/postgresql/15/bin/postgres",
                                             "/usr/lib/postgresql/14/bin/postgres",
                                             "/usr/lib/postgresql/13/bin/postgres",
                                             "postgres",
                                             NULL};
    return program_find(candidates, ret_path);
}

bool scratch_postgres_is_installed(void)
{
    char path[4096];
    return find_programs(path);
}

char *scratch_postgres_program(const char *name)
{
    char path[4096];
    assert_true(find_programs(path));
    *strrchr(path, '/') = '\0';
    return string_format("%s/%s", path, name);
}

static void run_program(const char *const *arguments)
{
    Error error = {0};
    const char *environment[] = {"LC_ALL=C", NULL};
    ProcessOptions process = {.arguments = arguments, .environment = environment};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 1024 * 1024);
    assert_ok(process_run(&process, 60000, REASON_INTERNAL, &output, &error), &error);
}

static PGconn *connect_to(const char *host, int port, const char *username, const char *password)
{
    char port_text[16];
    (void)snprintf(port_text, sizeof(port_text), "%d", port);
    const char *keys[] = {"host", "port", "user", "password", "dbname", "connect_timeout", NULL};
    const char *values[] = {host, port_text, username, password, "postgres", "5", NULL};
    return PQconnectdbParams(keys, values, 0);
}

char *scratch_postgres_text_at(const char *host, int port, const char *username,
                               const char *password, const char *sql)
{
    PGconn *connection = connect_to(host, port, username, password);
    if (PQstatus(connection) != CONNECTION_OK) {
        fail_msg("connecting: %s", PQerrorMessage(connection));
    }
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        fail_msg("'%s': %s", sql, PQresultErrorMessage(result));
    }
    char *text = string_copy(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(connection);
    return text;
}

char *scratch_postgres_text(const ScratchPostgres *server, const char *sql)
{
    return scratch_postgres_text_at(server->socket_directory, server->port, "admin", NULL, sql);
}

int64_t scratch_postgres_number(const ScratchPostgres *server, const char *sql)
{
    CLEANUP_FREE char *text = scratch_postgres_text(server, sql);
    int64_t number = 0;
    assert_true(text_to_int64(text, &number));
    return number;
}

void scratch_postgres_run(const ScratchPostgres *server, const char *sql)
{
    CLEANUP_FREE char *text = scratch_postgres_text(server, sql);
}

static void spawn(ScratchPostgres *server)
{
    CLEANUP_FREE char *program = scratch_postgres_program("postgres");
    CLEANUP_FREE char *port = string_format("port=%d", server->port);
    CLEANUP_FREE char *sockets =
        string_format("unix_socket_directories=%s", server->socket_directory);
    // A failing test leaves its scope by longjmp: the server must end with the test's process at
    // the latest.
    const char *arguments[] = {"setpriv", "--pdeathsig", "KILL", program, "-D", server->directory,
                               "-c",      port,          "-c",   sockets, NULL};
    ProcessOptions process = {
        .arguments = arguments, .output_path = server->log_path, .new_session = true};
    Error error = {0};
    assert_ok(process_spawn(&process, &server->pid, &error), &error);
}

void scratch_postgres_start(ScratchPostgres *server)
{
    assert_int_equal(server->pid, 0);
    spawn(server);
    int64_t deadline_ms = clock_monotonic_ms() + START_MS;
    for (;;) {
        PGconn *connection = connect_to(server->socket_directory, server->port, "admin", NULL);
        bool is_up = PQstatus(connection) == CONNECTION_OK;
        PQfinish(connection);
        if (is_up) {
            return;
        }
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("the scratch server does not start: see %s", server->log_path);
        }
        // It gives up while a process of one that was killed still has its shared memory.
        Error error = {0};
        bool has_ended = false;
        int code = 0;
        assert_ok(process_wait(server->pid, 0, &has_ended, &code, &error), &error);
        if (has_ended) {
            spawn(server);
        }
        clock_sleep_ms(20);
    }
}

static void stop_with(ScratchPostgres *server, int polite_signal)
{
    if (server->pid != 0) {
        process_stop(server->pid, polite_signal, STOP_MS);
        server->pid = 0;
    }
}

void scratch_postgres_stop(ScratchPostgres *server)
{
    stop_with(server, SIGINT);
}

void scratch_postgres_kill(ScratchPostgres *server)
{
    stop_with(server, SIGKILL);
}

static ScratchPostgres *allocate(const char *parent_directory, const char *name)
{
    ScratchPostgres *server = mem_alloc(sizeof(*server));
    server->directory = path_join(parent_directory, name);
    server->socket_directory = string_copy(parent_directory);
    server->log_path = string_format("%s/%s.log", parent_directory, name);
    server->port = free_port();
    return server;
}

static void append_settings(const ScratchPostgres *server, const char *settings)
{
    CLEANUP_FREE char *path = path_join(server->directory, "postgresql.conf");
    CLEANUP_FREE char *old = NULL;
    size_t size;
    Error error = {0};
    assert_ok(file_read(path, 1024 * 1024, &old, &size, &error), &error);
    CLEANUP_FREE char *text = string_format("%s\n%s\n", old, settings);
    assert_ok(file_write_atomic(path, text, strlen(text), 0600, &error), &error);
}

ScratchPostgres *scratch_postgres_new(const char *parent_directory, const char *name,
                                      const char *settings)
{
    ScratchPostgres *server = allocate(parent_directory, name);
    CLEANUP_FREE char *program = scratch_postgres_program("initdb");
    const char *arguments[] = {program, "-D", server->directory, "-U", "admin", "-A",
                               "trust", "-k", "--no-sync",       "-E", "UTF8",  "--locale=C.UTF-8",
                               NULL};
    run_program(arguments);
    append_settings(server, "listen_addresses = '127.0.0.1'\nfsync = off\nshared_buffers = 16MB\n"
                            "max_slot_wal_keep_size = '1GB'\n");
    append_settings(server, settings);
    CLEANUP_FREE char *hba = path_join(server->directory, "pg_hba.conf");
    write_file(hba, "local all all trust\nlocal replication all trust\n"
                    "host all all 127.0.0.1/32 scram-sha-256\n"
                    "host replication holdfast 127.0.0.1/32 scram-sha-256\n");
    scratch_postgres_start(server);
    scratch_postgres_run(server, "CREATE ROLE holdfast LOGIN REPLICATION PASSWORD "
                                 "$$" SCRATCH_POSTGRES_PASSWORD "$$");
    scratch_postgres_run(server,
                         "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO holdfast");
    return server;
}

ScratchPostgres *scratch_postgres_new_standby(const ScratchPostgres *primary,
                                              const char *parent_directory, const char *name)
{
    ScratchPostgres *server = allocate(parent_directory, name);
    CLEANUP_FREE char *program = scratch_postgres_program("pg_basebackup");
    CLEANUP_FREE char *port = string_format("%d", primary->port);
    const char *arguments[] = {program,
                               "-D",
                               server->directory,
                               "-h",
                               primary->socket_directory,
                               "-p",
                               port,
                               "-U",
                               "admin",
                               "-X",
                               "stream",
                               "-R",
                               "-c",
                               "fast",
                               "--no-sync",
                               NULL};
    run_program(arguments);
    scratch_postgres_start(server);
    return server;
}

void scratch_postgres_free(ScratchPostgres *server)
{
    if (server != NULL) {
        stop_with(server, SIGQUIT);
        mem_free(server->directory);
        mem_free(server->socket_directory);
        mem_free(server->log_path);
        mem_free(server);
    }
}

void scratch_postgres_freep(ScratchPostgres **server)
{
    scratch_postgres_free(*server);
    *server = NULL;
}
