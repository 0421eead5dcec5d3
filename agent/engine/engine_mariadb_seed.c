// SPDX-License-Identifier: Apache-2.0
// The first copy of a MariaDB source: over several connections that all see the same moment.
//
// BACKUP STAGE holds back schema changes while the tables are listed and the tables without
// transactions (accounts, routines and events among them) are copied, then for some milliseconds
// commits, while every connection opens its snapshot and the GTID position is read. After that the
// source is free, and the rows of all other tables are read from the snapshots. Writers of InnoDB
// tables wait only for those milliseconds. Each connection copies a table at a time; one that is so
// large that the others would have to wait for it is divided into ranges of its primary key.
#include "agent/engine/engine_mariadb_copy.h"
#include "agent/engine/engine_mariadb_indexes.h"
#include "agent/engine/engine_mariadb_ranges.h"
#include "agent/engine/engine_mysql_family.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIPE_COUNT 4
#define DIVIDE_BYTES (64 * 1024 * 1024)
#define DIVIDED_COUNT_MAX (4 * PIPE_COUNT) // a smaller part of the whole is no matter
#define INSTALL_MS (5 * 60 * 1000)
#define LOCK_WAIT_S 5 // a lock that we wait for makes others wait
#define LOCK_TRIES 24
#define LOCK_PAUSE_MS 2500
#define PROGRESS_MS 500
#define VIEW_ROUNDS_MAX 32     // views on views on views
#define HISTORY_VERSION 101100 // system_versioning_insert_history

// Rows that make a server what it is. Copied as rows: exactly the source's accounts, routines,
// events.
static const char *const SYSTEM_TABLES[] = {"global_priv",
                                            "db",
                                            "tables_priv",
                                            "columns_priv",
                                            "procs_priv",
                                            "proxies_priv",
                                            "roles_mapping",
                                            "proc",
                                            "event",
                                            "func",
                                            "plugin",
                                            "servers",
                                            "time_zone",
                                            "time_zone_name",
                                            "time_zone_transition",
                                            "time_zone_transition_type",
                                            "time_zone_leap_second"};

// A table that several connections copy.
typedef struct DividedTable {
    const MariadbTable *table;
    atomic_size_t open_count; // ranges that are not copied yet
    const char *add_indexes;  // then this is done; NULL: nothing
} DividedTable;

// What a connection copies at a time.
typedef struct Piece {
    const MariadbTable *table;
    DividedTable *divided; // NULL: the whole table
    const char *condition;
} Piece;

typedef struct Seed {
    MysqlEngine *engine;
    Arena *arena;
    MysqlClient *control; // holds the lock
    MysqlClient *sources[PIPE_COUNT];
    MysqlClient *locals[PIPE_COUNT];
    MariadbTable *tables;
    size_t table_count;
    char position[1024];
    int64_t total_bytes;
    atomic_int_fast64_t copied_bytes;
    Piece *pieces;
    size_t piece_count;
    atomic_size_t next_piece;
    atomic_bool has_failed;
    atomic_size_t finished_count;
} Seed;

static MariadbPipe pipe_of(Seed *seed, size_t index)
{
    return (MariadbPipe){.source = seed->sources[index],
                         .local = seed->locals[index],
                         .copied_bytes = &seed->copied_bytes};
}

static Status install(MysqlEngine *engine, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *data = engine->base.options.data_directory;
    // A server that starts removes the temporary tables of every other one that shares its tmpdir.
    const char *temporary = mysql_work_path(arena, engine, "tmp");
    const char *const arguments[] = {
        engine->programs.install,
        "--no-defaults",
        arena_format(arena, "--datadir=%s", data),
        arena_format(arena, "--tmpdir=%s", temporary),
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        arena_format(arena, "--innodb-page-size=%d", engine->settings.page_size),
        arena_format(arena, "--lower-case-table-names=%d", engine->settings.lower_case_table_names),
        "--innodb-log-file-size=32M",
        NULL};
    RETURN_IF_ERROR(dir_create_all(data, 0700, error));
    RETURN_IF_ERROR(dir_create_all(temporary, 0700, error));
    Status status = mysql_program_run(engine, arguments, data, INSTALL_MS, error);
    return status == STATUS_OK ? status : error_wrap(error, "making an empty data directory");
}

static Status open_clients(Seed *seed, Error *error)
{
    MysqlEngine *engine = seed->engine;
    const EngineSource *source = &engine->base.source;
    const Cancel *cancel = engine->base.options.cancel;
    RETURN_IF_ERROR(
        mysql_client_open_source(source, cancel, MYSQL_CONNECT_MS, &seed->control, error));
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        RETURN_IF_ERROR(
            mysql_client_open_source(source, cancel, MYSQL_CONNECT_MS, &seed->sources[i], error));
        RETURN_IF_ERROR(mysql_server_open_client(engine, &seed->locals[i], error));
        RETURN_IF_ERROR(
            mysql_client_run(seed->sources[i], MYSQL_STATEMENT_MS, error,
                             "SET SESSION time_zone = '+00:00', net_write_timeout = 3600,"
                             " wait_timeout = 86400, sql_quote_show_create = 1"));
        RETURN_IF_ERROR(
            mysql_client_run(seed->sources[i], MYSQL_STATEMENT_MS, error,
                             "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
        RETURN_IF_ERROR(mysql_client_run(
            seed->locals[i], MYSQL_STATEMENT_MS, error,
            "SET SESSION time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 0,"
            " check_constraint_checks = 0,"
            " sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_DIR_IN_CREATE,NO_ENGINE_SUBSTITUTION'"));
    }
    return STATUS_OK;
}

static void close_clients(Seed *seed)
{
    MysqlEngine *engine = seed->engine;
    engine->closed_bytes += mysql_client_received_bytes(seed->control);
    mysql_client_freep(&seed->control); // ends the lock, should it still be there
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        engine->closed_bytes += mysql_client_received_bytes(seed->sources[i]);
        mysql_client_freep(&seed->sources[i]);
        mysql_client_freep(&seed->locals[i]);
    }
}

// Both connections of all pipes speak "binary": see engine_mariadb_copy.c.
static Status set_binary(Seed *seed, Error *error)
{
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        RETURN_IF_ERROR(
            mysql_client_run(seed->sources[i], MYSQL_STATEMENT_MS, error, "SET NAMES binary"));
        RETURN_IF_ERROR(
            mysql_client_run(seed->locals[i], MYSQL_STATEMENT_MS, error, "SET NAMES binary"));
    }
    return STATUS_OK;
}

static Status lock_schema_once(Seed *seed, Error *error)
{
    static const char *const stages[] = {"BACKUP STAGE START", "BACKUP STAGE FLUSH",
                                         "BACKUP STAGE BLOCK_DDL"};
    RETURN_IF_ERROR(mysql_client_run(seed->control, MYSQL_STATEMENT_MS, error,
                                     "SET SESSION lock_wait_timeout = %d", LOCK_WAIT_S));
    for (size_t i = 0; i < ARRAY_COUNT(stages); i++) {
        RETURN_IF_ERROR(
            mysql_client_run(seed->control, MYSQL_STATEMENT_MS, error, "%s", stages[i]));
    }
    return STATUS_OK;
}

// Somebody who holds the lock, or a long schema change, is waited for a bounded number of times.
static Status lock_schema(Seed *seed, Error *error)
{
    for (int round = 1;; round++) {
        Status status = lock_schema_once(seed, error);
        unsigned int number = seed->control->error_number;
        bool is_busy = number == 1205 || number == 1969 || number == 4145 || number == 4146;
        if (status == STATUS_OK || !is_busy || round == LOCK_TRIES) {
            return status;
        }
        Error ignored = {0};
        (void)mysql_client_run(seed->control, MYSQL_STATEMENT_MS, &ignored, "BACKUP STAGE END");
        RETURN_IF_ERROR(mysql_check_canceled(seed->engine, error));
        clock_sleep_ms(LOCK_PAUSE_MS);
        error_clear(error);
    }
}

static bool is_transactional(const char *engine)
{
    return engine != NULL &&
           (strcasecmp(engine, "InnoDB") == 0 || strcasecmp(engine, "ROCKSDB") == 0);
}

static int compare_sizes(const void *a, const void *b)
{
    int64_t left = ((const MariadbTable *)a)->size_bytes;
    int64_t right = ((const MariadbTable *)b)->size_bytes;
    return left > right ? -1 : left < right;
}

// Everything but the server's own tables; tables that somebody put into `mysql` are somebody's.
static Status list_tables(Seed *seed, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *ours = NULL;
    RETURN_IF_ERROR(
        mysql_client_query(seed->locals[0], MYSQL_STATEMENT_MS, &ours, error,
                           "SELECT GROUP_CONCAT(QUOTE(TABLE_NAME)) FROM information_schema.TABLES"
                           " WHERE TABLE_SCHEMA = 'mysql'"));
    MYSQL_ROW row = mysql_fetch_row(ours);
    const char *system = row == NULL || row[0] == NULL ? "''" : row[0];
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        seed->sources[0], MYSQL_LOAD_MS, &result, error,
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, DATA_LENGTH FROM "
        "information_schema.TABLES"
        " WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
        " AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'sys')"
        " AND NOT (TABLE_SCHEMA = 'mysql' AND (TABLE_NAME LIKE 'gtid\\_slave\\_pos%%' OR "
        "TABLE_NAME IN (%s)))",
        system));
    size_t count = (size_t)mysql_num_rows(result);
    seed->tables = arena_alloc_array(seed->arena, count + 1, sizeof(MariadbTable));
    while ((row = mysql_fetch_row(result)) != NULL) {
        MariadbTable *table = &seed->tables[seed->table_count++];
        table->schema = arena_string(seed->arena, row[0]);
        table->name = arena_string(seed->arena, row[1]);
        table->is_versioned = text_equal(row[2], "SYSTEM VERSIONED");
        table->is_sequence = text_equal(row[2], "SEQUENCE");
        table->is_transactional = is_transactional(row[3]);
        table->size_bytes = row[4] == NULL ? 0 : strtoll(row[4], NULL, 10);
        seed->total_bytes += table->size_bytes;
        if (table->is_versioned && seed->engine->programs.version_number < HISTORY_VERSION) {
            return error_set(error, REASON_ENGINE_VERSION,
                             "table '%s.%s' is system-versioned, whose history needs MariaDB 10.11",
                             row[0], row[1]);
        }
    }
    qsort(seed->tables, seed->table_count, sizeof(MariadbTable), compare_sizes);
    return STATUS_OK;
}

static Status create_databases(Seed *seed, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        seed->sources[0], MYSQL_STATEMENT_MS, &result, error,
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN"
        " ('mysql', 'information_schema', 'performance_schema', 'sys')"));
    for (MYSQL_ROW row = mysql_fetch_row(result); row != NULL; row = mysql_fetch_row(result)) {
        CLEANUP(mysql_result_freep) MYSQL_RES *definition = NULL;
        RETURN_IF_ERROR(mysql_client_query(seed->sources[0], MYSQL_STATEMENT_MS, &definition, error,
                                           "SHOW CREATE DATABASE %s",
                                           mysql_quote_name(seed->arena, row[0])));
        MYSQL_ROW shown = mysql_fetch_row(definition);
        if (shown == NULL || shown[1] == NULL) {
            return error_set(error, REASON_SOURCE_CHANGED, "database '%s' disappeared", row[0]);
        }
        RETURN_IF_ERROR(
            mysql_client_run(seed->locals[0], MYSQL_STATEMENT_MS, error, "SET NAMES utf8mb4"));
        RETURN_IF_ERROR(mysql_client_run_sized(seed->locals[0], MYSQL_STATEMENT_MS, shown[1],
                                               strlen(shown[1]), error));
        RETURN_IF_ERROR(
            mysql_client_run(seed->locals[0], MYSQL_STATEMENT_MS, error, "SET NAMES binary"));
    }
    return STATUS_OK;
}

// Under the schema lock: what has no snapshots.
static Status copy_plain_tables(Seed *seed, Error *error)
{
    MariadbPipe pipe = pipe_of(seed, 0);
    for (size_t i = 0; i < ARRAY_COUNT(SYSTEM_TABLES); i++) {
        RETURN_IF_ERROR(mariadb_copy_system_rows(&pipe, SYSTEM_TABLES[i], error));
    }
    for (size_t i = 0; i < seed->table_count; i++) {
        if (!seed->tables[i].is_transactional) {
            RETURN_IF_ERROR(mariadb_copy_table(&pipe, &seed->tables[i], error));
        }
    }
    return STATUS_OK;
}

// The moment: no commit between the position and the snapshots.
static Status take_snapshots(Seed *seed, Error *error)
{
    RETURN_IF_ERROR(
        mysql_client_run(seed->control, MYSQL_STATEMENT_MS, error, "BACKUP STAGE BLOCK_COMMIT"));
    RETURN_IF_ERROR(mysql_source_position(seed->control, false, seed->position, error));
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        RETURN_IF_ERROR(mysql_client_run(seed->sources[i], MYSQL_STATEMENT_MS, error,
                                         "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"));
        RETURN_IF_ERROR(
            mysql_client_run(seed->sources[i], MYSQL_STATEMENT_MS, error, "SAVEPOINT tables"));
    }
    return mysql_client_run(seed->control, MYSQL_STATEMENT_MS, error, "BACKUP STAGE END");
}

// A table that could keep one connection busy when the others have nothing left to do.
static bool is_worth_dividing(const Seed *seed, const MariadbTable *table)
{
    int64_t wanted = seed->engine->base.options.divide_bytes;
    return table->is_transactional && !table->is_versioned && !table->is_sequence &&
           table->size_bytes >= (wanted > 0 ? wanted : DIVIDE_BYTES) &&
           table->size_bytes * DIVIDED_COUNT_MAX > seed->total_bytes;
}

// Makes the table without its indexes, and its ranges; none when it is better copied as a whole.
static Status divide(Seed *seed, const MariadbTable *table, MariadbRanges *ranges,
                     DividedTable **ret_divided, Error *error)
{
    MariadbPipe pipe = pipe_of(seed, 0);
    const char *add_indexes = NULL;
    bool is_lifted = false;
    RETURN_IF_ERROR(mariadb_ranges_plan(pipe.source, seed->arena, table, ranges, error));
    if (ranges->count > 0) {
        RETURN_IF_ERROR(mariadb_copy_definition(&pipe, table, error));
        RETURN_IF_ERROR(
            mariadb_indexes_lift(pipe.local, seed->arena, table, &add_indexes, &is_lifted, error));
    }
    if (ranges->count > 0 && !is_lifted) {
        ranges->count = 0;
        RETURN_IF_ERROR(mysql_client_run(pipe.local, MYSQL_STATEMENT_MS, error, "DROP TABLE %s.%s",
                                         mysql_quote_name(seed->arena, table->schema),
                                         mysql_quote_name(seed->arena, table->name)));
    }
    DividedTable *divided = arena_alloc(seed->arena, sizeof(*divided));
    *divided = (DividedTable){.table = table, .add_indexes = add_indexes};
    atomic_init(&divided->open_count, ranges->count);
    *ret_divided = divided;
    return STATUS_OK;
}

// Within the snapshot of the first connection: what it sees, all see. The largest come first.
static Status list_pieces(Seed *seed, Error *error)
{
    size_t most = seed->table_count + DIVIDED_COUNT_MAX * MARIADB_RANGE_COUNT_MAX;
    seed->pieces = arena_alloc_array(seed->arena, most, sizeof(Piece));
    for (size_t i = 0; i < seed->table_count; i++) {
        const MariadbTable *table = &seed->tables[i];
        MariadbRanges ranges = {0};
        DividedTable *divided = NULL;
        if (is_worth_dividing(seed, table)) {
            RETURN_IF_ERROR(divide(seed, table, &ranges, &divided, error));
        }
        for (size_t range = 0; range < ranges.count; range++) {
            seed->pieces[seed->piece_count++] =
                (Piece){.table = table, .divided = divided, .condition = ranges.conditions[range]};
        }
        if (table->is_transactional && ranges.count == 0) {
            seed->pieces[seed->piece_count++] = (Piece){.table = table};
        }
    }
    assert(seed->piece_count <= most);
    return mysql_client_run(seed->sources[0], MYSQL_STATEMENT_MS, error,
                            "ROLLBACK TO SAVEPOINT tables");
}

typedef struct Worker {
    Seed *seed;
    size_t index;
    Error error;
    Status status;
} Worker;

static Status copy_piece(Worker *worker, const Piece *piece)
{
    MariadbPipe pipe = pipe_of(worker->seed, worker->index);
    DividedTable *divided = piece->divided;
    Error *error = &worker->error;
    RETURN_IF_ERROR(divided == NULL
                        ? mariadb_copy_table(&pipe, piece->table, error)
                        : mariadb_copy_range(&pipe, piece->table, piece->condition, error));
    // Lets go of the table, so that the source can change its schema.
    RETURN_IF_ERROR(
        mysql_client_run(pipe.source, MYSQL_STATEMENT_MS, error, "ROLLBACK TO SAVEPOINT tables"));
    if (divided == NULL || atomic_fetch_sub(&divided->open_count, 1) > 1 ||
        divided->add_indexes == NULL) {
        return STATUS_OK;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return mariadb_indexes_restore(pipe.local, arena, divided->table, divided->add_indexes, error);
}

static Status copy_next_pieces(Worker *worker)
{
    Seed *seed = worker->seed;
    for (;;) {
        size_t index = atomic_fetch_add(&seed->next_piece, 1);
        if (index >= seed->piece_count || atomic_load(&seed->has_failed)) {
            return STATUS_OK;
        }
        RETURN_IF_ERROR(copy_piece(worker, &seed->pieces[index]));
    }
}

static void *run_worker(void *argument)
{
    Worker *worker = argument;
    mysql_thread_init();
    worker->status = copy_next_pieces(worker);
    if (worker->status != STATUS_OK) {
        atomic_store(&worker->seed->has_failed, true);
    }
    atomic_fetch_add(&worker->seed->finished_count, 1);
    mysql_thread_end();
    return NULL;
}

static void report(Seed *seed, EngineProgressFunction on_progress, void *context)
{
    if (on_progress == NULL) {
        return;
    }
    EngineProgress progress = {.done_bytes = atomic_load(&seed->copied_bytes)};
    progress.total_bytes = MAX(seed->total_bytes, progress.done_bytes);
    progress.received_bytes = seed->engine->closed_bytes;
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        progress.received_bytes += mysql_client_received_bytes(seed->sources[i]);
    }
    (void)snprintf(progress.position, sizeof(progress.position), "%s", seed->position);
    on_progress(context, &progress);
}

static Status copy_tables(Seed *seed, EngineProgressFunction on_progress, void *context,
                          Error *error)
{
    Worker workers[PIPE_COUNT] = {0};
    pthread_t threads[PIPE_COUNT];
    size_t started = 0;
    for (; started < PIPE_COUNT; started++) {
        workers[started] = (Worker){.seed = seed, .index = started};
        if (pthread_create(&threads[started], NULL, run_worker, &workers[started]) != 0) {
            atomic_store(&seed->has_failed, true);
            break;
        }
    }
    while (atomic_load(&seed->finished_count) < started) {
        report(seed, on_progress, context);
        clock_sleep_ms(atomic_load(&seed->finished_count) < started ? 20 : 0);
    }
    Status status = started == PIPE_COUNT
                        ? STATUS_OK
                        : error_set(error, REASON_INTERNAL, "cannot start a thread");
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].status != STATUS_OK && status == STATUS_OK) {
            status = workers[i].status;
            *error = workers[i].error;
        }
    }
    return status;
}

// Objects whose text was written in some character set and SQL mode are made again in the same.
static Status run_in_context(MysqlClient *local, const char *character_set, const char *collation,
                             const char *sql_mode, const char *sql, Error *error)
{
    RETURN_IF_ERROR(
        mysql_client_run(local, MYSQL_STATEMENT_MS, error,
                         "SET SESSION character_set_client = '%s', collation_connection = '%s',"
                         " sql_mode = '%s'",
                         character_set, collation, sql_mode));
    Status status = mysql_client_run_sized(local, MYSQL_STATEMENT_MS, sql, strlen(sql), error);
    Error ignored = {0};
    (void)mysql_client_run(local, MYSQL_STATEMENT_MS, &ignored,
                           "SET NAMES binary, SESSION sql_mode = ''");
    return status;
}

static Status copy_trigger(Seed *seed, const char *schema, const char *name, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        seed->sources[0], MYSQL_STATEMENT_MS, &result, error, "SHOW CREATE TRIGGER %s.%s",
        mysql_quote_name(seed->arena, schema), mysql_quote_name(seed->arena, name)));
    MYSQL_ROW row = mysql_fetch_row(result);
    const char *text = row == NULL ? NULL : mysql_row_text(result, row, "SQL Original Statement");
    if (text == NULL) {
        return error_set(error, REASON_SOURCE_CHANGED, "trigger '%s.%s' disappeared", schema, name);
    }
    RETURN_IF_ERROR(mysql_client_run(seed->locals[0], MYSQL_STATEMENT_MS, error, "USE %s",
                                     mysql_quote_name(seed->arena, schema)));
    Status status =
        run_in_context(seed->locals[0], mysql_row_text(result, row, "character_set_client"),
                       mysql_row_text(result, row, "collation_connection"),
                       mysql_row_text(result, row, "sql_mode"), text, error);
    return status == STATUS_OK ? status : error_wrap(error, "trigger '%s.%s'", schema, name);
}

static Status copy_triggers(Seed *seed, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(
        mysql_client_query(seed->sources[0], MYSQL_LOAD_MS, &result, error,
                           "SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS"
                           " WHERE TRIGGER_SCHEMA NOT IN ('sys') ORDER BY TRIGGER_SCHEMA,"
                           " EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"));
    for (MYSQL_ROW row = mysql_fetch_row(result); row != NULL; row = mysql_fetch_row(result)) {
        RETURN_IF_ERROR(copy_trigger(seed, row[0], row[1], error));
    }
    return STATUS_OK;
}

typedef struct View {
    const char *schema, *name, *text, *character_set, *collation;
    bool is_done;
} View;

static Status read_view(Seed *seed, View *view, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        seed->sources[0], MYSQL_STATEMENT_MS, &result, error, "SHOW CREATE VIEW %s.%s",
        mysql_quote_name(seed->arena, view->schema), mysql_quote_name(seed->arena, view->name)));
    MYSQL_ROW row = mysql_fetch_row(result);
    if (row == NULL) {
        return error_set(error, REASON_SOURCE_CHANGED, "view '%s.%s' disappeared", view->schema,
                         view->name);
    }
    view->text = arena_string(seed->arena, mysql_row_text(result, row, "Create View"));
    view->character_set =
        arena_string(seed->arena, mysql_row_text(result, row, "character_set_client"));
    view->collation =
        arena_string(seed->arena, mysql_row_text(result, row, "collation_connection"));
    return STATUS_OK;
}

static Status create_view(Seed *seed, View *view, const char *text, Error *error)
{
    RETURN_IF_ERROR(mysql_client_run(seed->locals[0], MYSQL_STATEMENT_MS, error, "USE %s",
                                     mysql_quote_name(seed->arena, view->schema)));
    return run_in_context(seed->locals[0], view->character_set, view->collation, "", text, error);
}

// Views stand on other views: those that cannot be made yet are tried again as long as others
// succeed. A view that is broken on the source as well gets a stand-in, so that replicated
// statements about it find something of its name.
static Status copy_views(Seed *seed, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        seed->sources[0], MYSQL_LOAD_MS, &result, error,
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA"
        " NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"));
    size_t count = (size_t)mysql_num_rows(result);
    View *views = arena_alloc_array(seed->arena, count + 1, sizeof(View));
    for (size_t i = 0; i < count; i++) {
        MYSQL_ROW row = mysql_fetch_row(result);
        views[i] = (View){.schema = arena_string(seed->arena, row[0]),
                          .name = arena_string(seed->arena, row[1])};
        RETURN_IF_ERROR(read_view(seed, &views[i], error));
    }
    size_t done = 0;
    for (int round = 0; round < VIEW_ROUNDS_MAX && done < count; round++) {
        size_t before = done;
        for (size_t i = 0; i < count; i++) {
            if (!views[i].is_done) {
                Error ignored = {0};
                views[i].is_done =
                    create_view(seed, &views[i], views[i].text, &ignored) == STATUS_OK;
                done += views[i].is_done;
            }
        }
        if (done == before) {
            break;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!views[i].is_done) {
            const char *text = arena_format(seed->arena,
                                            "CREATE VIEW %s AS SELECT 'this view could not be "
                                            "made: it refers to what does not exist' AS note",
                                            mysql_quote_name(seed->arena, views[i].name));
            RETURN_IF_ERROR(create_view(seed, &views[i], text, error));
        }
    }
    return STATUS_OK;
}

static Status check_source(MysqlEngine *engine, Error *error)
{
    char version[128];
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, version, sizeof(version),
                                       error, "SELECT @@version"));
    RETURN_IF_ERROR(mysql_source_version_check(&engine->programs, false, version, error));
    return mysql_settings_read(engine->source, false, &engine->settings, error);
}

static Status copy_everything(Seed *seed, EngineProgressFunction on_progress, void *context,
                              Error *error)
{
    RETURN_IF_ERROR(open_clients(seed, error));
    if (seed->engine->programs.version_number >= HISTORY_VERSION) {
        for (size_t i = 0; i < PIPE_COUNT; i++) {
            RETURN_IF_ERROR(mysql_client_run(seed->locals[i], MYSQL_STATEMENT_MS, error,
                                             "SET SESSION system_versioning_insert_history = 1"));
        }
    }
    RETURN_IF_ERROR(lock_schema(seed, error));
    RETURN_IF_ERROR(list_tables(seed, error));
    RETURN_IF_ERROR(create_databases(seed, error));
    RETURN_IF_ERROR(set_binary(seed, error));
    RETURN_IF_ERROR(copy_plain_tables(seed, error));
    RETURN_IF_ERROR(take_snapshots(seed, error));
    report(seed, on_progress, context);
    RETURN_IF_ERROR(list_pieces(seed, error));
    RETURN_IF_ERROR(copy_tables(seed, on_progress, context, error));
    RETURN_IF_ERROR(copy_views(seed, error));
    RETURN_IF_ERROR(copy_triggers(seed, error));
    return mysql_client_run(seed->locals[0], MYSQL_STATEMENT_MS, error,
                            "SET GLOBAL gtid_slave_pos = '%s'", seed->position);
}

Status mariadb_seed(Engine *base, EngineProgressFunction on_progress, void *context, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    assert(engine->pid == 0 && !engine->is_adopted);
    RETURN_IF_ERROR(mysql_source_connect(engine, error));
    RETURN_IF_ERROR(check_source(engine, error));
    mysql_source_close(engine);
    RETURN_IF_ERROR(install(engine, error));
    RETURN_IF_ERROR(mysql_server_start(engine, MYSQL_SERVER_LOAD, base->options.data_directory, 0,
                                       REASON_ENGINE_FAILED, error));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Seed seed = {.engine = engine, .arena = arena};
    Status status = copy_everything(&seed, on_progress, context, error);
    close_clients(&seed);
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
        Error why = {0};
        if (error->reason == REASON_ENGINE_FAILED && mysql_check_disk(engine, &why) != STATUS_OK) {
            *error = why;
        }
        return error->status;
    }
    report(&seed, on_progress, context);
    return mysql_server_stop(engine, error);
}
