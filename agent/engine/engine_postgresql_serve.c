// SPDX-License-Identifier: Apache-2.0
// A PostgreSQL backup brought back: its server replays to the checkpoint's restore point, stops
// there, says so, and opens read-write on a timeline of its own.
#include "agent/engine/engine_postgresql.h"
#include "agent/engine/engine_postgresql_settings.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_BYTES_MAX (64 * 1024 * 1024)

static Status check_port(int port, Error *error)
{
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int reuse = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating a socket");
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        int number = errno;
        (void)error_set_errno(error, REASON_PORT_IN_USE, number, "port %d of 127.0.0.1", port);
        return error_hint(error, "choose another port");
    }
    return STATUS_OK;
}

static Status prepare(PostgresqlEngine *engine, const char *version, const char *engine_state,
                      Error *error)
{
    int major;
    RETURN_IF_ERROR(postgresql_state_parse(engine_state, &engine->state, error));
    RETURN_IF_ERROR(postgresql_read_major(engine->base.options.data_directory, &major, error));
    if (strtol(version, NULL, 10) != major) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the files are of PostgreSQL %d, the manifest says %s", major, version);
    }
    RETURN_IF_ERROR(postgresql_find_programs(&engine->server, major, error));
    return postgresql_read_control(&engine->server, &engine->control, error);
}

static Status connect_served(PostgresqlEngine *engine, PostgresqlClient **ret_client, Error *error)
{
    static const char *const databases[] = {"postgres",
                                            "template1"}; // the first may have been dropped
    Status status = STATUS_OK;
    for (size_t i = 0; i < ARRAY_COUNT(databases); i++) {
        error_clear(error);
        status = postgresql_connect_private(
            engine->base.options.work_directory, engine->server.port, engine->state.superuser,
            databases[i], POSTGRESQL_CONNECT_MS, engine->base.options.cancel, ret_client, error);
        if (status == STATUS_OK) {
            break;
        }
    }
    return status;
}

// Opened read-write; *ret_timeline is the new one.
static Status check_answers(PostgresqlEngine *engine, uint32_t *ret_timeline, Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    char text[32];
    RETURN_IF_ERROR(connect_served(engine, &client, error));
    RETURN_IF_ERROR(postgresql_query_text(
        client, REASON_PARENT_UNRESTORABLE,
        "SELECT left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)", NULL,
        text, sizeof(text), error));
    *ret_timeline = (uint32_t)strtoul(text, NULL, 16);
    return STATUS_OK;
}

// PostgreSQL's own word for where it stopped: the restore point it names, and the place where the
// new timeline begins.
static Status check_target(const PostgresqlEngine *engine, uint32_t timeline, Error *error)
{
    const EngineOptions *options = &engine->base.options;
    char path[POSTGRESQL_PATH_SIZE];
    char name[64];
    char expected[128];
    CLEANUP_FREE char *log = NULL;
    CLEANUP_FREE char *history = NULL;
    size_t size;
    uint64_t lsn = 0;
    postgresql_path(options->work_directory, POSTGRESQL_LOG_NAME, path);
    RETURN_IF_ERROR(file_read(path, LOG_BYTES_MAX, &log, &size, error));
    (void)snprintf(name, sizeof(name), "pg_wal/%08" PRIX32 ".history", timeline);
    postgresql_path(options->data_directory, name, path);
    RETURN_IF_ERROR(file_read(path, LIMIT_FILE_BYTES, &history, &size, error));
    (void)snprintf(expected, sizeof(expected), "recovery stopping at restore point \"%s\"",
                   engine->state.checkpoint_name);
    if (strstr(log, expected) == NULL ||
        !postgresql_history_switch(history, engine->state.timeline, &lsn) ||
        lsn != engine->state.checkpoint_lsn) {
        char reached[POSTGRESQL_LSN_TEXT_SIZE];
        postgresql_lsn_format(lsn, reached);
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "PostgreSQL did not stop at the backup's checkpoint '%s', but at %s",
                         engine->state.checkpoint_name, reached);
    }
    return STATUS_OK;
}

// Everything on the disk: the directory is a person's from now on.
static Status hand_over(PostgresqlEngine *engine, Error *error)
{
    const char *data = engine->base.options.data_directory;
    RETURN_IF_ERROR(postgresql_server_stop(&engine->server, error));
    RETURN_IF_ERROR(postgresql_auto_conf_put_back(data, error));
    RETURN_IF_ERROR(postgresql_settings_complete(data, error));
    RETURN_IF_ERROR(postgresql_settings_disarm(data, error));
    RETURN_IF_ERROR(postgresql_remove_file(data, "postmaster.opts", error));
    CLEANUP(fd_closep) int fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "writing out '%s'", data);
    }
    return STATUS_OK;
}

Status postgresql_serve(Engine *base, const char *version, const char *engine_state, int port,
                        int64_t *ret_started_ms, Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    RETURN_IF_ERROR(prepare(engine, version, engine_state, error));
    if (port > 0) {
        RETURN_IF_ERROR(check_port(port, error));
    }
    int64_t started_ms = clock_monotonic_ms();
    PostgresqlRun run = {
        .control = &engine->control,
        .port = port,
        .is_durable = true,
        .target_name = engine->state.checkpoint_name,
    };
    RETURN_IF_ERROR(
        postgresql_server_start(&engine->server, &run, REASON_PARENT_UNRESTORABLE, error));
    uint32_t timeline = 0;
    Status status = check_answers(engine, &timeline, error);
    int64_t duration_ms = clock_monotonic_ms() - started_ms;
    if (status == STATUS_OK) {
        status = check_target(engine, timeline, error);
    }
    if (status == STATUS_OK && port == 0) {
        status = hand_over(engine, error);
    }
    if (status != STATUS_OK) {
        postgresql_server_kill(&engine->server);
        return status;
    }
    engine->is_served = port > 0;
    *ret_started_ms = duration_ms;
    return STATUS_OK;
}
