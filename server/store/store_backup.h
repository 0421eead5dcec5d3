// SPDX-License-Identifier: Apache-2.0
// Backups as resources: creating (by hand and by policies), showing, canceling, deleting. What runs
// them is store_work_backup.h. Lock order: the database's row (store_database_lock), then as in
// store_instance.h.
#pragma once

#include "server/store/store.h"

// Of backups b. A pin whose time has come is none any more.
#define STORE_BACKUP_PINNED                                                                        \
    "(b.pinned_at IS NOT NULL AND (b.pinned_until IS NULL OR b.pinned_until > now()))"

typedef struct StoreBackupRequest {
    const char *database_id;
    const char *repository_id;
    const char *policy_id; // NULL: by hand
    const char *slot_at;   // the policy's slot, a timestamptz; NULL: by hand
    bool is_seed;
    const char *note;   // or NULL
    const char *limits; // its own: JSON, or NULL
} StoreBackupRequest;

typedef enum StoreBackupOutcome {
    STORE_BACKUP_CREATED,
    STORE_BACKUP_OVERLAP,    // one of this database is pending or running: ret_backup_id
    STORE_BACKUP_SLOT_TAKEN, // this slot has fired: ret_backup_id
    STORE_BACKUP_NO_SHARDS,
} StoreBackupOutcome;
// A pending backup with a pending shard backup for every shard, each pinned to its parent (the
// newest committed one in this repository that restores and is not being deleted; none: a seed),
// the work item, the event "backup.created" and the wake-up. Locks the database. Whoever looks at
// the outcome first and then refuses must roll back, or commit nothing else that depends on it:
// other outcomes change nothing.
Status store_backup_create(StoreTransaction *transaction, Arena *arena,
                           const StoreBackupRequest *request, StoreBackupOutcome *ret_outcome,
                           const char **ret_backup_id, Error *error);

// The resource. REASON_NOT_FOUND.
Status store_backup_get(StoreTransaction *transaction, Arena *arena, const char *id,
                        StoreRows *ret_rows, Error *error);
// Which backups; state is a word. Any may be NULL.
typedef struct StoreBackupFilter {
    const char *database_id, *repository_id, *state;
} StoreBackupFilter;
// Newest first.
Status store_backup_list(StoreTransaction *transaction, Arena *arena,
                         const StoreBackupFilter *filter, const StorePage *page,
                         StoreRows *ret_rows, Error *error);
// Columns id, state, database (name), database_id, repository_id, is_held, is_pinned; locks
// database and backup. REASON_NOT_FOUND.
Status store_backup_lock(StoreTransaction *transaction, Arena *arena, const char *id,
                         StoreRows *ret_rows, Error *error);
// Remembers that it is to end, and wakes who ends it. The backup must be locked, and pending or
// running.
Status store_backup_cancel(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *database, Error *error);

typedef enum StoreBackupDeletion {
    STORE_BACKUP_DELETION_BEGUN, // or begun before: state 'deleting' or 'deleted'
    STORE_BACKUP_DELETION_RUNNING,
    STORE_BACKUP_DELETION_RESTORING, // a restore reads it: ret_user_id
    STORE_BACKUP_DELETION_PARENT,    // a running backup starts from it: ret_user_id
    STORE_BACKUP_DELETION_HELD,
    STORE_BACKUP_DELETION_PINNED,
} StoreBackupDeletion;
// Marks a backup for removal, with the work (WORK_RETENTION) and the event "backup.deleting";
// `why` is the event's sentence.
Status store_backup_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *why, StoreBackupDeletion *ret_outcome,
                           const char **ret_user_id, Error *error);

// The backup must be locked, and neither 'deleting' nor 'deleted'. `until`: a timestamptz, or NULL.
Status store_backup_pin(StoreTransaction *transaction, Arena *arena, const char *id, bool is_pinned,
                        const char *until, const char *note, Error *error);
Status store_backup_hold(StoreTransaction *transaction, Arena *arena, const char *id, bool is_held,
                         const char *note, Error *error);

// The shard backups of a backup, by shard name, with their attempts and phases.
Status store_shard_backup_list(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                               const StorePage *page, StoreRows *ret_rows, Error *error);
// REASON_NOT_FOUND.
Status store_shard_backup_get(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                              const char *shard, StoreRows *ret_rows, Error *error);

// What retention decides over: every backup of the policy that holds something (succeeded, or
// failed or canceled with committed shard backups), and those made by hand in the same database and
// repository; newest first. Columns id, state, trigger, checkpoint_at (or created_at), local_us
// (what a clock in the policy's time zone showed then, read as UTC), is_held, is_pinned,
// pinned_until_text, is_restorable, stored_bytes.
Status store_backup_retention(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                              StoreRows *ret_rows, Error *error);
