// SPDX-License-Identifier: Apache-2.0
// Work: what is to be done, claimed under a lease. The row of a subject says only that somebody
// should look at it; what there is to do is derived from the facts, so that a step may run twice,
// late, or after a crash anywhere.
#pragma once

#include "server/store/store.h"

// Kinds. A subject is a UUID.
#define WORK_BACKUP "backup"       // backup id: plan, barrier, finish
#define WORK_RESTORE "restore"     // restore id
#define WORK_RETENTION "retention" // database id: which backups go, and their objects
#define WORK_FORGET_SOURCE                                                                         \
    "forget_source"                      // shard id: remove what dead instances left at the source
#define WORK_INSTANCE "instance"         // instance id, not placed yet
#define WORK_HOUSEKEEPING "housekeeping" // WORK_SUBJECT_ALL: old keys and events, hourly retention
// Bound to one server, because it needs that server's machine: "<kind>:<server id>".
#define WORK_INSTANCE_AT "instance:"
#define WORK_SWEEP_AT "sweep:"
#define WORK_SUBJECT_ALL "00000000-0000-0000-0000-000000000000"

typedef struct WorkItem {
    const char *kind;
    const char *subject_id;
    const char *due_at; // exactly as it was when it was claimed
    int tries;          // failures in a row before this one
} WorkItem;

// Makes the subject due in delay_ms, or earlier if it was; one that is being worked on becomes due
// again afterwards. Wakes the workers.
Status store_work_add(StoreTransaction *transaction, const char *kind, const char *subject_id,
                      int64_t delay_ms, Error *error);

// Claims up to `limit` due items for lease_ms; those of a server that died come back when their
// lease ends.
Status store_work_claim(StoreTransaction *transaction, Arena *arena, const char *server_id,
                        int64_t lease_ms, int limit, WorkItem **ret_items, size_t *ret_count,
                        Error *error);
// Ends a claim. next_ms < 0: done, the row is deleted - unless it was added again meanwhile.
// Otherwise due again after next_ms. A lease that was lost is left alone. ret_is_due: it is due
// again at once (it was added while it was worked on).
Status store_work_finish(StoreTransaction *transaction, const char *server_id, const WorkItem *item,
                         int64_t next_ms, bool is_failure, bool *ret_is_due, Error *error);
Status store_work_renew(StoreTransaction *transaction, const char *server_id, int64_t lease_ms,
                        const WorkItem *item, Error *error);
// What an earlier run of this server held when it died: at once due again. Only one process can be
// this server.
Status store_work_release(StoreTransaction *transaction, const char *server_id, Error *error);

// --- servers ---
Status store_server_seen(StoreTransaction *transaction, const char *server_id, const char *version,
                         const char *agent_address, bool is_start, Error *error);
// Agent addresses of this server and then of all that live, comma-separated.
Status store_server_addresses(StoreTransaction *transaction, Arena *arena, const char *server_id,
                              const char **ret_addresses, Error *error);

// --- the identity that all servers share ---
typedef struct ServerIdentityRow {
    const char *certificate_pem;
    const uint8_t *key_sealed;
    size_t key_sealed_size;
    const uint8_t *key_check;
    size_t key_check_size;
} ServerIdentityRow;
// NULL when there is none yet.
Status store_server_identity_get(StoreTransaction *transaction, Arena *arena,
                                 ServerIdentityRow **ret_row, Error *error);
// The first one wins: another that came before is kept.
Status store_server_identity_add(StoreTransaction *transaction, Arena *arena,
                                 const ServerIdentityRow *row, Error *error);

// --- housekeeping ---
Status store_work_clean(StoreTransaction *transaction, int64_t idempotency_keep_ms,
                        int64_t event_keep_ms, Error *error);
