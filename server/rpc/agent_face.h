// SPDX-License-Identifier: Apache-2.0
// Where agents join: the session stream, always over TLS. One thread at a time.
#pragma once

#include "common/error.h"
#include "common/secret.h"
#include "server/service/agent_sessions.h"

typedef struct AgentFace AgentFace;

typedef struct AgentFaceOptions {
    AgentSessions *sessions; // borrowed
    const char *address;
    const char *certificate_pem;
    const Secret *key_pem;
    int thread_count;
} AgentFaceOptions;

Status agent_face_start(const AgentFaceOptions *options, AgentFace **ret_face, Error *error);
int agent_face_port(const AgentFace *face);
void agent_face_stop(AgentFace *face, int grace_ms); // all sessions are closed when it returns
void agent_face_free(AgentFace *face);
