// SPDX-License-Identifier: Apache-2.0
// The client's connection and its unary calls.
#include "common/limits.h"
#include "common/memory.h"
#include "common/rpc/rpc_compat.h"
#include "common/rpc/rpc_internal.h"

#include <assert.h>
#include <grpc/grpc_security.h>
#include <grpc/impl/codegen/compression_types.h>
#include <grpc/support/alloc.h>
#include <limits.h>
#include <string.h>

#define KEEPALIVE_MIN_MS 1000
#define KEEPALIVE_ANSWER_MS 10000
#define ARGUMENT_COUNT_MAX 16

static grpc_channel *create_channel(const RpcClient *client)
{
    grpc_arg arguments[ARGUMENT_COUNT_MAX];
    size_t count = 0;
    arguments[count++] = rpc_integer_argument(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // A connection of our own: another client's failures and waiting times are not ours.
    arguments[count++] = rpc_integer_argument(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments[count++] =
        rpc_integer_argument(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, LIMIT_RPC_MESSAGE_BYTES);
    arguments[count++] = rpc_integer_argument(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_BYTES_MAX);
    arguments[count++] = rpc_integer_argument(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                                              1 << GRPC_COMPRESS_NONE);
    arguments[count++] = rpc_integer_argument(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments[count++] = rpc_integer_argument(GRPC_ARG_ENABLE_CHANNELZ, 0);
    arguments[count++] = rpc_integer_argument(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    if (client->keepalive_ms > 0) {
        int64_t time_ms = MIN(MAX(client->keepalive_ms, KEEPALIVE_MIN_MS), INT_MAX);
        arguments[count++] = rpc_integer_argument(GRPC_ARG_KEEPALIVE_TIME_MS, (int)time_ms);
        arguments[count++] = rpc_integer_argument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                                                  (int)MIN(time_ms, KEEPALIVE_ANSWER_MS));
        arguments[count++] = rpc_integer_argument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    }
    if (client->server_name != NULL && client->root_pem != NULL) {
        arguments[count++] =
            rpc_string_argument(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, client->server_name);
    }
    assert(count <= ARGUMENT_COUNT_MAX);
    grpc_channel_args list = {count, arguments};
    if (client->root_pem == NULL) {
        return rpc_channel_plain(client->address, &list);
    }
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create_ex(client->root_pem, NULL, NULL, NULL);
    grpc_channel *channel = rpc_channel_secure(client->address, credentials, &list);
    grpc_channel_credentials_release(credentials);
    return channel;
}

Status rpc_client_new(const RpcClientOptions *options, RpcClient **ret_client, Error *error)
{
    if (options->address == NULL || strchr(options->address, ':') == NULL) {
        return error_set(error, REASON_OPTION_INVALID, "'%s' is not an address 'host:port'",
                         options->address == NULL ? "" : options->address);
    }
    if (options->root_pem != NULL && strstr(options->root_pem, "-----BEGIN") == NULL) {
        return error_set(error, REASON_OPTION_INVALID, "the certificate to trust is not PEM");
    }
    RpcClient *client = mem_alloc(sizeof(*client));
    client->address = string_copy(options->address);
    client->root_pem = string_copy(options->root_pem);
    client->server_name = string_copy(options->server_name);
    if (options->authorization != NULL) {
        client->authorization = secret_from_text(options->authorization);
    }
    client->keepalive_ms = options->keepalive_ms;
    rpc_library_init();
    client->channel = create_channel(client);
    *ret_client = client;
    return STATUS_OK;
}

void rpc_client_free(RpcClient *client)
{
    if (client == NULL) {
        return;
    }
    grpc_channel_destroy(client->channel);
    grpc_shutdown();
    mem_free(client->address);
    mem_free(client->root_pem);
    mem_free(client->server_name);
    secret_done(&client->authorization);
    mem_free(client);
}

grpc_channel *rpc_client_channel(RpcClient *client)
{
    if (!client->must_reconnect && grpc_channel_check_connectivity_state(client->channel, 0) !=
                                       GRPC_CHANNEL_TRANSIENT_FAILURE) {
        return client->channel;
    }
    // Calls under way keep the old one alive.
    grpc_channel_destroy(client->channel);
    client->channel = create_channel(client);
    client->must_reconnect = false;
    return client->channel;
}

size_t rpc_client_metadata(const RpcClient *client, grpc_metadata *ret_metadata)
{
    if (client->authorization.size == 0) {
        return 0;
    }
    ret_metadata->key = grpc_slice_from_static_string("authorization");
    ret_metadata->value = grpc_slice_from_copied_string(secret_text(&client->authorization));
    return 1;
}

// ---- unary calls ----

// What gRPC fills while a call is under way. The metadata's slices are the call's, so that it is
// kept as long.
typedef struct Exchange {
    grpc_call *call;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_status_code code;
    grpc_slice details;
    grpc_byte_buffer *response;
} Exchange;

static grpc_call_error start_exchange(Exchange *exchange, grpc_byte_buffer *request,
                                      grpc_metadata *metadata, size_t metadata_count)
{
    grpc_op operations[6] = {0};
    operations[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    operations[0].data.send_initial_metadata.metadata = metadata;
    operations[0].data.send_initial_metadata.count = metadata_count;
    operations[1].op = GRPC_OP_SEND_MESSAGE;
    operations[1].data.send_message.send_message = request;
    operations[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    operations[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    operations[3].data.recv_initial_metadata.recv_initial_metadata = &exchange->initial;
    operations[4].op = GRPC_OP_RECV_MESSAGE;
    operations[4].data.recv_message.recv_message = &exchange->response;
    operations[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    operations[5].data.recv_status_on_client.trailing_metadata = &exchange->trailing;
    operations[5].data.recv_status_on_client.status = &exchange->code;
    operations[5].data.recv_status_on_client.status_details = &exchange->details;
    return grpc_call_start_batch(exchange->call, operations, ARRAY_COUNT(operations), exchange,
                                 NULL);
}

static void run_exchange(RpcClient *client, const char *method, const ProtobufCMessage *request,
                         int64_t timeout_ms, Exchange *exchange)
{
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_metadata metadata = {0};
    size_t metadata_count = rpc_client_metadata(client, &metadata);
    grpc_slice name = grpc_slice_from_copied_string(method);
    exchange->call =
        grpc_channel_create_call(rpc_client_channel(client), NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                 name, NULL, rpc_deadline(timeout_ms), NULL);
    grpc_byte_buffer *buffer = rpc_pack(request);
    grpc_call_error result = start_exchange(exchange, buffer, &metadata, metadata_count);
    if (result == GRPC_CALL_OK) {
        (void)grpc_completion_queue_pluck(queue, exchange, gpr_inf_future(GPR_CLOCK_REALTIME),
                                          NULL);
    } else { // an authorization that is not a header value
        exchange->code = GRPC_STATUS_INVALID_ARGUMENT;
        exchange->details = grpc_slice_from_static_string("the call's metadata is not valid");
    }
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(name);
    if (metadata_count > 0) {
        grpc_slice_unref(metadata.value);
    }
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue); // the call has its own reference
}

Status rpc_client_call(RpcClient *client, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *response_descriptor, int64_t timeout_ms,
                       Arena *arena, ProtobufCMessage **ret_response, Error *error)
{
    Exchange exchange = {0};
    grpc_metadata_array_init(&exchange.initial);
    grpc_metadata_array_init(&exchange.trailing);
    exchange.details = grpc_empty_slice();
    run_exchange(client, method, request, timeout_ms, &exchange);
    Status status = STATUS_OK;
    if (exchange.code != GRPC_STATUS_OK) {
        status = rpc_error_from_status(error, client->address, exchange.code, exchange.details,
                                       &exchange.trailing);
        client->must_reconnect = exchange.code == GRPC_STATUS_DEADLINE_EXCEEDED;
    } else if (exchange.response == NULL) {
        status = error_set(error, REASON_INTERNAL, "'%s' sent no response", client->address);
    } else {
        status = rpc_unpack(arena, response_descriptor, exchange.response, ret_response, error);
    }
    if (exchange.response != NULL) {
        grpc_byte_buffer_destroy(exchange.response);
    }
    grpc_call_unref(exchange.call);
    grpc_slice_unref(exchange.details);
    grpc_metadata_array_destroy(&exchange.initial);
    grpc_metadata_array_destroy(&exchange.trailing);
    return status;
}
