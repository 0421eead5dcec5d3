// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_event.h"

#include "common/memory.h"
#include "server/store/store_internal.h"

#include <assert.h>

// Any constant will do; it must only differ from the other advisory locks of this schema.
#define EVENT_LOCK "7305804402566922341"

struct StoreEvent {
    StoreEvent *next;
    char *severity, *kind, *database, *backup_id, *shard, *subject_id, *message;
};

static char *copy_or_empty(const char *text)
{
    return string_copy(text != NULL ? text : "");
}

void store_event_add(StoreTransaction *transaction, const StoreEventFields *fields)
{
    assert(fields->severity != NULL && fields->kind != NULL && fields->message != NULL);
    StoreEvent *event = mem_alloc(sizeof(*event));
    event->severity = string_copy(fields->severity);
    event->kind = string_copy(fields->kind);
    event->database = copy_or_empty(fields->database);
    event->backup_id = copy_or_empty(fields->backup_id);
    event->shard = copy_or_empty(fields->shard);
    event->subject_id = copy_or_empty(fields->subject_id);
    event->message = string_copy(fields->message);
    StoreEvent **end = &transaction->events;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = event;
}

void store_events_free(StoreEvent *event)
{
    while (event != NULL) {
        StoreEvent *next = event->next;
        mem_free(event->severity);
        mem_free(event->kind);
        mem_free(event->database);
        mem_free(event->backup_id);
        mem_free(event->shard);
        mem_free(event->subject_id);
        mem_free(event->message);
        mem_free(event);
        event = next;
    }
}

Status store_events_flush(StoreTransaction *transaction, Error *error)
{
    if (transaction->events == NULL) {
        return STATUS_OK;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "SELECT pg_advisory_xact_lock(" EVENT_LOCK "), "
                                  "pg_notify('events', '')",
                                  0, NULL, error));
    for (const StoreEvent *event = transaction->events; event != NULL; event = event->next) {
        RETURN_IF_ERROR(store_execute(
            transaction, arena,
            "INSERT INTO events (severity, kind, database, backup_id, shard, subject_id, message) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7)",
            STORE_PARAMETERS(event->severity, event->kind, event->database, event->backup_id,
                             event->shard, event->subject_id, event->message),
            error));
    }
    return STATUS_OK;
}

#define EVENT_COLUMNS                                                                              \
    "id, time, severity, kind, database, backup_id, shard, subject_id, message, "                  \
    "id AS page_key_1"
#define EVENT_FILTER                                                                               \
    " ($1::text IS NULL OR database = $1) AND ($2::text IS NULL OR backup_id = $2) "               \
    "AND ($3::int <= 1 OR severity = 'error' OR (severity = 'warning' AND $3::int = 2)) "

Status store_event_list(StoreTransaction *transaction, Arena *arena, const StoreEventFilter *filter,
                        const StorePage *page, StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       "SELECT " EVENT_COLUMNS " FROM events WHERE" EVENT_FILTER
                       "AND id < coalesce($4, '9223372036854775807')::bigint "
                       "ORDER BY id DESC LIMIT $5::int",
                       STORE_PARAMETERS(filter->database, filter->backup_id,
                                        store_integer_parameter(arena, filter->severity_min),
                                        page->after[0],
                                        store_integer_parameter(arena, page->limit)),
                       ret_rows, error);
}

Status store_event_after(StoreTransaction *transaction, Arena *arena,
                         const StoreEventFilter *filter, int64_t after_id, int limit,
                         StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena,
                       "SELECT " EVENT_COLUMNS " FROM events WHERE" EVENT_FILTER
                       "AND id > $4::bigint ORDER BY id LIMIT $5::int",
                       STORE_PARAMETERS(filter->database, filter->backup_id,
                                        store_integer_parameter(arena, filter->severity_min),
                                        store_integer_parameter(arena, after_id),
                                        store_integer_parameter(arena, limit)),
                       ret_rows, error);
}

Status store_event_last_id(StoreTransaction *transaction, int64_t *ret_id, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena, "SELECT coalesce(max(id), 0) AS id FROM events",
                                0, NULL, &rows, error));
    *ret_id = store_integer(&rows, 0, "id", 0);
    return STATUS_OK;
}
