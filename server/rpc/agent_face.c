// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "rpc"

#include "server/rpc/agent_face.h"

#include "common/log.h"
#include "common/memory.h"
#include "common/rpc/rpc_server.h"

#include <assert.h>

struct AgentFace {
    RpcServer *server;
};

static bool send_to_agent(void *context, const Holdfast__V1__ServerMessage *message)
{
    return rpc_call_send(context, &message->base);
}

static void finish_session(void *context, Status status, const char *message)
{
    rpc_call_finish(context, status, message);
}

static Status on_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                      const ProtobufCMessage *request, void **ret_state, Error *error)
{
    (void)request;
    AgentSession *session = NULL;
    // The session may speak until it is closed, from any thread.
    RpcCall *reference = rpc_call_ref(call);
    Status status =
        agent_session_open(context, send_to_agent, finish_session, reference, &session, error);
    if (status != STATUS_OK) {
        rpc_call_unref(reference);
        log_error_record(LOG_WARNING, LOG_MODULE, error, "an agent's session was refused", "peer",
                         info->peer, NULL);
        return status;
    }
    *ret_state = session;
    return STATUS_OK;
}

static Status on_message(void *context, void *state, RpcCall *call, const ProtobufCMessage *message,
                         Error *error)
{
    (void)context;
    (void)call;
    Status status =
        agent_session_message(state, (const Holdfast__V1__AgentMessage *)message, error);
    if (status != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, error, "an agent's session was ended", NULL);
    }
    return status;
}

static void on_close(void *context, void *state, RpcCall *call)
{
    (void)context;
    agent_session_close(state);
    rpc_call_unref(call);
}

static const RpcMethod METHODS[] = {
    {.name = "/holdfast.v1.Agents/Session",
     .kind = RPC_BIDI_STREAM,
     .request = &holdfast__v1__agent_message__descriptor,
     .on_open = on_open,
     .on_message = on_message,
     .on_close = on_close},
};

Status agent_face_start(const AgentFaceOptions *options, AgentFace **ret_face, Error *error)
{
    assert(options->certificate_pem != NULL);
    RpcServerOptions server_options = {
        .address = options->address,
        .certificate_pem = options->certificate_pem,
        .key_pem = options->key_pem,
        .thread_count = options->thread_count,
        .methods = METHODS,
        .method_count = ARRAY_COUNT(METHODS),
        .context = options->sessions,
    };
    RpcServer *server = NULL;
    RETURN_IF_ERROR(rpc_server_start(&server_options, &server, error));
    AgentFace *face = mem_alloc(sizeof(*face));
    face->server = server;
    *ret_face = face;
    return STATUS_OK;
}

int agent_face_port(const AgentFace *face)
{
    return rpc_server_port(face->server);
}

void agent_face_stop(AgentFace *face, int grace_ms)
{
    rpc_server_stop(face->server, grace_ms);
}

void agent_face_free(AgentFace *face)
{
    if (face == NULL) {
        return;
    }
    rpc_server_free(face->server);
    mem_free(face);
}
