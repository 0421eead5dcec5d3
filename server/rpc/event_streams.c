// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "rpc"

#include "server/rpc/event_streams.h"

#include "common/log.h"
#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#define RETRY_MS 50 // for a client that reads slower than events come

struct EventStream {
    EventStreams *streams;
    RpcCall *call; // a reference
    EventSubscription *subscription;
    // The feeding thread's: what was fetched and not sent yet.
    Arena *arena;
    Holdfast__V1__Event **events;
    size_t event_count;
    size_t event_index;
    // Guarded by the streams' mutex.
    EventStream *next;
    EventStream **link;
    bool is_awake;   // there may be something to fetch
    bool is_feeding; // the thread is busy with it
};

struct EventStreams {
    Service *service;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed; // something is awake, was fed, or the end came
    EventStream *first;
    bool is_stopping;
};

// Sends what was fetched. False: the client's queue is full or the call is over.
static bool send_fetched(EventStream *stream)
{
    while (stream->event_index < stream->event_count) {
        if (!rpc_call_send(stream->call, &stream->events[stream->event_index]->base)) {
            return false;
        }
        stream->event_index++;
    }
    return true;
}

// Sends until there is nothing more. False: not everything could be sent.
static bool feed(EventStream *stream)
{
    for (;;) {
        if (!send_fetched(stream)) {
            return false;
        }
        arena_reset(stream->arena);
        stream->event_index = 0;
        stream->event_count = 0;
        Error error = {0};
        Status status = event_subscription_next(stream->subscription, stream->arena,
                                                &stream->events, &stream->event_count, &error);
        if (status != STATUS_OK) {
            log_error_record(LOG_WARNING, LOG_MODULE, &error, "an event stream was ended", NULL);
            rpc_call_finish(stream->call, status, reason_title(error.reason));
            stream->event_count = 0;
            return true;
        }
        if (stream->event_count == 0) {
            return true;
        }
    }
}

// Feeds each awake stream once. Needs the mutex, and gives it up meanwhile. Returns whether one has
// to be retried.
static bool feed_awake(EventStreams *streams)
{
    bool has_waiting = false;
    EventStream *stream = streams->first;
    while (stream != NULL && !streams->is_stopping) {
        if (!stream->is_awake) {
            stream = stream->next;
            continue;
        }
        stream->is_awake = false;
        stream->is_feeding = true;
        (void)pthread_mutex_unlock(&streams->mutex);
        bool is_done = feed(stream);
        (void)pthread_mutex_lock(&streams->mutex);
        stream->is_feeding = false;
        if (!is_done) {
            stream->is_awake = true;
            has_waiting = true;
        }
        (void)pthread_cond_broadcast(&streams->changed);
        stream =
            stream->next; // a stream that is fed is not closed, so that it is in the list still
    }
    return has_waiting;
}

static bool has_awake(const EventStreams *streams)
{
    for (const EventStream *stream = streams->first; stream != NULL; stream = stream->next) {
        if (stream->is_awake) {
            return true;
        }
    }
    return false;
}

static void *run(void *context)
{
    EventStreams *streams = context;
    (void)pthread_mutex_lock(&streams->mutex);
    while (!streams->is_stopping) {
        if (feed_awake(streams)) {
            struct timespec until = {0};
            (void)clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += RETRY_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000L;
            until.tv_nsec %= 1000000000L;
            (void)pthread_cond_timedwait(&streams->changed, &streams->mutex, &until);
        } else if (!has_awake(streams) && !streams->is_stopping) {
            (void)pthread_cond_wait(&streams->changed, &streams->mutex);
        }
    }
    (void)pthread_mutex_unlock(&streams->mutex);
    return NULL;
}

EventStreams *event_streams_new(Service *service)
{
    EventStreams *streams = mem_alloc(sizeof(*streams));
    streams->service = service;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&streams->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&streams->mutex, NULL);
    int result = pthread_create(&streams->thread, NULL, run, streams);
    assert(result == 0);
    return streams;
}

void event_streams_stop(EventStreams *streams)
{
    (void)pthread_mutex_lock(&streams->mutex);
    bool was_stopping = streams->is_stopping;
    streams->is_stopping = true;
    for (EventStream *stream = streams->first; stream != NULL; stream = stream->next) {
        rpc_call_finish(stream->call, STATUS_UNAVAILABLE, "the server stops");
    }
    (void)pthread_cond_broadcast(&streams->changed);
    (void)pthread_mutex_unlock(&streams->mutex);
    if (!was_stopping) {
        (void)pthread_join(streams->thread, NULL);
    }
}

void event_streams_free(EventStreams *streams)
{
    if (streams == NULL) {
        return;
    }
    event_streams_stop(streams);
    assert(streams->first == NULL);
    (void)pthread_cond_destroy(&streams->changed);
    (void)pthread_mutex_destroy(&streams->mutex);
    mem_free(streams);
}

static void on_wake(void *context)
{
    EventStream *stream = context;
    EventStreams *streams = stream->streams;
    (void)pthread_mutex_lock(&streams->mutex);
    stream->is_awake = true;
    (void)pthread_cond_broadcast(&streams->changed);
    (void)pthread_mutex_unlock(&streams->mutex);
}

Status event_stream_open(EventStreams *streams, RpcCall *call, ServiceCall *service_call,
                         const Holdfast__V1__StreamEventsRequest *request, EventStream **ret_stream,
                         Error *error)
{
    EventStream *stream = mem_alloc(sizeof(*stream));
    stream->streams = streams;
    Status status = event_subscription_open(streams->service, service_call, request, on_wake,
                                            stream, &stream->subscription, error);
    if (status != STATUS_OK) {
        mem_free(stream);
        return status;
    }
    stream->call = rpc_call_ref(call);
    stream->arena = arena_new();
    (void)pthread_mutex_lock(&streams->mutex);
    stream->is_awake = true; // for what has happened already
    stream->next = streams->first;
    stream->link = &streams->first;
    if (stream->next != NULL) {
        stream->next->link = &stream->next;
    }
    streams->first = stream;
    (void)pthread_cond_broadcast(&streams->changed);
    (void)pthread_mutex_unlock(&streams->mutex);
    *ret_stream = stream;
    return STATUS_OK;
}

void event_stream_close(EventStream *stream)
{
    EventStreams *streams = stream->streams;
    (void)pthread_mutex_lock(&streams->mutex);
    while (stream->is_feeding) {
        (void)pthread_cond_wait(&streams->changed, &streams->mutex);
    }
    *stream->link = stream->next;
    if (stream->next != NULL) {
        stream->next->link = stream->link;
    }
    (void)pthread_mutex_unlock(&streams->mutex);
    event_subscription_close(stream->subscription);
    rpc_call_unref(stream->call);
    arena_free(stream->arena);
    mem_free(stream);
}
