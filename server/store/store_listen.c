// SPDX-License-Identifier: Apache-2.0
// The listener thread: one connection of its own, which comes back after a loss.
#include "common/clock.h"
#include "common/file.h"
#include "server/store/store_internal.h"

#include <assert.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RECONNECT_MS 1000
#define CHECK_MS 10000 // a connection that says nothing for this long is asked whether it lives

static const char *const CHANNELS[] = {"events", "work", "sessions"};

static void call_listeners(Store *store, const char *channel)
{
    pthread_mutex_lock(&store->listener_mutex);
    for (int i = 0; i < store->listener_count; i++) {
        store->listeners[i].on_notify(store->listeners[i].context, channel);
    }
    pthread_mutex_unlock(&store->listener_mutex);
}

// True: the store is being closed.
static bool wait_for(Store *store, int socket, int timeout_ms)
{
    struct pollfd files[2] = {{.fd = store->wake_fd, .events = POLLIN},
                              {.fd = socket, .events = POLLIN}};
    return poll(files, socket >= 0 ? 2 : 1, timeout_ms) > 0 && (files[0].revents & POLLIN) != 0;
}

static PGconn *listener_connect(Store *store)
{
    Error error = {0};
    PGconn *handle = NULL;
    if (store_connect(store, &handle, &error) != STATUS_OK) {
        return NULL;
    }
    CLEANUP(store_result_clearp)
    PGresult *result = PQexec(handle, "LISTEN events; LISTEN work; LISTEN sessions");
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        PQfinish(handle);
        return NULL;
    }
    return handle;
}

// Reads what has come and calls every channel that was named once. False: the connection is lost.
static bool dispatch(Store *store, PGconn *handle)
{
    if (PQconsumeInput(handle) == 0) {
        return false;
    }
    bool is_named[ARRAY_COUNT(CHANNELS)] = {false};
    for (PGnotify *notify = PQnotifies(handle); notify != NULL; notify = PQnotifies(handle)) {
        for (size_t i = 0; i < ARRAY_COUNT(CHANNELS); i++) {
            is_named[i] = is_named[i] || strcmp(notify->relname, CHANNELS[i]) == 0;
        }
        PQfreemem(notify);
    }
    for (size_t i = 0; i < ARRAY_COUNT(CHANNELS); i++) {
        if (is_named[i]) {
            call_listeners(store, CHANNELS[i]);
        }
    }
    return true;
}

static bool is_alive(PGconn *handle)
{
    CLEANUP(store_result_clearp) PGresult *result = PQexec(handle, "SELECT 1");
    return PQresultStatus(result) == PGRES_TUPLES_OK;
}

static void *listen_main(void *argument)
{
    Store *store = argument;
    PGconn *handle = NULL;
    int64_t checked_at_ms = 0;
    for (;;) {
        if (handle == NULL) {
            handle = listener_connect(store);
            if (handle == NULL) {
                if (wait_for(store, INVALID_FD, RECONNECT_MS)) {
                    break;
                }
                continue;
            }
            checked_at_ms = clock_monotonic_ms();
            // Whatever was said while nobody listened.
            for (size_t i = 0; i < ARRAY_COUNT(CHANNELS); i++) {
                call_listeners(store, CHANNELS[i]);
            }
        }
        if (wait_for(store, PQsocket(handle), CHECK_MS)) {
            break;
        }
        bool is_lost = !dispatch(store, handle);
        if (!is_lost && clock_monotonic_ms() - checked_at_ms >= CHECK_MS) {
            is_lost = !is_alive(handle);
            checked_at_ms = clock_monotonic_ms();
        }
        if (is_lost) {
            PQfinish(handle);
            handle = NULL;
        }
    }
    PQfinish(handle);
    return NULL;
}

static Status listen_start(Store *store, Error *error)
{
    store->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (store->wake_fd < 0) {
        return error_set(error, REASON_EXHAUSTED, "no file descriptor for the listener");
    }
    if (pthread_create(&store->listen_thread, NULL, listen_main, store) != 0) {
        fd_closep(&store->wake_fd);
        return error_set(error, REASON_EXHAUSTED, "no thread for the listener");
    }
    store->is_listening = true;
    return STATUS_OK;
}

Status store_listen(Store *store, void (*on_notify)(void *context, const char *channel),
                    void *context, Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&store->listener_mutex);
    assert(store->listener_count < STORE_LISTENER_COUNT_MAX);
    if (!store->is_listening) {
        status = listen_start(store, error);
    }
    if (status == STATUS_OK) {
        store->listeners[store->listener_count++] =
            (StoreListener){.on_notify = on_notify, .context = context};
    }
    pthread_mutex_unlock(&store->listener_mutex);
    return status;
}

void store_unlisten(Store *store, void *context)
{
    pthread_mutex_lock(&store->listener_mutex);
    for (int i = 0; i < store->listener_count; i++) {
        if (store->listeners[i].context == context) {
            store->listeners[i] = store->listeners[--store->listener_count];
            break;
        }
    }
    pthread_mutex_unlock(&store->listener_mutex);
}

void store_listen_stop(Store *store)
{
    if (!store->is_listening) {
        return;
    }
    uint64_t one = 1;
    (void)!write(store->wake_fd, &one, sizeof(one)); // an eventfd takes it always
    pthread_join(store->listen_thread, NULL);
    store->is_listening = false;
    fd_closep(&store->wake_fd);
}
