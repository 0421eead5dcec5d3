// SPDX-License-Identifier: Apache-2.0
// What the agent's threads share: what the server told it, what it has to tell, and whether it must
// end. Thread-safe. The job thread (main) does the work, the control thread speaks with the server,
// the watchdog ends the agent in time; none of them calls another, all go through here.
#pragma once

#include "agent/deadman.h"
#include "agent/engine/engine.h"
#include "common/arena.h"
#include "common/error.h"
#include "holdfast/v1/agent.pb-c.h"
#include "repository/repository.h"

typedef struct AgentState AgentState;

// now_ms: the monotonic clock. The limits are in milliseconds, 0: none.
AgentState *agent_state_new(int64_t now_ms, int64_t deadman_ms, int64_t lifetime_ms);
void agent_state_free(AgentState *state);

// --- ending
// -----------------------------------------------------------------------------------------------------
// The first call wins; it raises the cancel flag, except after an accepted commit: what is left is
// short then. `why` is for the log.
void agent_state_stop(AgentState *state, StopCause cause, const char *why);
StopCause agent_state_stop_cause(AgentState *state);
void agent_state_stop_why(AgentState *state, char *ret_why, size_t why_size);
const Cancel *agent_state_cancel(const AgentState *state);
// Stops when a limit of the deadman has passed; says what stands.
StopCause agent_state_check_limits(AgentState *state, int64_t now_ms);
int64_t agent_state_stopped_ms(AgentState *state); // when it was stopped; 0: it is not

// --- the control thread
// -----------------------------------------------------------------------------------------
void agent_state_fill_join(AgentState *state, Arena *arena,
                           Holdfast__V1__Join *join); // attempt_id, memory_bytes
void agent_state_connected(
    AgentState *state); // a new stream has joined: repeat what was not answered
void agent_state_receive(AgentState *state, const Holdfast__V1__ServerMessage *message,
                         int64_t now_ms);
// What to send next, in the arena, or NULL. `ret_token` is for agent_state_sent.
Holdfast__V1__AgentMessage *agent_state_next_message(AgentState *state, Arena *arena,
                                                     int *ret_token);
void agent_state_sent(AgentState *state, int token);
Holdfast__V1__AgentMessage *agent_state_progress_message(AgentState *state, Arena *arena);

// --- the job
// ----------------------------------------------------------------------------------------------------
// The BackupAssignment or RestoreAssignment, in the arena; NULL when stopped, or none came in time.
Holdfast__V1__ServerMessage *agent_state_wait_assignment(AgentState *state, int64_t timeout_ms,
                                                         Arena *arena);
void agent_state_phase(AgentState *state, Holdfast__V1__Phase phase, const char *position);
// What the job may use of bandwidth and processors; the server changes it while the job runs. It
// is known before the assignment.
Limits *agent_state_limits(const AgentState *state);
// What it may use for buffers, as it is now; 0: the default.
int64_t agent_state_memory_bytes(AgentState *state);
// -1: unknown. Any of position may be NULL: as before.
void agent_state_progress(AgentState *state, int64_t done_bytes, int64_t total_bytes);
void agent_state_received(AgentState *state, int64_t received_bytes, const char *position);

typedef enum CheckpointOrderKind {
    CHECKPOINT_ORDER_NONE,
    CHECKPOINT_ORDER_TAKE,
    CHECKPOINT_ORDER_REPLAY
} CheckpointOrderKind;
typedef struct CheckpointOrder {
    CheckpointOrderKind kind;
    Checkpoint checkpoint; // TAKE: its name only
} CheckpointOrder;
// Waits at most timeout_ms for the order; NONE when there is none yet or the agent is stopped.
CheckpointOrder agent_state_wait_checkpoint(AgentState *state, int64_t timeout_ms);
void agent_state_checkpoint_taken(AgentState *state, const Checkpoint *checkpoint);

void agent_state_commit(AgentState *state, const Holdfast__V1__CommitRequest *request);
// OK when accepted; LEASE_LOST when refused; CANCELED when the agent is stopped meanwhile.
Status agent_state_wait_commit(AgentState *state, Error *error);
void agent_state_restore_done(AgentState *state, const Holdfast__V1__RestoreDone *done);
// OK when accepted; LEASE_LOST when refused; CANCELED when the agent is stopped meanwhile.
Status agent_state_wait_restore(AgentState *state, Error *error);
void agent_state_fail(AgentState *state, const Error *error);
// Waits at most timeout_ms for the agent to be stopped; true when it is.
bool agent_state_wait_stop(AgentState *state, int64_t timeout_ms);
// The agent's own resident memory; 0 when the kernel does not say.
int64_t agent_memory_bytes(void);
