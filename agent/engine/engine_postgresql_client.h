// SPDX-License-Identifier: Apache-2.0
// Connections to PostgreSQL for the engine: bounded, cancelable, with errors sorted by what to do
// about them. One thread at a time per client. For the PostgreSQL engine's files only.
#pragma once

#include "agent/engine/engine.h"
#include "common/buffer.h"

#include <libpq-fe.h>

#define POSTGRESQL_REPLICATION                                                                     \
    "replication" // as `database`: the walsender's protocol instead of SQL
#define POSTGRESQL_QUERY_MS 15000

typedef struct PostgresqlClient {
    PGconn *connection;
    const Cancel *cancel; // or NULL
    char sqlstate[6];     // of the last failure, or ""
} PostgresqlClient;

// Connects to the source. `database`: its name, or POSTGRESQL_REPLICATION.
// SOURCE_UNREACHABLE, SOURCE_AUTHENTICATION, SOURCE_TLS, SOURCE_PRIVILEGES, or CANCELED.
Status postgresql_connect(const EngineSource *source, const char *database, int64_t timeout_ms,
                          const Cancel *cancel, PostgresqlClient **ret_client, Error *error);
// The database that statements run in: "postgres", or "template1" where that was dropped.
Status postgresql_connect_sql(const EngineSource *source, int64_t timeout_ms, const Cancel *cancel,
                              PostgresqlClient **ret_client, Error *error);
// Connects to a private server by its socket's directory, as `username`.
Status postgresql_connect_private(const char *socket_directory, int port, const char *username,
                                  const char *database, int64_t timeout_ms, const Cancel *cancel,
                                  PostgresqlClient **ret_client, Error *error);
void postgresql_close(PostgresqlClient *client);
void postgresql_closep(PostgresqlClient **client);
void postgresql_result_clearp(PGresult **result);

// Runs one statement; `parameters` has `parameter_count` texts. A lost connection is
// SOURCE_UNREACHABLE, a missing privilege SOURCE_PRIVILEGES, other failures `otherwise`.
Status postgresql_query(PostgresqlClient *client, Reason otherwise, const char *sql,
                        const char *const *parameters, int parameter_count, PGresult **ret_result,
                        Error *error);
// As postgresql_query for one value: "" when there is no row or it is null. Cut at the storage's
// size.
Status postgresql_query_text(PostgresqlClient *client, Reason otherwise, const char *sql,
                             const char *parameter, char *ret_text, size_t text_size, Error *error);
// As postgresql_query when only success matters.
Status postgresql_execute(PostgresqlClient *client, Reason otherwise, const char *sql,
                          const char *const *parameters, int parameter_count, Error *error);
// Waits until the connection has something to read, at most timeout_ms; notices a cancel within 200
// ms.
Status postgresql_wait(PostgresqlClient *client, int64_t timeout_ms, bool *ret_is_ready,
                       Error *error);
// Turns the connection's last message into an error: `context: message`, sorted by its SQLSTATE.
Status postgresql_fail(PostgresqlClient *client, const PGresult *result, Reason otherwise,
                       const char *context, Error *error);
bool postgresql_is_lost(const PostgresqlClient *client);

// A connection string for PostgreSQL's own programs: everything but the password, which they read
// from `passfile`.
bool postgresql_conninfo(const EngineSource *source, const char *passfile, const char *ca_path,
                         Buffer *conninfo);
// The content of such a passfile. False: the password has a line break, which the format cannot
// hold.
bool postgresql_passfile(const Secret *password, Buffer *content);

// "16/B374D848"
bool postgresql_lsn_parse(const char *text, uint64_t *ret_lsn);
#define POSTGRESQL_LSN_TEXT_SIZE 18
void postgresql_lsn_format(uint64_t lsn, char ret_text[POSTGRESQL_LSN_TEXT_SIZE]);
// Finds "  28P01: " in a verbose message of libpq; the last one wins. Returns what follows it, or
// NULL.
const char *postgresql_find_sqlstate(const char *message, char ret_sqlstate[6]);
