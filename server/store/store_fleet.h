// SPDX-License-Identifier: Apache-2.0
// Looking over everything: instances as resources, servers that live, numbers for metrics.
#pragma once

#include "server/store/store.h"

Status store_fleet_instance_get(StoreTransaction *transaction, Arena *arena, const char *id,
                                StoreRows *ret_rows, Error *error);
// Newest first. database_id may be NULL.
Status store_fleet_instance_list(StoreTransaction *transaction, Arena *arena,
                                 const char *database_id, bool include_destroyed,
                                 const StorePage *page, StoreRows *ret_rows, Error *error);
// Servers heard of in the last 30 s.
Status store_fleet_server_count(StoreTransaction *transaction, Arena *arena, int *ret_count,
                                Error *error);
// Rows metric, label, value: instances by state, backups by state, work items due, attempts
// running.
Status store_fleet_counts(StoreTransaction *transaction, Arena *arena, StoreRows *ret_rows,
                          Error *error);
