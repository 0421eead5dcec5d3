// SPDX-License-Identifier: Apache-2.0
// The instance's directory and what the agent is born with (join.json).
#pragma once

#include "common/error.h"
#include "common/secret.h"

#include <stdint.h>

#define INSTANCE_ADDRESS_COUNT_MAX 16

typedef struct Instance {
    char *directory; // absolute
    char *data_directory;
    char *work_directory; // short enough for sockets in it; good while we live
    char *agent_program;  // our own executable
    int work_fd;          // or invalid
    int lock_fd; // held for our whole life: whoever gets the lock knows that no agent runs here
    char *instance_id;
    char *addresses[INSTANCE_ADDRESS_COUNT_MAX]; // "host:port"
    size_t address_count;
    char *certificate_pem; // to pin
    char *server_name;     // the name in it, or NULL: the host
    Secret join_secret;
    int64_t deadman_ms, lifetime_ms;
} Instance;

// Locks the directory and reads join.json. REASON_EXISTS when another agent runs there.
Status instance_open(const char *directory, Instance *ret_instance, Error *error);
// Rewrites join.json without the secret, once it is used up.
Status instance_forget_secret(const Instance *instance, Error *error);
void instance_done(Instance *instance);
