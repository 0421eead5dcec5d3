// SPDX-License-Identifier: Apache-2.0
// Several connections cannot load a table in bulk, and rows that go one by one into secondary
// indexes that are larger than the buffer pool cost a page each. An index that is made of a full
// table is sorted first.
#include "agent/engine/engine_mariadb_indexes.h"

#include "common/text.h"

#include <string.h>

#define BUILD_MS (7LL * 24 * 60 * 60 * 1000)

static Status read_definition(MysqlClient *local, Arena *arena, const char *full_name,
                              const char **ret_definition, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(local, MYSQL_STATEMENT_DEFAULT_MS, &result, error,
                                       "SHOW CREATE TABLE %s", full_name));
    MYSQL_ROW row = mysql_fetch_row(result);
    *ret_definition = arena_string(arena, row == NULL || row[1] == NULL ? "" : row[1]);
    return STATUS_OK;
}

// The name as it is quoted, from its first mark on; "" when that is not there.
static const char *quoted_name(Arena *arena, const char *text)
{
    const char *end = text;
    if (*end == '`') {
        do {
            end = strchr(end + 1, '`');
        } while (end != NULL && end[1] == '`' && *++end == '`');
    }
    return end == NULL || end == text ? "" : arena_string_n(arena, text, (size_t)(end + 1 - text));
}

typedef struct Clauses {
    const char *drop, *add; // "DROP INDEX `a`,DROP INDEX `b`"; "" when there are none
    bool has_other;         // of a kind that is not just sorted rows
} Clauses;

static void add_clause(Arena *arena, Clauses *clauses, const char *word, const char *name,
                       const char *line)
{
    const char *comma = clauses->drop[0] == '\0' ? "" : ",";
    clauses->drop = arena_format(arena, "%s%sDROP %s %s", clauses->drop, comma, word, name);
    clauses->add = arena_format(arena, "%s%sADD %s", clauses->add, comma, line);
}

// The server writes one column, index or constraint on a line.
static Clauses read_clauses(Arena *arena, const char *definition)
{
    Clauses clauses = {.drop = "", .add = ""};
    size_t count = 0;
    char **lines = text_split(arena, definition, '\n', &count);
    for (size_t i = 1; i < count && lines[i][0] == ' '; i++) {
        char *line = lines[i] + strspn(lines[i], " ");
        size_t size = strlen(line);
        if (size > 0 && line[size - 1] == ',') {
            line[size - 1] = '\0';
        }
        const char *mark = strchr(line, '`');
        const char *name = mark == NULL ? "" : quoted_name(arena, mark);
        if (text_has_prefix(line, "KEY `") || text_has_prefix(line, "UNIQUE KEY `")) {
            add_clause(arena, &clauses, "INDEX", name, line);
        } else if (text_has_prefix(line, "CONSTRAINT `") && strstr(line, " FOREIGN KEY ") != NULL) {
            add_clause(arena, &clauses, "FOREIGN KEY", name, line);
        } else if (line[0] != '`' && !text_has_prefix(line, "PRIMARY KEY ") &&
                   !text_has_prefix(line, "CONSTRAINT `")) {
            clauses.has_other = true;
        }
    }
    return clauses;
}

// In the table's database, since foreign keys name tables without theirs.
static Status alter(MysqlClient *local, Arena *arena, const MariadbTable *table,
                    const char *clauses, Error *error)
{
    RETURN_IF_ERROR(mysql_client_run(local, MYSQL_STATEMENT_DEFAULT_MS, error, "USE %s",
                                     mysql_quote_name(arena, table->schema)));
    RETURN_IF_ERROR(
        mysql_client_run(local, MYSQL_STATEMENT_DEFAULT_MS, error, "SET NAMES utf8mb4"));
    const char *sql =
        arena_format(arena, "ALTER TABLE %s %s", mysql_quote_name(arena, table->name), clauses);
    Status status = mysql_client_run_sized(local, BUILD_MS, sql, strlen(sql), error);
    Error ignored = {0}; // the connection is of no more use when this fails, and says so itself
    (void)mysql_client_run(local, MYSQL_STATEMENT_DEFAULT_MS, &ignored, "SET NAMES binary");
    return status;
}

Status mariadb_indexes_lift(MysqlClient *local, Arena *arena, const MariadbTable *table,
                            const char **ret_statement, bool *ret_is_lifted, Error *error)
{
    const char *full_name = arena_format(arena, "%s.%s", mysql_quote_name(arena, table->schema),
                                         mysql_quote_name(arena, table->name));
    const char *before = NULL;
    const char *after = NULL;
    *ret_is_lifted = false;
    *ret_statement = NULL;
    RETURN_IF_ERROR(read_definition(local, arena, full_name, &before, error));
    Clauses clauses = read_clauses(arena, before);
    if (clauses.has_other || clauses.drop[0] == '\0') {
        *ret_is_lifted = !clauses.has_other;
        return STATUS_OK;
    }
    Error refused = {0}; // what the table needs stays, and so it is not for us
    if (alter(local, arena, table, clauses.drop, &refused) != STATUS_OK ||
        alter(local, arena, table, clauses.add, &refused) != STATUS_OK) {
        return refused.reason == REASON_ENGINE_FAILED ? STATUS_OK : (*error = refused).status;
    }
    RETURN_IF_ERROR(read_definition(local, arena, full_name, &after, error));
    if (text_equal(before, after)) {
        RETURN_IF_ERROR(alter(local, arena, table, clauses.drop, error));
        *ret_statement = clauses.add;
        *ret_is_lifted = true;
    }
    return STATUS_OK;
}

Status mariadb_indexes_restore(MysqlClient *local, Arena *arena, const MariadbTable *table,
                               const char *statement, Error *error)
{
    Status status = alter(local, arena, table, statement, error);
    return status == STATUS_OK
               ? status
               : error_wrap(error, "making the indexes of '%s.%s'", table->schema, table->name);
}
