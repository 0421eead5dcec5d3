// SPDX-License-Identifier: Apache-2.0
// Statements with text parameters, their rows, and what PostgreSQL's errors mean to us.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/store/store_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static Reason reason_of_sqlstate(const char *state)
{
    static const struct {
        const char *prefix; // of the five characters: Appendix A of PostgreSQL's manual
        Reason reason;
    } TABLE[] = {
        {"23505", REASON_EXISTS},      {"23503", REASON_IN_USE},      {"40", REASON_CONFLICT},
        {"55P03", REASON_CONFLICT},    {"57014", REASON_DEADLINE},    {"57", REASON_UNAVAILABLE},
        {"08", REASON_UNAVAILABLE},    {"25006", REASON_UNAVAILABLE}, {"25P03", REASON_UNAVAILABLE},
        {"53100", REASON_UNAVAILABLE}, {"53", REASON_UNAVAILABLE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(TABLE); i++) {
        if (text_has_prefix(state, TABLE[i].prefix)) {
            return TABLE[i].reason;
        }
    }
    return REASON_INTERNAL;
}

Status store_result_error(PGconn *handle, const PGresult *result, Error *error)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (PQstatus(handle) != CONNECTION_OK || state == NULL) {
        error_set(error, REASON_UNAVAILABLE, "the connection to Holdfast's PostgreSQL was lost");
        return error_hint(error, "try again; whether a change took effect is not known");
    }
    Reason reason = reason_of_sqlstate(state);
    const char *constraint = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    error_set(error, reason, "PostgreSQL: %s (%s%s%s)", primary != NULL ? primary : "error", state,
              constraint != NULL ? ", " : "", constraint != NULL ? constraint : "");
    if (status_is_retryable(error->status)) {
        error_hint(error, "try again");
    }
    return error->status;
}

static uint64_t hash_of(const char *sql)
{
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(sql, strlen(sql), digest);
    uint64_t hash;
    memcpy(&hash, digest, sizeof(hash));
    return hash;
}

// Prepares the statement on this connection unless it is already. False: run it unprepared.
static bool statement_name(StoreConnection *connection, const char *sql, char ret_name[20],
                           PGresult **ret_failure)
{
    *ret_failure = NULL;
    uint64_t hash = hash_of(sql);
    snprintf(ret_name, 20, "s%016llx", (unsigned long long)hash);
    for (int i = 0; i < connection->statement_count; i++) {
        if (connection->statements[i] == hash) {
            return true;
        }
    }
    if (connection->statement_count == STORE_STATEMENT_COUNT_MAX) {
        return false;
    }
    PGresult *result = PQprepare(connection->handle, ret_name, sql, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        *ret_failure = result;
        return true;
    }
    PQclear(result);
    connection->statements[connection->statement_count++] = hash;
    return true;
}

static PGresult *run(StoreConnection *connection, const char *sql, size_t parameter_count,
                     const char *const *parameters)
{
    char name[20];
    PGresult *failure;
    if (statement_name(connection, sql, name, &failure)) {
        if (failure != NULL) {
            return failure;
        }
        return PQexecPrepared(connection->handle, name, (int)parameter_count, parameters, NULL,
                              NULL, 0);
    }
    return PQexecParams(connection->handle, sql, (int)parameter_count, NULL, parameters, NULL, NULL,
                        0);
}

static void rows_copy(const PGresult *result, Arena *arena, StoreRows *ret_rows)
{
    StoreRows rows = {.count = PQntuples(result), .column_count = PQnfields(result)};
    size_t column_count = (size_t)rows.column_count;
    size_t cell_count = column_count * (size_t)rows.count;
    rows.names = arena_alloc_array(arena, column_count + 1, sizeof(char *));
    rows.values = arena_alloc_array(arena, cell_count + 1, sizeof(char *));
    for (int column = 0; column < rows.column_count; column++) {
        rows.names[column] = arena_string(arena, PQfname(result, column));
    }
    for (int row = 0; row < rows.count; row++) {
        for (int column = 0; column < rows.column_count; column++) {
            if (!PQgetisnull(result, row, column)) {
                rows.values[row * rows.column_count + column] =
                    arena_string_n(arena, PQgetvalue(result, row, column),
                                   (size_t)PQgetlength(result, row, column));
            }
        }
    }
    *ret_rows = rows;
}

Status store_query(StoreTransaction *transaction, Arena *arena, const char *sql,
                   size_t parameter_count, const char *const *parameters, StoreRows *ret_rows,
                   Error *error)
{
    assert(transaction != NULL);
    if (transaction->is_failed) {
        return error_set(error, REASON_INTERNAL, "the transaction has failed before");
    }
    CLEANUP(store_result_clearp)
    PGresult *result = run(transaction->connection, sql, parameter_count, parameters);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        transaction->is_failed = true;
        return store_result_error(transaction->connection->handle, result, error);
    }
    rows_copy(result, arena, ret_rows);
    return STATUS_OK;
}

Status store_query_value(StoreTransaction *transaction, Arena *arena, const char *sql,
                         size_t parameter_count, const char *const *parameters,
                         const char **ret_value, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena, sql, parameter_count, parameters, &rows, error));
    *ret_value = rows.count > 0 ? rows.values[0] : NULL;
    return STATUS_OK;
}

Status store_execute(StoreTransaction *transaction, Arena *arena, const char *sql,
                     size_t parameter_count, const char *const *parameters, Error *error)
{
    StoreRows rows;
    return store_query(transaction, arena, sql, parameter_count, parameters, &rows, error);
}

Status store_notify(StoreTransaction *transaction, const char *channel, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena, "SELECT pg_notify($1, '')", STORE_PARAMETERS(channel),
                         error);
}
