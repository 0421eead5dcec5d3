// SPDX-License-Identifier: Apache-2.0
// What the files of this folder share; nobody else includes this.
//
// Locks are taken in this order: a list (connections, streams), one stream, the job queue,
// libmicrohttpd's own.
#pragma once

#include "common/arena.h"
#include "common/buffer.h"
#include "server/http/http_request.h"
#include "server/http/http_server.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct HttpConnection HttpConnection;
typedef struct HttpEvents HttpEvents;
typedef struct HttpExchange HttpExchange;
typedef struct HttpJob HttpJob;

// Something for a thread that may block.
struct HttpJob {
    HttpJob *next;
    void (*run)(void *context);
    void *context;
};

struct HttpServer {
    struct MHD_Daemon *daemon;
    Service *service;
    char *certificate_pem;
    Secret key_pem;
    int port;
    pthread_t *threads;
    int thread_count;
    pthread_t timer;
    bool has_timer;
    atomic_bool is_stopping;
    atomic_int exchange_count; // requests whose answer has not been sent to its end
    pthread_mutex_t
        queue_mutex; // guards the queue, and that nobody joins it when the threads are to end
    pthread_cond_t queue_changed;
    HttpJob *queue_first;
    HttpJob *queue_last;
    bool is_queue_closed;
    pthread_mutex_t list_mutex; // guards both lists
    pthread_cond_t timer_changed;
    HttpConnection *connections;
    HttpEvents *streams;
    bool is_timer_ending;
};

// False: the server stops, the job was not taken. With a connection it is suspended when the job is
// taken.
bool http_server_submit(HttpServer *server, HttpJob *job, struct MHD_Connection *connection);

// ---- http_listen.c ----

Status http_listen(const char *address, int *ret_socket, int *ret_port, Error *error);

// ---- http_exchange.c: one request and its answer ----

struct HttpExchange {
    HttpServer *server;
    struct MHD_Connection *connection;
    Arena *arena;
    HttpJob job;
    const char *method; // HEAD is GET here
    const char *path;
    const char *request_id;
    const char *last_event_id;
    Buffer body;
    HttpMatch match;
    HttpPair *query;
    size_t query_count;
    ServiceCall call;
    struct MHD_Response *response; // once there is an answer
    unsigned status;
};

enum MHD_Result http_exchange_handle(void *server, struct MHD_Connection *connection,
                                     const char *url, const char *method, const char *version,
                                     const char *data, size_t *data_size, void **exchange);
void http_exchange_completed(void *server, struct MHD_Connection *connection, void **exchange,
                             enum MHD_RequestTerminationCode code);
const char *http_exchange_header(const HttpExchange *exchange, const char *name); // "" when absent

// ---- http_answer.c ----

// All set the exchange's answer. The bytes are moved out of the buffer.
void http_answer_bytes(HttpExchange *exchange, unsigned status, const char *content_type,
                       Buffer *bytes);
void http_answer_text(HttpExchange *exchange, unsigned status, const char *text);
void http_answer_message(HttpExchange *exchange, unsigned status, const ProtobufCMessage *message);
void http_answer_problem(HttpExchange *exchange, Error *error); // logs it, too
void http_answer_problem_as(HttpExchange *exchange, unsigned status, Error *error);
void http_answer_header(HttpExchange *exchange, const char *name, const char *value);

// ---- http_static.c ----

void http_static_answer(HttpExchange *exchange); // a file of the dashboard, or a problem

// ---- http_events.c: server-sent events ----

void http_events_answer(HttpExchange *exchange, ProtobufCMessage *request); // may block
void http_events_keep_alive(HttpServer *server);                            // with list_mutex held
void http_events_end_all(HttpServer *server);

// ---- http_deadline.c: slow clients ----

void http_connection_notify(void *server, struct MHD_Connection *connection, void **socket_context,
                            enum MHD_ConnectionNotificationCode code);
void *http_connection_request_begins(void *server, const char *uri,
                                     struct MHD_Connection *connection);
void http_connection_body_begins(HttpServer *server, struct MHD_Connection *connection);
void http_connection_is_answering(HttpServer *server, struct MHD_Connection *connection);
void http_connection_is_idle(HttpServer *server, struct MHD_Connection *connection);
void *http_timer_run(void *server);
