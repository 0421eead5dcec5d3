// SPDX-License-Identifier: Apache-2.0
// For implementers of compute drivers only. A driver never blocks until an instance is ready, keeps
// no truth of its own, and every operation is idempotent: the store's instance row is written
// before launch is called.
#pragma once

#include "provisioner/provisioner.h"

typedef struct ComputeDriver ComputeDriver;

typedef struct ComputeDriverOperations {
    const char *name; // "local"
    // Required. Launches one anonymous instance for the id (the idempotency token): called twice,
    // the same instance. Returns before it is ready.
    Status (*launch)(ComputeDriver *driver, const LaunchSpec *spec,
                     char ret_provider_id[PROVIDER_ID_SIZE], Error *error);
    // Required. Everything that exists and is ours, running or half gone: the base of the sweep.
    Status (*list)(ComputeDriver *driver, Arena *arena, ComputeInstance **ret_instances,
                   size_t *ret_count, Error *error);
    // Required. Begins or continues destruction; OK for one that is gone. Gone is only what `list`
    // no longer shows.
    Status (*terminate)(ComputeDriver *driver, const char *instance_id, Error *error);
    // Optional. Grows the disk (cloud). NULL: unsupported.
    Status (*grow_disk)(ComputeDriver *driver, const char *instance_id, int64_t size_bytes,
                        Error *error);
    // Optional. The end of what the instance said (its console), also for a while after it is gone.
    // REASON_NOT_FOUND when there is none.
    Status (*fetch_log)(ComputeDriver *driver, const char *instance_id, Buffer *buffer,
                        Error *error);
    // Required. Could this launch? Names what is missing; changes nothing.
    Status (*preflight)(ComputeDriver *driver, const LaunchSpec *spec, Error *error);
    void (*free)(ComputeDriver *driver); // Required. Leaves instances running.
} ComputeDriverOperations;

struct ComputeDriver {
    const ComputeDriverOperations *operations;
};
