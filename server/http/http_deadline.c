// SPDX-License-Identifier: Apache-2.0
// libmicrohttpd's timeout begins anew with every byte, so that a client that sends one a second
// stays for ever. Here each part of a request has a deadline as a whole; a timer shuts the sockets
// of those who miss it.
#include "common/clock.h"
#include "common/limits.h"
#include "common/memory.h"
#include "server/http/http_internal.h"

#include <sys/socket.h>
#include <time.h>

#define TICK_MS 1000
#define IDLE_MS 60000 // from the end of an answer to the next request's first line
#define HEADER_MS (LIMIT_HTTP_HEADER_SECONDS * 1000)
#define BODY_MS 60000
#define KEEP_ALIVE_TICKS 15 // comments in event streams, which also find dead clients

// All guarded by the server's list_mutex.
struct HttpConnection {
    HttpConnection *next;
    HttpConnection **link;
    int fd;
    int64_t deadline_ms; // 0: it is our turn
};

static void set_deadline(HttpServer *server, struct MHD_Connection *connection, int64_t span_ms)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    HttpConnection *own = info == NULL ? NULL : info->socket_context;
    if (own == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&server->list_mutex);
    own->deadline_ms = span_ms == 0 ? 0 : clock_monotonic_ms() + span_ms;
    (void)pthread_mutex_unlock(&server->list_mutex);
}

static void add_connection(HttpServer *server, struct MHD_Connection *connection,
                           void **socket_context)
{
    HttpConnection *own = mem_alloc(sizeof(*own));
    own->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    (void)pthread_mutex_lock(&server->list_mutex);
    own->deadline_ms = clock_monotonic_ms() + HEADER_MS;
    own->next = server->connections;
    own->link = &server->connections;
    if (own->next != NULL) {
        own->next->link = &own->next;
    }
    server->connections = own;
    (void)pthread_mutex_unlock(&server->list_mutex);
    *socket_context = own;
}

void http_connection_notify(void *context, struct MHD_Connection *connection, void **socket_context,
                            enum MHD_ConnectionNotificationCode code)
{
    HttpServer *server = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        add_connection(server, connection, socket_context);
        return;
    }
    HttpConnection *own = *socket_context;
    (void)pthread_mutex_lock(&server->list_mutex);
    *own->link = own->next;
    if (own->next != NULL) {
        own->next->link = own->link;
    }
    (void)pthread_mutex_unlock(&server->list_mutex);
    mem_free(own);
    *socket_context = NULL;
}

void *http_connection_request_begins(void *context, const char *uri,
                                     struct MHD_Connection *connection)
{
    (void)uri;
    set_deadline(context, connection, HEADER_MS);
    return NULL; // the exchange is made when the headers are there
}

void http_connection_body_begins(HttpServer *server, struct MHD_Connection *connection)
{
    set_deadline(server, connection, BODY_MS);
}

void http_connection_is_answering(HttpServer *server, struct MHD_Connection *connection)
{
    set_deadline(server, connection, 0);
}

void http_connection_is_idle(HttpServer *server, struct MHD_Connection *connection)
{
    set_deadline(server, connection, IDLE_MS);
}

static void shut_late(HttpServer *server)
{
    int64_t now_ms = clock_monotonic_ms();
    for (HttpConnection *own = server->connections; own != NULL; own = own->next) {
        if (own->deadline_ms != 0 && own->deadline_ms < now_ms) {
            // libmicrohttpd sees the end and cleans up in its own thread.
            (void)shutdown(own->fd, SHUT_RDWR);
            own->deadline_ms = 0;
        }
    }
}

void *http_timer_run(void *context)
{
    HttpServer *server = context;
    int ticks = 0;
    (void)pthread_mutex_lock(&server->list_mutex);
    while (!server->is_timer_ending) {
        struct timespec until = {0};
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_MS / 1000;
        (void)pthread_cond_timedwait(&server->timer_changed, &server->list_mutex, &until);
        shut_late(server);
        if (++ticks >= KEEP_ALIVE_TICKS) {
            ticks = 0;
            http_events_keep_alive(server);
        }
    }
    (void)pthread_mutex_unlock(&server->list_mutex);
    return NULL;
}
