// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/rpc/rpc_echo.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "rpc_test.pb-c.h"

#include <pthread.h>
#include <string.h>

typedef Holdfast__Test__EchoRequest EchoRequest;
typedef Holdfast__Test__EchoReply EchoReply;

// The state of one stream.
typedef struct Stream {
    Echo *echo;
    RpcCall *call;
    atomic_int handler_count; // handlers running now: 0 or 1
    atomic_bool is_closed;
    int32_t reply_count;
    pthread_t thread;
    bool has_thread;
} Stream;

static char *mutable(Arena *arena, const char *text)
{
    return arena_string(arena, text);
}

static Status on_say(void *context, Arena *arena, const RpcRequestInfo *info,
                     const ProtobufCMessage *message, ProtobufCMessage **ret_response, Error *error)
{
    Echo *echo = context;
    const EchoRequest *request = (const EchoRequest *)message;
    if (text_equal(request->text, "fail")) {
        (void)error_set(error, REASON_KEY_MISSING, "the key of '%s' is m\xc3\xbc\xc3\x9fig\n",
                        "shop");
        (void)error_field(error, "policy.schedule");
        return error_hint(error, "try 100%% of \xe2\x80\x9cthese\xe2\x80\x9d\nlines");
    }
    if (text_equal(request->text, "sleep")) {
        atomic_fetch_add(&echo->sleeper_count, 1);
        clock_sleep_ms(request->count);
        atomic_fetch_sub(&echo->sleeper_count, 1);
    }
    EchoReply *reply = (EchoReply *)message_new(arena, &holdfast__test__echo_reply__descriptor);
    reply->text = mutable(arena, request->text);
    reply->count = request->count;
    reply->payload.len = request->payload.len;
    reply->payload.data = arena_copy(arena, request->payload.data, request->payload.len);
    reply->authorization = mutable(arena, info->authorization);
    reply->idempotency_key = mutable(arena, info->idempotency_key);
    reply->if_match = mutable(arena, info->if_match);
    reply->request_id = mutable(arena, info->request_id);
    reply->peer = mutable(arena, info->peer);
    reply->method = mutable(arena, info->method);
    *ret_response = &reply->base;
    return STATUS_OK;
}

static Stream *stream_new(Echo *echo, RpcCall *call)
{
    Stream *stream = mem_alloc(sizeof(*stream));
    stream->echo = echo;
    stream->call = rpc_call_ref(call);
    atomic_fetch_add(&echo->open_count, 1);
    return stream;
}

static void handler_enters(Stream *stream)
{
    if (atomic_fetch_add(&stream->handler_count, 1) != 0) {
        atomic_fetch_add(&stream->echo->overlap_count, 1);
    }
}

static void handler_leaves(Stream *stream)
{
    atomic_fetch_sub(&stream->handler_count, 1);
}

static void on_close(void *context, void *state, RpcCall *call)
{
    (void)call;
    Echo *echo = context;
    Stream *stream = state;
    handler_enters(stream);
    atomic_store(&stream->is_closed, true);
    if (stream->has_thread) {
        (void)pthread_join(stream->thread, NULL);
    }
    rpc_call_unref(stream->call);
    mem_free(stream);
    atomic_fetch_add(&echo->close_count, 1);
}

static void *send_counted(void *context)
{
    Stream *stream = context;
    for (int32_t i = 0; i < stream->reply_count; i++) {
        EchoReply reply = HOLDFAST__TEST__ECHO_REPLY__INIT;
        reply.count = i;
        while (!rpc_call_send(stream->call, &reply.base)) {
            if (atomic_load(&stream->is_closed)) {
                return NULL;
            }
            clock_sleep_ms(1); // the queue is full
        }
    }
    rpc_call_finish(stream->call, STATUS_OK, NULL);
    rpc_call_finish(stream->call, STATUS_INTERNAL, "a second end must do nothing");
    return NULL;
}

static Status on_count_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                            const ProtobufCMessage *message, void **ret_state, Error *error)
{
    (void)info;
    (void)error;
    Stream *stream = stream_new(context, call);
    stream->reply_count = ((const EchoRequest *)message)->count;
    stream->has_thread = pthread_create(&stream->thread, NULL, send_counted, stream) == 0;
    *ret_state = stream;
    return STATUS_OK;
}

static Status on_chat_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                           const ProtobufCMessage *message, void **ret_state, Error *error)
{
    if (message != NULL) {
        return error_set(error, REASON_INTERNAL, "a bidirectional stream has no first request");
    }
    if (text_equal(info->authorization, "Bearer wrong")) {
        return error_set(error, REASON_UNAUTHENTICATED, "the token is not known");
    }
    *ret_state = stream_new(context, call);
    return STATUS_OK;
}

static Status on_chat_message(void *context, void *state, RpcCall *call,
                              const ProtobufCMessage *message, Error *error)
{
    Echo *echo = context;
    Stream *stream = state;
    const EchoRequest *request = (const EchoRequest *)message;
    handler_enters(stream);
    atomic_fetch_add(&echo->message_count, 1);
    Status status = STATUS_OK;
    if (text_equal(request->text, "fail")) {
        status = error_set(error, REASON_LEASE_LOST, "the epoch is old");
    } else if (text_equal(request->text, "finish")) {
        rpc_call_finish(call, STATUS_OK, NULL);
    } else {
        EchoReply reply = HOLDFAST__TEST__ECHO_REPLY__INIT;
        reply.text = request->text;
        reply.count = request->count;
        reply.payload = request->payload;
        if (!rpc_call_send(call, &reply.base)) {
            status = error_set(error, REASON_EXHAUSTED, "the queue is full");
        }
    }
    handler_leaves(stream);
    return status;
}

static const RpcMethod METHODS[] = {
    {.name = ECHO_SAY,
     .kind = RPC_UNARY,
     .request = &holdfast__test__echo_request__descriptor,
     .on_unary = on_say},
    {.name = ECHO_COUNT,
     .kind = RPC_SERVER_STREAM,
     .request = &holdfast__test__echo_request__descriptor,
     .on_open = on_count_open,
     .on_close = on_close},
    {.name = ECHO_CHAT,
     .kind = RPC_BIDI_STREAM,
     .request = &holdfast__test__echo_request__descriptor,
     .on_open = on_chat_open,
     .on_message = on_chat_message,
     .on_close = on_close},
};

const RpcMethod *echo_methods(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(METHODS);
    return METHODS;
}
