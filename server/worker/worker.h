// SPDX-License-Identifier: Apache-2.0
// The worker: schedules, runs, instances, clean-up. Equal in every replica; what there is to do is
// claimed from the store.
#pragma once

#include "common/error.h"
#include "common/secret.h"
#include "provisioner/provisioner.h"
#include "server/service/repository_cache.h"
#include "server/store/store.h"

typedef struct Worker Worker;

// Everything is borrowed for the worker's life.
typedef struct WorkerOptions {
    Store *store;
    const char *server_id;
    const Secret *secret_key;
    const char *certificate_pem, *certificate_name; // what agents pin
    const char *agent_address;                      // where agents join this server
    const char *agent_program;
    Provisioner *provisioner;
    RepositoryCache *repositories;
    int thread_count;
    int instance_count_max;
    int64_t deadman_ms, lifetime_ms;
    int64_t attempt_lease_ms, barrier_timeout_ms, sweep_interval_ms;
    int64_t idempotency_keep_ms, event_keep_ms;
    int64_t orphan_grace_ms;
    int64_t work_lease_ms; // 0: 60 s
} WorkerOptions;

Status worker_start(const WorkerOptions *options, Worker **ret_worker, Error *error);
void worker_stop(Worker *worker); // waits for the steps that are under way; NULL is fine
