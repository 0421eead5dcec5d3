// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's programs, its control file's facts, and the configuration files we write.
#include "agent/engine/engine_postgresql_settings.h"

#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_BYTES_MAX (64 * 1024)
#define SHARED_BUFFERS_MIN_BYTES (16 * 1024 * 1024)
#define SHARED_BUFFERS_MAX_BYTES (INT64_C(8) * 1024 * 1024 * 1024)

static void append_setting(Buffer *conf, const char *name, const char *value)
{
    (void)buffer_append_format(conf, "%s = '", name);
    for (const char *at = value; *at != '\0'; at++) {
        (void)buffer_append(conf, *at == '\'' ? "''" : at, *at == '\'' ? 2 : 1);
    }
    (void)buffer_append_text(conf, "'\n");
}

static void append_number(Buffer *conf, const char *name, int64_t value)
{
    (void)buffer_append_format(conf, "%s = %" PRId64 "\n", name, value);
}

static void append_file(Buffer *conf, const char *name, const char *directory, const char *file)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(directory, file, path);
    append_setting(conf, name, path);
}

// A standby's limits must not be below the source's, which the control file knows.
static void append_limits(Buffer *conf, const PostgresqlControl *control)
{
    append_number(conf, "max_connections", MAX(control->max_connections, 20));
    append_number(conf, "max_worker_processes", MAX(control->max_worker_processes, 4));
    append_number(conf, "max_wal_senders", MAX(control->max_wal_senders, 0));
    append_number(conf, "max_prepared_transactions", MAX(control->max_prepared_transactions, 0));
    append_number(conf, "max_locks_per_transaction", MAX(control->max_locks_per_transaction, 64));
}

static void append_recovery(Buffer *conf, const PostgresqlRun *run)
{
    append_setting(conf, "primary_conninfo", ""); // the agent itself brings the WAL
    append_setting(conf, "restore_command", run->is_standby ? "" : "false");
    append_setting(conf, "recovery_target_timeline", "latest");
    if (run->target_name != NULL) {
        append_setting(conf, "recovery_target_name", run->target_name);
        append_setting(conf, "recovery_target_action", run->is_standby ? "shutdown" : "promote");
    }
    append_setting(conf, "hot_standby", run->is_standby && !run->ends_at_target ? "on" : "off");
    append_setting(conf, "wal_retrieve_retry_interval", "100ms");
    append_setting(conf, "max_standby_archive_delay", "0");
    append_setting(conf, "max_standby_streaming_delay", "0");
}

static bool build_conf(const PostgresqlServer *server, const PostgresqlRun *run, Buffer *conf)
{
    const char *work = server->options->work_directory;
    int64_t buffers_bytes = server->options->memory_bytes / 2;
    buffers_bytes = MAX(buffers_bytes, SHARED_BUFFERS_MIN_BYTES);
    buffers_bytes = MIN(buffers_bytes, SHARED_BUFFERS_MAX_BYTES);
    append_setting(conf, "listen_addresses", run->port > 0 ? "127.0.0.1" : "");
    append_number(conf, "port", run->port > 0 ? run->port : POSTGRESQL_PRIVATE_PORT);
    append_setting(conf, "unix_socket_directories", work);
    append_setting(conf, "unix_socket_permissions", "0700");
    append_file(conf, "hba_file", work, POSTGRESQL_HBA_NAME);
    append_file(conf, "ident_file", work, POSTGRESQL_IDENT_NAME);
    append_number(conf, "shared_buffers", buffers_bytes / 8192);
    append_setting(conf, "huge_pages", "off");
    append_setting(conf, "fsync", run->is_durable ? "on" : "off");
    // Recycled segments would be renamed into the place of the ones that the agent writes.
    append_setting(conf, "wal_recycle", run->is_standby ? "off" : "on");
    append_setting(conf, "max_wal_size", "2GB");
    append_setting(conf, "checkpoint_timeout", "15min");
    append_setting(conf, "archive_mode", "off");
    append_setting(conf, "logging_collector", "off");
    append_setting(conf, "log_destination", "stderr");
    append_setting(conf, "lc_messages", "C");
    append_setting(conf, "log_line_prefix", "");
    append_setting(conf, "log_timezone", "UTC");
    append_setting(conf, "log_checkpoints", "off");
    append_setting(conf, "cluster_name", "holdfast");
    append_limits(conf, run->control);
    append_recovery(conf, run);
    return !conf->is_overflowed;
}

Status postgresql_settings_write(const PostgresqlServer *server, const PostgresqlRun *run,
                                 Error *error)
{
    // The private socket is in a directory of ours with mode 0700: who reaches it is us.
    static const char hba[] = "local all all trust\n";
    static const char hba_served[] = "local all all trust\nhost all all 127.0.0.1/32 md5\n";
    const char *work = server->options->work_directory;
    CLEANUP(buffer_done) Buffer conf = {0};
    buffer_init(&conf, CONF_BYTES_MAX);
    if (!build_conf(server, run, &conf)) {
        return error_set(error, REASON_INTERNAL, "the engine's configuration is too long");
    }
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(work, POSTGRESQL_CONF_NAME, path);
    RETURN_IF_ERROR(file_write_atomic(path, conf.data, conf.size, 0600, error));
    const char *rules = run->port > 0 ? hba_served : hba;
    postgresql_path(work, POSTGRESQL_HBA_NAME, path);
    RETURN_IF_ERROR(file_write_atomic(path, rules, strlen(rules), 0600, error));
    postgresql_path(work, POSTGRESQL_IDENT_NAME, path);
    return file_write_atomic(path, "", 0, 0600, error);
}

static Status write_if_missing(const char *directory, const char *name, const char *content,
                               Error *error)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(directory, name, path);
    if (access(path, F_OK) == 0) {
        return STATUS_OK;
    }
    return file_write_atomic(path, content, strlen(content), 0600, error);
}

Status postgresql_settings_complete(const char *data_directory, Error *error)
{
    RETURN_IF_ERROR(write_if_missing(
        data_directory, POSTGRESQL_CONF_NAME,
        "# Written by holdfast: the source keeps its configuration outside the data directory.\n"
        "listen_addresses = 'localhost'\n",
        error));
    RETURN_IF_ERROR(write_if_missing(
        data_directory, POSTGRESQL_HBA_NAME,
        "# Written by holdfast: the source keeps its configuration outside the data directory.\n"
        "local all all peer\n"
        "host all all 127.0.0.1/32 md5\n"
        "host all all ::1/128 md5\n",
        error));
    return write_if_missing(data_directory, POSTGRESQL_IDENT_NAME, "", error);
}

Status postgresql_settings_disarm(const char *data_directory, Error *error)
{
    static const char addition[] =
        "\n# Written by holdfast: a restored copy must not write into its source's archive.\n"
        "archive_mode = 'off'\n";
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(data_directory, POSTGRESQL_AUTO_CONF, path);
    CLEANUP_FREE char *content = NULL;
    size_t size = 0;
    if (access(path, F_OK) == 0) {
        RETURN_IF_ERROR(file_read(path, LIMIT_FILE_BYTES, &content, &size, error));
    }
    CLEANUP(buffer_done) Buffer joined = {0};
    buffer_init(&joined, LIMIT_FILE_BYTES + sizeof(addition));
    (void)buffer_append(&joined, content, size);
    if (strstr(buffer_text(&joined), addition) == NULL) {
        (void)buffer_append_text(&joined, addition);
    }
    return file_write_atomic(path, joined.data, joined.size, 0600, error);
}

// Finding programs
// ------------------------------------------------------------------------------------------------

// 0 when there are none, or they do not tell their version.
static Status major_of_programs(const char *directory, int *ret_major, Error *error)
{
    *ret_major = 0;
    char program[POSTGRESQL_PATH_SIZE];
    postgresql_path(directory, "postgres", program);
    if (access(program, X_OK) != 0) {
        return STATUS_OK;
    }
    const char *arguments[] = {program, "--version", NULL};
    ProcessOptions process = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    Error failure = {0};
    if (process_run(&process, 10 * 1000, REASON_ENGINE_MISSING, &output, &failure) != STATUS_OK) {
        if (failure.reason != REASON_EXHAUSTED && failure.reason != REASON_DEADLINE) {
            return STATUS_OK; // no candidate
        }
        *error = failure; // it did not come to answer
        return failure.status;
    }
    const char *number = strstr(buffer_text(&output), ") "); // "postgres (PostgreSQL) 15.20 (...)"
    *ret_major = number == NULL ? 0 : (int)strtol(number + 2, NULL, 10);
    return STATUS_OK;
}

// server->major is `major` afterwards when they are of that version.
static Status take_programs(PostgresqlServer *server, int major, const char *directory,
                            Error *error)
{
    int found = 0;
    RETURN_IF_ERROR(major_of_programs(directory, &found, error));
    if (found == major) {
        (void)snprintf(server->program_directory, sizeof(server->program_directory), "%s",
                       directory);
        server->major = major;
    }
    return STATUS_OK;
}

Status postgresql_find_programs(PostgresqlServer *server, int major, Error *error)
{
    static const char *const patterns[] = {"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin",
                                           "/opt/homebrew/opt/postgresql@%d/bin",
                                           "/usr/local/pgsql-%d/bin"};
    assert(major > 0);
    if (server->major == major) {
        return STATUS_OK;
    }
    if (!text_is_empty(server->options->program_directory)) {
        RETURN_IF_ERROR(take_programs(server, major, server->options->program_directory, error));
    }
    for (size_t i = 0; i < ARRAY_COUNT(patterns) && server->major != major; i++) {
        const char *number = strstr(patterns[i], "%d");
        char directory[128];
        (void)snprintf(directory, sizeof(directory), "%.*s%d%s", (int)(number - patterns[i]),
                       patterns[i], major, number + 2);
        RETURN_IF_ERROR(take_programs(server, major, directory, error));
    }
    static const char *const names[] = {"postgres", NULL};
    char path[POSTGRESQL_PATH_SIZE];
    if (server->major != major && program_find(names, path)) {
        *strrchr(path, '/') = '\0';
        RETURN_IF_ERROR(take_programs(server, major, path, error));
    }
    if (server->major == major) {
        return STATUS_OK;
    }
    (void)error_set(error, REASON_ENGINE_MISSING,
                    "the programs of PostgreSQL %d are not installed on this machine", major);
    return error_hint(error, "install the package postgresql-%d where the agent runs", major);
}

// The control file
// ------------------------------------------------------------------------------------------------

// The text behind "label" at the start of a line, without blanks; false when there is no such line.
static bool find_value(const char *text, const char *label, char *ret_value, size_t value_size)
{
    size_t label_length = strlen(label);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, label, label_length) == 0) {
            const char *value = line + label_length;
            value += strspn(value, " ");
            (void)snprintf(ret_value, value_size, "%.*s", (int)strcspn(value, "\r\n"), value);
            return true;
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return false;
}

static bool find_number(const char *text, const char *label, int64_t maximum, int64_t *ret_value)
{
    char value[64];
    return find_value(text, label, value, sizeof(value)) && text_to_int64(value, ret_value) &&
           *ret_value >= 0 && *ret_value <= maximum;
}

static bool find_int(const char *text, const char *label, int *ret_value)
{
    int64_t value;
    if (!find_number(text, label, INT32_MAX, &value)) {
        return false;
    }
    *ret_value = (int)value;
    return true;
}

static bool find_timeline(const char *text, const char *label, uint32_t *ret_value)
{
    int64_t value;
    if (!find_number(text, label, UINT32_MAX, &value)) {
        return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

static bool find_lsn(const char *text, const char *label, uint64_t *ret_lsn)
{
    char value[64];
    return find_value(text, label, value, sizeof(value)) && postgresql_lsn_parse(value, ret_lsn);
}

static bool find_identifier(const char *text, uint64_t *ret_value)
{
    char value[64];
    if (!find_value(text, "Database system identifier:", value, sizeof(value)) ||
        strspn(value, "0123456789") != strlen(value) || value[0] == '\0') {
        return false;
    }
    *ret_value = strtoull(value, NULL, 10);
    return true;
}

bool postgresql_control_parse(const char *text, PostgresqlControl *ret_control)
{
    PostgresqlControl control = {0};
    bool is_complete =
        find_identifier(text, &control.system_identifier) &&
        find_value(text, "Database cluster state:", control.state, sizeof(control.state)) &&
        find_lsn(text, "Latest checkpoint's REDO location:", &control.redo_lsn) &&
        find_timeline(text, "Latest checkpoint's TimeLineID:", &control.timeline) &&
        find_lsn(text, "Minimum recovery ending location:", &control.min_recovery_lsn) &&
        find_timeline(text,
                      "Min recovery ending loc's timeline:", &control.min_recovery_timeline) &&
        find_number(text, "Bytes per WAL segment:", INT64_C(1) << 30, &control.wal_segment_bytes) &&
        find_int(text, "Database block size:", &control.page_bytes) &&
        find_int(text, "Blocks per segment of large relation:", &control.segment_pages) &&
        find_int(text, "Data page checksum version:", &control.checksum_version) &&
        find_int(text, "max_connections setting:", &control.max_connections) &&
        find_int(text, "max_worker_processes setting:", &control.max_worker_processes) &&
        find_int(text, "max_wal_senders setting:", &control.max_wal_senders) &&
        find_int(text, "max_prepared_xacts setting:", &control.max_prepared_transactions) &&
        find_int(text, "max_locks_per_xact setting:", &control.max_locks_per_transaction);
    if (!is_complete || control.wal_segment_bytes < 1024 * 1024) {
        return false;
    }
    *ret_control = control;
    return true;
}
