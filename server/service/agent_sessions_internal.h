// SPDX-License-Identifier: Apache-2.0
// Inside of agent_sessions*.c. Nobody else includes it.
#pragma once

#include "server/service/agent_sessions.h"
#include "server/store/store_agent.h"

#include <pthread.h>

struct AgentSessions {
    AgentSessionsOptions options;
    char *server_id;
    pthread_mutex_t
        mutex; // guards the list, what has been told, and is_stopping; never held over a query
    pthread_cond_t wake;
    AgentSession *sessions; // all that are open
    bool is_wanted, is_stopping;
    pthread_t thread; // tells agents what to do
};

// What an agent last said; written down now and then. Belongs to the thread that handles its
// messages.
typedef struct SessionProgress {
    Holdfast__V1__Phase phase;
    int64_t done_bytes, total_bytes, received_bytes, memory_bytes;
    char position[1024];
    int64_t written_ms; // monotonic; 0: never
    int64_t measured_ms, measured_bytes, rate_bytes_per_second;
} SessionProgress;

struct AgentSession {
    AgentSessions *owner;
    AgentSession *next;
    bool (*send)(void *context, const Holdfast__V1__ServerMessage *message);
    void (*finish)(void *context, Status status, const char *message);
    void *context;
    // Set by the join and not changed afterwards; is_joined guarded by the owner's mutex.
    bool is_joined;
    bool is_working; // it has an assignment already
    bool is_first_join;
    char instance_id[37], attempt_id[37], restore_shard_id[37], backup_id[37];
    SessionProgress progress;
    // What it has been told on this stream; guarded by the owner's mutex.
    bool is_assigned, is_checkpoint_told, is_stop_told, is_limits_told;
    Holdfast__V1__ResourceLimits limits; // that it was told
    int64_t idle_told_ms;
};

// The assignment of a joined session, in the arena. NULL: there is nothing to do for it. An error
// says why it cannot be made.
Status session_make_assignment(AgentSessions *sessions, const char *attempt_id,
                               const char *restore_shard_id, Arena *arena,
                               Holdfast__V1__ServerMessage **ret_message, Error *error);
// Ends the attempt or the restore's shard that a session works on.
Status session_fail(AgentSessions *sessions, const char *attempt_id, const char *restore_shard_id,
                    const char *instance_id, const char *reason, const char *message, Error *error);
void session_send_to(AgentSession *session, Holdfast__V1__ServerMessage__MessageCase kind,
                     ProtobufCMessage *message);
void sessions_wake(AgentSessions *sessions);
