// SPDX-License-Identifier: Apache-2.0
// Policies that are due, and what became of their slots. Lock order: the database's row,
// policy_due, then as in store_backup.h.
#pragma once

#include "server/store/store.h"

typedef struct DuePolicy {
    const char *id, *name, *schedule, *time_zone;
    const char *database_id, *database_name, *repository_id;
    int64_t slot_us;
    int64_t now_us;      // less the policy's delay: the slots up to here are to have started
    const char *slot_at; // the slot, as PostgreSQL writes it
} DuePolicy;
// Ids of policies that are due, the longest due first. Not locked: somebody else may take them.
Status store_policy_due_list(StoreTransaction *transaction, Arena *arena, int limit,
                             const char ***ret_ids, size_t *ret_count, Error *error);
// Locks it. NULL: it is not due any more, or somebody else has it.
Status store_policy_due_take(StoreTransaction *transaction, Arena *arena, const char *policy_id,
                             DuePolicy **ret_policy, Error *error);
// The next slot; 0: there is none.
Status store_policy_due_move(StoreTransaction *transaction, const char *policy_id, int64_t next_us,
                             Error *error);
// outcome: "fired", "collapsed", "refused", "failed". Each slot is recorded once; with its event.
Status store_policy_slot_add(StoreTransaction *transaction, const DuePolicy *policy,
                             int64_t slot_us, const char *outcome, const char *backup_id,
                             const char *message, Error *error);
