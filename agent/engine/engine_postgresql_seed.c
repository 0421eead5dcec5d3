// SPDX-License-Identifier: Apache-2.0
// The first full copy of a PostgreSQL source, by pg_basebackup over the network.
#include "agent/engine/child.h"
#include "agent/engine/engine_postgresql.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_NAME "pg_basebackup.log"
#define PASSFILE_NAME "pgpass"
#define CA_NAME "source-ca.pem"
#define TAIL_BYTES 4096
#define POLL_MS 200
#define STOP_GRACE_MS 3000
#define CONNINFO_BYTES_MAX 8192

typedef struct SeedFiles {
    char log[POSTGRESQL_PATH_SIZE];
    char passfile[POSTGRESQL_PATH_SIZE];
    char ca[POSTGRESQL_PATH_SIZE];
} SeedFiles;

bool postgresql_seed_parse_progress(const char *text, int64_t *ret_done_bytes,
                                    int64_t *ret_total_bytes)
{
    // "  23456/99999 kB (23%), 0/1 tablespace", each followed by a line feed or a carriage return
    const char *unit = NULL;
    for (const char *at = strstr(text, " kB ("); at != NULL; at = strstr(at + 1, " kB (")) {
        unit = at;
    }
    const char *start = unit;
    while (unit != NULL && start > text &&
           (start[-1] == '/' || (start[-1] >= '0' && start[-1] <= '9'))) {
        start--;
    }
    int64_t done_kb;
    int64_t total_kb;
    if (unit == NULL || sscanf(start, "%" SCNd64 "/%" SCNd64 " kB", &done_kb, &total_kb) != 2) {
        return false;
    }
    *ret_done_bytes = done_kb * 1024;
    *ret_total_bytes = MAX(total_kb, done_kb) * 1024;
    return true;
}

static void read_tail(const char *path, char ret_text[TAIL_BYTES + 1])
{
    ret_text[0] = '\0';
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0) {
        return;
    }
    Error ignored = {0}; // only progress and messages come from it
    size_t size = 0;
    int64_t offset = MAX(0, (int64_t)facts.st_size - TAIL_BYTES);
    if (file_read_at(fd, ret_text, TAIL_BYTES, offset, &size, &ignored) != STATUS_OK) {
        size = 0;
    }
    ret_text[size] = '\0';
}

static Status write_files(const PostgresqlEngine *engine, const SeedFiles *files, Error *error)
{
    const EngineSource *source = &engine->base.source;
    CLEANUP(buffer_done) Buffer content = {0};
    buffer_init(&content, CONNINFO_BYTES_MAX);
    if (!postgresql_passfile(&source->password, &content)) {
        return error_set(
            error, REASON_SOURCE_AUTHENTICATION,
            "the password of the source has a line break or is too long, which PostgreSQL's "
            "password file cannot hold");
    }
    Status status = file_write_atomic(files->passfile, content.data, content.size, 0600, error);
    if (content.data != NULL) {
        secret_wipe_text((char *)content.data);
    }
    RETURN_IF_ERROR(status);
    if (!text_is_empty(source->tls_ca_pem)) {
        return file_write_atomic(files->ca, source->tls_ca_pem, strlen(source->tls_ca_pem), 0600,
                                 error);
    }
    return STATUS_OK;
}

static Status launch(const PostgresqlEngine *engine, const SeedFiles *files, pid_t *ret_pid,
                     Error *error)
{
    const EngineOptions *options = &engine->base.options;
    CLEANUP(buffer_done) Buffer conninfo = {0};
    buffer_init(&conninfo, CONNINFO_BYTES_MAX);
    bool has_ca = !text_is_empty(engine->base.source.tls_ca_pem);
    if (!postgresql_conninfo(&engine->base.source, files->passfile, has_ca ? files->ca : NULL,
                             &conninfo)) {
        return error_set(error, REASON_INVALID, "the source's address is too long");
    }
    char program[POSTGRESQL_PATH_SIZE];
    char parent[64];
    postgresql_path(engine->server.program_directory, "pg_basebackup", program);
    (void)snprintf(parent, sizeof(parent), CHILD_PARENT_VARIABLE "=%d", (int)getpid());
    const char *environment[] = {"LC_ALL=C", parent, NULL};
    // No slot for its WAL stream: with one it would report flushed WAL, and a source with
    // synchronous standbys could take it for one. Our own slot keeps the WAL.
    const char *arguments[] = {options->agent_program,
                               "--child",
                               program,
                               "-D",
                               options->data_directory,
                               "-d",
                               buffer_text(&conninfo),
                               "-X",
                               "stream",
                               "--no-slot",
                               "-c",
                               "fast",
                               "-P",
                               "--no-sync",
                               "--no-manifest",
                               "-w",
                               NULL};
    ProcessOptions process = {
        .arguments = text_is_empty(options->agent_program) ? arguments + 2 : arguments,
        .environment = environment,
        .directory = options->work_directory,
        .output_path = files->log,
        .new_session = true,
    };
    return process_spawn(&process, ret_pid, error);
}

static Status fail_from_log(const char *log_path, int code, Error *error)
{
    static const struct {
        const char *text;
        Reason reason;
    } table[] = {
        {"No space left on device", REASON_DISK_FULL},
        {"checksum verification failed", REASON_PAGE_CORRUPT},
        {"checksum error", REASON_PAGE_CORRUPT},
        {"has already been removed", REASON_LOGS_GONE},
        {"password authentication failed", REASON_SOURCE_AUTHENTICATION},
        {"pg_hba.conf", REASON_SOURCE_CONFIGURATION},
        {"max_wal_senders", REASON_SOURCE_CONFIGURATION},
        {"permission denied", REASON_SOURCE_PRIVILEGES},
        {"server closed the connection", REASON_SOURCE_CHANGED},
        {"terminating", REASON_SOURCE_CHANGED},
        {"could not receive", REASON_SOURCE_CHANGED},
        {"connection to server", REASON_SOURCE_UNREACHABLE},
    };
    char tail[TAIL_BYTES + 1];
    read_tail(log_path, tail);
    Reason reason = REASON_ENGINE_FAILED;
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (strstr(tail, table[i].text) != NULL) {
            reason = table[i].reason;
            break;
        }
    }
    const char *said = strstr(tail, "pg_basebackup: error:");
    said = said == NULL ? "" : said + strlen("pg_basebackup: error: ");
    return error_set(error, reason, "pg_basebackup failed (code %d): %.*s", code,
                     (int)MIN(strcspn(said, "\n"), (size_t)300), said);
}

static void report(PostgresqlEngine *engine, const char *log_path,
                   EngineProgressFunction on_progress, void *context)
{
    char tail[TAIL_BYTES + 1];
    EngineProgress progress = {.done_bytes = -1, .total_bytes = -1};
    read_tail(log_path, tail);
    if (postgresql_seed_parse_progress(tail, &progress.done_bytes, &progress.total_bytes)) {
        engine->seed_received_bytes = progress.done_bytes;
    }
    progress.received_bytes = engine->seed_received_bytes;
    if (on_progress != NULL) {
        on_progress(context, &progress);
    }
}

static Status wait_for_copy(PostgresqlEngine *engine, const char *log_path, pid_t pid,
                            EngineProgressFunction on_progress, void *context, Error *error)
{
    const Cancel *cancel = engine->base.options.cancel;
    for (;;) {
        bool is_done = false;
        int code = 0;
        RETURN_IF_ERROR(process_wait(pid, POLL_MS, &is_done, &code, error));
        report(engine, log_path, on_progress, context);
        if (is_done) {
            return code == 0 ? STATUS_OK : fail_from_log(log_path, code, error);
        }
        if (cancel != NULL && atomic_load(&cancel->is_requested)) {
            process_stop(pid, SIGTERM, STOP_GRACE_MS);
            return error_set(error, REASON_CANCELED, "canceled while copying the source");
        }
    }
}

static Status copy(PostgresqlEngine *engine, EngineProgressFunction on_progress, void *context,
                   Error *error)
{
    const char *work = engine->base.options.work_directory;
    SeedFiles files;
    postgresql_path(work, LOG_NAME, files.log);
    postgresql_path(work, PASSFILE_NAME, files.passfile);
    postgresql_path(work, CA_NAME, files.ca);
    (void)unlink(files.log); // of an earlier try
    RETURN_IF_ERROR(write_files(engine, &files, error));
    pid_t pid = 0;
    Status status = launch(engine, &files, &pid, error);
    if (status == STATUS_OK) {
        status = wait_for_copy(engine, files.log, pid, on_progress, context, error);
    }
    (void)unlink(files.passfile); // nothing needs it any more
    (void)unlink(files.ca);
    return status;
}

Status postgresql_seed(Engine *base, EngineProgressFunction on_progress, void *context,
                       Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    PostgresqlClient *client;
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    int major = PQserverVersion(client->connection) / 10000;
    RETURN_IF_ERROR(postgresql_find_programs(&engine->server, major, error));
    RETURN_IF_ERROR(postgresql_slots_prepare(engine, error));
    RETURN_IF_ERROR(copy(engine, on_progress, context, error));
    char wal[POSTGRESQL_PATH_SIZE];
    int64_t wal_bytes = 0;
    postgresql_path(base->options.data_directory, "pg_wal", wal);
    RETURN_IF_ERROR(dir_size(wal, &wal_bytes, NULL, error));
    engine->seed_received_bytes += wal_bytes;
    return STATUS_OK;
}
