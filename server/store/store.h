// SPDX-License-Identifier: Apache-2.0
// The store: Holdfast's state in PostgreSQL, and the only folder with SQL. Thread-safe; a
// transaction belongs to one thread. Times are the database's; no connection idles in a
// transaction; statements have timeouts.
#pragma once

#include "common/arena.h"
#include "common/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Store Store;
typedef struct StoreTransaction StoreTransaction;

typedef struct StoreOptions {
    const char *database_url; // libpq URL or key=value list; may hold a password: never logged
    int connection_count;
    const char *application_name;
} StoreOptions;

// Connects once (REASON_DATABASE_UNREACHABLE says how to check), checks the server's version (>=
// 14). The pool reconnects by itself later.
Status store_open(const StoreOptions *options, Store **ret_store, Error *error);
void store_close(Store *store);
// Applies the embedded migrations that are missing, each in one transaction, under an advisory
// lock. REASON_SCHEMA_NEWER changes nothing.
Status store_migrate(Store *store, Error *error);
Status store_ping(Store *store, Error *error);

// Waits for a free connection at most 5 s (REASON_UNAVAILABLE).
Status store_begin(Store *store, StoreTransaction **ret_transaction, Error *error);
Status store_commit(StoreTransaction **transaction, Error *error); // frees it, also on failure
void store_rollback(StoreTransaction **transaction); // fine on NULL; for CLEANUP(store_rollback)

// --- for the files of this folder only: SQL with text parameters ---
typedef struct StoreRows {
    int count;
    int column_count;
    const char **names;  // of columns
    const char **values; // count * column_count, NULL for SQL NULL; in the arena
} StoreRows;
// Unique violations are REASON_EXISTS, foreign keys REASON_IN_USE, serialization failures
// REASON_CONFLICT, lost connections REASON_UNAVAILABLE.
Status store_query(StoreTransaction *transaction, Arena *arena, const char *sql,
                   size_t parameter_count, const char *const *parameters, StoreRows *ret_rows,
                   Error *error);
// The first row's first value; NULL for NULL, or without a row.
Status store_query_value(StoreTransaction *transaction, Arena *arena, const char *sql,
                         size_t parameter_count, const char *const *parameters,
                         const char **ret_value, Error *error);
const char *store_value(const StoreRows *rows, int row,
                        const char *column); // NULL for NULL; asserts the column
int64_t store_integer(const StoreRows *rows, int row, const char *column, int64_t fallback);
bool store_boolean(const StoreRows *rows, int row, const char *column);
int64_t store_time_us(const StoreRows *rows, int row, const char *column,
                      int64_t fallback); // of a timestamptz
// The bytes of a bytea; size 0 and not NULL for NULL.
const uint8_t *store_bytes(const StoreRows *rows, int row, const char *column, Arena *arena,
                           size_t *ret_size);
// A timestamptz and an interval as PostgreSQL writes them here.
bool store_time_parse(const char *text, int64_t *ret_time_us);
bool store_interval_parse(const char *text, int64_t *ret_interval_us);
// As a parameter: bytea, bigint, timestamptz.
const char *store_bytes_parameter(Arena *arena, const void *data, size_t size);
const char *store_integer_parameter(Arena *arena, int64_t value);
const char *store_time_parameter(Arena *arena, int64_t time_us);
// `store_query(transaction, arena, SQL, STORE_PARAMETERS(a, b), &rows, error)`; none: `0, NULL`.
#define STORE_PARAMETERS(...)                                                                      \
    (sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)), (const char *const[])     \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
// A statement whose rows nobody reads.
Status store_execute(StoreTransaction *transaction, Arena *arena, const char *sql,
                     size_t parameter_count, const char *const *parameters, Error *error);

// Where a list goes on: rows beyond `after` (in the list's order), at most `limit`. Each row
// carries its own place as the columns "page_key_1" and, for lists with two keys, "page_key_2".
typedef struct StorePage {
    int limit;
    const char *after[2];
} StorePage;

// Rows to messages by name: a column fills the field of its name (uuid and text: string;
// timestamptz: Timestamp; interval: Duration; text: enum word; json: message or repeated field; a
// column "source.host" fills the field of the nested message). Columns without a field are ignored.
Status store_messages(const StoreRows *rows, Arena *arena,
                      const ProtobufCMessageDescriptor *descriptor,
                      ProtobufCMessage ***ret_messages, Error *error);

// --- notifications: they only wake, the truth is in the tables ---
// One listener thread per store, started by the first call; on_notify runs on it, for every
// channel, and must be quick. Channel: "events", "work", "sessions". After a lost connection every
// channel is called once, since something may have been missed. At most 8 listeners.
Status store_listen(Store *store, void (*on_notify)(void *context, const char *channel),
                    void *context, Error *error);
// After it returns the listener with this context is not running and will not run again. Not to be
// called by a listener.
void store_unlisten(Store *store, void *context);
// Sent when the transaction commits.
Status store_notify(StoreTransaction *transaction, const char *channel, Error *error);
