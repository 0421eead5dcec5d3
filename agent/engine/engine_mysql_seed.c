// SPDX-License-Identifier: Apache-2.0
// The first copy of a MySQL source: a scratch server with an empty data directory clones the source
// over the network into our data directory (CLONE INSTANCE ... DATA DIRECTORY) and is thrown away.
#include "agent/engine/engine_mysql_family.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INITIALIZE_MS (5 * 60 * 1000)
#define CLONE_MS (7LL * 24 * 60 * 60 * 1000)
#define PROGRESS_MS 500
#define POLL_MS 20

#define CLONE_DONOR_ERROR 3862 // "Clone Donor Error: <number> : <text>"

typedef struct Clone {
    MysqlEngine *engine;
    const char *sql;
    Error error;
    Status status;
    atomic_bool is_done;
    int64_t total_bytes;
} Clone;

// The recipient must have every plugin that the donor has, whatever it does.
static Status read_plugins(MysqlEngine *engine, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(
        mysql_client_query(engine->source, MYSQL_STATEMENT_MS, &result, error,
                           "SELECT DISTINCT PLUGIN_LIBRARY FROM information_schema.PLUGINS"
                           " WHERE PLUGIN_LIBRARY IS NOT NULL AND PLUGIN_STATUS = 'ACTIVE'"));
    MysqlSettings *settings = &engine->settings;
    settings->plugin_count = 0;
    bool has_clone = false;
    for (MYSQL_ROW row = mysql_fetch_row(result);
         row != NULL && settings->plugin_count < MYSQL_PLUGIN_COUNT_MAX;
         row = mysql_fetch_row(result)) {
        has_clone = has_clone || text_equal(row[0], "mysql_clone.so");
        (void)snprintf(settings->plugins[settings->plugin_count++], sizeof(settings->plugins[0]),
                       "%s", row[0]);
    }
    if (!has_clone) {
        error_set(error, REASON_SOURCE_CONFIGURATION, "the source has no clone plugin");
        return error_hint(error, "INSTALL PLUGIN clone SONAME 'mysql_clone.so';");
    }
    return STATUS_OK;
}

static Status check_source(MysqlEngine *engine, int64_t *ret_size, Error *error)
{
    char text[128];
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, text, sizeof(text),
                                       error, "SELECT @@version"));
    RETURN_IF_ERROR(mysql_source_version_check(&engine->programs, true, text, error));
    Error ignored = {0}; // PROCESS is asked for by probe; without it only the estimate is missing
    *ret_size = -1;
    if (mysql_client_value(engine->source, MYSQL_STATEMENT_MS, text, sizeof(text), &ignored,
                           "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_TABLESPACES") ==
        STATUS_OK) {
        *ret_size = strtoll(text, NULL, 10);
    }
    return mysql_settings_read(engine->source, true, &engine->settings, error);
}

static Status initialize(MysqlEngine *engine, Arena *arena, const char *directory, Error *error)
{
    const MysqlSettings *settings = &engine->settings;
    const char *const arguments[] = {
        engine->programs.server,
        "--no-defaults",
        "--initialize-insecure",
        arena_format(arena, "--datadir=%s", directory),
        arena_format(arena, "--innodb-page-size=%d", settings->page_size),
        arena_format(arena, "--lower-case-table-names=%d", settings->lower_case_table_names),
        arena_format(arena, "--innodb-data-file-path=%s", settings->data_file_path),
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=OFF",
        "--loose-innodb-redo-log-capacity=32M",
        "--performance-schema=OFF",
        "--auto-generate-certs=OFF",
        NULL};
    RETURN_IF_ERROR(dir_remove_all(directory, error));
    RETURN_IF_ERROR(dir_create_all(directory, 0700, error));
    Status status = mysql_program_run(engine, arguments, directory, INITIALIZE_MS, error);
    return status == STATUS_OK ? status : error_wrap(error, "making a scratch server");
}

static void *run_clone(void *argument)
{
    Clone *clone = argument;
    mysql_thread_init();
    clone->status = mysql_client_run_sized(clone->engine->local[0], CLONE_MS, clone->sql,
                                           strlen(clone->sql), &clone->error);
    atomic_store(&clone->is_done, true);
    mysql_thread_end();
    return NULL;
}

static void report(Clone *clone, EngineProgressFunction on_progress, void *context)
{
    MysqlEngine *engine = clone->engine;
    EngineProgress progress = {.total_bytes = clone->total_bytes,
                               .received_bytes = mysql_received_bytes(engine)};
    Error ignored = {0};
    if (dir_size(engine->base.options.data_directory, &progress.done_bytes, NULL, &ignored) !=
        STATUS_OK) {
        progress.done_bytes = -1; // files come and go while it grows
    } else if (progress.total_bytes >= 0) {
        progress.total_bytes = MAX(progress.total_bytes, progress.done_bytes);
    }
    if (on_progress != NULL) {
        on_progress(context, &progress);
    }
}

// "Clone Donor Error: 1045 : Access denied ..." is the source's, everything else ours.
static Status name_error(MysqlEngine *engine, Clone *clone, Error *error)
{
    *error = clone->error;
    unsigned int number = engine->local[0]->error_number;
    if (error->reason == REASON_CANCELED || error->reason == REASON_DISK_FULL) {
        return error->status;
    }
    if (number != CLONE_DONOR_ERROR) {
        return error_wrap(error, "cloning the source");
    }
    char message[sizeof(error->message)];
    memcpy(message, error->message, sizeof(message));
    const char *donor = strstr(message, "Donor Error: ");
    int donor_number = donor == NULL ? 0 : atoi(donor + strlen("Donor Error: "));
    Reason reason = mysql_receiver_reason(donor_number, message);
    error_set(error, reason == REASON_NONE ? REASON_SOURCE_UNREACHABLE : reason,
              "cloning the source: %.400s", message);
    if (reason == REASON_SOURCE_PRIVILEGES) {
        return error_hint(error, "GRANT BACKUP_ADMIN ON *.* TO the user '%s'",
                          engine->base.source.username);
    }
    return error->status;
}

static Status clone_source(MysqlEngine *engine, Clone *clone, EngineProgressFunction on_progress,
                           void *context, Error *error)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_clone, clone) != 0) {
        return error_set(error, REASON_INTERNAL, "cannot start a thread");
    }
    int64_t reported_ms = 0;
    while (!atomic_load(&clone->is_done)) {
        mysql_traffic_look(&engine->traffic, engine->pid, engine->base.source.port);
        if (clock_monotonic_ms() - reported_ms >= PROGRESS_MS) {
            reported_ms = clock_monotonic_ms();
            report(clone, on_progress, context);
        }
        clock_sleep_ms(POLL_MS);
    }
    pthread_join(thread, NULL);
    return clone->status == STATUS_OK ? STATUS_OK : name_error(engine, clone, error);
}

static Status prepare_scratch(MysqlEngine *engine, Arena *arena, Error *error)
{
    const EngineSource *source = &engine->base.source;
    MysqlClient *local = engine->local[0];
    RETURN_IF_ERROR(mysql_client_run(
        local, MYSQL_STATEMENT_MS, error, "SET GLOBAL clone_valid_donor_list = %s",
        mysql_quote_text(arena, arena_format(arena, "%s:%d", source->host, source->port))));
    RETURN_IF_ERROR(
        mysql_client_run(local, MYSQL_STATEMENT_MS, error, "SET GLOBAL clone_max_concurrency = 4"));
    if (text_is_empty(source->tls_ca_pem)) {
        return STATUS_OK;
    }
    const char *path = mysql_work_path(arena, engine, "source-ca.pem");
    RETURN_IF_ERROR(
        file_write_atomic(path, source->tls_ca_pem, strlen(source->tls_ca_pem), 0600, error));
    return mysql_client_run(local, MYSQL_STATEMENT_MS, error, "SET GLOBAL clone_ssl_ca = %s",
                            mysql_quote_text(arena, path));
}

static Status run_seed(MysqlEngine *engine, Clone *clone, bool with_tls,
                       EngineProgressFunction on_progress, void *context, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const EngineSource *source = &engine->base.source;
    RETURN_IF_ERROR(prepare_scratch(engine, arena, error));
    (void)rmdir(
        source == NULL
            ? ""
            : engine->base.options.data_directory); // the server makes it; not empty: it says so
    char *sql = arena_format(
        arena, "CLONE INSTANCE FROM %s@%s:%d IDENTIFIED BY %s DATA DIRECTORY = %s REQUIRE %sSSL",
        mysql_quote_text(arena, source->username), mysql_quote_text(arena, source->host),
        source->port, mysql_quote_text(arena, secret_text(&source->password)),
        mysql_quote_text(arena, engine->base.options.data_directory), with_tls ? "" : "NO ");
    clone->sql = sql;
    Status status = clone_source(engine, clone, on_progress, context, error);
    secret_wipe_text(sql);
    return status;
}

Status mysql_seed(Engine *base, EngineProgressFunction on_progress, void *context, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    assert(engine->pid == 0 && !engine->is_adopted);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *directory = mysql_work_path(arena, engine, "clone");
    Clone clone = {.engine = engine};
    RETURN_IF_ERROR(mysql_source_connect(engine, error));
    RETURN_IF_ERROR(check_source(engine, &clone.total_bytes, error));
    MysqlSettings settings = engine->settings;
    RETURN_IF_ERROR(read_plugins(engine, error));
    bool with_tls = mysql_client_has_tls(engine->source);
    mysql_source_close(engine);
    RETURN_IF_ERROR(initialize(engine, arena, directory, error));
    Status status =
        mysql_server_start(engine, MYSQL_SERVER_LOAD, directory, 0, REASON_ENGINE_FAILED, error);
    if (status == STATUS_OK) {
        status = run_seed(engine, &clone, with_tls, on_progress, context, error);
    }
    (void)mysql_received_bytes(engine);
    mysql_server_kill(engine); // a scratch server
    engine->settings = settings;
    RETURN_IF_ERROR(status);
    return dir_remove_all(directory, error);
}
