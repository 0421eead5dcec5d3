// SPDX-License-Identifier: Apache-2.0
// Events: what happened, in the order in which it was committed.
//
// Readers go on from the last id they have seen, so an id must never become visible after a higher
// one. Therefore the events of a transaction are kept in memory and written as its last statement,
// under a lock that is held from there until the commit is visible: ids grow in commit order. (The
// lock costs little: the NOTIFY beside it makes PostgreSQL commit one at a time anyway.)
#pragma once

#include "server/store/store.h"

typedef struct StoreEventFields {
    const char *severity; // "info", "warning", "error"
    const char *kind;     // "backup.started"
    const char *database; // name; the rest may be NULL
    const char *backup_id;
    const char *shard; // name
    const char *subject_id;
    const char *message; // a sentence for people
} StoreEventFields;

// Remembered until store_commit; dropped by store_rollback.
void store_event_add(StoreTransaction *transaction, const StoreEventFields *event);

typedef struct StoreEventFilter {
    const char *database;  // name, or NULL
    const char *backup_id; // or NULL
    int severity_min;      // 0 all, 1 info, 2 warning, 3 error
} StoreEventFilter;
// Newest first; page key: id.
Status store_event_list(StoreTransaction *transaction, Arena *arena, const StoreEventFilter *filter,
                        const StorePage *page, StoreRows *ret_rows, Error *error);
// Oldest first, ids greater than after_id, at most `limit`.
Status store_event_after(StoreTransaction *transaction, Arena *arena,
                         const StoreEventFilter *filter, int64_t after_id, int limit,
                         StoreRows *ret_rows, Error *error);
// The newest id; 0 when there is none.
Status store_event_last_id(StoreTransaction *transaction, int64_t *ret_id, Error *error);
