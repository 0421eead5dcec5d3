// SPDX-License-Identifier: Apache-2.0
// The test service of rpc_test.proto, and what it counted.
#pragma once

#include "common/rpc/rpc_server.h"

#include <stdatomic.h>

#define ECHO_SAY "/holdfast.test.Echo/Say"
#define ECHO_COUNT "/holdfast.test.Echo/Count"
#define ECHO_CHAT "/holdfast.test.Echo/Chat"

typedef struct Echo {
    atomic_int open_count;
    atomic_int close_count;
    atomic_int message_count;
    atomic_int overlap_count; // handlers of one call that ran at the same time: must stay 0
    atomic_int sleeper_count; // Say calls that are asleep now
} Echo;

extern const uint8_t echo_descriptors[];
extern const size_t echo_descriptors_size;

const RpcMethod *echo_methods(size_t *ret_count);
