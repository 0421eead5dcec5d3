// SPDX-License-Identifier: Apache-2.0
// One thread both sends and receives: an agent says little, and a stream that only one thread
// touches has no races. It looks for something to send at least every RECEIVE_WAIT_MS.
#include "agent/control.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/rpc/rpc_client.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LOG_MODULE "agent"
#define SESSION_METHOD "/holdfast.v1.Agents/Session"
#define RECEIVE_WAIT_MS 25
#define HEARTBEAT_MS 1000
#define CONNECT_TIMEOUT_MS 5000
#define JOIN_TIMEOUT_MS 10000
#define KEEPALIVE_MS 10000
// A server that says nothing for so long is left for another one; its heartbeat comes more often.
#define SERVER_SILENCE_MS 20000
#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 5000
// A refusal may be a replica that has not seen our row yet; so many in a row are an answer.
#define REFUSAL_COUNT_MAX 8

struct Control {
    pthread_t thread;
    AgentState *state;        // borrowed
    const Instance *instance; // borrowed
    void (*on_joined)(void *context);
    void *context;
    atomic_bool is_ending;
    atomic_llong flush_until_ms;
    // The thread's own.
    Secret token; // empty before the first join
    char *addresses[INSTANCE_ADDRESS_COUNT_MAX];
    size_t address_count, address_index;
    int refusal_count;
};

typedef struct Session {
    RpcClient *client;
    RpcStream *stream;
    Arena *arena;
    bool is_joined;
    int64_t opened_ms, heard_ms, heartbeat_ms;
} Session;

static bool control_must_end(Control *control, bool is_flushed)
{
    if (!atomic_load(&control->is_ending)) {
        return false;
    }
    return is_flushed || clock_monotonic_ms() >= atomic_load(&control->flush_until_ms);
}

static void control_take_addresses(Control *control, char *const *addresses, size_t count)
{
    for (size_t i = 0; i < count && control->address_count < INSTANCE_ADDRESS_COUNT_MAX; i++) {
        bool is_known = false;
        for (size_t known = 0; known < control->address_count; known++) {
            is_known = is_known || text_equal(control->addresses[known], addresses[i]);
        }
        if (!is_known) {
            control->addresses[control->address_count] = string_copy(addresses[i]);
            control->address_count++;
        }
    }
}

static void control_joined(Control *control, Session *session, const Holdfast__V1__Joined *joined)
{
    bool is_first = control->token.size == 0;
    if (!text_is_empty(joined->session_token)) {
        secret_done(&control->token);
        control->token = secret_from_text(joined->session_token);
        secret_wipe_text(joined->session_token);
    }
    control_take_addresses(control, joined->server_addresses, joined->n_server_addresses);
    control->refusal_count = 0;
    session->is_joined = true;
    agent_state_connected(control->state);
    log_info(is_first ? "joined" : "joined again", "server",
             control->addresses[control->address_index], NULL);
    if (is_first) {
        control->on_joined(control->context);
    }
}

static Status session_send_join(Control *control, Session *session, Error *error)
{
    Holdfast__V1__Join *join =
        (Holdfast__V1__Join *)message_new(session->arena, &holdfast__v1__join__descriptor);
    const Secret *secret =
        control->token.size > 0 ? &control->token : &control->instance->join_secret;
    join->instance_id = control->instance->instance_id;
    join->secret = (char *)secret->data; // borrowed for the call
    join->agent_version = arena_string(session->arena, HOLDFAST_VERSION);
    agent_state_fill_join(control->state, session->arena, join);
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_JOIN;
    message.join = join;
    return rpc_stream_send(session->stream, &message.base, error);
}

static Status session_receive(Control *control, Session *session, int64_t wait_ms, Error *error)
{
    ProtobufCMessage *received = NULL;
    RETURN_IF_ERROR(rpc_stream_receive(session->stream, &holdfast__v1__server_message__descriptor,
                                       wait_ms, session->arena, &received, error));
    if (received == NULL) {
        return STATUS_OK;
    }
    Holdfast__V1__ServerMessage *message = (Holdfast__V1__ServerMessage *)received;
    session->heard_ms = clock_monotonic_ms();
    if (message->message_case == HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED) {
        control_joined(control, session, message->joined);
    }
    agent_state_receive(control->state, message, session->heard_ms);
    return STATUS_OK;
}

// Everything that waits to be said, and the heartbeat when it is time.
static Status session_flush(Control *control, Session *session, bool *ret_is_flushed, Error *error)
{
    *ret_is_flushed = false;
    if (!session->is_joined) {
        return STATUS_OK;
    }
    int token = -1;
    Holdfast__V1__AgentMessage *message = NULL;
    while ((message = agent_state_next_message(control->state, session->arena, &token)) != NULL) {
        RETURN_IF_ERROR(rpc_stream_send(session->stream, &message->base, error));
        agent_state_sent(control->state, token);
    }
    *ret_is_flushed = true;
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - session->heartbeat_ms >= HEARTBEAT_MS) {
        session->heartbeat_ms = now_ms;
        message = agent_state_progress_message(control->state, session->arena);
        RETURN_IF_ERROR(rpc_stream_send(session->stream, &message->base, error));
    }
    return STATUS_OK;
}

static Status session_step(Control *control, Session *session, bool *ret_is_flushed, Error *error)
{
    arena_reset(session->arena);
    RETURN_IF_ERROR(session_receive(control, session, RECEIVE_WAIT_MS, error));
    RETURN_IF_ERROR(session_flush(control, session, ret_is_flushed, error));
    int64_t now_ms = clock_monotonic_ms();
    if (!session->is_joined && now_ms - session->opened_ms > JOIN_TIMEOUT_MS) {
        return error_set(error, REASON_UNAVAILABLE, "the server did not answer the join");
    }
    if (now_ms - session->heard_ms > SERVER_SILENCE_MS) {
        return error_set(error, REASON_UNAVAILABLE, "the server has been silent for too long");
    }
    return STATUS_OK;
}

static Status session_open(Control *control, Session *session, Error *error)
{
    const RpcClientOptions options = {
        .address = control->addresses[control->address_index],
        .root_pem = control->instance->certificate_pem,
        .server_name = control->instance->server_name,
        .keepalive_ms = KEEPALIVE_MS,
    };
    RETURN_IF_ERROR(rpc_client_new(&options, &session->client, error));
    RETURN_IF_ERROR(rpc_stream_open(session->client, SESSION_METHOD, CONNECT_TIMEOUT_MS,
                                    &session->stream, error));
    session->opened_ms = clock_monotonic_ms();
    session->heard_ms = session->opened_ms;
    return session_send_join(control, session, error);
}

static void session_close(Session *session)
{
    if (session->stream != NULL) {
        rpc_stream_close(session->stream);
    }
    if (session->client != NULL) {
        rpc_client_free(session->client);
    }
    arena_free(session->arena);
}

// A server that answers and says no, as opposed to one that is not there.
static bool is_refusal(Status status)
{
    switch (status) {
    case STATUS_UNAUTHENTICATED:
    case STATUS_PERMISSION_DENIED:
    case STATUS_NOT_FOUND:
    case STATUS_FAILED_PRECONDITION:
    case STATUS_ABORTED:
    case STATUS_INVALID_ARGUMENT:
        return true;
    default:
        return false;
    }
}

static void control_count_refusal(Control *control, const Error *error)
{
    control->refusal_count++;
    if (control->refusal_count >= REFUSAL_COUNT_MAX) {
        char why[512];
        (void)snprintf(why, sizeof(why), "the server refuses this instance: %.400s",
                       error->message);
        agent_state_stop(control->state, STOP_REFUSED, why);
    }
}

// One stream, from opening to its end. True when it had joined.
static bool control_run_session(Control *control)
{
    Session session = {.arena = arena_new()};
    Error error = {0};
    bool is_flushed = false;
    Status status = session_open(control, &session, &error);
    while (status == STATUS_OK && !control_must_end(control, is_flushed)) {
        status = session_step(control, &session, &is_flushed, &error);
    }
    bool was_joined = session.is_joined;
    session_close(&session);
    if (status != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "the stream to the server is over",
                         "server", control->addresses[control->address_index], NULL);
        if (is_refusal(status)) {
            control_count_refusal(control, &error);
        }
    }
    return was_joined;
}

// Doubles up to the limit, and draws from the upper half, so that a fleet does not come back in
// step.
static int64_t backoff_next(int failure_count)
{
    int64_t limit_ms = BACKOFF_MS_MIN;
    for (int i = 0; i < failure_count && limit_ms < BACKOFF_MS_MAX; i++) {
        limit_ms *= 2;
    }
    limit_ms = MIN(limit_ms, BACKOFF_MS_MAX);
    uint32_t random = 0;
    crypto_random(&random, sizeof(random));
    return limit_ms / 2 + (int64_t)(random % (uint32_t)(limit_ms / 2 + 1));
}

static void *control_thread(void *argument)
{
    Control *control = argument;
    int failure_count = 0;
    while (!control_must_end(control, false)) {
        bool was_joined = control_run_session(control);
        if (atomic_load(&control->is_ending) && was_joined) {
            break;
        }
        failure_count = was_joined ? 0 : failure_count + 1;
        control->address_index = (control->address_index + 1) % control->address_count;
        int64_t wake_ms = clock_monotonic_ms() + backoff_next(failure_count);
        while (clock_monotonic_ms() < wake_ms && !control_must_end(control, false)) {
            clock_sleep_ms(20);
        }
    }
    return NULL;
}

Control *control_start(AgentState *state, const Instance *instance,
                       void (*on_joined)(void *context), void *context)
{
    Control *control = mem_alloc(sizeof(*control));
    control->state = state;
    control->instance = instance;
    control->on_joined = on_joined;
    control->context = context;
    control_take_addresses(control, instance->addresses, instance->address_count);
    // Spread a fleet over the servers.
    uint32_t random = 0;
    crypto_random(&random, sizeof(random));
    control->address_index = random % control->address_count;
    if (pthread_create(&control->thread, NULL, control_thread, control) != 0) {
        mem_exhausted();
    }
    return control;
}

void control_stop(Control *control, int64_t flush_ms)
{
    if (control == NULL) {
        return;
    }
    atomic_store(&control->flush_until_ms, clock_monotonic_ms() + flush_ms);
    atomic_store(&control->is_ending, true);
    (void)pthread_join(control->thread, NULL);
    for (size_t i = 0; i < control->address_count; i++) {
        mem_free(control->addresses[i]);
    }
    secret_done(&control->token);
    mem_free(control);
}
