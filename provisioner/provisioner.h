// SPDX-License-Identifier: Apache-2.0
// The provisioner, as callers see it: throw-away machines by id, whatever runs them. Thread-safe.
#pragma once

#include "common/arena.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROVIDER_ID_SIZE 128

typedef struct Provisioner Provisioner;
typedef struct ComputeDriver ComputeDriver;

// What an instance is born with: anonymous and identical but for its id and secret.
typedef struct LaunchSpec {
    const char *instance_id;      // UUID text: the idempotency token and the instance's name
    const char *server_addresses; // "host:port[,host:port...]" where it joins
    const char *certificate_pem;  // to pin
    const char *server_name;      // the name in it, or NULL: the address's host
    const Secret *join_secret;    // single use
    const char *region, *zone;
    int64_t deadman_ms;
    int64_t lifetime_ms; // at most; it ends itself then; 0: no limit (a serving restore)
} LaunchSpec;

typedef struct ComputeInstance {
    char instance_id[37];
    char provider_id[PROVIDER_ID_SIZE];
    bool is_running; // false: only remains (directory, orphaned processes) are left to clear
    int64_t created_us;
} ComputeInstance;

Provisioner *provisioner_new(void);
void provisioner_free(Provisioner *provisioner);
void provisioner_add(Provisioner *provisioner, ComputeDriver *driver); // takes ownership
// REASON_INVALID names the providers there are.
Status provisioner_launch(Provisioner *provisioner, const char *provider, const LaunchSpec *spec,
                          char ret_provider_id[PROVIDER_ID_SIZE], Error *error);
Status provisioner_list(Provisioner *provisioner, const char *provider, Arena *arena,
                        ComputeInstance **ret_instances, size_t *ret_count, Error *error);
Status provisioner_terminate(Provisioner *provisioner, const char *provider,
                             const char *instance_id, Error *error);
// The last words of an instance, also of one that is gone, as far as they are kept; appended to the
// buffer up to its limit.
Status provisioner_fetch_log(Provisioner *provisioner, const char *provider,
                             const char *instance_id, Buffer *buffer, Error *error);
Status provisioner_preflight(Provisioner *provisioner, const char *provider, const LaunchSpec *spec,
                             Error *error);
size_t provisioner_providers(const Provisioner *provisioner, const char *const **ret_names);

typedef struct LocalDriverOptions {
    const char *directory;     // instances live in <directory>/<instance id>/
    const char *log_directory; // the last logs of instances that are gone; NULL: <directory>-logs
    const char *agent_program; // path of holdfast-agent
    int64_t grace_ms;          // between asking an agent to end and killing it; 0: 15 s
} LocalDriverOptions;
Status compute_local_new(const LocalDriverOptions *options, ComputeDriver **ret_driver,
                         Error *error);
