// SPDX-License-Identifier: Apache-2.0
// The life of a MariaDB or MySQL engine object, apart from seeding and replicating.
#include "agent/engine/engine_mysql_family.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DISK_FREE_BYTES_MIN (8 * 1024 * 1024)
#define STATE_FORMAT 1
#define STATE_SIZE_MAX 65536

MysqlEngine *mysql_engine(Engine *engine)
{
    return (MysqlEngine *)engine; // Engine is its first member
}

Status mysql_check_canceled(const MysqlEngine *engine, Error *error)
{
    const Cancel *cancel = engine->base.options.cancel;
    if (cancel != NULL && atomic_load(&cancel->is_requested)) {
        return error_set(error, REASON_CANCELED, "canceled");
    }
    return STATUS_OK;
}

Status mysql_check_disk(const MysqlEngine *engine, Error *error)
{
    const char *const directories[] = {engine->base.options.data_directory,
                                       engine->base.options.work_directory};
    for (size_t i = 0; i < ARRAY_COUNT(directories); i++) {
        int64_t free_bytes = 0;
        Error ignored = {0}; // a directory that is not there yet is not full
        if (disk_free_bytes(directories[i], &free_bytes, &ignored) == STATUS_OK &&
            free_bytes < DISK_FREE_BYTES_MIN) {
            error_set(error, REASON_DISK_FULL, "the disk of '%s' is full", directories[i]);
            return error_hint(error, "give the instance a larger disk");
        }
    }
    return STATUS_OK;
}

Status mysql_name_failure(const MysqlEngine *engine, Status status, Error *error)
{
    Error why = {0};
    if (status == STATUS_OK) {
        return STATUS_OK;
    }
    bool may_be_full = error->reason == REASON_ENGINE_FAILED ||
                       error->reason == REASON_REPLICATION_BROKEN ||
                       error->reason == REASON_REPLAY_STALLED;
    if (may_be_full && mysql_check_disk(engine, &why) != STATUS_OK) {
        *error = why;
    } else if (may_be_full && mysql_server_log_says_full(engine)) {
        error->reason = REASON_DISK_FULL; // a server that ended has given back what it waited for
        error->status = reason_status(REASON_DISK_FULL);
    }
    return error->status;
}

Status mysql_family_open(const EngineDriver *driver, bool is_mysql, const EngineOptions *options,
                         const EngineSource *source, Engine **ret_engine, Error *error)
{
    MysqlPrograms programs = {0};
    RETURN_IF_ERROR(mysql_programs_find(&programs, is_mysql, options->program_directory, error));
    RETURN_IF_ERROR(dir_create_all(options->work_directory, 0700, error));
    MysqlEngine *engine = mem_alloc(sizeof(*engine));
    int size = snprintf(engine->socket_path, sizeof(engine->socket_path), "%s/server.sock",
                        options->work_directory);
    if (size < 0 || (size_t)size >= sizeof(engine->socket_path)) {
        mem_free(engine);
        return error_set(error, REASON_INVALID,
                         "the work directory '%s' is too long for a socket path",
                         options->work_directory);
    }
    engine->base.driver = driver;
    engine->base.options = *options;
    if (source != NULL) {
        engine->base.source = *source;
        engine->base.source.password = secret_copy(&source->password);
    }
    engine->is_mysql = is_mysql;
    engine->programs = programs;
    engine->settings.page_size = 16384;
    *ret_engine = &engine->base;
    return STATUS_OK;
}

void mysql_family_close(Engine *base)
{
    MysqlEngine *engine = mysql_engine(base);
    mysql_server_kill(engine);
    mysql_source_close(engine);
    static const char *const names[] = {
        "tmp",         "relay",        "clone",       "server.log",
        "init.sql",    "server.pid",   "server.sock", "server.sock.lock",
        "install.log", "source-ca.pem"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        Error ignored = {0}; // the whole work directory goes with the instance
        (void)dir_remove_all(mysql_work_path(arena, engine, names[i]), &ignored);
        (void)unlink(mysql_work_path(arena, engine, names[i]));
    }
    secret_done(&engine->base.source.password);
    secret_done(&engine->load_password);
    mem_free(engine->load_username);
    mem_free(engine);
}

Status mysql_family_adopt(Engine *base, const char *parent_version, const char *engine_state,
                          Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    RETURN_IF_ERROR(
        mysql_version_check(&engine->programs, engine->is_mysql, parent_version, error));
    CLEANUP(json_freep) Json *state = NULL;
    if (json_parse(engine_state, strlen(engine_state), &state, error) != STATUS_OK ||
        json_get_integer(state, "format", 0) != STATE_FORMAT) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the backup's engine state cannot be read");
    }
    mysql_settings_from_json(&engine->settings, json_get(state, "settings"));
    (void)snprintf(engine->adopted_position, sizeof(engine->adopted_position), "%s",
                   json_get_text(state, "position", ""));
    engine->is_adopted = true;
    return STATUS_OK;
}

Status mysql_local_position(MysqlEngine *engine, char ret_position[1024], Error *error)
{
    return mysql_client_value(engine->local[0], MYSQL_STATEMENT_MS, ret_position, 1024, error, "%s",
                              engine->is_mysql ? "SELECT REPLACE(@@global.gtid_executed, '\\n', '')"
                                               : "SELECT @@global.gtid_slave_pos");
}

// The directory must hold what the manifest says it does.
static Status check_position(MysqlEngine *engine, Error *error)
{
    char position[1024];
    RETURN_IF_ERROR(mysql_local_position(engine, position, error));
    if (engine->is_adopted && !text_equal(position, engine->adopted_position)) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the restored directory is at '%.200s', the backup says '%.200s'",
                         position, engine->adopted_position);
    }
    return STATUS_OK;
}

// A clone has tables of other engines without their rows: such a seed would lose them.
static Status check_clone(MysqlEngine *engine, Error *error)
{
    char name[512];
    RETURN_IF_ERROR(mysql_client_value(
        engine->local[0], MYSQL_STATEMENT_MS, name, sizeof(name), error,
        "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IN ('MyISAM', 'CSV', 'ARCHIVE')"
        " AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') LIMIT 1"));
    if (name[0] != '\0') {
        error_set(error, REASON_SOURCE_CONFIGURATION,
                  "table '%s' does not use InnoDB: it cannot be cloned", name);
        return error_hint(error, "ALTER TABLE %s ENGINE = InnoDB;", name);
    }
    return STATUS_OK;
}

Status mysql_family_start(Engine *base, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    Reason otherwise = engine->is_adopted ? REASON_PARENT_UNRESTORABLE : REASON_ENGINE_FAILED;
    RETURN_IF_ERROR(mysql_server_start(engine, MYSQL_SERVER_REPLICA, base->options.data_directory,
                                       0, otherwise, error));
    Status status = check_position(engine, error);
    if (status == STATUS_OK && engine->is_mysql && !engine->is_adopted) {
        status = check_clone(engine, error);
    }
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
    }
    return status;
}

static const char *make_state(const MysqlEngine *engine, Arena *arena)
{
    CLEANUP(json_freep) Json *state = json_new_object();
    json_set_integer(state, "format", STATE_FORMAT);
    json_set_text(state, "engine", engine->base.driver->name);
    json_set_text(state, "version", engine->programs.version);
    json_set_text(state, "position", engine->final_position);
    json_set(state, "settings", mysql_settings_to_json(&engine->settings));
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, STATE_SIZE_MAX);
    bool fits = json_write(state, false, &text);
    assert(fits);
    return arena_string(arena, buffer_text(&text));
}

static Status stop(MysqlEngine *engine, Arena *arena, const char **ret_engine_state, Error *error)
{
    if (!mysql_server_is_running(engine)) {
        return error_set(error, REASON_ENGINE_FAILED, "the engine is not running");
    }
    RETURN_IF_ERROR(mysql_replica_reset(engine, error));
    RETURN_IF_ERROR(mysql_local_position(engine, engine->final_position, error));
    RETURN_IF_ERROR(mysql_server_stop(engine, error));
    engine->is_clean = true;
    *ret_engine_state = make_state(engine, arena);
    return STATUS_OK;
}

Status mysql_family_stop(Engine *base, Arena *arena, const char **ret_engine_state, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    return mysql_name_failure(engine, stop(engine, arena, ret_engine_state, error), error);
}

static Status check_port(int port, Error *error)
{
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "making a socket");
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int number = errno;
        error_set(error, number == EADDRINUSE ? REASON_PORT_IN_USE : REASON_INVALID,
                  "port %d cannot be used: %s", port, strerror(number));
        return error_hint(error, "choose another port");
    }
    return STATUS_OK;
}

// Starts privately, looks at the position, stops cleanly.
static Status prove(MysqlEngine *engine, int64_t *ret_started_ms, Error *error)
{
    int64_t begin_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(mysql_server_start(engine, MYSQL_SERVER_PROVE,
                                       engine->base.options.data_directory, 0,
                                       REASON_PARENT_UNRESTORABLE, error));
    Status status = check_position(engine, error);
    *ret_started_ms = clock_monotonic_ms() - begin_ms;
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
        return status;
    }
    return mysql_server_stop(engine, error);
}

Status mysql_family_serve(Engine *base, const char *version, const char *engine_state, int port,
                          int64_t *ret_started_ms, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    RETURN_IF_ERROR(mysql_family_adopt(base, version, engine_state, error));
    if (port == 0) {
        return prove(engine, ret_started_ms, error);
    }
    RETURN_IF_ERROR(check_port(port, error));
    if (engine->is_mysql) {
        // Its public server lets nobody in without an account of the backup, so the position is
        // looked at before.
        RETURN_IF_ERROR(prove(engine, ret_started_ms, error));
    }
    int64_t begin_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(mysql_server_start(engine, MYSQL_SERVER_PUBLIC, base->options.data_directory,
                                       port, REASON_PARENT_UNRESTORABLE, error));
    engine->port = port;
    if (engine->is_mysql) {
        return STATUS_OK;
    }
    Status status = check_position(engine, error);
    *ret_started_ms = clock_monotonic_ms() - begin_ms;
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
    }
    return status;
}

Status mysql_family_check_alive(Engine *base, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    if (!mysql_server_is_running(engine)) {
        char tail[300];
        mysql_server_log_tail(engine, tail, sizeof(tail));
        return error_set(error, REASON_ENGINE_FAILED, "the engine is not running%s%s",
                         tail[0] != '\0' ? ": " : "", tail);
    }
    if (engine->local[0] != NULL) {
        return mysql_client_run(engine->local[0], MYSQL_CONNECT_MS, error, "DO 1");
    }
    return STATUS_OK;
}

Status mysql_family_clean_source(const EngineSource *source, const char *shard_id,
                                 const char *const *alive, int *ret_removed, Error *error)
{
    (void)source;
    (void)shard_id;
    (void)alive;
    (void)error;
    *ret_removed = 0; // a MySQL or MariaDB source keeps nothing for a replica that is gone
    return STATUS_OK;
}
