// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/fake_http.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX (64 * 1024 * 1024)
#define CONNECTION_COUNT_MAX 1024

typedef struct Connection {
    FakeHttp *server;
    int fd;
    pthread_t thread;
} Connection;

struct FakeHttp {
    FakeHttpHandler handler;
    void *context;
    char url[64];
    int listener;
    pthread_t thread;
    _Atomic int request_count;
    atomic_bool is_stopping;
    Connection connections[CONNECTION_COUNT_MAX];
    int connection_count; // of the accepting thread, and read when it has ended
};

bool fake_http_send(int fd, const void *data, size_t size)
{
    const char *next = data;
    while (size > 0) {
        ssize_t sent = send(fd, next, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        next += sent;
        size -= (size_t)sent;
    }
    return true;
}

bool fake_http_answer(const FakeHttpRequest *request, int status, const char *headers,
                      const void *body, size_t size)
{
    CLEANUP_FREE char *head = string_format("HTTP/1.1 %d Status\r\n%sContent-Length: %zu\r\n\r\n",
                                            status, headers != NULL ? headers : "", size);
    return fake_http_send(request->fd, head, strlen(head)) &&
           (text_equal(request->method, "HEAD") || fake_http_send(request->fd, body, size));
}

char *fake_http_header(const FakeHttpRequest *request, const char *name)
{
    size_t name_size = strlen(name);
    for (const char *line = request->headers; *line != '\0';) {
        size_t size = strcspn(line, "\r\n");
        if (size > name_size && line[name_size] == ':' && strncasecmp(line, name, name_size) == 0) {
            const char *value = line + name_size + 1;
            value += strspn(value, " ");
            return string_copy_n(value, size - (size_t)(value - line));
        }
        line += size;
        line += strspn(line, "\r\n");
    }
    return NULL;
}

bool fake_http_is_stopping(const FakeHttp *server)
{
    return atomic_load(&server->is_stopping);
}

bool fake_http_stall(void *context, const FakeHttpRequest *request)
{
    (void)context;
    static const char half[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"format\": ";
    (void)fake_http_send(request->fd, half, strlen(half));
    while (!fake_http_is_stopping(request->server)) {
        clock_sleep_ms(10);
    }
    return false;
}

int fake_http_request_count(FakeHttp *server)
{
    return atomic_load(&server->request_count);
}

const char *fake_http_url(const FakeHttp *server)
{
    return server->url;
}

static bool receive(int fd, Buffer *buffer)
{
    char data[65536];
    ssize_t size = recv(fd, data, sizeof(data), 0);
    return size > 0 && buffer_append(buffer, data, (size_t)size);
}

// Splits the head in place and calls the handler. `input` holds the head and the body.
static bool handle(Connection *connection, char *head, size_t body_at, const Buffer *input)
{
    FakeHttpRequest request = {.fd = connection->fd, .server = connection->server};
    char *end_of_line = strstr(head, "\r\n");
    char *target = strchr(head, ' ');
    char *version = target == NULL ? NULL : strchr(target + 1, ' ');
    if (end_of_line == NULL || version == NULL) {
        return false;
    }
    *target = '\0';
    *version = '\0';
    request.method = head;
    request.target = target + 1;
    request.headers = end_of_line + 2;
    request.body = input->data + body_at;
    request.body_size = input->size - body_at;
    request.number = atomic_fetch_add(&connection->server->request_count, 1) + 1;
    return connection->server->handler(connection->server->context, &request);
}

static bool serve_request(Connection *connection)
{
    Buffer input;
    buffer_init(&input, REQUEST_BYTES_MAX);
    bool goes_on = true;
    char *head_end = NULL;
    while (goes_on &&
           (head_end = strstr((char *)(uintptr_t)buffer_text(&input), "\r\n\r\n")) == NULL) {
        goes_on = receive(connection->fd, &input);
    }
    if (goes_on) {
        size_t body_at = (size_t)(head_end - (char *)input.data) + 4;
        CLEANUP_FREE char *head = string_copy_n((char *)input.data, body_at);
        FakeHttpRequest probe = {.headers = head};
        CLEANUP_FREE char *length = fake_http_header(&probe, "Content-Length");
        size_t body_size = length == NULL ? 0 : strtoul(length, NULL, 10);
        while (goes_on && input.size < body_at + body_size) {
            goes_on = receive(connection->fd, &input);
        }
        goes_on = goes_on && handle(connection, head, body_at, &input);
    }
    buffer_done(&input);
    return goes_on;
}

static void *serve(void *context)
{
    Connection *connection = context;
    while (serve_request(connection)) {
    }
    (void)shutdown(connection->fd, SHUT_RDWR); // closed when the server stops
    return NULL;
}

static void *accept_connections(void *context)
{
    FakeHttp *server = context;
    while (true) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        if (server->connection_count == CONNECTION_COUNT_MAX) {
            (void)close(fd);
            continue;
        }
        Connection *connection = &server->connections[server->connection_count++];
        *connection = (Connection){.server = server, .fd = fd};
        assert_int_equal(pthread_create(&connection->thread, NULL, serve, connection), 0);
    }
}

FakeHttp *fake_http_start(FakeHttpHandler handler, void *context)
{
    FakeHttp *server = mem_alloc(sizeof(*server));
    server->handler = handler;
    server->context = context;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(server->listener, 128), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d",
                   ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, accept_connections, server), 0);
    return server;
}

void fake_http_stop(FakeHttp *server)
{
    if (server == NULL) {
        return;
    }
    atomic_store(&server->is_stopping, true);
    (void)shutdown(server->listener, SHUT_RDWR);
    (void)pthread_join(server->thread, NULL);
    (void)close(server->listener);
    for (int i = 0; i < server->connection_count; i++) {
        (void)shutdown(server->connections[i].fd, SHUT_RDWR);
        (void)pthread_join(server->connections[i].thread, NULL);
        (void)close(server->connections[i].fd);
    }
    mem_free(server);
}
