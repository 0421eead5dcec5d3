// SPDX-License-Identifier: Apache-2.0
// Connections to PostgreSQL for the engine.
#include "agent/engine/engine_postgresql_client.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POLL_SLICE_MS 200 // how soon a cancel is seen
#define SYSTEM_CA_PATH "/etc/ssl/certs/ca-certificates.crt"
// Instead of libpq's defaults in the user's home: neither certificates nor authorities of this
// machine's user count.
#define ABSENT_PATH "/nonexistent"
#define KEYWORD_COUNT_MAX 20

typedef struct Keywords {
    const char *keys[KEYWORD_COUNT_MAX + 1];
    const char *values[KEYWORD_COUNT_MAX + 1];
    size_t count;
} Keywords;

static void keywords_add(Keywords *keywords, const char *key, const char *value)
{
    assert(keywords->count < KEYWORD_COUNT_MAX);
    keywords->keys[keywords->count] = key;
    keywords->values[keywords->count++] = value;
}

static const char *tls_mode_of(const EngineSource *source)
{
    return text_is_empty(source->tls_mode) ? "prefer" : source->tls_mode;
}

static bool verifies_tls(const EngineSource *source)
{
    return text_has_prefix(tls_mode_of(source), "verify-");
}

// Keepalives, so that a source that vanished without a word is noticed within about a minute.
static void keywords_add_common(Keywords *keywords)
{
    keywords_add(keywords, "application_name", "holdfast");
    keywords_add(keywords, "client_encoding", "UTF8");
    keywords_add(keywords, "keepalives_idle", "20");
    keywords_add(keywords, "keepalives_interval", "10");
    keywords_add(keywords, "keepalives_count", "4");
    keywords_add(keywords, "gssencmode", "disable");
}

const char *postgresql_find_sqlstate(const char *message, char ret_sqlstate[6])
{
    const char *found = NULL;
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        const char *code = at + 3;
        size_t length = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (length == 5 && code[5] == ':' && code[6] == ' ') {
            memcpy(ret_sqlstate, code, 5);
            ret_sqlstate[5] = '\0';
            found = code + 7;
        }
    }
    return found;
}

static Reason reason_of_sqlstate(const char *sqlstate, Reason otherwise)
{
    static const struct {
        const char *prefix;
        Reason reason;
    } table[] = {
        {"28", REASON_SOURCE_AUTHENTICATION}, // password, role, pg_hba.conf
        {"42501", REASON_SOURCE_PRIVILEGES},  {"08", REASON_SOURCE_UNREACHABLE},
        {"57P0", REASON_SOURCE_UNREACHABLE},  // shutting down, starting up
        {"53300", REASON_SOURCE_UNREACHABLE}, // too many connections
    };
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (text_has_prefix(sqlstate, table[i].prefix)) {
            return table[i].reason;
        }
    }
    return otherwise;
}

static bool speaks_of_tls(const char *message)
{
    return strstr(message, "SSL") != NULL || strstr(message, "certificate") != NULL ||
           strstr(message, "TLS") != NULL;
}

bool postgresql_is_lost(const PostgresqlClient *client)
{
    return client->connection == NULL || PQstatus(client->connection) != CONNECTION_OK;
}

// The first line of what the server or libpq said.
static void first_line(const char *message, char *ret_line, size_t line_size)
{
    size_t length = strcspn(message, "\n");
    (void)snprintf(ret_line, line_size, "%.*s", (int)MIN(length, line_size - 1), message);
}

Status postgresql_fail(PostgresqlClient *client, const PGresult *result, Reason otherwise,
                       const char *context, Error *error)
{
    const char *message = PQerrorMessage(client->connection);
    if (result != NULL && !text_is_empty(PQresultErrorMessage(result))) {
        message = PQresultErrorMessage(result);
    }
    client->sqlstate[0] = '\0';
    const char *said = postgresql_find_sqlstate(message, client->sqlstate);
    char line[384];
    first_line(said != NULL ? said : message, line, sizeof(line));
    Reason reason = otherwise;
    if (client->sqlstate[0] != '\0') {
        reason = reason_of_sqlstate(client->sqlstate, otherwise);
    } else if (postgresql_is_lost(client) && otherwise != REASON_SOURCE_TLS) {
        reason = REASON_SOURCE_UNREACHABLE;
    }
    return error_set(error, reason, "%s: %s", context, line);
}

// libpq takes the certificate authority as a file only: this one exists in memory until the
// connection stands.
static Status ca_open(const EngineSource *source, int *ret_fd, Error *error)
{
    CLEANUP(fd_closep) int fd = memfd_create("holdfast-ca", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating a file in memory");
    }
    RETURN_IF_ERROR(file_write_all(fd, source->tls_ca_pem, strlen(source->tls_ca_pem), error));
    *ret_fd = fd;
    fd = INVALID_FD;
    return STATUS_OK;
}

static bool is_canceled(const Cancel *cancel)
{
    return cancel != NULL && atomic_load(&cancel->is_requested);
}

static Status connect_poll(PostgresqlClient *client, int64_t timeout_ms, const char *where,
                           Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    PostgresPollingStatusType wanted = PGRES_POLLING_WRITING;
    for (;;) {
        if (is_canceled(client->cancel)) {
            return error_set(error, REASON_CANCELED, "canceled while connecting to %s", where);
        }
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        if (left_ms <= 0) {
            return error_set(error, REASON_SOURCE_UNREACHABLE,
                             "%s did not answer within %" PRId64 " ms", where, timeout_ms);
        }
        struct pollfd waited = {.fd = PQsocket(client->connection),
                                .events = wanted == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (poll(&waited, 1, (int)MIN(left_ms, POLL_SLICE_MS)) <= 0) {
            continue;
        }
        wanted = PQconnectPoll(client->connection);
        if (wanted == PGRES_POLLING_OK) {
            return STATUS_OK;
        }
        if (wanted == PGRES_POLLING_FAILED) {
            const char *message = PQerrorMessage(client->connection);
            char sqlstate[6];
            Reason reason =
                postgresql_find_sqlstate(message, sqlstate) == NULL && speaks_of_tls(message)
                    ? REASON_SOURCE_TLS
                    : REASON_SOURCE_UNREACHABLE;
            return postgresql_fail(client, NULL, reason, where, error);
        }
    }
}

static Status connect_keywords(const Keywords *keywords, int64_t timeout_ms, const Cancel *cancel,
                               const char *where, PostgresqlClient **ret_client, Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = mem_alloc(sizeof(*client));
    client->cancel = cancel;
    client->connection = PQconnectStartParams(keywords->keys, keywords->values, 0);
    if (client->connection == NULL) {
        return error_set(error, REASON_INTERNAL, "libpq has no memory for a connection");
    }
    // Verbose messages carry the SQLSTATE, which does not depend on the server's language.
    (void)PQsetErrorVerbosity(client->connection, PQERRORS_VERBOSE);
    if (PQstatus(client->connection) == CONNECTION_BAD) {
        return postgresql_fail(client, NULL, REASON_SOURCE_UNREACHABLE, where, error);
    }
    Status status = connect_poll(client, timeout_ms, where, error);
    if (status != STATUS_OK) {
        if (error->reason == REASON_SOURCE_AUTHENTICATION && error->hint[0] == '\0') {
            (void)error_hint(error,
                             "check the user's name and password, and that pg_hba.conf of the "
                             "source lets it in from this host");
        }
        return error->status;
    }
    *ret_client = TAKE_PTR(client);
    return STATUS_OK;
}

Status postgresql_connect(const EngineSource *source, const char *database, int64_t timeout_ms,
                          const Cancel *cancel, PostgresqlClient **ret_client, Error *error)
{
    assert(source != NULL);
    assert(source->host != NULL);
    CLEANUP(fd_closep) int ca_fd = INVALID_FD;
    char ca_path[64] = SYSTEM_CA_PATH;
    if (verifies_tls(source) && !text_is_empty(source->tls_ca_pem)) {
        RETURN_IF_ERROR(ca_open(source, &ca_fd, error));
        (void)snprintf(ca_path, sizeof(ca_path), "/proc/self/fd/%d", ca_fd);
    }
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", source->port);
    Keywords keywords = {0};
    keywords_add(&keywords, "host", source->host);
    keywords_add(&keywords, "port", port);
    keywords_add(&keywords, "user", source->username);
    keywords_add(&keywords, "password", secret_text(&source->password));
    keywords_add(&keywords, "sslmode", tls_mode_of(source));
    keywords_add(&keywords, "sslrootcert", verifies_tls(source) ? ca_path : ABSENT_PATH);
    keywords_add(&keywords, "sslcert", ABSENT_PATH);
    if (text_equal(database, POSTGRESQL_REPLICATION)) {
        keywords_add(&keywords, "replication", "true");
        keywords_add(&keywords, "dbname", "replication");
    } else {
        keywords_add(&keywords, "dbname", database);
    }
    keywords_add_common(&keywords);
    char where[300];
    (void)snprintf(where, sizeof(where), "%s:%d", source->host, source->port);
    return connect_keywords(&keywords, timeout_ms, cancel, where, ret_client, error);
}

Status postgresql_connect_sql(const EngineSource *source, int64_t timeout_ms, const Cancel *cancel,
                              PostgresqlClient **ret_client, Error *error)
{
    Status status = postgresql_connect(source, "postgres", timeout_ms, cancel, ret_client, error);
    if (status != STATUS_OK && strstr(error->message, "\"postgres\"") != NULL &&
        error->reason == REASON_SOURCE_UNREACHABLE) {
        Error other = {0};
        if (postgresql_connect(source, "template1", timeout_ms, cancel, ret_client, &other) ==
            STATUS_OK) {
            error_clear(error);
            return STATUS_OK;
        }
    }
    return status;
}

Status postgresql_connect_private(const char *socket_directory, int port, const char *username,
                                  const char *database, int64_t timeout_ms, const Cancel *cancel,
                                  PostgresqlClient **ret_client, Error *error)
{
    char port_text[16];
    (void)snprintf(port_text, sizeof(port_text), "%d", port);
    Keywords keywords = {0};
    keywords_add(&keywords, "host", socket_directory);
    keywords_add(&keywords, "port", port_text);
    keywords_add(&keywords, "user", username);
    keywords_add(&keywords, "dbname", database);
    keywords_add(&keywords, "sslmode", "disable");
    keywords_add_common(&keywords);
    return connect_keywords(&keywords, timeout_ms, cancel, "the private server", ret_client, error);
}

void postgresql_close(PostgresqlClient *client)
{
    if (client != NULL) {
        PQfinish(client->connection);
        mem_free(client);
    }
}

void postgresql_closep(PostgresqlClient **client)
{
    postgresql_close(*client);
    *client = NULL;
}

void postgresql_result_clearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

Status postgresql_wait(PostgresqlClient *client, int64_t timeout_ms, bool *ret_is_ready,
                       Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    for (;;) {
        if (is_canceled(client->cancel)) {
            return error_set(error, REASON_CANCELED, "canceled");
        }
        int64_t left_ms = MAX(0, deadline_ms - clock_monotonic_ms());
        struct pollfd waited = {.fd = PQsocket(client->connection), .events = POLLIN};
        int ready = poll(&waited, 1, (int)MIN(left_ms, POLL_SLICE_MS));
        if (ready > 0) {
            *ret_is_ready = true;
            return STATUS_OK;
        }
        if (ready < 0 && errno != EINTR) {
            return error_set_errno(error, REASON_INTERNAL, errno, "waiting for PostgreSQL");
        }
        if (clock_monotonic_ms() >= deadline_ms) {
            *ret_is_ready = false;
            return STATUS_OK;
        }
    }
}

static Status wait_result(PostgresqlClient *client, Reason otherwise, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + POSTGRESQL_QUERY_MS;
    (void)PQflush(client->connection);
    while (PQisBusy(client->connection)) {
        bool is_ready = false;
        int64_t left_ms = MAX(0, deadline_ms - clock_monotonic_ms());
        RETURN_IF_ERROR(postgresql_wait(client, left_ms, &is_ready, error));
        if (!is_ready) {
            return error_set(error, REASON_SOURCE_UNREACHABLE,
                             "PostgreSQL did not answer a statement within %d ms",
                             POSTGRESQL_QUERY_MS);
        }
        if (PQconsumeInput(client->connection) != 1) {
            return postgresql_fail(client, NULL, otherwise, "the connection was lost", error);
        }
    }
    return STATUS_OK;
}

Status postgresql_query(PostgresqlClient *client, Reason otherwise, const char *sql,
                        const char *const *parameters, int parameter_count, PGresult **ret_result,
                        Error *error)
{
    assert(client != NULL);
    client->sqlstate[0] = '\0';
    // Walsenders only know the simple protocol; with it, several statements go in one.
    int is_sent = parameter_count == 0 ? PQsendQuery(client->connection, sql)
                                       : PQsendQueryParams(client->connection, sql, parameter_count,
                                                           NULL, parameters, NULL, NULL, 0);
    if (is_sent != 1) {
        return postgresql_fail(client, NULL, otherwise, "sending a statement", error);
    }
    CLEANUP(postgresql_result_clearp) PGresult *last = NULL;
    for (;;) {
        RETURN_IF_ERROR(wait_result(client, otherwise, error));
        PGresult *next = PQgetResult(client->connection);
        if (next == NULL) {
            break;
        }
        bool is_failed = last != NULL && PQresultStatus(last) == PGRES_FATAL_ERROR;
        if (is_failed || (PQresultStatus(next) == PGRES_COMMAND_OK && last != NULL)) {
            PQclear(next); // keep the first failure, and rows rather than COMMIT
            continue;
        }
        PQclear(last);
        last = next;
        if (PQresultStatus(next) == PGRES_COPY_BOTH) {
            break;
        }
    }
    if (last == NULL || PQresultStatus(last) == PGRES_FATAL_ERROR) {
        return postgresql_fail(client, last, otherwise, "PostgreSQL refused a statement", error);
    }
    *ret_result = TAKE_PTR(last);
    return STATUS_OK;
}

Status postgresql_query_text(PostgresqlClient *client, Reason otherwise, const char *sql,
                             const char *parameter, char *ret_text, size_t text_size, Error *error)
{
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(postgresql_query(client, otherwise, sql, &parameter, parameter == NULL ? 0 : 1,
                                     &result, error));
    bool has_value = PQntuples(result) > 0 && PQnfields(result) > 0;
    (void)snprintf(ret_text, text_size, "%s", has_value ? PQgetvalue(result, 0, 0) : "");
    return STATUS_OK;
}

Status postgresql_execute(PostgresqlClient *client, Reason otherwise, const char *sql,
                          const char *const *parameters, int parameter_count, Error *error)
{
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    return postgresql_query(client, otherwise, sql, parameters, parameter_count, &result, error);
}

static void append_quoted(Buffer *buffer, const char *key, const char *value)
{
    (void)buffer_append_format(buffer, "%s%s='", buffer->size > 0 ? " " : "", key);
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\') {
            (void)buffer_append(buffer, "\\", 1);
        }
        (void)buffer_append(buffer, at, 1);
    }
    (void)buffer_append(buffer, "'", 1);
}

bool postgresql_conninfo(const EngineSource *source, const char *passfile, const char *ca_path,
                         Buffer *conninfo)
{
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", source->port);
    append_quoted(conninfo, "host", source->host);
    append_quoted(conninfo, "port", port);
    append_quoted(conninfo, "user", source->username);
    append_quoted(conninfo, "passfile", passfile);
    append_quoted(conninfo, "sslmode", tls_mode_of(source));
    const char *authority = ca_path != NULL ? ca_path : SYSTEM_CA_PATH;
    append_quoted(conninfo, "sslrootcert", verifies_tls(source) ? authority : ABSENT_PATH);
    append_quoted(conninfo, "sslcert", ABSENT_PATH);
    append_quoted(conninfo, "application_name", "holdfast");
    append_quoted(conninfo, "connect_timeout", "20");
    append_quoted(conninfo, "keepalives_idle", "20");
    append_quoted(conninfo, "keepalives_interval", "10");
    append_quoted(conninfo, "keepalives_count", "4");
    append_quoted(conninfo, "gssencmode", "disable");
    return !conninfo->is_overflowed;
}

bool postgresql_passfile(const Secret *password, Buffer *content)
{
    (void)buffer_append_text(content, "*:*:*:*:");
    for (const char *at = secret_text(password); *at != '\0'; at++) {
        if (*at == '\n' || *at == '\r') {
            return false;
        }
        if (*at == ':' || *at == '\\') {
            (void)buffer_append(content, "\\", 1);
        }
        (void)buffer_append(content, at, 1);
    }
    (void)buffer_append_text(content, "\n");
    return !content->is_overflowed;
}

static bool parse_hex(const char *text, size_t length, uint32_t *ret_value)
{
    if (length == 0 || length > 8 || strspn(text, "0123456789abcdefABCDEF") < length) {
        return false;
    }
    uint32_t value = 0;
    for (size_t i = 0; i < length; i++) {
        char digit = text[i];
        uint32_t nibble =
            digit <= '9' ? (uint32_t)(digit - '0') : (uint32_t)((digit | 32) - 'a' + 10);
        value = value << 4 | nibble;
    }
    *ret_value = value;
    return true;
}

bool postgresql_lsn_parse(const char *text, uint64_t *ret_lsn)
{
    const char *slash = strchr(text, '/');
    uint32_t high;
    uint32_t low;
    if (slash == NULL || !parse_hex(text, (size_t)(slash - text), &high) ||
        !parse_hex(slash + 1, strlen(slash + 1), &low)) {
        return false;
    }
    *ret_lsn = (uint64_t)high << 32 | low;
    return true;
}

void postgresql_lsn_format(uint64_t lsn, char ret_text[POSTGRESQL_LSN_TEXT_SIZE])
{
    (void)snprintf(ret_text, POSTGRESQL_LSN_TEXT_SIZE, "%" PRIX32 "/%" PRIX32,
                   (uint32_t)(lsn >> 32), (uint32_t)lsn);
}
