// SPDX-License-Identifier: Apache-2.0
// Rows go from one server to the other as text of SQL literals. Both connections use the character
// set "binary", so nothing is converted: what the column holds arrives as it is.
#include "agent/engine/engine_mariadb_copy.h"

#include "common/buffer.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

#define ROW_MS (10 * 60 * 1000)
#define INSERT_BYTES (1024 * 1024)            // a statement ends when it passes this
#define INSERT_BYTES_MAX (1023 * 1024 * 1024) // max_allowed_packet
#define DEFINITION_CHANGED 1412               // the table was altered after the snapshot

static const char HEX[] = "0123456789ABCDEF";

static bool is_number(enum enum_field_types type)
{
    switch (type) {
    case MYSQL_TYPE_DECIMAL:
    case MYSQL_TYPE_NEWDECIMAL:
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE:
    case MYSQL_TYPE_YEAR:
        return true;
    default:
        return false;
    }
}

static bool append_hex(Buffer *sql, const char *value, size_t size)
{
    if (!buffer_reserve(sql, size * 2 + 2)) {
        return false;
    }
    (void)buffer_append(sql, "0x", 2);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)value[i];
        char digits[2] = {HEX[byte >> 4], HEX[byte & 15]};
        (void)buffer_append(sql, digits, 2);
    }
    return true;
}

static bool append_value(MysqlClient *local, Buffer *sql, enum enum_field_types type,
                         const char *value, size_t size)
{
    if (value == NULL) {
        return buffer_append_text(sql, "NULL");
    }
    if (is_number(type)) {
        return buffer_append(sql, value, size);
    }
    if (type == MYSQL_TYPE_BIT && size > 0) {
        return append_hex(sql, value, size);
    }
    if (!buffer_reserve(sql, size * 2 + 3)) {
        return false;
    }
    (void)buffer_append(sql, "'", 1);
    sql->size += mysql_real_escape_string(local->mysql, (char *)sql->data + sql->size, value, size);
    return buffer_append(sql, "'", 1);
}

static bool append_row(MysqlClient *local, Buffer *sql, MYSQL_RES *result, MYSQL_ROW row)
{
    const MYSQL_FIELD *fields = mysql_fetch_fields(result);
    const unsigned long *sizes = mysql_fetch_lengths(result);
    unsigned int count = mysql_num_fields(result);
    for (unsigned int i = 0; i < count; i++) {
        if (!buffer_append(sql, i == 0 ? "(" : ",", 1) ||
            !append_value(local, sql, fields[i].type, row[i], sizes[i])) {
            return false;
        }
    }
    return buffer_append(sql, ")", 1);
}

static Status flush_rows(const MariadbPipe *pipe, Buffer *sql, size_t head_size, Error *error)
{
    if (sql->size == head_size) {
        return STATUS_OK;
    }
    Status status =
        mysql_client_run_sized(pipe->local, ROW_MS, (const char *)sql->data, sql->size, error);
    sql->size = head_size;
    return status;
}

Status mariadb_source_failed(const MysqlClient *source, Error *error)
{
    if (source->error_number == DEFINITION_CHANGED) {
        error_set(error, REASON_SOURCE_CHANGED, "a table was altered while it was being copied");
        error_hint(error,
                   "the copy is tried again; do not alter tables while the first copy is made");
    }
    return error->status;
}

// Streams the rows of `select` into inserts that begin with `insert` ("INSERT INTO t (a,b) VALUES
// ").
static Status copy_rows(const MariadbPipe *pipe, const char *select, const char *insert,
                        Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    if (mysql_client_stream(pipe->source, ROW_MS, select, &result, error) != STATUS_OK) {
        return mariadb_source_failed(pipe->source, error);
    }
    CLEANUP(buffer_done) Buffer sql = {0};
    buffer_init(&sql, INSERT_BYTES_MAX);
    (void)buffer_append_text(&sql, insert);
    size_t head_size = sql.size;
    for (;;) {
        MYSQL_ROW row = NULL;
        RETURN_IF_ERROR(mysql_client_next(pipe->source, ROW_MS, result, &row, error));
        if (row == NULL) {
            return flush_rows(pipe, &sql, head_size, error);
        }
        size_t before = sql.size;
        if ((sql.size > head_size && !buffer_append(&sql, ",", 1)) ||
            !append_row(pipe->local, &sql, result, row)) {
            return error_set(error, REASON_EXHAUSTED, "a row is larger than %d bytes",
                             INSERT_BYTES_MAX);
        }
        atomic_fetch_add(pipe->copied_bytes, (int_fast64_t)(sql.size - before));
        if (sql.size >= INSERT_BYTES) {
            RETURN_IF_ERROR(flush_rows(pipe, &sql, head_size, error));
        }
    }
}

// The columns that can be written, as "`a`,`b`"; computed ones compute themselves again.
static Status list_columns(MysqlClient *client, Arena *arena, const char *schema, const char *name,
                           bool with_history, const char **ret_columns, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        client, MYSQL_STATEMENT_DEFAULT_MS, &result, error,
        "SELECT COLUMN_NAME, GENERATION_EXPRESSION FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
        mysql_quote_text(arena, schema), mysql_quote_text(arena, name)));
    const char *columns = "";
    bool has_period = false;
    for (MYSQL_ROW row = mysql_fetch_row(result); row != NULL; row = mysql_fetch_row(result)) {
        bool is_period =
            row[1] != NULL && (text_equal(row[1], "ROW START") || text_equal(row[1], "ROW END"));
        has_period = has_period || is_period;
        if (row[1] != NULL && row[1][0] != '\0' && !is_period) {
            continue;
        }
        columns = arena_format(arena, "%s%s%s", columns, columns[0] == '\0' ? "" : ",",
                               mysql_quote_name(arena, row[0]));
    }
    if (with_history && !has_period) {
        columns = arena_format(arena, "%s,ROW_START,ROW_END", columns);
    }
    if (columns[0] == '\0') {
        return error_set(error, REASON_SOURCE_CHANGED,
                         "table '%s.%s' disappeared while it was being copied", schema, name);
    }
    *ret_columns = columns;
    return STATUS_OK;
}

static Status create_table(const MariadbPipe *pipe, Arena *arena, const char *full_name,
                           const MariadbTable *table, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(pipe->source, MYSQL_STATEMENT_DEFAULT_MS, &result, error,
                                       "SHOW CREATE %s %s",
                                       table->is_sequence ? "SEQUENCE" : "TABLE", full_name));
    MYSQL_ROW row = mysql_fetch_row(result);
    if (row == NULL || row[1] == NULL) {
        return error_set(error, REASON_SOURCE_CHANGED,
                         "table %s disappeared while it was being copied", full_name);
    }
    // The definition comes in the server's own character set, whatever the connection's is.
    RETURN_IF_ERROR(mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error, "USE %s",
                                     mysql_quote_name(arena, table->schema)));
    RETURN_IF_ERROR(
        mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error, "SET NAMES utf8mb4"));
    Status status = mysql_client_run_sized(pipe->local, ROW_MS, row[1], strlen(row[1]), error);
    if (status != STATUS_OK) {
        return error_wrap(error, "making table %s", full_name);
    }
    return mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error, "SET NAMES binary");
}

typedef struct TableStatements {
    const char *full_name, *insert, *select;
} TableStatements;

static Status write_statements(const MariadbPipe *pipe, Arena *arena, const MariadbTable *table,
                               TableStatements *ret_statements, Error *error)
{
    const char *columns = NULL;
    const char *full_name = arena_format(arena, "%s.%s", mysql_quote_name(arena, table->schema),
                                         mysql_quote_name(arena, table->name));
    RETURN_IF_ERROR(list_columns(pipe->source, arena, table->schema, table->name,
                                 table->is_versioned, &columns, error));
    *ret_statements = (TableStatements){
        .full_name = full_name,
        .insert = arena_format(arena, "INSERT INTO %s (%s) VALUES ", full_name, columns),
        .select = arena_format(arena, "SELECT %s FROM %s%s", columns, full_name,
                               table->is_versioned ? " FOR SYSTEM_TIME ALL" : ""),
    };
    return STATUS_OK;
}

Status mariadb_copy_definition(const MariadbPipe *pipe, const MariadbTable *table, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return create_table(pipe, arena,
                        arena_format(arena, "%s.%s", mysql_quote_name(arena, table->schema),
                                     mysql_quote_name(arena, table->name)),
                        table, error);
}

Status mariadb_copy_table(const MariadbPipe *pipe, const MariadbTable *table, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    TableStatements statements;
    RETURN_IF_ERROR(mariadb_copy_definition(pipe, table, error));
    RETURN_IF_ERROR(write_statements(pipe, arena, table, &statements, error));
    // All rows in one transaction into an empty table: InnoDB loads them in bulk.
    RETURN_IF_ERROR(
        mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error, "START TRANSACTION"));
    Status status = copy_rows(pipe, statements.select, statements.insert, error);
    if (status == STATUS_OK) {
        status = mysql_client_run(pipe->local, ROW_MS, error, "COMMIT");
    }
    return status == STATUS_OK ? status : error_wrap(error, "table %s", statements.full_name);
}

// Loading in bulk would lock the table for one connection; unique_checks keeps InnoDB from it. Each
// statement is a transaction, so that undo logs, which are part of a backup, do not grow.
Status mariadb_copy_range(const MariadbPipe *pipe, const MariadbTable *table, const char *condition,
                          Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    TableStatements statements;
    RETURN_IF_ERROR(write_statements(pipe, arena, table, &statements, error));
    const char *select =
        arena_format(arena, "%s FORCE INDEX (PRIMARY) WHERE %s", statements.select, condition);
    RETURN_IF_ERROR(mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error,
                                     "SET SESSION unique_checks = 1"));
    Status status = copy_rows(pipe, select, statements.insert, error);
    if (status == STATUS_OK) {
        status = mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error,
                                  "SET SESSION unique_checks = 0");
    }
    return status == STATUS_OK ? status : error_wrap(error, "table %s", statements.full_name);
}

// Those of `wanted` ("`a`,`b`") that are in `there` as well.
static const char *intersect(Arena *arena, const char *wanted, const char *there)
{
    const char *common = "";
    size_t count = 0;
    char **names = text_split(arena, wanted, ',', &count);
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(there, names[i]);
        size_t size = strlen(names[i]);
        if (at != NULL && (at[size] == ',' || at[size] == '\0')) {
            common = arena_format(arena, "%s%s%s", common, common[0] == '\0' ? "" : ",", names[i]);
        }
    }
    return common;
}

Status mariadb_copy_system_rows(const MariadbPipe *pipe, const char *name, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *theirs = NULL, *ours = NULL;
    RETURN_IF_ERROR(list_columns(pipe->source, arena, "mysql", name, false, &theirs, error));
    RETURN_IF_ERROR(list_columns(pipe->local, arena, "mysql", name, false, &ours, error));
    const char *columns = intersect(arena, theirs, ours);
    RETURN_IF_ERROR(mysql_client_run(pipe->local, MYSQL_STATEMENT_DEFAULT_MS, error,
                                     "DELETE FROM mysql.`%s`", name));
    return copy_rows(pipe, arena_format(arena, "SELECT %s FROM mysql.`%s`", columns, name),
                     arena_format(arena, "INSERT INTO mysql.`%s` (%s) VALUES ", name, columns),
                     error);
}
