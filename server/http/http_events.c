// SPDX-License-Identifier: Apache-2.0
// Server-sent events. The hub wakes a stream, a thread of ours fetches and formats, libmicrohttpd's
// thread sends. In between the connection is suspended, which is why only the regular comments find
// out that a client is gone.
#define LOG_MODULE "http"

#include "common/json.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/http/http_internal.h"
#include "server/service/event_stream.h"

#include <assert.h>
#include <string.h>

#define BLOCK_BYTES 4096
#define PENDING_BYTES_HIGH (256 * 1024) // no more is fetched until the client has read
#define PENDING_BYTES_MAX (8 * 1024 * 1024)
#define RETRY_LINE "retry: 2000\n\n"
#define COMMENT_LINE ":\n\n"

struct HttpEvents {
    HttpServer *server;
    struct MHD_Connection *connection;
    EventSubscription *subscription;
    HttpJob job;
    HttpEvents *next; // with link: guarded by the server's list_mutex
    HttpEvents **link;
    pthread_mutex_t mutex; // guards all below
    int reference_count;   // the response's, and a job's
    Buffer pending;        // formatted and not sent yet
    size_t sent_size;      // of pending
    bool is_awake;         // there may be something to fetch
    bool is_fetching;      // a job is queued or running
    bool is_suspended;
    bool is_ended;  // no more comes
    bool is_closed; // the connection is gone
};

static void fetch(void *context);

static void events_unref(HttpEvents *events)
{
    (void)pthread_mutex_lock(&events->mutex);
    bool is_last = --events->reference_count == 0;
    (void)pthread_mutex_unlock(&events->mutex);
    if (!is_last) {
        return;
    }
    if (events->subscription != NULL) {
        event_subscription_close(events->subscription); // on_wake is over now
    }
    (void)pthread_mutex_destroy(&events->mutex);
    buffer_done(&events->pending);
    mem_free(events);
}

// Needs the mutex.
static void schedule(HttpEvents *events)
{
    bool is_full = events->pending.size - events->sent_size >= PENDING_BYTES_HIGH;
    if (!events->is_awake || events->is_fetching || events->is_closed || events->is_ended ||
        is_full) {
        return;
    }
    events->job = (HttpJob){.run = fetch, .context = events};
    events->is_fetching = true;
    events->reference_count++;
    if (!http_server_submit(events->server, &events->job, NULL)) {
        events->is_fetching = false;
        events->reference_count--;
    }
}

static void resume(HttpEvents *events)
{
    if (events->is_suspended) {
        events->is_suspended = false;
        MHD_resume_connection(events->connection);
    }
}

static void on_wake(void *context)
{
    HttpEvents *events = context;
    (void)pthread_mutex_lock(&events->mutex);
    events->is_awake = true;
    schedule(events);
    (void)pthread_mutex_unlock(&events->mutex);
}

static void format_event(const Holdfast__V1__Event *event, Buffer *text)
{
    CLEANUP(json_freep) Json *json = message_to_json(&event->base);
    (void)buffer_append_format(text, "id: %lld\ndata: ", (long long)event->id);
    (void)json_write(json, false, text); // on one line
    (void)buffer_append_text(text, "\n\n");
}

// Fetches one batch. False: there is no more for now, or the stream has ended.
static bool fetch_batch(HttpEvents *events, Arena *arena)
{
    Error error = {0};
    Holdfast__V1__Event **found = NULL;
    size_t count = 0;
    Status status = event_subscription_next(events->subscription, arena, &found, &count, &error);
    if (status != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "an event stream was ended", NULL);
    }
    (void)pthread_mutex_lock(&events->mutex);
    events->is_ended = events->is_ended || status != STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        format_event(found[i], &events->pending);
    }
    // Cannot happen while a batch is far smaller than the room above the mark; a gap must not go
    // unnoticed.
    events->is_ended = events->is_ended || events->pending.is_overflowed;
    bool has_more = status == STATUS_OK && count > 0 && !events->is_closed && !events->is_ended;
    if (has_more && events->pending.size - events->sent_size >= PENDING_BYTES_HIGH) {
        events->is_awake = true; // goes on when the client has read
        has_more = false;
    }
    if (count > 0 || events->is_ended) {
        resume(events);
    }
    (void)pthread_mutex_unlock(&events->mutex);
    return has_more;
}

static void fetch(void *context)
{
    HttpEvents *events = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)pthread_mutex_lock(&events->mutex);
    events->is_awake = false;
    (void)pthread_mutex_unlock(&events->mutex);
    while (fetch_batch(events, arena)) {
        arena_reset(arena);
    }
    (void)pthread_mutex_lock(&events->mutex);
    events->is_fetching = false;
    schedule(events);
    (void)pthread_mutex_unlock(&events->mutex);
    events_unref(events);
}

// ---- libmicrohttpd's thread ----

// Makes room now and then, so that a client that is never quite done does not make the buffer grow.
static void drop_sent(HttpEvents *events)
{
    Buffer *pending = &events->pending;
    size_t rest_size = pending->size - events->sent_size;
    if (rest_size > 0 && events->sent_size < PENDING_BYTES_HIGH) {
        return;
    }
    memmove(pending->data, pending->data + events->sent_size, rest_size);
    pending->size = rest_size;
    pending->data[rest_size] = '\0';
    events->sent_size = 0;
}

static ssize_t read_pending(void *context, uint64_t position, char *target, size_t size)
{
    (void)position;
    HttpEvents *events = context;
    ssize_t result = 0;
    (void)pthread_mutex_lock(&events->mutex);
    size_t rest_size = events->pending.size - events->sent_size;
    if (rest_size > 0) {
        size_t part_size = MIN(rest_size, size);
        memcpy(target, events->pending.data + events->sent_size, part_size);
        events->sent_size += part_size;
        drop_sent(events);
        schedule(events);
        result = (ssize_t)part_size;
    } else if (events->is_ended || atomic_load(&events->server->is_stopping)) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        events->is_suspended = true;
        MHD_suspend_connection(events->connection);
    }
    (void)pthread_mutex_unlock(&events->mutex);
    return result;
}

static void on_response_freed(void *context)
{
    HttpEvents *events = context;
    HttpServer *server = events->server;
    (void)pthread_mutex_lock(&server->list_mutex);
    *events->link = events->next;
    if (events->next != NULL) {
        events->next->link = events->link;
    }
    (void)pthread_mutex_unlock(&server->list_mutex);
    (void)pthread_mutex_lock(&events->mutex);
    events->is_closed = true;
    (void)pthread_mutex_unlock(&events->mutex);
    events_unref(events);
}

// ---- opening and ending ----

static void add_to_list(HttpServer *server, HttpEvents *events)
{
    (void)pthread_mutex_lock(&server->list_mutex);
    events->next = server->streams;
    events->link = &server->streams;
    if (events->next != NULL) {
        events->next->link = &events->next;
    }
    server->streams = events;
    (void)pthread_mutex_unlock(&server->list_mutex);
}

// Browsers send where they were when they connect again.
static Status apply_last_event_id(HttpExchange *exchange,
                                  Holdfast__V1__StreamEventsRequest *request, Error *error)
{
    const char *last = exchange->last_event_id;
    int64_t id = 0;
    if (last[0] == '\0') {
        return STATUS_OK;
    }
    if (!text_to_int64(last, &id) || id < 0) {
        (void)error_set(error, REASON_INVALID, "'Last-Event-ID' is not an event's id");
        return error_field(error, "Last-Event-ID");
    }
    request->after_id = id;
    return STATUS_OK;
}

static void answer_stream(HttpExchange *exchange, HttpEvents *events)
{
    add_to_list(exchange->server, events);
    exchange->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
                                                           read_pending, events, on_response_freed);
    exchange->status = MHD_HTTP_OK;
    http_answer_header(exchange, "Content-Type", "text/event-stream; charset=utf-8");
    http_answer_header(exchange, "Cache-Control", "no-store");
    http_answer_header(exchange, "X-Accel-Buffering", "no");
    http_answer_header(exchange, "X-Request-Id", exchange->request_id);
    (void)pthread_mutex_lock(&events->mutex);
    events->is_awake = true; // for what has happened already
    schedule(events);
    (void)pthread_mutex_unlock(&events->mutex);
}

void http_events_answer(HttpExchange *exchange, ProtobufCMessage *message)
{
    Holdfast__V1__StreamEventsRequest *request = (Holdfast__V1__StreamEventsRequest *)message;
    HttpEvents *events = mem_alloc(sizeof(*events));
    events->server = exchange->server;
    events->connection = exchange->connection;
    events->reference_count = 1;
    events->is_closed = true; // a wake-up before the response exists must not fetch
    (void)pthread_mutex_init(&events->mutex, NULL);
    buffer_init(&events->pending, PENDING_BYTES_MAX);
    (void)buffer_append_text(&events->pending, RETRY_LINE);
    Error error = {0};
    Status status = apply_last_event_id(exchange, request, &error);
    if (status == STATUS_OK) {
        status = event_subscription_open(exchange->server->service, &exchange->call, request,
                                         on_wake, events, &events->subscription, &error);
    }
    if (status != STATUS_OK) {
        events_unref(events);
        http_answer_problem(exchange, &error);
        return;
    }
    (void)pthread_mutex_lock(&events->mutex);
    events->is_closed = false;
    (void)pthread_mutex_unlock(&events->mutex);
    answer_stream(exchange, events);
}

void http_events_keep_alive(HttpServer *server)
{
    for (HttpEvents *events = server->streams; events != NULL; events = events->next) {
        (void)pthread_mutex_lock(&events->mutex);
        if (events->pending.size == 0) {
            (void)buffer_append_text(&events->pending, COMMENT_LINE);
            resume(events);
        }
        (void)pthread_mutex_unlock(&events->mutex);
    }
}

void http_events_end_all(HttpServer *server)
{
    (void)pthread_mutex_lock(&server->list_mutex);
    for (HttpEvents *events = server->streams; events != NULL; events = events->next) {
        (void)pthread_mutex_lock(&events->mutex);
        events->is_ended = true;
        resume(events);
        (void)pthread_mutex_unlock(&events->mutex);
    }
    (void)pthread_mutex_unlock(&server->list_mutex);
}
