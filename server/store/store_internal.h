// SPDX-License-Identifier: Apache-2.0
// Inside of store.c, store_listen.c and store_migrate.c: connections. Nobody else includes it.
#pragma once

#include "server/store/store.h"

#include <libpq-fe.h>
#include <pthread.h>

#define STORE_STATEMENT_COUNT_MAX 256
#define STORE_LISTENER_COUNT_MAX 8
#define STORE_BEGIN_WAIT_SECONDS 5

typedef struct StoreConnection {
    PGconn *handle;                                 // NULL: not connected
    uint64_t statements[STORE_STATEMENT_COUNT_MAX]; // hashes of the statements it has prepared
    int statement_count;
} StoreConnection;

typedef struct StoreListener {
    void (*on_notify)(void *context, const char *channel);
    void *context;
} StoreListener;

struct Store {
    char *url;
    char *application_name;
    StoreConnection *connections;
    int connection_count;
    pthread_mutex_t mutex; // guards free_connections and free_count
    pthread_cond_t on_free;
    StoreConnection **free_connections;
    int free_count;

    pthread_mutex_t listener_mutex; // guards the listeners; held while they run
    StoreListener listeners[STORE_LISTENER_COUNT_MAX];
    int listener_count;
    pthread_t listen_thread;
    bool is_listening;
    int wake_fd; // eventfd that ends the thread
};

typedef struct StoreEvent StoreEvent;

struct StoreTransaction {
    Store *store;
    StoreConnection *connection;
    bool is_failed;     // a statement failed: PostgreSQL will only roll it back
    StoreEvent *events; // written by store_commit, see store_event.c
};

// A new connection with our session settings.
Status store_connect(const Store *store, PGconn **ret_handle, Error *error);
// The error of a failed result; fills and returns it. `handle` says whether the connection still
// lives.
Status store_result_error(PGconn *handle, const PGresult *result, Error *error);
// Writes the transaction's events under the lock that keeps them in order.
Status store_events_flush(StoreTransaction *transaction, Error *error);
void store_events_free(StoreEvent *events);
void store_result_clearp(PGresult **result);
void store_listen_stop(Store *store);
