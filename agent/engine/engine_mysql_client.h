// SPDX-License-Identifier: Apache-2.0
// Connections to MySQL and MariaDB servers over libmariadb, for the MySQL family of engines. Every
// call has a deadline and ends within 100 ms of a cancel request. One thread at a time per client.
// Included by engine_mysql*.c and engine_mariadb*.c only.
#pragma once

#include "agent/engine/engine.h"
#include "common/arena.h"
#include "common/error.h"

#include <mysql.h>
#include <stdbool.h>
#include <stdint.h>

#define MYSQL_STATEMENT_DEFAULT_MS (60 * 1000) // for ordinary statements

typedef struct MysqlClient {
    MYSQL *mysql;
    const Cancel *cancel; // or NULL
    int64_t deadline_ms;  // of the call that runs, monotonic
    bool is_connected;
    bool is_source;   // errors are named SOURCE_..., else ENGINE_FAILED
    bool is_canceled; // why the call that runs was ended by us
    bool is_late;
    unsigned int error_number; // of the last call that failed; 0: none
} MysqlClient;

// Connects to the source over TCP.
Status mysql_client_open_source(const EngineSource *source, const Cancel *cancel,
                                int64_t timeout_ms, MysqlClient **ret_client, Error *error);
// Connects to a server of our own over its private socket. `password` may be "".
Status mysql_client_open_local(const char *socket_path, const char *username, const char *password,
                               const Cancel *cancel, int64_t timeout_ms, MysqlClient **ret_client,
                               Error *error);
void mysql_client_free(MysqlClient *client);
void mysql_client_freep(MysqlClient **client);
bool mysql_client_has_tls(const MysqlClient *client);
int64_t
mysql_client_received_bytes(const MysqlClient *client); // over TCP, as the kernel counts; else 0
int mysql_version_number(const char *text); // "10.11.19-MariaDB" is 101119; 0 when it is no version

// A statement without a result; any result is read and dropped.
Status mysql_client_run(MysqlClient *client, int64_t timeout_ms, Error *error, const char *format,
                        ...) PRINTF_LIKE(4, 5);
Status mysql_client_run_sized(MysqlClient *client, int64_t timeout_ms, const char *sql, size_t size,
                              Error *error);
// A query whose result is read completely; the caller frees it (mysql_result_freep).
Status mysql_client_query(MysqlClient *client, int64_t timeout_ms, MYSQL_RES **ret_result,
                          Error *error, const char *format, ...) PRINTF_LIKE(5, 6);
// A query whose rows are streamed by mysql_client_next; the result is freed before the next
// statement.
Status mysql_client_stream(MysqlClient *client, int64_t timeout_ms, const char *sql,
                           MYSQL_RES **ret_result, Error *error);
// NULL in ret_row at the end.
Status mysql_client_next(MysqlClient *client, int64_t timeout_ms, MYSQL_RES *result,
                         MYSQL_ROW *ret_row, Error *error);
// First column of the first row, "" for NULL and for no row; REASON_EXHAUSTED when it does not fit.
Status mysql_client_value(MysqlClient *client, int64_t timeout_ms, char *ret_value, size_t size,
                          Error *error, const char *format, ...) PRINTF_LIKE(6, 7);
void mysql_result_freep(MYSQL_RES **result);
// A column of a row by name, NULL when there is none or it is NULL. `name` may give alternatives:
// "Source_Host|Master_Host".
const char *mysql_row_text(MYSQL_RES *result, MYSQL_ROW row, const char *name);

char *mysql_quote_text(Arena *arena, const char *text); // 'it\'s'
char *mysql_quote_name(Arena *arena, const char *name); // `a``b`
