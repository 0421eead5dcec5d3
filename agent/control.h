// SPDX-License-Identifier: Apache-2.0
// The control thread: keeps a stream to one of the servers, for the agent's whole life.
#pragma once

#include "agent/agent_state.h"
#include "agent/instance.h"

typedef struct Control Control;

// Borrows both for its life. `on_joined` is called (by the control thread) after the first join:
// the join secret is used up then.
Control *control_start(AgentState *state, const Instance *instance,
                       void (*on_joined)(void *context), void *context);
// Waits at most flush_ms for what is still to be said, closes the stream and ends the thread.
void control_stop(Control *control, int64_t flush_ms);
