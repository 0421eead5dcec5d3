// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server inside a test, whose handler may misbehave as it likes: it writes the
// answer's bytes itself. A thread for each connection.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FakeHttp FakeHttp;

typedef struct FakeHttpRequest {
    const char *method;
    const char *target;  // "/bucket/key?query"
    const char *headers; // "Name: value\r\n..."
    const uint8_t *body;
    size_t body_size;
    int number; // from 1, over all connections
    int fd;     // of the connection, to write to
    FakeHttp *server;
} FakeHttpRequest;

// False closes the connection. Called on the connection's thread.
typedef bool (*FakeHttpHandler)(void *context, const FakeHttpRequest *request);

FakeHttp *fake_http_start(FakeHttpHandler handler, void *context); // on a free port of 127.0.0.1
const char *fake_http_url(const FakeHttp *server);                 // "http://127.0.0.1:PORT"
int fake_http_request_count(FakeHttp *server);
void fake_http_stop(FakeHttp *server); // cuts the connections; NULL is fine

// A whole answer with Content-Length. headers: "Name: value\r\n" lines, or NULL. False: the other
// side is gone.
bool fake_http_answer(const FakeHttpRequest *request, int status, const char *headers,
                      const void *body, size_t size);
bool fake_http_send(int fd, const void *data, size_t size);
bool fake_http_is_stopping(const FakeHttp *server); // for handlers that wait
// A handler that sends half an object, and then nothing more until the server stops.
bool fake_http_stall(void *context, const FakeHttpRequest *request);
// The value of a header, whatever its case; NULL when it is absent. malloc'd.
char *fake_http_header(const FakeHttpRequest *request, const char *name);
