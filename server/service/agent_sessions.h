// SPDX-License-Identifier: Apache-2.0
// What agents say and are told. The truth is in the store; a session only carries it. Thread-safe.
//
// Every message is idempotent, so that a replica, an agent or a connection may die at any moment.
// What an agent should do next is derived from the store (attempt, backup barrier, cancel, destroy
// request) whenever it speaks, when notified, and every second.
#pragma once

#include "holdfast/v1/agent.pb-c.h"
#include "server/service/repository_cache.h"
#include "server/service/service.h"

typedef struct AgentSessions AgentSessions;
typedef struct AgentSession AgentSession;

typedef struct AgentSessionsOptions {
    Store *store; // borrowed
    const char *server_id;
    const Secret *secret_key;      // borrowed
    RepositoryCache *repositories; // borrowed
    int64_t deadman_ms;            // how long an agent may be without a server
    int64_t memory_bytes;          // for each agent's engine
} AgentSessionsOptions;

Status agent_sessions_new(const AgentSessionsOptions *options, AgentSessions **ret_sessions,
                          Error *error);
void agent_sessions_free(AgentSessions *sessions); // all sessions must be closed

// `send` queues a message to the agent (false: stream over); `finish` ends the stream. Both
// thread-safe, called from any thread until close returns.
Status agent_session_open(AgentSessions *sessions,
                          bool (*send)(void *context, const Holdfast__V1__ServerMessage *message),
                          void (*finish)(void *context, Status status, const char *message),
                          void *context, AgentSession **ret_session, Error *error);
Status agent_session_message(AgentSession *session, const Holdfast__V1__AgentMessage *message,
                             Error *error);
void agent_session_close(AgentSession *session);
// Looks at the store for what connected agents should be told. The sessions' own thread does so
// when notified and every second.
void agent_sessions_dispatch(AgentSessions *sessions);
