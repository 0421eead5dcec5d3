// SPDX-License-Identifier: Apache-2.0
// The daemon, our threads, and an end that leaves no suspended connection: libmicrohttpd aborts the
// program for one.
#define LOG_MODULE "http"

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/http/http_internal.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define DAEMON_THREAD_COUNT 2u
#define IDLE_SECONDS 60u
#define LAST_ANSWERS_MS 2000 // for the last answers to leave when stopping
#define CONNECTION_MEMORY_BYTES (16u * 1024)
#define OPTION_COUNT_MAX 16

static void on_daemon_log(void *context, const char *format, va_list arguments) PRINTF_LIKE(2, 0);

static void on_daemon_log(void *context, const char *format, va_list arguments)
{
    (void)context;
    char text[256];
    (void)vsnprintf(text, sizeof(text), format, arguments);
    log_debug("libmicrohttpd", "text", text, NULL);
}

bool http_server_submit(HttpServer *server, HttpJob *job, struct MHD_Connection *connection)
{
    (void)pthread_mutex_lock(&server->queue_mutex);
    bool is_taken = !server->is_queue_closed;
    if (is_taken) {
        if (connection != NULL) {
            // First, so that the job cannot resume it before.
            MHD_suspend_connection(connection);
        }
        job->next = NULL;
        if (server->queue_last == NULL) {
            server->queue_first = job;
        } else {
            server->queue_last->next = job;
        }
        server->queue_last = job;
        (void)pthread_cond_signal(&server->queue_changed);
    }
    (void)pthread_mutex_unlock(&server->queue_mutex);
    return is_taken;
}

// Waits for a job; NULL once the queue is closed and empty.
static HttpJob *next_job(HttpServer *server)
{
    (void)pthread_mutex_lock(&server->queue_mutex);
    while (server->queue_first == NULL && !server->is_queue_closed) {
        (void)pthread_cond_wait(&server->queue_changed, &server->queue_mutex);
    }
    HttpJob *job = server->queue_first;
    if (job != NULL) {
        server->queue_first = job->next;
        if (server->queue_first == NULL) {
            server->queue_last = NULL;
        }
    }
    (void)pthread_mutex_unlock(&server->queue_mutex);
    return job;
}

static void *work(void *context)
{
    HttpServer *server = context;
    for (HttpJob *job = next_job(server); job != NULL; job = next_job(server)) {
        job->run(job->context);
    }
    return NULL;
}

static void start_threads(HttpServer *server, int thread_count)
{
    assert(thread_count > 0);
    server->threads = mem_alloc_array((size_t)thread_count, sizeof(*server->threads));
    int result = 0;
    for (int i = 0; i < thread_count; i++) {
        result = pthread_create(&server->threads[i], NULL, work, server);
        assert(result == 0);
        server->thread_count++;
    }
    result = pthread_create(&server->timer, NULL, http_timer_run, server);
    assert(result == 0);
    server->has_timer = true;
}

static struct MHD_OptionItem item(enum MHD_OPTION option, intptr_t value, void *pointer)
{
    return (struct MHD_OptionItem){option, value, pointer};
}

static Status start_daemon(HttpServer *server, int socket, Error *error)
{
    struct MHD_OptionItem items[OPTION_COUNT_MAX];
    size_t count = 0;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    items[count++] = item(MHD_OPTION_LISTEN_SOCKET, socket, NULL);
    items[count++] = item(MHD_OPTION_THREAD_POOL_SIZE, DAEMON_THREAD_COUNT, NULL);
    items[count++] = item(MHD_OPTION_CONNECTION_LIMIT, LIMIT_HTTP_CONNECTION_COUNT, NULL);
    items[count++] = item(MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, NULL);
    items[count++] = item(MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, NULL);
    if (server->certificate_pem != NULL) {
        flags |= MHD_USE_TLS;
        items[count++] = item(MHD_OPTION_HTTPS_MEM_CERT, 0, server->certificate_pem);
        items[count++] = item(MHD_OPTION_HTTPS_MEM_KEY, 0, server->key_pem.data);
        static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
        items[count++] = item(MHD_OPTION_HTTPS_PRIORITIES, 0, priorities);
    }
    items[count++] = item(MHD_OPTION_END, 0, NULL);
    assert(count <= OPTION_COUNT_MAX);
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, http_exchange_handle, server, MHD_OPTION_EXTERNAL_LOGGER,
        on_daemon_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, http_exchange_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, server, MHD_OPTION_URI_LOG_CALLBACK,
        http_connection_request_begins, server, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (server->daemon != NULL) {
        return STATUS_OK;
    }
    (void)close(socket);
    if (server->certificate_pem != NULL) {
        (void)error_set(error, REASON_OPTION_INVALID,
                        "the certificate and the private key cannot be used for TLS");
        return error_hint(error, "both must be PEM, and the key must be the certificate's");
    }
    return error_set(error, REASON_INTERNAL, "the HTTP daemon cannot be started");
}

static HttpServer *allocate_server(const HttpServerOptions *options)
{
    HttpServer *server = mem_alloc(sizeof(*server));
    server->service = options->service;
    server->certificate_pem = string_copy(options->certificate_pem);
    if (options->key_pem != NULL) {
        server->key_pem = secret_copy(options->key_pem);
    }
    (void)pthread_mutex_init(&server->queue_mutex, NULL);
    (void)pthread_cond_init(&server->queue_changed, NULL);
    (void)pthread_mutex_init(&server->list_mutex, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->timer_changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return server;
}

// A row of the table that nobody answers is a mistake of ours.
static void check_routes(void)
{
    size_t count = 0;
    const HttpRoute *routes = http_routes(&count);
    for (size_t i = 0; i < count; i++) {
        assert(service_method_find(routes[i].rpc) != NULL ||
               text_equal(routes[i].rpc, "StreamEvents"));
    }
}

Status http_server_start(const HttpServerOptions *options, HttpServer **ret_server, Error *error)
{
    check_routes();
    int socket = -1;
    int port = 0;
    RETURN_IF_ERROR(http_listen(options->address, &socket, &port, error));
    HttpServer *server = allocate_server(options);
    server->port = port;
    // The program's signals are not for these threads.
    sigset_t all_signals;
    sigset_t old_signals;
    (void)sigfillset(&all_signals);
    (void)pthread_sigmask(SIG_SETMASK, &all_signals, &old_signals);
    start_threads(server, options->thread_count);
    Status status = start_daemon(server, socket, error);
    (void)pthread_sigmask(SIG_SETMASK, &old_signals, NULL);
    if (status != STATUS_OK) {
        http_server_free(server);
        return status;
    }
    log_debug("http server started", "address", options->address, NULL);
    *ret_server = server;
    return STATUS_OK;
}

int http_server_port(const HttpServer *server)
{
    return server->port;
}

// Nothing is taken any more, and what was taken has been done.
static void end_threads(HttpServer *server)
{
    (void)pthread_mutex_lock(&server->queue_mutex);
    server->is_queue_closed = true;
    (void)pthread_cond_broadcast(&server->queue_changed);
    (void)pthread_mutex_unlock(&server->queue_mutex);
    for (int i = 0; i < server->thread_count; i++) {
        (void)pthread_join(server->threads[i], NULL);
    }
    server->thread_count = 0;
    (void)pthread_mutex_lock(&server->list_mutex);
    server->is_timer_ending = true;
    (void)pthread_cond_broadcast(&server->timer_changed);
    (void)pthread_mutex_unlock(&server->list_mutex);
    if (server->has_timer) {
        (void)pthread_join(server->timer, NULL);
        server->has_timer = false;
    }
}

// libmicrohttpd would cut them off.
static void await_last_answers(HttpServer *server)
{
    int64_t deadline_ms = clock_monotonic_ms() + LAST_ANSWERS_MS;
    while (atomic_load(&server->exchange_count) > 0 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(5);
    }
}

void http_server_stop(HttpServer *server)
{
    if (atomic_exchange(&server->is_stopping, true)) {
        return;
    }
    MHD_socket socket = MHD_INVALID_SOCKET;
    if (server->daemon != NULL) {
        socket = MHD_quiesce_daemon(server->daemon);
    }
    end_threads(server);
    http_events_end_all(server);
    await_last_answers(server);
    if (server->daemon != NULL) {
        MHD_stop_daemon(server->daemon);
        server->daemon = NULL;
    }
    if (socket != MHD_INVALID_SOCKET) {
        (void)close(socket);
    }
}

void http_server_free(HttpServer *server)
{
    if (server == NULL) {
        return;
    }
    http_server_stop(server);
    assert(server->connections == NULL);
    assert(server->streams == NULL);
    (void)pthread_cond_destroy(&server->timer_changed);
    (void)pthread_cond_destroy(&server->queue_changed);
    (void)pthread_mutex_destroy(&server->list_mutex);
    (void)pthread_mutex_destroy(&server->queue_mutex);
    secret_done(&server->key_pem);
    mem_free(server->certificate_pem);
    mem_free(server->threads);
    mem_free(server);
}
