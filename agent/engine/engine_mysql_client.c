// SPDX-License-Identifier: Apache-2.0
// Connections over libmariadb; see engine_mysql_client.h. libmariadb's waits go through our own
// function (MARIADB_OPT_IO_WAIT), which looks at the cancel request and the call's deadline.
#include "agent/engine/engine_mysql_client.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errmsg.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_SLICE_MS 100
#define STATEMENT_SIZE_MAX (64 * 1024 * 1024)
#define TIMEOUT_CEILING_S 3600 // libmariadb's own; ours are shorter and decide

#define SERVER_HOST_NOT_ALLOWED 1130
#define SERVER_ACCESS_DENIED 1045
#define SERVER_ACCESS_DENIED_NO_PASSWORD 1698
#define SERVER_DATABASE_DENIED 1044
#define SERVER_TABLE_DENIED 1142
#define SERVER_COLUMN_DENIED 1143
#define SERVER_PRIVILEGE_DENIED 1227
#define SERVER_ROUTINE_DENIED 1370
#define SERVER_PASSWORD_EXPIRED 1862
#define SERVER_MUST_CHANGE_PASSWORD 1820
#define SERVER_ACCOUNT_LOCKED 3118
#define SERVER_ACCOUNT_LOCKED_MARIADB 4151
#define SERVER_TLS_REQUIRED 3159
#define SERVER_CLONE_DISK_SPACE 3873

// libmariadb's wait callback has no context argument, so the client that runs is remembered per
// thread.
static _Thread_local MysqlClient *current_client;

// As poll(2): above 0 ready, 0 too late, below 0 ended.
static int wait_for_socket(my_socket handle, my_bool is_read, int timeout_ms)
{
    (void)timeout_ms;
    MysqlClient *client = current_client;
    assert(client != NULL);
    struct pollfd wanted = {.fd = handle, .events = is_read ? POLLIN : POLLOUT};
    for (;;) {
        if (client->cancel != NULL && atomic_load(&client->cancel->is_requested)) {
            client->is_canceled = true;
            errno = ECANCELED;
            return -1;
        }
        int64_t left_ms = client->deadline_ms - clock_monotonic_ms();
        if (left_ms <= 0) {
            client->is_late = true;
            errno = ETIMEDOUT;
            return 0;
        }
        int ready = poll(&wanted, 1, (int)MIN(left_ms, WAIT_SLICE_MS));
        if (ready > 0) {
            return ready;
        }
        if (ready < 0 && errno != EINTR) {
            return -1;
        }
    }
}

static void begin_call(MysqlClient *client, int64_t timeout_ms)
{
    assert(timeout_ms > 0);
    client->deadline_ms = clock_monotonic_ms() + timeout_ms;
    client->is_canceled = client->is_late = false;
    client->error_number = 0;
    current_client = client;
}

static bool is_authentication(unsigned int number)
{
    switch (number) {
    case SERVER_ACCESS_DENIED:
    case SERVER_ACCESS_DENIED_NO_PASSWORD:
    case SERVER_HOST_NOT_ALLOWED:
    case SERVER_PASSWORD_EXPIRED:
    case SERVER_MUST_CHANGE_PASSWORD:
    case SERVER_ACCOUNT_LOCKED:
    case SERVER_ACCOUNT_LOCKED_MARIADB:
    case CR_AUTH_PLUGIN_CANNOT_LOAD:
        return true;
    default:
        return false;
    }
}

static Reason source_reason(unsigned int number)
{
    if (is_authentication(number)) {
        return REASON_SOURCE_AUTHENTICATION;
    }
    switch (number) {
    case SERVER_DATABASE_DENIED:
    case SERVER_TABLE_DENIED:
    case SERVER_COLUMN_DENIED:
    case SERVER_PRIVILEGE_DENIED:
    case SERVER_ROUTINE_DENIED:
        return REASON_SOURCE_PRIVILEGES;
    case CR_SSL_CONNECTION_ERROR:
    case SERVER_TLS_REQUIRED:
        return REASON_SOURCE_TLS;
    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
    case CR_UNKNOWN_HOST:
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_LOST:
    case CR_SERVER_HANDSHAKE_ERR:
    case 1040: // too many connections
    case 1053: // shutdown in progress
    case 1129: // host is blocked
        return REASON_SOURCE_UNREACHABLE;
    default:
        return REASON_SOURCE_CONFIGURATION;
    }
}

static void add_hint(Error *error, Reason reason)
{
    switch (reason) {
    case REASON_SOURCE_UNREACHABLE:
        error_hint(error,
                   "check host, port and firewall, and that the server listens on that address");
        break;
    case REASON_SOURCE_AUTHENTICATION:
        error_hint(error,
                   "check user name and password, and that the account may connect from this host");
        break;
    case REASON_SOURCE_TLS:
        error_hint(error,
                   "check the TLS mode, the CA certificate and the server's own certificate");
        break;
    default:
        break;
    }
}

// Names what the call that just failed met. `what` never holds a secret.
static Status fail(MysqlClient *client, Error *error, const char *what)
{
    unsigned int number = mysql_errno(client->mysql);
    client->error_number = number;
    if (client->is_canceled) {
        return error_set(error, REASON_CANCELED, "%s: canceled", what);
    }
    const char *text = mysql_error(client->mysql);
    if (!client->is_source) {
        bool is_full = number == 1021 || number == 3675 || number == SERVER_CLONE_DISK_SPACE ||
                       strstr(text, "No space left") != NULL;
        Reason reason = is_full ? REASON_DISK_FULL : REASON_ENGINE_FAILED;
        return error_set(error, reason, "%s: %s (%u)", what, client->is_late ? "timed out" : text,
                         number);
    }
    // On a connection that stood, a TLS error is the end of the connection.
    bool is_lost = client->is_late || (client->is_connected && number == CR_SSL_CONNECTION_ERROR);
    Reason reason = is_lost ? REASON_SOURCE_UNREACHABLE : source_reason(number);
    error_set(error, reason, "%s: %s (%u)", what, client->is_late ? "timed out" : text, number);
    add_hint(error, reason);
    return error->status;
}

static void init_library(void)
{
    if (mysql_library_init(0, NULL, NULL) != 0) {
        abort(); // out of memory
    }
}

static MysqlClient *client_new(const Cancel *cancel, bool is_source)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; // the library's set-up is not thread-safe
    pthread_once(&once, init_library);
    MysqlClient *client = mem_alloc(sizeof(*client));
    client->cancel = cancel;
    client->is_source = is_source;
    client->mysql = mysql_init(NULL);
    if (client->mysql == NULL) {
        abort(); // out of memory
    }
    unsigned int timeout_s = TIMEOUT_CEILING_S;
    mysql_optionsv(client->mysql, MYSQL_OPT_CONNECT_TIMEOUT, &timeout_s);
    mysql_optionsv(client->mysql, MYSQL_OPT_READ_TIMEOUT, &timeout_s);
    mysql_optionsv(client->mysql, MYSQL_OPT_WRITE_TIMEOUT, &timeout_s);
    mysql_optionsv(client->mysql, MARIADB_OPT_IO_WAIT, wait_for_socket);
    unsigned long packet_max = 1024UL * 1024 * 1024;
    mysql_optionsv(client->mysql, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
    mysql_optionsv(client->mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    unsigned int no = 0;
    mysql_optionsv(client->mysql, MYSQL_OPT_LOCAL_INFILE, &no);
    mysql_optionsv(client->mysql, MYSQL_INIT_COMMAND,
                   "SET SESSION sql_mode=''"); // our quoting relies on it
    return client;
}

void mysql_client_free(MysqlClient *client)
{
    if (client != NULL) {
        begin_call(client, 1000); // closing says good-bye to the server
        mysql_close(client->mysql);
        current_client = NULL;
        mem_free(client);
    }
}

void mysql_client_freep(MysqlClient **client)
{
    mysql_client_free(*client);
    *client = NULL;
}

void mysql_result_freep(MYSQL_RES **result)
{
    mysql_free_result(*result);
    *result = NULL;
}

// libmariadb reads the CA from a path only: an anonymous file's. Returns INVALID_FD when there is
// nothing to give.
static int certificate_file(const char *pem, char path[64])
{
    int fd = memfd_create("ca", MFD_CLOEXEC);
    size_t size = strlen(pem);
    if (fd < 0 || write(fd, pem, size) != (ssize_t)size) {
        abort(); // out of memory
    }
    (void)snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static Status connect_source_once(const EngineSource *source, const Cancel *cancel,
                                  int64_t timeout_ms, bool with_tls, MysqlClient **ret_client,
                                  Error *error)
{
    MysqlClient *client = client_new(cancel, true);
    my_bool yes = 1;
    my_bool is_verified = text_equal(source->tls_mode, "verify-full");
    char ca_path[64] = "";
    int ca_fd = -1;
    unsigned int protocol = MYSQL_PROTOCOL_TCP; // "localhost" is not a socket
    mysql_optionsv(client->mysql, MYSQL_OPT_PROTOCOL, &protocol);
    if (with_tls) {
        mysql_optionsv(client->mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
        mysql_optionsv(client->mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &is_verified);
        if (!text_is_empty(source->tls_ca_pem)) {
            ca_fd = certificate_file(source->tls_ca_pem, ca_path);
            mysql_optionsv(client->mysql, MYSQL_OPT_SSL_CA, ca_path);
        }
    }
    begin_call(client, timeout_ms);
    MYSQL *connected = mysql_real_connect(client->mysql, source->host, source->username,
                                          secret_text(&source->password), NULL,
                                          (unsigned int)source->port, NULL, 0);
    if (ca_fd >= 0) {
        (void)close(ca_fd);
    }
    if (connected == NULL) {
        char what[384];
        (void)snprintf(what, sizeof(what), "connecting to %s:%d as '%s'", source->host,
                       source->port, source->username);
        Status status = fail(client, error, what);
        mysql_client_free(client);
        return status;
    }
    client->is_connected = true;
    *ret_client = client;
    return STATUS_OK;
}

Status mysql_client_open_source(const EngineSource *source, const Cancel *cancel,
                                int64_t timeout_ms, MysqlClient **ret_client, Error *error)
{
    const char *mode = text_is_empty(source->tls_mode) ? "prefer" : source->tls_mode;
    Status status = STATUS_OK;
    // Without an authority libmariadb from 3.4 on judges a self-signed certificate only after the
    // password was sent; with one it does before, as older versions always do.
    if (text_equal(mode, "verify-full") && text_is_empty(source->tls_ca_pem)) {
        error_set(
            error, REASON_SOURCE_TLS,
            "TLS mode 'verify-full' needs the authority that signed the source's certificate");
        return error_hint(error, "give the authority's certificates in PEM form (tls_ca)");
    }
    if (!text_equal(mode, "disable")) {
        status = connect_source_once(source, cancel, timeout_ms, true, ret_client, error);
        if (status == STATUS_OK || !text_equal(mode, "prefer") ||
            error->reason != REASON_SOURCE_TLS) {
            return status;
        }
        error_clear(error);
    }
    Status plain_status = connect_source_once(source, cancel, timeout_ms, false, ret_client, error);
    if (plain_status != STATUS_OK && error->reason == REASON_SOURCE_AUTHENTICATION) {
        error_hint(
            error,
            "check user name and password, and that the account may connect from this host; an account"
            " or server that demands TLS refuses alike: then choose another TLS mode");
    }
    return plain_status;
}

Status mysql_client_open_local(const char *socket_path, const char *username, const char *password,
                               const Cancel *cancel, int64_t timeout_ms, MysqlClient **ret_client,
                               Error *error)
{
    MysqlClient *client = client_new(cancel, false);
    begin_call(client, timeout_ms);
    if (mysql_real_connect(client->mysql, NULL, username, password, NULL, 0, socket_path, 0) ==
        NULL) {
        Status status = fail(client, error, "connecting to the engine");
        unsigned int number = client->error_number;
        mysql_client_free(client);
        // The caller that waits for a start tells "not there yet" from "refused" by the reason.
        if (status != STATUS_OK && is_authentication(number)) {
            error->reason = REASON_SOURCE_AUTHENTICATION;
        }
        return status;
    }
    *ret_client = client;
    return STATUS_OK;
}

bool mysql_client_has_tls(const MysqlClient *client)
{
    return mysql_get_ssl_cipher(client->mysql) != NULL;
}

int64_t mysql_client_received_bytes(const MysqlClient *client)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    if (client == NULL ||
        getsockopt(mysql_get_socket(client->mysql), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
        return 0;
    }
    return (int64_t)info.tcpi_bytes_received;
}

int mysql_version_number(const char *text)
{
    int part[3] = {0};
    if (text == NULL || sscanf(text, "%d.%d.%d", &part[0], &part[1], &part[2]) < 2) {
        return 0;
    }
    return part[0] * 10000 + part[1] * 100 + part[2];
}

// Results that nobody wants, so that the connection is free for the next statement.
static bool drop_results(MYSQL *mysql)
{
    do {
        MYSQL_RES *result = mysql_store_result(mysql);
        if (result == NULL && mysql_errno(mysql) != 0) {
            return false;
        }
        mysql_free_result(result);
    } while (mysql_next_result(mysql) == 0);
    return mysql_errno(mysql) == 0;
}

// For error messages: the first words, without anything that could be a secret (those come later in
// our statements).
static void statement_name(const char *sql, char name[80])
{
    size_t size = strcspn(sql, "'`\"");
    (void)snprintf(name, 80, "%.*s", (int)MIN(size, 60), sql);
    for (size_t end = strlen(name); end > 0 && name[end - 1] == ' '; end--) {
        name[end - 1] = '\0';
    }
}

Status mysql_client_run_sized(MysqlClient *client, int64_t timeout_ms, const char *sql, size_t size,
                              Error *error)
{
    begin_call(client, timeout_ms);
    if (mysql_real_query(client->mysql, sql, size) != 0 || !drop_results(client->mysql)) {
        char name[80];
        statement_name(sql, name);
        return fail(client, error, name);
    }
    return STATUS_OK;
}

static char *format_statement(const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    assert(size >= 0 && size < STATEMENT_SIZE_MAX);
    char *sql = mem_alloc((size_t)size + 1);
    (void)vsnprintf(sql, (size_t)size + 1, format, arguments);
    return sql;
}

// Statements may hold a password.
static void wipe_statement(char **sql)
{
    secret_wipe_text(*sql);
    mem_free(*sql);
    *sql = NULL;
}

Status mysql_client_run(MysqlClient *client, int64_t timeout_ms, Error *error, const char *format,
                        ...)
{
    va_list arguments;
    va_start(arguments, format);
    CLEANUP(wipe_statement) char *sql = format_statement(format, arguments);
    va_end(arguments);
    return mysql_client_run_sized(client, timeout_ms, sql, strlen(sql), error);
}

static Status query(MysqlClient *client, int64_t timeout_ms, const char *sql, bool is_streamed,
                    MYSQL_RES **ret_result, Error *error)
{
    begin_call(client, timeout_ms);
    MYSQL_RES *result = NULL;
    if (mysql_real_query(client->mysql, sql, strlen(sql)) == 0) {
        result = is_streamed ? mysql_use_result(client->mysql) : mysql_store_result(client->mysql);
    }
    if (result == NULL) {
        char name[80];
        statement_name(sql, name);
        return fail(client, error, name);
    }
    *ret_result = result;
    return STATUS_OK;
}

Status mysql_client_query(MysqlClient *client, int64_t timeout_ms, MYSQL_RES **ret_result,
                          Error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    CLEANUP(wipe_statement) char *sql = format_statement(format, arguments);
    va_end(arguments);
    return query(client, timeout_ms, sql, false, ret_result, error);
}

Status mysql_client_stream(MysqlClient *client, int64_t timeout_ms, const char *sql,
                           MYSQL_RES **ret_result, Error *error)
{
    return query(client, timeout_ms, sql, true, ret_result, error);
}

Status mysql_client_next(MysqlClient *client, int64_t timeout_ms, MYSQL_RES *result,
                         MYSQL_ROW *ret_row, Error *error)
{
    begin_call(client, timeout_ms);
    *ret_row = mysql_fetch_row(result);
    if (*ret_row == NULL && mysql_errno(client->mysql) != 0) {
        return fail(client, error, "reading rows");
    }
    return STATUS_OK;
}

Status mysql_client_value(MysqlClient *client, int64_t timeout_ms, char *ret_value, size_t size,
                          Error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    CLEANUP(wipe_statement) char *sql = format_statement(format, arguments);
    va_end(arguments);
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(query(client, timeout_ms, sql, false, &result, error));
    MYSQL_ROW row = mysql_fetch_row(result);
    const char *value = row == NULL || row[0] == NULL ? "" : row[0];
    if (strlen(value) >= size) {
        return error_set(error, REASON_EXHAUSTED,
                         "the server's answer has %zu bytes, over the limit of %zu", strlen(value),
                         size - 1);
    }
    memcpy(ret_value, value, strlen(value) + 1);
    return STATUS_OK;
}

const char *mysql_row_text(MYSQL_RES *result, MYSQL_ROW row, const char *name)
{
    const MYSQL_FIELD *fields = mysql_fetch_fields(result);
    unsigned int count = mysql_num_fields(result);
    while (*name != '\0') {
        size_t size = strcspn(name, "|");
        for (unsigned int i = 0; i < count; i++) {
            if (strlen(fields[i].name) == size && strncasecmp(fields[i].name, name, size) == 0) {
                return row[i];
            }
        }
        name += size + (name[size] == '|');
    }
    return NULL;
}

static char *quote(Arena *arena, const char *text, char mark, bool with_backslash)
{
    size_t size = strlen(text);
    char *quoted = arena_alloc(arena, size * 2 + 3);
    char *out = quoted;
    *out++ = mark;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == mark) {
            *out++ = mark;
        } else if (text[i] == '\\' && with_backslash) {
            *out++ = '\\';
        }
        *out++ = text[i];
    }
    *out++ = mark;
    *out = '\0';
    return quoted;
}

char *mysql_quote_text(Arena *arena, const char *text)
{
    return quote(arena, text, '\'', true); // NO_BACKSLASH_ESCAPES is never set in our sessions
}

char *mysql_quote_name(Arena *arena, const char *name)
{
    return quote(arena, name, '`', false);
}
