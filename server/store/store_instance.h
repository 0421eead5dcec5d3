// SPDX-License-Identifier: Apache-2.0
// Instances, from intent to observed destruction. An instance is placed at one server (its home),
// on whose machine it runs; that is the part of provider_id before the '/'.
//
// Lock order, for every transaction: backups or restores, shards, shard_backups or restore_shards,
// attempts, instances, work_items.
#pragma once

#include "server/store/store.h"

typedef struct InstanceIntent {
    const char *id;
    const char *provider;
    const char *purpose; // "backup", "restore"
    const char *database_id;
    const char *shard_id;
    const char *backup_id;           // or NULL
    const char *subject_id;          // shard backup or restore
    const uint8_t *join_secret_hash; // SHA256_SIZE bytes
} InstanceIntent;
// Writes the intent and the work that launches it.
Status store_instance_add(StoreTransaction *transaction, const InstanceIntent *intent,
                          Error *error);

typedef struct InstanceRow {
    const char *id;
    const char *provider;
    const char *home; // server id, or ""
    const char *state;
    const char *purpose;
    const char *subject_id;
    const char *backup_id; // or NULL
    const char *shard_id;
    const char *region, *zone;
    bool is_destroy_requested;
} InstanceRow;
// Locks it. NULL: there is none.
Status store_instance_lock(StoreTransaction *transaction, Arena *arena, const char *id,
                           InstanceRow **ret_row, Error *error);
// Binds an intended instance that has no home to this server, and its work with it.
Status store_instance_place(StoreTransaction *transaction, const char *id, const char *server_id,
                            Error *error);
Status store_instance_launched(StoreTransaction *transaction, const char *id, const char *server_id,
                               const char *provider_id, Error *error);
// Makes its home look whether it still runs: its agent's stream has ended.
Status store_instance_look(StoreTransaction *transaction, const char *id, Error *error);
// Fine when it is asked for already or gone. The message is kept if it is the first.
Status store_instance_request_destroy(StoreTransaction *transaction, const char *id,
                                      const char *message, Error *error);
// Observed gone: closes it and wakes what waits for it.
Status store_instance_destroyed(StoreTransaction *transaction, const char *id, Error *error);
// Those that count against the limit: alive, and at a server that lives or nowhere yet.
Status store_instance_count(StoreTransaction *transaction, int *ret_count, Error *error);
// One planner at a time, so that the limit holds with any number of servers. Held to the end of the
// transaction.
Status store_instance_plan_lock(StoreTransaction *transaction, Error *error);
// All at this server that are not destroyed.
Status store_instance_list_at(StoreTransaction *transaction, Arena *arena, const char *server_id,
                              InstanceRow **ret_rows, size_t *ret_count, Error *error);
// Something that runs but should not: no row, a destroyed one, or one placed at another server.
Status store_instance_is_stray(StoreTransaction *transaction, const char *id, const char *server_id,
                               bool *ret_is_stray, Error *error);
// Ids of instances alive for a shard, for cleaning up after the dead ones at the source.
Status store_instance_alive_of_shard(StoreTransaction *transaction, Arena *arena,
                                     const char *shard_id, const char ***ret_ids, size_t *ret_count,
                                     Error *error);
