// SPDX-License-Identifier: Apache-2.0
// What instances may use: the limits that hold for each, and with how many others it shares them.
#pragma once

#include "server/store/store.h"

typedef struct BandwidthCap {
    int64_t bytes_per_second; // 0: none
    int64_t user_count;       // who shares it
} BandwidthCap;

typedef enum LimitLevel {
    LIMIT_OF_RUN, // the backup or restore
    LIMIT_OF_REPOSITORY,
    LIMIT_OF_FLEET,
    LIMIT_LEVEL_COUNT,
} LimitLevel;

typedef struct InstanceLimits {
    const char *instance_id;
    BandwidthCap upload[LIMIT_LEVEL_COUNT], download[LIMIT_LEVEL_COUNT];
    int cpu_count;        // 0: no limit
    int64_t memory_bytes; // 0: the default
} InstanceLimits;

// Of those of the list ("{uuid,uuid}") that are at work: running attempts, and shards of restores
// that have an instance and are not done. A cap is shared by those that move bytes in its direction
// or are about to, and by the one itself.
Status store_instance_limits(StoreTransaction *transaction, Arena *arena, const char *instance_ids,
                             InstanceLimits **ret_limits, size_t *ret_count, Error *error);

// Fills the fields of FleetLimits. Locked, nobody else changes them until the transaction's end.
Status store_fleet_limits(StoreTransaction *transaction, Arena *arena, bool is_locked,
                          StoreRows *ret_rows, Error *error);
// Bytes a second; 0: no limit. They must be locked.
Status store_limit_fleet(StoreTransaction *transaction, Arena *arena, int64_t upload,
                         int64_t download, const char *etag, Error *error);
// Replaces a repository's limits: JSON, or NULL for none. It must be locked.
Status store_limit_repository(StoreTransaction *transaction, Arena *arena, const char *id,
                              const char *limits, const char *etag, Error *error);
// The same of a backup or restore, its own limits.
Status store_limit_backup(StoreTransaction *transaction, Arena *arena, const char *id,
                          const char *limits, Error *error);
Status store_limit_restore(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *limits, Error *error);
