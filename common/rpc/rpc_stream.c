// SPDX-License-Identifier: Apache-2.0
// A bidirectional stream at the client. Its queue is plucked by tag, so that one thread can wait
// for a message while another sends; a RECV that was started stays armed until its message comes,
// whatever the caller's patience.
#include "common/clock.h"
#include "common/memory.h"
#include "common/rpc/rpc_internal.h"
#include "common/text.h"

#include <assert.h>

#define STATUS_WAIT_MS 5000 // for the status of a stream that is known to be over

struct RpcStream {
    RpcClient *client;
    char *address;
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_metadata_array initial;
    // The receiving thread's.
    grpc_byte_buffer *received;
    bool is_receiving;
    // Guarded by mutex: the end of the stream, which both threads may find.
    pthread_mutex_t mutex;
    grpc_metadata_array trailing;
    grpc_status_code code;
    grpc_slice details;
    bool has_status;
    Error end;
    // Only their addresses are used, as tags.
    char tag_open;
    char tag_send;
    char tag_receive;
    char tag_status;
};

// Completed within timeout_ms (negative: waits for ever). A completion is told once.
static bool wait_for(RpcStream *stream, void *tag, int64_t timeout_ms, bool *ret_is_ok)
{
    grpc_event event =
        grpc_completion_queue_pluck(stream->queue, tag, rpc_deadline(timeout_ms), NULL);
    *ret_is_ok = event.success != 0;
    return event.type == GRPC_OP_COMPLETE;
}

// The status if it comes in time. Needs the mutex.
static bool poll_status(RpcStream *stream, int64_t timeout_ms)
{
    bool is_ok = false;
    if (!stream->has_status && wait_for(stream, &stream->tag_status, timeout_ms, &is_ok)) {
        stream->has_status = true;
        (void)rpc_error_from_status(&stream->end, stream->address, stream->code, stream->details,
                                    &stream->trailing);
    }
    return stream->has_status;
}

// The stream is over: why, as the error.
static Status stream_end(RpcStream *stream, Error *error)
{
    (void)pthread_mutex_lock(&stream->mutex);
    if (!poll_status(stream, STATUS_WAIT_MS)) {
        (void)grpc_call_cancel_with_status(stream->call, GRPC_STATUS_UNAVAILABLE,
                                           "the stream broke", NULL);
        (void)poll_status(stream, -1);
    }
    *error = stream->end;
    (void)pthread_mutex_unlock(&stream->mutex);
    return error->status;
}

static void start_open(RpcStream *stream, grpc_metadata *metadata, size_t metadata_count,
                       grpc_call_error *ret_result)
{
    grpc_op operations[2] = {0};
    operations[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    operations[0].data.send_initial_metadata.metadata = metadata;
    operations[0].data.send_initial_metadata.count = metadata_count;
    operations[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    operations[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
    *ret_result = grpc_call_start_batch(stream->call, operations, ARRAY_COUNT(operations),
                                        &stream->tag_open, NULL);
    if (*ret_result != GRPC_CALL_OK) {
        return;
    }
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &stream->trailing;
    status.data.recv_status_on_client.status = &stream->code;
    status.data.recv_status_on_client.status_details = &stream->details;
    *ret_result = grpc_call_start_batch(stream->call, &status, 1, &stream->tag_status, NULL);
    assert(*ret_result == GRPC_CALL_OK);
}

static RpcStream *create_stream(RpcClient *client, const char *method)
{
    RpcStream *stream = mem_alloc(sizeof(*stream));
    stream->client = client;
    stream->address = string_copy(client->address);
    rpc_library_init(); // a stream may outlive its client
    stream->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_metadata_array_init(&stream->initial);
    grpc_metadata_array_init(&stream->trailing);
    stream->details = grpc_empty_slice();
    (void)pthread_mutex_init(&stream->mutex, NULL);
    grpc_slice name = grpc_slice_from_copied_string(method);
    stream->call =
        grpc_channel_create_call(rpc_client_channel(client), NULL, GRPC_PROPAGATE_DEFAULTS,
                                 stream->queue, name, NULL, rpc_deadline(-1), NULL);
    grpc_slice_unref(name);
    return stream;
}

static void free_stream(RpcStream *stream)
{
    if (stream->received != NULL) {
        grpc_byte_buffer_destroy(stream->received);
    }
    grpc_metadata_array_destroy(&stream->initial);
    grpc_metadata_array_destroy(&stream->trailing);
    grpc_slice_unref(stream->details);
    grpc_call_unref(stream->call);
    grpc_completion_queue_shutdown(stream->queue);
    grpc_completion_queue_destroy(stream->queue);
    grpc_shutdown();
    (void)pthread_mutex_destroy(&stream->mutex);
    mem_free(stream->address);
    mem_free(stream);
}

static bool is_accepted(const RpcStream *stream)
{
    for (size_t i = 0; i < stream->initial.count; i++) {
        if (rpc_slice_equal(stream->initial.metadata[i].key, RPC_METADATA_STREAM)) {
            return true;
        }
    }
    return false;
}

// Waits for the server's word on the stream.
static Status await_acceptance(RpcStream *stream, int64_t timeout_ms, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    bool is_ok = false;
    bool has_answer = wait_for(stream, &stream->tag_open, MAX(timeout_ms, 0), &is_ok);
    if (has_answer && is_ok && is_accepted(stream)) {
        return STATUS_OK;
    }
    if (!has_answer) {
        (void)grpc_call_cancel(stream->call, NULL);
        (void)wait_for(stream, &stream->tag_open, -1, &is_ok);
    } else {
        (void)pthread_mutex_lock(&stream->mutex);
        bool has_status = poll_status(stream, MAX(deadline_ms - clock_monotonic_ms(), 0));
        *error = stream->end;
        (void)pthread_mutex_unlock(&stream->mutex);
        if (has_status) {
            return error->status;
        }
    }
    stream->client->must_reconnect = true;
    return error_set(error, REASON_UNAVAILABLE, "'%s' did not answer within %lld ms",
                     stream->address, (long long)timeout_ms);
}

static void close_opened(RpcStream *stream)
{
    (void)grpc_call_cancel(stream->call, NULL);
    bool is_ok = false;
    if (stream->is_receiving) {
        (void)wait_for(stream, &stream->tag_receive, -1, &is_ok);
    }
    (void)pthread_mutex_lock(&stream->mutex);
    (void)poll_status(stream, -1);
    (void)pthread_mutex_unlock(&stream->mutex);
    free_stream(stream);
}

Status rpc_stream_open(RpcClient *client, const char *method, int64_t timeout_ms,
                       RpcStream **ret_stream, Error *error)
{
    RpcStream *stream = create_stream(client, method);
    grpc_metadata metadata = {0};
    size_t metadata_count = rpc_client_metadata(client, &metadata);
    grpc_call_error result = GRPC_CALL_OK;
    start_open(stream, &metadata, metadata_count, &result);
    if (metadata_count > 0) {
        grpc_slice_unref(metadata.value);
    }
    if (result != GRPC_CALL_OK) {
        free_stream(stream);
        return error_set(error, REASON_INVALID, "the stream's metadata is not valid");
    }
    Status status = await_acceptance(stream, timeout_ms, error);
    if (status != STATUS_OK) {
        close_opened(stream);
        return status;
    }
    *ret_stream = stream;
    return STATUS_OK;
}

Status rpc_stream_send(RpcStream *stream, const ProtobufCMessage *message, Error *error)
{
    grpc_byte_buffer *buffer = rpc_pack(message);
    grpc_op operation = {.op = GRPC_OP_SEND_MESSAGE};
    operation.data.send_message.send_message = buffer;
    grpc_call_error result =
        grpc_call_start_batch(stream->call, &operation, 1, &stream->tag_send, NULL);
    grpc_byte_buffer_destroy(buffer);
    assert(result == GRPC_CALL_OK);
    bool is_ok = false;
    (void)wait_for(stream, &stream->tag_send, -1, &is_ok);
    return is_ok ? STATUS_OK : stream_end(stream, error);
}

static void arm(RpcStream *stream)
{
    if (stream->is_receiving) {
        return;
    }
    grpc_op operation = {.op = GRPC_OP_RECV_MESSAGE};
    operation.data.recv_message.recv_message = &stream->received;
    grpc_call_error result =
        grpc_call_start_batch(stream->call, &operation, 1, &stream->tag_receive, NULL);
    assert(result == GRPC_CALL_OK);
    stream->is_receiving = true;
}

Status rpc_stream_receive(RpcStream *stream, const ProtobufCMessageDescriptor *descriptor,
                          int64_t timeout_ms, Arena *arena, ProtobufCMessage **ret_message,
                          Error *error)
{
    arm(stream);
    bool is_ok = false;
    if (!wait_for(stream, &stream->tag_receive, MAX(timeout_ms, 0), &is_ok)) {
        *ret_message = NULL;
        return STATUS_OK;
    }
    stream->is_receiving = false;
    if (!is_ok || stream->received == NULL) {
        return stream_end(stream, error);
    }
    Status status = rpc_unpack(arena, descriptor, stream->received, ret_message, error);
    grpc_byte_buffer_destroy(stream->received);
    stream->received = NULL;
    return status;
}

void rpc_stream_close(RpcStream *stream)
{
    if (stream == NULL) {
        return;
    }
    close_opened(stream);
}
