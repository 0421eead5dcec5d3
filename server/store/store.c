// SPDX-License-Identifier: Apache-2.0
// The pool of connections, and transactions on them.
#include "server/store/store.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/secret.h"
#include "server/store/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SERVER_VERSION_MIN 140000

// Times and intervals are read as text, so their form must not depend on the server's settings.
static const char SESSION_SETTINGS[] = "SET TimeZone = 'UTC';"
                                       "SET DateStyle = 'ISO, YMD';"
                                       "SET IntervalStyle = 'iso_8601';"
                                       "SET bytea_output = 'hex';"
                                       "SET extra_float_digits = 1;"
                                       "SET statement_timeout = '30s';"
                                       "SET lock_timeout = '10s';"
                                       "SET idle_in_transaction_session_timeout = '10s'";

void store_result_clearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

// Notices, and the last words of a server that ends a connection, would go to stderr, among our
// log's lines.
static void on_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

Status store_connect(const Store *store, PGconn **ret_handle, Error *error)
{
    // What comes before dbname can be overridden by the URL, what comes after cannot.
    const char *const keys[] = {"connect_timeout", "tcp_user_timeout", "fallback_application_name",
                                "dbname",          "client_encoding",  NULL};
    const char *const values[] = {"5", "20000", store->application_name, store->url, "UTF8", NULL};
    PGconn *handle = PQconnectdbParams(keys, values, 1);
    if (handle == NULL) {
        mem_exhausted();
    }
    PQsetNoticeReceiver(handle, on_notice, NULL);
    if (PQstatus(handle) != CONNECTION_OK) {
        char message[512];
        snprintf(message, sizeof(message), "%s", PQerrorMessage(handle));
        message[strcspn(message, "\n")] = '\0';
        PQfinish(handle);
        error_set(error, REASON_DATABASE_UNREACHABLE, "cannot connect to Holdfast's PostgreSQL: %s",
                  message);
        return error_hint(error, "check with psql and the same URL that the server runs, accepts "
                                 "this user and has this database");
    }
    CLEANUP(store_result_clearp) PGresult *result = PQexec(handle, SESSION_SETTINGS);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        store_result_error(handle, result, error);
        PQfinish(handle);
        return error_wrap(error, "setting up the connection");
    }
    *ret_handle = handle;
    return STATUS_OK;
}

static void connection_drop(StoreConnection *connection)
{
    PQfinish(connection->handle);
    connection->handle = NULL;
    connection->statement_count = 0;
}

Status store_open(const StoreOptions *options, Store **ret_store, Error *error)
{
    assert(options->database_url != NULL);
    assert(options->connection_count > 0);
    Store *store = mem_alloc(sizeof(*store));
    store->url = string_copy(options->database_url);
    store->application_name =
        string_copy(options->application_name != NULL ? options->application_name : "holdfast");
    store->connection_count = options->connection_count;
    store->connections = mem_alloc_array((size_t)store->connection_count, sizeof(StoreConnection));
    store->free_connections =
        mem_alloc_array((size_t)store->connection_count, sizeof(StoreConnection *));
    // The first connection is on top: few calls at a time use few connections.
    for (int i = store->connection_count - 1; i >= 0; i--) {
        store->free_connections[store->free_count++] = &store->connections[i];
    }
    pthread_mutex_init(&store->mutex, NULL);
    pthread_mutex_init(&store->listener_mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&store->on_free, &attributes);
    pthread_condattr_destroy(&attributes);
    store->wake_fd = -1;

    Status status = store_connect(store, &store->connections[0].handle, error);
    if (status == STATUS_OK) {
        int version = PQserverVersion(store->connections[0].handle);
        if (version < SERVER_VERSION_MIN) {
            error_set(error, REASON_PRECONDITION, "PostgreSQL %d is too old for Holdfast's state",
                      version / 10000);
            status = error_hint(error, "use PostgreSQL 14 or newer");
        }
    }
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *ret_store = store;
    return STATUS_OK;
}

void store_close(Store *store)
{
    if (store == NULL) {
        return;
    }
    store_listen_stop(store);
    assert(store->free_count == store->connection_count);
    for (int i = 0; i < store->connection_count; i++) {
        connection_drop(&store->connections[i]);
    }
    pthread_cond_destroy(&store->on_free);
    pthread_mutex_destroy(&store->listener_mutex);
    pthread_mutex_destroy(&store->mutex);
    mem_free(store->free_connections);
    mem_free(store->connections);
    secret_wipe_text(store->url);
    mem_free(store->url);
    mem_free(store->application_name);
    mem_free(store);
}

static StoreConnection *connection_acquire(Store *store)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += STORE_BEGIN_WAIT_SECONDS;
    StoreConnection *connection = NULL;
    pthread_mutex_lock(&store->mutex);
    while (store->free_count == 0) {
        if (pthread_cond_timedwait(&store->on_free, &store->mutex, &deadline) == ETIMEDOUT) {
            break;
        }
    }
    if (store->free_count > 0) {
        connection = store->free_connections[--store->free_count];
    }
    pthread_mutex_unlock(&store->mutex);
    return connection;
}

static void connection_release(Store *store, StoreConnection *connection)
{
    if (connection->handle != NULL && (PQstatus(connection->handle) != CONNECTION_OK ||
                                       PQtransactionStatus(connection->handle) != PQTRANS_IDLE)) {
        connection_drop(connection);
    }
    pthread_mutex_lock(&store->mutex);
    store->free_connections[store->free_count++] = connection;
    pthread_cond_signal(&store->on_free);
    pthread_mutex_unlock(&store->mutex);
}

static Status connection_begin(Store *store, StoreConnection *connection, Error *error)
{
    // A pooled connection may have died unnoticed; then a fresh one gets one try.
    for (int i = 0; i < 2; i++) {
        bool is_fresh = connection->handle == NULL;
        if (is_fresh) {
            RETURN_IF_ERROR(store_connect(store, &connection->handle, error));
        }
        CLEANUP(store_result_clearp) PGresult *result = PQexec(connection->handle, "BEGIN");
        if (PQresultStatus(result) == PGRES_COMMAND_OK) {
            return STATUS_OK;
        }
        store_result_error(connection->handle, result, error);
        connection_drop(connection);
        if (is_fresh) {
            break;
        }
    }
    return error->status;
}

Status store_begin(Store *store, StoreTransaction **ret_transaction, Error *error)
{
    StoreConnection *connection = connection_acquire(store);
    if (connection == NULL) {
        error_set(error, REASON_UNAVAILABLE, "all %d connections to PostgreSQL are busy",
                  store->connection_count);
        return error_hint(error, "try again; if it stays, raise the number of connections");
    }
    Status status = connection_begin(store, connection, error);
    if (status != STATUS_OK) {
        connection_release(store, connection);
        return status;
    }
    StoreTransaction *transaction = mem_alloc(sizeof(*transaction));
    transaction->store = store;
    transaction->connection = connection;
    *ret_transaction = transaction;
    return STATUS_OK;
}

static void transaction_end(StoreTransaction *transaction)
{
    store_events_free(transaction->events);
    connection_release(transaction->store, transaction->connection);
    mem_free(transaction);
}

Status store_commit(StoreTransaction **transaction, Error *error)
{
    assert(*transaction != NULL);
    Status status = store_events_flush(*transaction, error);
    if (status != STATUS_OK) {
        store_rollback(transaction);
        return status;
    }
    StoreTransaction *ending = TAKE_PTR(*transaction);
    CLEANUP(store_result_clearp) PGresult *result = PQexec(ending->connection->handle, "COMMIT");
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        status = store_result_error(ending->connection->handle, result, error);
    } else if (strcmp(PQcmdStatus(result), "COMMIT") != 0) {
        // COMMIT of a failed transaction answers "ROLLBACK" without an error.
        status = error_set(error, REASON_INTERNAL, "the transaction had failed before its commit");
    }
    transaction_end(ending);
    return status;
}

void store_rollback(StoreTransaction **transaction)
{
    if (*transaction == NULL) {
        return;
    }
    StoreTransaction *ending = TAKE_PTR(*transaction);
    if (PQstatus(ending->connection->handle) == CONNECTION_OK) {
        PQclear(PQexec(ending->connection->handle, "ROLLBACK"));
    }
    transaction_end(ending);
}

Status store_ping(Store *store, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(store, &transaction, error));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(transaction, arena, "SELECT 1", 0, NULL, error);
}
