// SPDX-License-Identifier: Apache-2.0
// The private PostgreSQL server of the engine: start, watch, stop.
#include "agent/engine/engine_postgresql_server.h"

#include "agent/engine/engine_launch.h"
#include "agent/engine/engine_postgresql_settings.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_READ_BYTES (64 * 1024)
#define START_TIMEOUT_MS (30 * 60 * 1000) // redo of what the directory's own WAL holds
#define STOP_TIMEOUT_MS (30 * 60 * 1000)  // writing out everything dirty
#define POLL_MS 50
#define KILL_GRACE_MS 2000

void postgresql_path(const char *directory, const char *name, char *ret_path)
{
    (void)snprintf(ret_path, POSTGRESQL_PATH_SIZE, "%s/%s", directory, name);
}

Status postgresql_remove_file(const char *directory, const char *name, Error *error)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(directory, name, path);
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", path);
    }
    return STATUS_OK;
}

static Status rename_within(const char *directory, const char *from, const char *to, Error *error)
{
    char from_path[POSTGRESQL_PATH_SIZE];
    char to_path[POSTGRESQL_PATH_SIZE];
    postgresql_path(directory, from, from_path);
    postgresql_path(directory, to, to_path);
    if (rename(from_path, to_path) != 0 && errno != ENOENT) {
        return error_set_errno(error, REASON_INTERNAL, errno, "renaming '%s'", from_path);
    }
    return STATUS_OK;
}

Status postgresql_auto_conf_put_back(const char *data_directory, Error *error)
{
    return rename_within(data_directory, POSTGRESQL_AUTO_CONF_ASIDE, POSTGRESQL_AUTO_CONF, error);
}

Status postgresql_read_major(const char *data_directory, int *ret_major, Error *error)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(data_directory, "PG_VERSION", path);
    CLEANUP_FREE char *text = NULL;
    size_t size;
    RETURN_IF_ERROR(file_read(path, 64, &text, &size, error));
    text[strcspn(text, "\r\n")] = '\0';
    int64_t major;
    if (!text_to_int64(text, &major) || major < 1 || major > 999) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "'%s' does not hold a version of PostgreSQL", path);
    }
    *ret_major = (int)major;
    return STATUS_OK;
}

Status postgresql_read_control(const PostgresqlServer *server, PostgresqlControl *ret_control,
                               Error *error)
{
    char program[POSTGRESQL_PATH_SIZE];
    postgresql_path(server->program_directory, "pg_controldata", program);
    const char *arguments[] = {program, "-D", server->options->data_directory, NULL};
    const char *environment[] = {"LC_ALL=C", "TZ=UTC", NULL};
    ProcessOptions process = {.arguments = arguments, .environment = environment};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, LOG_READ_BYTES);
    RETURN_IF_ERROR(process_run(&process, 60 * 1000, REASON_PARENT_UNRESTORABLE, &output, error));
    if (!postgresql_control_parse(buffer_text(&output), ret_control)) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the control file of the data directory is not readable");
    }
    return STATUS_OK;
}

static void read_tail(const PostgresqlServer *server, Buffer *tail)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(server->options->work_directory, POSTGRESQL_LOG_NAME, path);
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0 || !buffer_reserve(tail, LOG_READ_BYTES)) {
        return;
    }
    Error ignored = {0}; // a log that cannot be read only makes messages shorter
    int64_t offset = MAX(0, (int64_t)facts.st_size - LOG_READ_BYTES);
    size_t size = 0;
    if (file_read_at(fd, tail->data, LOG_READ_BYTES, offset, &size, &ignored) == STATUS_OK) {
        tail->size = size;
        tail->data[size] = '\0';
    }
}

void postgresql_server_log_tail(const PostgresqlServer *server, char *ret_text, size_t text_size)
{
    CLEANUP(buffer_done) Buffer tail = {0};
    buffer_init(&tail, LOG_READ_BYTES + 1);
    read_tail(server, &tail);
    const char *text = buffer_text(&tail);
    size_t length = strlen(text);
    const char *start = text + length;
    for (int line_count = 0; start > text && (size_t)(text + length - start) + 1 < text_size;
         start--) {
        if (start[-1] == '\n' && start != text + length && ++line_count == 4) {
            break;
        }
    }
    (void)snprintf(ret_text, text_size, "%s", start);
    for (char *at = ret_text; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\t') {
            *at = ' ';
        }
    }
}

bool postgresql_server_log_has(const PostgresqlServer *server, const char *text)
{
    CLEANUP(buffer_done) Buffer tail = {0};
    buffer_init(&tail, LOG_READ_BYTES + 1);
    read_tail(server, &tail);
    return strstr(buffer_text(&tail), text) != NULL;
}

static Status fail_from_log(const PostgresqlServer *server, Reason otherwise, const char *what,
                            Error *error)
{
    char tail[380];
    postgresql_server_log_tail(server, tail, sizeof(tail));
    bool is_full = postgresql_server_log_has(server, "No space left on device");
    return error_set(error, is_full ? REASON_DISK_FULL : otherwise, "%s: %s", what, tail);
}

static bool is_canceled(const PostgresqlServer *server)
{
    const Cancel *cancel = server->options->cancel;
    return cancel != NULL && atomic_load(&cancel->is_requested);
}

static Status write_signal_file(const char *data_directory, const char *name, Error *error)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(data_directory, name, path);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating '%s'", path);
    }
    return STATUS_OK;
}

static Status prepare_directory(const PostgresqlServer *server, const PostgresqlRun *run,
                                Error *error)
{
    const char *data = server->options->data_directory;
    if (chmod(data, 0700) != 0) { // the server refuses wider modes
        return error_set_errno(error, REASON_INTERNAL, errno, "setting the mode of '%s'", data);
    }
    RETURN_IF_ERROR(postgresql_remove_file(data, "standby.signal", error));
    RETURN_IF_ERROR(postgresql_remove_file(data, "recovery.signal", error));
    RETURN_IF_ERROR(
        write_signal_file(data, run->is_standby ? "standby.signal" : "recovery.signal", error));
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(data, POSTGRESQL_AUTO_CONF, path);
    if (access(path, F_OK) == 0) {
        RETURN_IF_ERROR(
            rename_within(data, POSTGRESQL_AUTO_CONF, POSTGRESQL_AUTO_CONF_ASIDE, error));
    }
    // A log of this run only: its lines decide whether the start succeeded.
    return postgresql_remove_file(server->options->work_directory, POSTGRESQL_LOG_NAME, error);
}

static Status launch(PostgresqlServer *server, Error *error)
{
    const EngineOptions *options = server->options;
    char program[POSTGRESQL_PATH_SIZE];
    char setting[POSTGRESQL_PATH_SIZE + 16];
    char log_path[POSTGRESQL_PATH_SIZE];
    postgresql_path(server->program_directory, "postgres", program);
    postgresql_path(options->work_directory, POSTGRESQL_LOG_NAME, log_path);
    (void)snprintf(setting, sizeof(setting), "config_file=%s/" POSTGRESQL_CONF_NAME,
                   options->work_directory);
    const char *arguments[] = {program, "-D", options->data_directory, "-c", setting, NULL};
    const char *environment[] = {"LC_ALL=C", "TZ=UTC", NULL};
    ProcessOptions process = {
        .arguments = arguments,
        .environment = environment,
        .directory = options->data_directory,
        .output_path = log_path,
        .new_session = true,
    };
    return engine_launch(options, &process, &server->pid, error);
}

static PGPing ping(const PostgresqlServer *server)
{
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", server->port);
    const char *keys[] = {"host", "port", "dbname", "connect_timeout", NULL};
    const char *values[] = {server->options->work_directory, port, "postgres", "2", NULL};
    return PQpingParams(keys, values, 0);
}

static Status wait_until_up(PostgresqlServer *server, const PostgresqlRun *run, Reason otherwise,
                            Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + START_TIMEOUT_MS;
    while (clock_monotonic_ms() < deadline_ms) {
        bool is_done = false;
        int code = 0;
        RETURN_IF_ERROR(process_wait(server->pid, POLL_MS, &is_done, &code, error));
        if (is_done) {
            server->pid = 0;
            return fail_from_log(server, otherwise, "PostgreSQL did not start", error);
        }
        if (is_canceled(server)) {
            return error_set(error, REASON_CANCELED, "canceled while PostgreSQL was starting");
        }
        PGPing answer = ping(server);
        if (answer == PQPING_OK) {
            return STATUS_OK;
        }
        // A standby lets nobody in before it knows every transaction that was open on the source,
        // which may need more WAL than the directory has. Consistent is enough to go on.
        if (answer == PQPING_REJECT && run->is_standby &&
            postgresql_server_log_has(server, "consistent recovery state reached")) {
            return STATUS_OK;
        }
    }
    return fail_from_log(server, otherwise, "PostgreSQL did not start in time", error);
}

static Status begin(PostgresqlServer *server, const PostgresqlRun *run, Error *error)
{
    assert(server->pid == 0);
    assert(server->major > 0);
    if (geteuid() == 0) {
        (void)error_set(error, REASON_ENGINE_FAILED, "PostgreSQL refuses to run as root");
        return error_hint(error, "run the agent as an unprivileged user");
    }
    RETURN_IF_ERROR(prepare_directory(server, run, error));
    RETURN_IF_ERROR(postgresql_settings_write(server, run, error));
    server->port = run->port > 0 ? run->port : POSTGRESQL_PRIVATE_PORT;
    return launch(server, error);
}

Status postgresql_server_start(PostgresqlServer *server, const PostgresqlRun *run, Reason otherwise,
                               Error *error)
{
    RETURN_IF_ERROR(begin(server, run, error));
    Status status = wait_until_up(server, run, otherwise, error);
    if (status != STATUS_OK) {
        postgresql_server_kill(server);
    }
    return status;
}

static Status wait_for_end(PostgresqlServer *server, int64_t timeout_ms, const char *late,
                           Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    while (clock_monotonic_ms() < deadline_ms) {
        bool is_done = false;
        int code = 0;
        RETURN_IF_ERROR(process_wait(server->pid, POLL_MS, &is_done, &code, error));
        if (is_done) {
            server->pid = 0;
            return code == 0 ? STATUS_OK
                             : fail_from_log(server, REASON_ENGINE_FAILED,
                                             "PostgreSQL did not stop cleanly", error);
        }
        if (is_canceled(server)) {
            return error_set(error, REASON_CANCELED, "canceled while waiting for PostgreSQL");
        }
    }
    return error_set(error, REASON_REPLAY_STALLED, "%s", late);
}

Status postgresql_server_run(PostgresqlServer *server, const PostgresqlRun *run, int64_t stall_ms,
                             Error *error)
{
    assert(run->ends_at_target);
    RETURN_IF_ERROR(begin(server, run, error));
    return wait_for_end(server, stall_ms, "PostgreSQL does not reach the checkpoint", error);
}

Status postgresql_server_check(PostgresqlServer *server, Error *error)
{
    if (server->pid != 0) {
        bool is_done = false;
        int code = 0;
        RETURN_IF_ERROR(process_wait(server->pid, 0, &is_done, &code, error));
        if (!is_done) {
            return STATUS_OK;
        }
        server->pid = 0;
    }
    bool is_wal = postgresql_server_log_has(server, "WAL redo at") ||
                  postgresql_server_log_has(server, "references to invalid pages");
    return fail_from_log(server, is_wal ? REASON_REPLICATION_BROKEN : REASON_ENGINE_FAILED,
                         "PostgreSQL ended by itself", error);
}

Status postgresql_server_stop(PostgresqlServer *server, Error *error)
{
    assert(server->pid != 0);
    if (kill(server->pid, SIGINT) != 0 && errno != ESRCH) { // fast shutdown
        return error_set_errno(error, REASON_ENGINE_FAILED, errno, "stopping PostgreSQL");
    }
    return wait_for_end(server, STOP_TIMEOUT_MS, "PostgreSQL does not stop", error);
}

void postgresql_server_kill(PostgresqlServer *server)
{
    if (server->pid != 0) {
        process_stop(server->pid, SIGQUIT, KILL_GRACE_MS); // immediate shutdown
        server->pid = 0;
    }
}
