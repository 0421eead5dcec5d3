// SPDX-License-Identifier: Apache-2.0
// Policies, and when they are due. The slots are computed by the caller: schedules are not SQL's
// business.
#pragma once

#include "server/store/store.h"

typedef struct StorePolicy {
    const char *id, *database_id, *name, *schedule, *time_zone, *repository_id, *etag;
    int keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly;
    int64_t keep_for_us;
    int64_t stagger_us, stagger_delay_us; // the window, and the delay in it
    bool is_paused;
    int full_read_every;
    const char *limits; // JSON, or NULL
    int64_t next_us;    // the next slot; not used when paused
} StorePolicy;

// Both set policy_due too.
Status store_policy_add(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                        Error *error);
// Everything but name and database. With is_due_kept the next slot stays (the schedule has not
// changed), and a changed delay is from the same slot.
Status store_policy_update(StoreTransaction *transaction, Arena *arena, const StorePolicy *policy,
                           bool is_due_kept, Error *error);
// The resource, and columns database_id, repository_row_id; locked when is_locked.
// REASON_NOT_FOUND.
Status store_policy_get(StoreTransaction *transaction, Arena *arena, const char *database,
                        const char *name, bool is_locked, StoreRows *ret_rows, Error *error);
// By database and name; database_id may be NULL: of every database.
Status store_policy_list(StoreTransaction *transaction, Arena *arena, const char *database_id,
                         const StorePage *page, StoreRows *ret_rows, Error *error);
Status store_policy_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                           Error *error);
// The repository of the database's first policy; NULL when it has none.
Status store_policy_first_repository(StoreTransaction *transaction, Arena *arena,
                                     const char *database_id, const char **ret_repository_id,
                                     Error *error);
// The database's clock.
Status store_now(StoreTransaction *transaction, int64_t *ret_now_us, Error *error);
