// SPDX-License-Identifier: Apache-2.0
// When an agent must end itself: nobody has spoken to it for too long, or it has lived too long. A
// machine that its server has lost would else run, and hold logs on a source, for ever. Pure: the
// caller says what time it is.
#pragma once

#include <stdint.h>

// Why the agent ends. The first cause stands.
typedef enum StopCause {
    STOP_NONE,
    STOP_ORDERED,  // the server said so
    STOP_SIGNAL,   // SIGTERM or SIGINT
    STOP_DEADMAN,  // no server for too long
    STOP_LIFETIME, // the instance's lifetime is over
    STOP_REFUSED,  // the server does not know us
} StopCause;

typedef struct Deadman {
    int64_t started_ms, heard_ms; // by the monotonic clock
    int64_t silence_ms_max;       // 0: no limit
    int64_t lifetime_ms_max;      // 0: no limit
} Deadman;

static inline StopCause deadman_check(const Deadman *deadman, int64_t now_ms)
{
    if (deadman->lifetime_ms_max > 0 && now_ms - deadman->started_ms >= deadman->lifetime_ms_max) {
        return STOP_LIFETIME;
    }
    if (deadman->silence_ms_max > 0 && now_ms - deadman->heard_ms >= deadman->silence_ms_max) {
        return STOP_DEADMAN;
    }
    return STOP_NONE;
}
