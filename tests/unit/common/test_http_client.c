// SPDX-License-Identifier: Apache-2.0
// Red when requests differ from what the caller said, or an answer can hang or flood us.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/http_client.h"
#include "common/http_trust.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX (8 * 1024 * 1024)

// A server that answers by path and keeps the last request. One connection at a time, closed by the
// client.
typedef struct Server {
    int listener;
    pthread_t thread;
    char url[64];
    char *directory; // of the unix socket
    char *socket_path;
    _Atomic int connection_count;
    Buffer request; // the last whole one; changes only between a request and its answer
} Server;

static void send_text(int fd, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        text += sent;
        size -= (size_t)sent;
    }
}

static void send_flood(int fd)
{
    send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    char chunk[65536 + 16];
    int head = snprintf(chunk, sizeof(chunk), "10000\r\n");
    memset(chunk + head, 'x', 65536);
    memcpy(chunk + head + 65536, "\r\n", 3);
    for (int i = 0; i < LIMIT_HTTP_RESPONSE_BYTES / 65536 + 2; i++) {
        send_text(fd, chunk);
    }
    send_text(fd, "0\r\n\r\n");
}

static void answer(int fd, const char *path)
{
    if (text_has_prefix(path, "/echo")) {
        send_text(fd, "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\netag: \"v1\"\r\n"
                      "Location: /things/1\r\nX-Other:   spaced \r\nContent-Length: 2\r\n\r\n{}");
    } else if (text_has_prefix(path, "/error")) {
        send_text(fd, "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
    } else if (text_has_prefix(path, "/redirect")) {
        send_text(fd, "HTTP/1.1 302 Found\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n");
    } else if (text_has_prefix(path, "/early")) {
        send_text(fd, "HTTP/1.1 103 Early Hints\r\nX-Other: early\r\n\r\n"
                      "HTTP/1.1 204 No Content\r\n\r\n");
    } else if (text_has_prefix(path, "/stream")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        send_text(fd, "3\r\none\r\n3\r\ntwo\r\n");
    } else if (text_has_prefix(path, "/flood")) {
        send_flood(fd);
    } else if (text_has_prefix(path, "/cut")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        (void)shutdown(fd, SHUT_RDWR);
    } else if (text_has_prefix(path, "/garbage")) {
        send_text(fd, "SSH-2.0-OpenSSH\r\n");
        (void)shutdown(fd, SHUT_RDWR);
    }
    // "/slow" gets no answer
}

// Reads one request; false when the client is gone.
static bool read_request(int fd, Buffer *request)
{
    size_t wanted = 0;
    while (wanted == 0 || request->size < wanted) {
        char data[65536];
        ssize_t got = recv(fd, data, sizeof(data), 0);
        if (got <= 0 || !buffer_append(request, data, (size_t)got)) {
            return false;
        }
        const char *end = strstr(buffer_text(request), "\r\n\r\n");
        if (wanted == 0 && end != NULL) {
            const char *length = strcasestr(buffer_text(request), "\r\nContent-Length: ");
            size_t body_size = length != NULL && length < end ? strtoul(length + 18, NULL, 10) : 0;
            wanted = (size_t)(end + 4 - buffer_text(request)) + body_size;
        }
    }
    return true;
}

static void *serve(void *context)
{
    Server *server = context;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0) {
            return NULL; // the listener was shut down
        }
        server->connection_count++;
        for (;;) {
            Buffer incoming = {0};
            buffer_init(&incoming, REQUEST_BYTES_MAX);
            if (!read_request(fd, &incoming)) {
                buffer_done(&incoming);
                break;
            }
            buffer_done(&server->request);
            server->request = incoming;
            const char *path = strchr(buffer_text(&server->request), ' ') + 1;
            answer(fd, path);
        }
        (void)close(fd);
    }
}

static Server *server_start(bool is_unix)
{
    Server *server = mem_alloc(sizeof(Server));
    buffer_init(&server->request, REQUEST_BYTES_MAX);
    server->listener = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_unix) {
        server->directory = temp_dir_new();
        server->socket_path = path_join(server->directory, "s");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->socket_path);
        assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
        (void)snprintf(server->url, sizeof(server->url), "http://holdfast");
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
        assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
        (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d",
                       ntohs(address.sin_port));
    }
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    return server;
}

// All clients must be freed before.
static void server_stop(Server *server)
{
    (void)shutdown(server->listener, SHUT_RDWR);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)close(server->listener);
    buffer_done(&server->request);
    temp_dir_removep(&server->directory);
    mem_free(server->socket_path);
    mem_free(server);
}

static Status send_to(HttpClient *client, const Server *server, HttpRequest request,
                      const char *path, HttpResponse *ret_response, Error *error)
{
    CLEANUP_FREE char *url = string_format("%s%s", server->url, path);
    request.url = url;
    request.method = request.method == NULL ? "GET" : request.method;
    request.timeout_ms = request.timeout_ms == 0 ? 20000 : request.timeout_ms;
    request.unix_socket = server->socket_path;
    return http_client_send(client, &request, ret_response, error);
}

static void test_requests(void **state)
{
    (void)state;
    Server *server = server_start(false);
    HttpClient *client = http_client_new();
    Error error = {0};
    HttpResponse response = {0};
    HttpRequest post = {.method = "POST",
                        .headers =
                            (const char *const[]){"X-A: 1", "Content-Type: application/json", NULL},
                        .body = "{\"a\":1}",
                        .body_size = 7};
    assert_ok(send_to(client, server, post, "/echo/../x/./y?q=1", &response, &error), &error);
    assert_int_equal(response.status, 201);
    assert_string_equal(response.content_type, "application/json");
    assert_string_equal(response.etag, "\"v1\"");
    assert_string_equal(response.location, "/things/1");
    assert_string_equal(buffer_text(&response.body), "{}");
    char value[16];
    assert_true(http_response_header(&response, "x-other", value, sizeof(value)));
    assert_string_equal(value, "spaced ");
    assert_false(http_response_header(&response, "x-oth", value, sizeof(value)));
    http_response_done(&response);
    const char *sent = buffer_text(&server->request);
    assert_int_equal(strncmp(sent, "POST /echo/../x/./y?q=1 HTTP/1.1\r\n", 34), 0);
    assert_contains(sent, "\r\nX-A: 1\r\n");
    assert_contains(sent, "\r\nContent-Length: 7\r\n");
    assert_null(strcasestr(sent, "Expect:"));
    assert_contains(sent, "\r\n\r\n{\"a\":1}");
    // A large body, no header of ours; the connection is used again.
    CLEANUP_FREE char *large = mem_alloc(4 * 1024 * 1024);
    HttpRequest put = {.method = "PUT", .body = large, .body_size = 4 * 1024 * 1024};
    assert_ok(send_to(client, server, put, "/echo", &response, &error), &error);
    http_response_done(&response);
    assert_null(strcasestr(buffer_text(&server->request), "Content-Type:"));
    assert_null(strcasestr(buffer_text(&server->request), "Expect:"));
    HttpRequest empty_post = {.method = "POST"};
    assert_ok(send_to(client, server, empty_post, "/echo", &response, &error), &error);
    http_response_done(&response);
    assert_contains(buffer_text(&server->request), "\r\nContent-Length: 0\r\n");
    HttpRequest delete = {.method = "DELETE"};
    assert_ok(send_to(client, server, delete, "/redirect", &response, &error), &error);
    assert_int_equal(response.status, 302); // not followed
    assert_string_equal(response.location, "/echo");
    http_response_done(&response);
    assert_int_equal(strncmp(buffer_text(&server->request), "DELETE /redirect ", 17), 0);
    assert_ok(send_to(client, server, (HttpRequest){0}, "/early", &response, &error), &error);
    assert_int_equal(response.status, 204);
    assert_false(http_response_header(&response, "x-other", value, sizeof(value)));
    http_response_done(&response);
    assert_int_equal(server->connection_count, 1);
    http_client_free(client);
    server_stop(server);
    http_client_free(NULL);
}

static void test_unix_socket(void **state)
{
    (void)state;
    Server *server = server_start(true);
    HttpClient *client = http_client_new();
    Error error = {0};
    HttpResponse response = {0};
    assert_ok(send_to(client, server, (HttpRequest){0}, "/echo", &response, &error), &error);
    assert_int_equal(response.status, 201);
    http_response_done(&response);
    http_client_free(client);
    server_stop(server);
}

static bool collect(void *context, const void *data, size_t size)
{
    Buffer *seen = context;
    buffer_append(seen, data, size);
    return seen->size < 6; // the stream itself never ends
}

static void test_streams(void **state)
{
    (void)state;
    Server *server = server_start(false);
    HttpClient *client = http_client_new();
    Error error = {0};
    HttpResponse response = {0};
    CLEANUP(buffer_done) Buffer seen = {0};
    buffer_init(&seen, 100);
    HttpRequest request = {.on_data = collect, .context = &seen};
    assert_ok(send_to(client, server, request, "/stream", &response, &error), &error);
    assert_string_equal(buffer_text(&seen), "onetwo");
    assert_int_equal(response.body.size, 0);
    assert_int_equal(response.status, 200);
    http_response_done(&response);
    buffer_clear(&seen);
    assert_ok(send_to(client, server, request, "/error", &response, &error), &error);
    assert_int_equal(response.status, 500);
    assert_string_equal(buffer_text(&response.body), "oops"); // what is wrong is not data
    assert_int_equal(seen.size, 0);
    http_response_done(&response);
    http_client_free(client);
    server_stop(server);
}

static void test_failures(void **state)
{
    (void)state;
    Server *server = server_start(false);
    HttpClient *client = http_client_new();
    Error error = {0};
    HttpResponse response = {0};
    int64_t start_ms = clock_monotonic_ms();
    CLEANUP_FREE char *slow = string_format("GET %s/slow: no answer within 200 ms", server->url);
    assert_error(send_to(client, server, (HttpRequest){.timeout_ms = 200}, "/slow?token=secret",
                         &response, &error),
                 &error, REASON_DEADLINE, slow);
    assert_true(clock_monotonic_ms() - start_ms < 5000);
    CLEANUP_FREE char *flood = string_format("GET %s/flood: the answer is larger than %d bytes",
                                             server->url, LIMIT_HTTP_RESPONSE_BYTES);
    assert_error(send_to(client, server, (HttpRequest){0}, "/flood", &response, &error), &error,
                 REASON_EXHAUSTED, flood);
    assert_int_equal(send_to(client, server, (HttpRequest){0}, "/cut", &response, &error),
                     STATUS_UNAVAILABLE);
    assert_int_equal(send_to(client, server, (HttpRequest){0}, "/garbage", &response, &error),
                     STATUS_UNAVAILABLE);
    assert_ok(send_to(client, server, (HttpRequest){0}, "/echo", &response, &error), &error);
    http_response_done(&response); // the client is fine after all that
    char url[64];
    (void)snprintf(url, sizeof(url), "%s", server->url);
    http_client_free(client);
    server_stop(server);
    client = http_client_new();
    CLEANUP_FREE char *nobody = string_format("http://user:secret@%s/x?token=secret", url + 7);
    HttpRequest request = {.method = "GET", .url = nobody, .timeout_ms = 5000};
    assert_int_equal(http_client_send(client, &request, &response, &error), STATUS_UNAVAILABLE);
    assert_int_equal(error.reason, REASON_UNAVAILABLE);
    assert_contains(error.message, "127.0.0.1");
    assert_null(strstr(error.message, "secret"));
    assert_contains(error.hint, "check that the server runs");
    request.url = "ftp://127.0.0.1/";
    assert_error(http_client_send(client, &request, &response, &error), &error, REASON_INVALID,
                 "'ftp://127.0.0.1/' is not a URL we can use");
    request.url = "";
    assert_int_equal(http_client_send(client, &request, &response, &error),
                     STATUS_INVALID_ARGUMENT);
    http_client_free(client);
}

#define TLS_CONNECTION_MAX 16
typedef struct TlsServer {
    int listener;
    int port;
    SSL_CTX *context;
    pthread_t thread;
    pthread_t connections[TLS_CONNECTION_MAX];
    atomic_int connection_count; // ever
} TlsServer;

typedef struct TlsConnection {
    TlsServer *server;
    int fd;
} TlsConnection;

// Answers until the client closes.
static void *serve_tls_connection(void *argument)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure";
    TlsConnection *connection = argument;
    SSL *tls = SSL_new(connection->server->context);
    SSL_set_fd(tls, connection->fd);
    char data[4096];
    if (SSL_accept(tls) == 1) {
        while (SSL_read(tls, data, sizeof(data)) > 0) {
            SSL_write(tls, text, sizeof(text) - 1);
        }
    }
    SSL_free(tls);
    (void)close(connection->fd);
    mem_free(connection);
    return NULL;
}

static void *serve_tls(void *argument)
{
    TlsServer *server = argument;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        server->connection_count++;
        assert_true(server->connection_count <= TLS_CONNECTION_MAX);
        TlsConnection *connection = mem_alloc(sizeof(*connection));
        *connection = (TlsConnection){.server = server, .fd = fd};
        assert_int_equal(pthread_create(&server->connections[server->connection_count - 1], NULL,
                                        serve_tls_connection, connection),
                         0);
    }
}

static void tls_server_start(TlsServer *server, const char *certificate_pem, const char *key_pem)
{
    server->context = SSL_CTX_new(TLS_server_method());
    BIO *bio = BIO_new_mem_buf(certificate_pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_int_equal(SSL_CTX_use_certificate(server->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->context, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve_tls, server), 0);
}

static void tls_server_stop(TlsServer *server)
{
    (void)shutdown(server->listener, SHUT_RDWR);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    for (int i = 0; i < server->connection_count; i++) {
        assert_int_equal(pthread_join(server->connections[i], NULL), 0);
    }
    (void)close(server->listener);
    SSL_CTX_free(server->context);
}

static void test_tls_is_verified(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP_FREE char *certificate_pem = NULL;
    CLEANUP_FREE char *key_pem = NULL;
    assert_ok(crypto_self_signed_certificate("localhost", 1, &certificate_pem, &key_pem, &error),
              &error);
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *ca_path = path_join(directory, "ca.pem");
    write_file(ca_path, certificate_pem);
    (void)signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
    TlsServer server = {0};
    tls_server_start(&server, certificate_pem, key_pem);
    HttpClient *client = http_client_new();
    HttpResponse response = {0};
    CLEANUP_FREE char *url = string_format("https://localhost:%d/", server.port);
    HttpRequest request = {.method = "GET", .url = url, .timeout_ms = 20000, .ca_path = ca_path};
    for (int i = 0; i < 2; i++) {
        assert_ok(http_client_send(client, &request, &response, &error), &error);
        assert_string_equal(buffer_text(&response.body), "secure");
        http_response_done(&response);
    }
    assert_int_equal(server.connection_count, 1); // it is kept open
    // The system does not know it: what was verified with something else is not used again.
    request.ca_path = NULL;
    assert_int_equal(http_client_send(client, &request, &response, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_contains(error.hint, "certificate is not trusted");
    request.ca_path = ca_path; // trusted, but the name is another
    CLEANUP_FREE char *other = string_format("https://127.0.0.1:%d/", server.port);
    request.url = other;
    assert_int_equal(http_client_send(client, &request, &response, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_contains(error.hint, "certificate is not trusted");
    request.ca_path = "/no/such/file";
    assert_int_equal(http_client_send(client, &request, &response, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_ENDPOINT_UNTRUSTED);
    request.ca_path = NULL;
    request.ca_pem = certificate_pem;
    request.url = url;
    assert_ok(http_client_send(client, &request, &response, &error), &error);
    assert_string_equal(buffer_text(&response.body), "secure");
    http_response_done(&response);
    http_client_free(client);
    tls_server_stop(&server);
}

static void test_trust_is_read_once(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP_FREE char *certificate_pem = NULL;
    CLEANUP_FREE char *key_pem = NULL;
    CLEANUP_FREE char *other_pem = NULL;
    CLEANUP_FREE char *other_key_pem = NULL;
    assert_ok(crypto_self_signed_certificate("localhost", 1, &certificate_pem, &key_pem, &error),
              &error);
    assert_ok(crypto_self_signed_certificate("localhost", 1, &other_pem, &other_key_pem, &error),
              &error);
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *ca_path = path_join(directory, "ca.pem");
    assert_null(http_trust_get(ca_path, NULL)); // there is no such file
    write_file(ca_path, "no certificate");
    assert_null(http_trust_get(ca_path, NULL));
    assert_null(http_trust_get(NULL, "no certificate"));
    write_file(ca_path, certificate_pem);
    X509_STORE *of_file = http_trust_get(ca_path, NULL);
    X509_STORE *again = http_trust_get(ca_path, NULL);
    assert_non_null(of_file);
    assert_ptr_equal(of_file, again);
    CLEANUP_FREE char *both_pem = string_format("%s%s", other_pem, certificate_pem);
    write_file(ca_path, both_pem);
    X509_STORE *changed = http_trust_get(ca_path, NULL);
    assert_non_null(changed);
    assert_ptr_not_equal(of_file, changed);
    X509_STORE *of_text = http_trust_get(NULL, certificate_pem);
    X509_STORE *of_other = http_trust_get(NULL, other_pem);
    assert_non_null(of_text);
    assert_ptr_not_equal(of_text, of_other);
    // More than are kept: what is borrowed stays.
    for (int i = 0; i < 20; i++) {
        CLEANUP_FREE char *text = string_format("%d\n%s", i, certificate_pem);
        X509_STORE_free(http_trust_get(NULL, text));
    }
    X509_STORE_free(of_file);
    X509_STORE_free(again);
    X509_STORE_free(changed);
    X509_STORE_free(of_text);
    X509_STORE_free(of_other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_streams),         cmocka_unit_test(test_failures),
        cmocka_unit_test(test_tls_is_verified), cmocka_unit_test(test_trust_is_read_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
