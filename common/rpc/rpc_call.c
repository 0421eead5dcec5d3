// SPDX-License-Identifier: Apache-2.0
// One call at the server: from waiting for a client to the last event. gRPC core tells of
// everything by events on the server's queue, each with a tag of the call; any thread may get any
// event. `mutex` guards what they share; handlers run without it, one at a time per call, because a
// new message is only asked for when the handler of the last one has returned and the end of the
// call waits for a running handler.
#include "common/memory.h"
#include "common/request_id.h"
#include "common/rpc/rpc_compat.h"
#include "common/rpc/rpc_internal.h"

#include <assert.h>
#include <grpc/support/alloc.h>

typedef struct QueuedMessage QueuedMessage;
struct QueuedMessage {
    QueuedMessage *next;
    grpc_byte_buffer *buffer;
};

// What a call ends with.
typedef struct FinalStatus {
    grpc_status_code code;
    grpc_slice message;
    grpc_metadata trailing[RPC_TRAILING_COUNT_MAX];
    size_t trailing_count;
} FinalStatus;

struct RpcCall {
    RpcServer *server;
    atomic_int reference_count;
    const RpcRoute *route; // NULL: no such method
    Arena *arena;          // the request info; NULL until a client came
    RpcRequestInfo info;
    grpc_call_details details;
    grpc_metadata_array metadata;
    RpcTag on_new;
    RpcTag on_received;
    RpcTag on_sent;
    RpcTag on_closed;
    int is_canceled;            // written by gRPC; only there because it wants a place
    grpc_byte_buffer *received; // written by gRPC before on_received
    void *state;                // the handler's
    // All below: guarded by mutex.
    pthread_mutex_t mutex;
    grpc_call *call;    // NULL before a client came and after the last event
    size_t event_count; // events to come, and those being handled
    QueuedMessage *queue_first;
    QueuedMessage *queue_last;
    size_t queue_count;
    FinalStatus *final; // the call ends with it once the queue is empty
    bool is_finishing;  // rpc_call_finish was called
    bool is_held;       // nothing is sent yet: the handler may still refuse the call
    bool has_sent_initial;
    bool is_sending;
    bool is_over; // the client is gone or has the status
    bool is_in_handler;
    bool is_open; // on_open succeeded and on_close has not been called
};

RpcCall *rpc_call_ref(RpcCall *call)
{
    int old_count = atomic_fetch_add(&call->reference_count, 1);
    assert(old_count > 0);
    return call;
}

void rpc_call_unref(RpcCall *call)
{
    if (call == NULL || atomic_fetch_sub(&call->reference_count, 1) != 1) {
        return;
    }
    assert(call->call == NULL);
    assert(call->queue_first == NULL);
    assert(call->final == NULL);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    arena_free(call->arena);
    (void)pthread_mutex_destroy(&call->mutex);
    mem_free(call);
}

static void final_status_free(FinalStatus *final)
{
    if (final == NULL) {
        return;
    }
    grpc_slice_unref(final->message);
    for (size_t i = 0; i < final->trailing_count; i++) {
        grpc_slice_unref(final->trailing[i].value);
    }
    mem_free(final);
}

static void drop_queue(RpcCall *call)
{
    while (call->queue_first != NULL) {
        QueuedMessage *message = call->queue_first;
        call->queue_first = message->next;
        grpc_byte_buffer_destroy(message->buffer);
        mem_free(message);
    }
    call->queue_last = NULL;
    call->queue_count = 0;
    final_status_free(call->final);
    call->final = NULL;
}

// One event less to come; after the last one gRPC has no use for the call any more.
static void release_event(RpcCall *call)
{
    (void)pthread_mutex_lock(&call->mutex);
    assert(call->event_count > 0);
    bool is_last = --call->event_count == 0;
    grpc_call *ended = NULL;
    if (is_last) {
        call->is_over = true;
        drop_queue(call);
        ended = call->call;
        call->call = NULL;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (!is_last) {
        return;
    }
    RpcServer *server = call->server;
    if (ended != NULL) {
        grpc_call_unref(ended);
    }
    rpc_call_unref(call);
    rpc_server_call_ended(server);
}

void rpc_call_dispatch(RpcTag *tag, bool is_ok)
{
    RpcCall *call = tag->call;
    // What the thread of the last event wrote is ours to see. gRPC's queue orders it, too, but does
    // not promise to.
    (void)pthread_mutex_lock(&call->mutex);
    (void)pthread_mutex_unlock(&call->mutex);
    tag->on_event(call, is_ok);
    release_event(call);
}

// Needs the mutex.
static void start_batch(RpcCall *call, const grpc_op *operations, size_t count, RpcTag *tag)
{
    call->event_count++;
    grpc_call_error result = grpc_call_start_batch(call->call, operations, count, tag, NULL);
    // Anything else is a mistake of ours in the order of operations.
    assert(result == GRPC_CALL_OK);
}

static void receive_message(RpcCall *call)
{
    grpc_op operation = {.op = GRPC_OP_RECV_MESSAGE};
    operation.data.recv_message.recv_message = &call->received;
    (void)pthread_mutex_lock(&call->mutex);
    if (!call->is_over) {
        start_batch(call, &operation, 1, &call->on_received);
    }
    (void)pthread_mutex_unlock(&call->mutex);
}

// ---- sending ----

static size_t add_initial_metadata(RpcCall *call, grpc_op *operation, grpc_metadata *marker)
{
    if (call->has_sent_initial) {
        return 0;
    }
    call->has_sent_initial = true;
    operation->op = GRPC_OP_SEND_INITIAL_METADATA;
    if (call->route != NULL && call->route->method.kind != RPC_UNARY && call->is_open) {
        marker->key = grpc_slice_from_static_string(RPC_METADATA_STREAM);
        marker->value = grpc_slice_from_static_string("open");
        operation->data.send_initial_metadata.metadata = marker;
        operation->data.send_initial_metadata.count = 1;
    }
    return 1;
}

// Starts sending what can be sent, in one batch, when none is under way. Needs the mutex.
static void call_pump(RpcCall *call)
{
    if (call->is_sending || call->is_over || call->is_held) {
        return;
    }
    grpc_op operations[3] = {0};
    grpc_metadata marker = {0};
    size_t count = 0;
    QueuedMessage *message = call->queue_first;
    bool wants_initial = call->is_open || message != NULL || call->final != NULL;
    if (wants_initial) {
        count += add_initial_metadata(call, &operations[count], &marker);
    }
    if (message != NULL) {
        call->queue_first = message->next;
        call->queue_count--;
        operations[count].op = GRPC_OP_SEND_MESSAGE;
        operations[count++].data.send_message.send_message = message->buffer;
    }
    FinalStatus *final = NULL;
    if (call->queue_first == NULL) {
        call->queue_last = NULL;
        final = call->final;
        call->final = NULL;
    }
    if (final != NULL) {
        grpc_op *operation = &operations[count++];
        operation->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        operation->data.send_status_from_server.status = final->code;
        operation->data.send_status_from_server.status_details = &final->message;
        operation->data.send_status_from_server.trailing_metadata = final->trailing;
        operation->data.send_status_from_server.trailing_metadata_count = final->trailing_count;
    }
    if (count > 0) {
        call->is_sending = true;
        start_batch(call, operations, count, &call->on_sent);
    }
    // gRPC has its own references to the slices by now.
    if (message != NULL) {
        grpc_byte_buffer_destroy(message->buffer);
        mem_free(message);
    }
    final_status_free(final);
}

static void on_sent(RpcCall *call, bool is_ok)
{
    (void)pthread_mutex_lock(&call->mutex);
    call->is_sending = false;
    if (is_ok) {
        call_pump(call);
    } else {
        drop_queue(call); // the end of the call is on its way to us
        call->is_finishing = true;
    }
    (void)pthread_mutex_unlock(&call->mutex);
}

bool rpc_call_send(RpcCall *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = rpc_pack(message);
    (void)pthread_mutex_lock(&call->mutex);
    bool is_accepted =
        !call->is_over && !call->is_finishing && call->queue_count < RPC_QUEUE_COUNT_MAX;
    if (is_accepted) {
        QueuedMessage *queued = mem_alloc(sizeof(*queued));
        queued->buffer = buffer;
        if (call->queue_last == NULL) {
            call->queue_first = queued;
        } else {
            call->queue_last->next = queued;
        }
        call->queue_last = queued;
        call->queue_count++;
        call_pump(call);
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (!is_accepted) {
        grpc_byte_buffer_destroy(buffer);
    }
    return is_accepted;
}

static void add_trailing(FinalStatus *final, const char *static_key, const char *value)
{
    if (value == NULL || value[0] == '\0') {
        return;
    }
    assert(final->trailing_count < RPC_TRAILING_COUNT_MAX);
    grpc_metadata *entry = &final->trailing[final->trailing_count++];
    entry->key = grpc_slice_from_static_string(static_key);
    entry->value = rpc_encode_value(value);
}

// Ends the call after what is queued; the first of several wins. The reason, field and hint come
// from `error`, which may be NULL.
static void call_finish(RpcCall *call, Status status, const char *message, const Error *error)
{
    FinalStatus *final = mem_alloc(sizeof(*final));
    final->code = (grpc_status_code)status;
    final->message = grpc_slice_from_copied_string(message == NULL ? "" : message);
    if (status != STATUS_OK) {
        if (error != NULL) {
            add_trailing(final, RPC_METADATA_REASON, reason_slug(error->reason));
            add_trailing(final, RPC_METADATA_FIELD, error->field);
            add_trailing(final, RPC_METADATA_HINT, error->hint);
        }
        add_trailing(final, RPC_METADATA_REQUEST_ID, call->info.request_id);
    }
    (void)pthread_mutex_lock(&call->mutex);
    bool is_first = !call->is_over && !call->is_finishing;
    if (is_first) {
        call->is_finishing = true;
        call->final = final;
        call_pump(call);
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (!is_first) {
        final_status_free(final);
    }
}

void rpc_call_finish(RpcCall *call, Status status, const char *message)
{
    call_finish(call, status, message, NULL);
}

static void finish_with_error(RpcCall *call, Status status, const Error *error)
{
    assert(status != STATUS_OK);
    call_finish(call, status, error->message[0] == '\0' ? status_text(status) : error->message,
                error);
}

// ---- handlers ----

// False: the call is over, the handler is not to be called.
static bool handler_begin(RpcCall *call)
{
    (void)pthread_mutex_lock(&call->mutex);
    bool is_allowed = !call->is_over;
    if (is_allowed) {
        assert(!call->is_in_handler);
        call->is_in_handler = true;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    return is_allowed;
}

static void tell_closed(RpcCall *call)
{
    const RpcRoute *route = call->route;
    if (route->method.on_close != NULL) {
        route->method.on_close(route->context, call->state, call);
    }
}

static void handler_end(RpcCall *call)
{
    (void)pthread_mutex_lock(&call->mutex);
    call->is_in_handler = false;
    bool has_closed = call->is_over && call->is_open;
    if (has_closed) {
        call->is_open = false;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (has_closed) {
        tell_closed(call);
    }
}

static void on_closed(RpcCall *call, bool is_ok)
{
    (void)is_ok; // always true: gRPC tells the end of every call
    (void)pthread_mutex_lock(&call->mutex);
    call->is_over = true;
    drop_queue(call);
    bool has_closed = call->is_open && !call->is_in_handler;
    if (has_closed) {
        call->is_open = false;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (has_closed) {
        tell_closed(call);
    }
}

static void handle_unary(RpcCall *call, const ProtobufCMessage *request)
{
    const RpcRoute *route = call->route;
    Error error = {0};
    ProtobufCMessage *response = NULL;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Status status =
        route->method.on_unary(route->context, arena, &call->info, request, &response, &error);
    if (status != STATUS_OK) {
        finish_with_error(call, status, &error);
        return;
    }
    assert(response != NULL);
    // Held, so that message and status leave in one batch.
    (void)pthread_mutex_lock(&call->mutex);
    call->is_held = true;
    (void)pthread_mutex_unlock(&call->mutex);
    (void)rpc_call_send(call, response);
    (void)pthread_mutex_lock(&call->mutex);
    call->is_held = false;
    (void)pthread_mutex_unlock(&call->mutex);
    call_finish(call, STATUS_OK, NULL, NULL);
}

// `request` is NULL for a bidirectional stream.
static bool handle_open(RpcCall *call, const ProtobufCMessage *request)
{
    const RpcRoute *route = call->route;
    Error error = {0};
    (void)pthread_mutex_lock(&call->mutex);
    call->is_held = true;
    (void)pthread_mutex_unlock(&call->mutex);
    Status status =
        route->method.on_open(route->context, call, &call->info, request, &call->state, &error);
    (void)pthread_mutex_lock(&call->mutex);
    call->is_held = false;
    if (status == STATUS_OK) {
        call->is_open = true;
        call_pump(call);
    } else {
        drop_queue(call);
        call->is_finishing = false;
    }
    (void)pthread_mutex_unlock(&call->mutex);
    if (status != STATUS_OK) {
        finish_with_error(call, status, &error);
    }
    return status == STATUS_OK;
}

static bool handle_message(RpcCall *call, const ProtobufCMessage *message)
{
    const RpcRoute *route = call->route;
    Error error = {0};
    Status status = route->method.on_message(route->context, call->state, call, message, &error);
    if (status != STATUS_OK) {
        finish_with_error(call, status, &error);
    }
    return status == STATUS_OK;
}

static void handle_received(RpcCall *call, grpc_byte_buffer *buffer)
{
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    const RpcMethod *method = &call->route->method;
    Status status = rpc_unpack(arena, method->request, buffer, &message, &error);
    if (status != STATUS_OK) {
        finish_with_error(call, status, &error);
        return;
    }
    if (!handler_begin(call)) {
        return;
    }
    bool wants_more = false;
    if (method->kind == RPC_UNARY) {
        handle_unary(call, message);
    } else if (method->kind == RPC_SERVER_STREAM) {
        (void)handle_open(call, message);
    } else {
        wants_more = handle_message(call, message);
    }
    handler_end(call);
    if (wants_more) {
        receive_message(call);
    }
}

static void on_received(RpcCall *call, bool is_ok)
{
    grpc_byte_buffer *buffer = call->received;
    call->received = NULL;
    if (buffer != NULL) {
        if (is_ok) {
            handle_received(call, buffer);
        }
        grpc_byte_buffer_destroy(buffer);
        return;
    }
    if (!is_ok || rpc_call_was_broken(call->call)) {
        return; // gRPC ended the call itself: canceled, or a message over the limit
    }
    // The client sends no more.
    if (call->route->method.kind == RPC_BIDI_STREAM) {
        call_finish(call, STATUS_OK, NULL, NULL);
    } else {
        Error error = {0};
        Status status = error_set(&error, REASON_INVALID, "the call has no request message");
        finish_with_error(call, status, &error);
    }
}

// ---- the start of a call ----

static void fill_info(RpcCall *call)
{
    Arena *arena = call->arena;
    char *peer = grpc_call_get_peer(call->call);
    call->info = (RpcRequestInfo){
        .method = rpc_slice_text(arena, call->details.method),
        .authorization = rpc_metadata_text(arena, &call->metadata, "authorization"),
        .idempotency_key = rpc_metadata_text(arena, &call->metadata, "idempotency-key"),
        .if_match = rpc_metadata_text(arena, &call->metadata, "if-match"),
        .request_id =
            request_id_accept(arena, rpc_metadata_text(arena, &call->metadata, "x-request-id")),
        .peer = arena_string(arena, peer),
    };
    gpr_free(peer);
}

static void refuse_unknown(RpcCall *call)
{
    Error error = {0};
    Status status =
        error_set(&error, REASON_UNIMPLEMENTED, "there is no method '%s'", call->info.method);
    finish_with_error(call, status, &error);
}

static void on_new(RpcCall *call, bool is_ok)
{
    if (!is_ok) {
        return; // the server stops
    }
    rpc_call_request(call->server);
    call->arena = arena_new();
    fill_info(call);
    call->route = rpc_server_find_route(call->server, call->details.method);
    grpc_op operation = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    operation.data.recv_close_on_server.cancelled = &call->is_canceled;
    (void)pthread_mutex_lock(&call->mutex);
    start_batch(call, &operation, 1, &call->on_closed);
    (void)pthread_mutex_unlock(&call->mutex);
    if (call->route == NULL) {
        refuse_unknown(call);
        return;
    }
    if (call->route->method.kind != RPC_BIDI_STREAM) {
        receive_message(call);
        return;
    }
    if (!handler_begin(call)) {
        return;
    }
    bool is_open = handle_open(call, NULL);
    handler_end(call);
    if (is_open) {
        receive_message(call);
    }
}

void rpc_call_request(RpcServer *server)
{
    RpcCall *call = mem_alloc(sizeof(*call));
    call->server = server;
    atomic_init(&call->reference_count, 1);
    (void)pthread_mutex_init(&call->mutex, NULL);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    call->on_new = (RpcTag){on_new, call};
    call->on_received = (RpcTag){on_received, call};
    call->on_sent = (RpcTag){on_sent, call};
    call->on_closed = (RpcTag){on_closed, call};
    call->event_count = 1;
    (void)pthread_mutex_lock(&server->mutex);
    server->call_count++;
    (void)pthread_mutex_unlock(&server->mutex);
    grpc_call_error result =
        grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata,
                                 server->queue, server->queue, &call->on_new);
    assert(result == GRPC_CALL_OK);
}
