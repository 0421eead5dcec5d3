// SPDX-License-Identifier: Apache-2.0
// What is done every hour by one of the servers: old keys and events go, retention looks at every
// database.
#include "server/store/store_work_retention.h"
#include "server/worker/worker_internal.h"

#define HOUR_MS (3600 * INT64_C(1000))

Status work_housekeeping(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_work_clean(transaction, step->options->idempotency_keep_ms,
                                     step->options->event_keep_ms, error));
    RETURN_IF_ERROR(store_retention_all(transaction, error));
    *ret_next_ms = HOUR_MS;
    return store_commit(&transaction, error);
}
