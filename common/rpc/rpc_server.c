// SPDX-License-Identifier: Apache-2.0
// The life of a server: address, certificate, threads, and an end that loses no event.
#define LOG_MODULE "rpc"

#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/rpc/rpc_compat.h"
#include "common/rpc/rpc_internal.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/impl/codegen/compression_types.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAITING_CALL_COUNT 64 // accepted by gRPC before a thread of ours looks at them
#define THREAD_COUNT_MAX 256
#define KEEPALIVE_MS 20000
#define KEEPALIVE_ANSWER_MS 10000
#define CLIENT_PING_INTERVAL_MIN_MS 500
#define HANDSHAKE_MS 10000

static grpc_server *create_server(void)
{
    grpc_arg arguments[] = {
        rpc_integer_argument(GRPC_ARG_ALLOW_REUSEPORT, 0),
        rpc_integer_argument(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, LIMIT_RPC_MESSAGE_BYTES),
        rpc_integer_argument(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_BYTES_MAX),
        rpc_integer_argument(GRPC_ARG_MAX_CONCURRENT_STREAMS, RPC_STREAMS_PER_CONNECTION),
        // No compression: the limit on a message is on its compressed size.
        rpc_integer_argument(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                             1 << GRPC_COMPRESS_NONE),
        rpc_integer_argument(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        rpc_integer_argument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_ANSWER_MS),
        rpc_integer_argument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        rpc_integer_argument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        rpc_integer_argument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             CLIENT_PING_INTERVAL_MIN_MS),
        rpc_integer_argument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
        rpc_integer_argument(GRPC_ARG_ENABLE_CHANNELZ, 0),
    };
    grpc_channel_args list = {ARRAY_COUNT(arguments), arguments};
    return grpc_server_create(&list, NULL);
}

static grpc_server_credentials *create_credentials(const RpcServerOptions *options)
{
    grpc_ssl_pem_key_cert_pair pair = {secret_text(options->key_pem), options->certificate_pem};
    grpc_ssl_server_certificate_config *config =
        grpc_ssl_server_certificate_config_create(NULL, &pair, 1);
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config(
            GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE, config));
}

// Splits "host:port" or "[host]:port" in place. False: there is no port, for which gRPC would take
// 443.
static bool split_address(char *address, const char **ret_host, const char **ret_port)
{
    char *colon = strrchr(address, ':');
    int64_t port = 0;
    if (colon == NULL || !text_to_int64(colon + 1, &port) || port < 0 || port > UINT16_MAX) {
        return false;
    }
    *colon = '\0';
    *ret_port = colon + 1;
    size_t size = strlen(address);
    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') {
        address[size - 1] = '\0';
        address++;
    }
    *ret_host = address;
    return true;
}

// gRPC only says that it could not bind. Binding once more ourselves tells why.
static int bind_errno(const char *address)
{
    CLEANUP_FREE char *copy = string_copy(address);
    const char *host = NULL;
    const char *port = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (!split_address(copy, &host, &port) ||
        getaddrinfo(text_is_empty(host) ? NULL : host, port, &hints, &found) != 0) {
        return EINVAL;
    }
    int number = 0;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        number = errno;
    } else {
        int yes = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        number = bind(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
        (void)close(fd);
    }
    freeaddrinfo(found);
    return number;
}

static Status bind_error(const RpcServerOptions *options, Error *error)
{
    int number = bind_errno(options->address);
    if (number == EADDRINUSE) {
        (void)error_set(error, REASON_PORT_IN_USE, "the address '%s' is in use", options->address);
        return error_hint(error, "stop the program that listens there or choose another port");
    }
    if (number == EINVAL || number == EADDRNOTAVAIL) {
        (void)error_set(error, REASON_OPTION_INVALID, "'%s' is not an address of this machine",
                        options->address);
        return error_hint(error, "use 'address:port' with an address that this machine has");
    }
    if (number != 0) {
        return error_set_errno(error, REASON_UNAVAILABLE, number, "cannot listen on '%s'",
                               options->address);
    }
    if (options->certificate_pem != NULL) {
        (void)error_set(error, REASON_OPTION_INVALID,
                        "the certificate and the private key cannot be used for TLS");
        return error_hint(error, "both must be PEM, and the key must be the certificate's");
    }
    return error_set(error, REASON_PORT_IN_USE, "cannot listen on '%s'", options->address);
}

static Status bind_address(RpcServer *server, const RpcServerOptions *options, Error *error)
{
    CLEANUP_FREE char *copy = string_copy(options->address);
    const char *host = NULL;
    const char *port = NULL;
    if (!split_address(copy, &host, &port)) {
        return bind_error(options, error);
    }
    if (options->certificate_pem == NULL) {
        server->port = rpc_listen_plain(server->server, options->address);
    } else {
        grpc_server_credentials *credentials = create_credentials(options);
        if (credentials != NULL) {
            server->port = rpc_listen_secure(server->server, options->address, credentials);
            grpc_server_credentials_release(credentials);
        }
    }
    return server->port > 0 ? STATUS_OK : bind_error(options, error);
}

static void add_routes(RpcServer *server, const RpcMethod *methods, size_t count, void *context)
{
    server->routes =
        mem_realloc_array(server->routes, server->route_count + count, sizeof(*server->routes));
    for (size_t i = 0; i < count; i++) {
        server->routes[server->route_count++] = (RpcRoute){methods[i], context};
    }
}

const RpcRoute *rpc_server_find_route(const RpcServer *server, grpc_slice method)
{
    for (size_t i = 0; i < server->route_count; i++) {
        if (rpc_slice_equal(method, server->routes[i].method.name)) {
            return &server->routes[i];
        }
    }
    return NULL;
}

void rpc_server_call_ended(RpcServer *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    assert(server->call_count > 0);
    if (--server->call_count == 0) {
        (void)pthread_cond_broadcast(&server->all_calls_ended);
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

static void *serve(void *context)
{
    RpcServer *server = context;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        assert(event.type == GRPC_OP_COMPLETE);
        rpc_call_dispatch(event.tag, event.success != 0);
    }
}

static void start_threads(RpcServer *server, int thread_count)
{
    assert(thread_count > 0);
    assert(thread_count <= THREAD_COUNT_MAX);
    server->threads = mem_alloc_array((size_t)thread_count, sizeof(*server->threads));
    for (int i = 0; i < thread_count; i++) {
        int result = pthread_create(&server->threads[i], NULL, serve, server);
        assert(result == 0); // like memory: without threads there is no program
        server->thread_count++;
    }
}

static RpcServer *allocate_server(void)
{
    RpcServer *server = mem_alloc(sizeof(*server));
    (void)pthread_mutex_init(&server->mutex, NULL);
    (void)pthread_cond_init(&server->all_calls_ended, NULL);
    server->is_stopped = true; // until it is started
    rpc_library_init();
    server->server = create_server();
    server->queue = grpc_completion_queue_create_for_next(NULL);
    server->stop_queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
    grpc_server_register_completion_queue(server->server, server->stop_queue, NULL);
    return server;
}

static Status start_allocated(RpcServer *server, const RpcServerOptions *options, Error *error)
{
    size_t count = 0;
    add_routes(server, options->methods, options->method_count, options->context);
    const RpcMethod *methods = rpc_health_methods(&count);
    server->health = rpc_health_new(server);
    add_routes(server, methods, count, server->health);
    methods = rpc_reflection_methods(&count);
    size_t first_index = server->route_count;
    add_routes(server, methods, count, NULL);
    RETURN_IF_ERROR(rpc_reflection_new(options->descriptors, options->descriptors_size, server,
                                       &server->reflection, error));
    for (size_t i = first_index; i < server->route_count; i++) {
        server->routes[i].context = server->reflection;
    }
    RETURN_IF_ERROR(bind_address(server, options, error));
    grpc_server_start(server->server);
    server->is_stopped = false;
    for (int i = 0; i < WAITING_CALL_COUNT; i++) {
        rpc_call_request(server);
    }
    start_threads(server, options->thread_count);
    return STATUS_OK;
}

Status rpc_server_start(const RpcServerOptions *options, RpcServer **ret_server, Error *error)
{
    // The program's signals are not for gRPC's threads, nor for ours.
    sigset_t all_signals;
    sigset_t old_signals;
    (void)sigfillset(&all_signals);
    (void)pthread_sigmask(SIG_SETMASK, &all_signals, &old_signals);
    RpcServer *server = allocate_server();
    Status status = start_allocated(server, options, error);
    (void)pthread_sigmask(SIG_SETMASK, &old_signals, NULL);
    if (status != STATUS_OK) {
        rpc_server_free(server);
        return status;
    }
    log_debug("rpc server started", "address", options->address, NULL);
    *ret_server = server;
    return STATUS_OK;
}

int rpc_server_port(const RpcServer *server)
{
    return server->port;
}

void rpc_server_set_healthy(RpcServer *server, bool is_healthy)
{
    rpc_health_set(server->health, is_healthy);
}

// Completes once no call is under way and no connection is left; cancels what is after grace_ms.
static void shut_down(RpcServer *server, int grace_ms)
{
    grpc_server_shutdown_and_notify(server->server, server->stop_queue, server);
    grpc_event event = grpc_completion_queue_pluck(server->stop_queue, server,
                                                   rpc_deadline(MAX(grace_ms, 0)), NULL);
    if (event.type == GRPC_QUEUE_TIMEOUT) {
        grpc_server_cancel_all_calls(server->server);
        (void)grpc_completion_queue_pluck(server->stop_queue, server,
                                          gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    }
}

void rpc_server_stop(RpcServer *server, int grace_ms)
{
    if (server->is_stopped) {
        return;
    }
    server->is_stopped = true;
    rpc_health_set(server->health, false);
    rpc_health_end_watches(server->health);
    shut_down(server, grace_ms);
    // A batch must never be started on a queue that has been shut down: wait until our side of
    // every call ended too.
    (void)pthread_mutex_lock(&server->mutex);
    while (server->call_count > 0) {
        (void)pthread_cond_wait(&server->all_calls_ended, &server->mutex);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    grpc_completion_queue_shutdown(server->queue);
    for (int i = 0; i < server->thread_count; i++) {
        (void)pthread_join(server->threads[i], NULL);
    }
    server->thread_count = 0;
}

// One that was never started has no threads, but gRPC wants to be told all the same.
static void discard_unstarted(RpcServer *server)
{
    shut_down(server, 0);
    grpc_completion_queue_shutdown(server->queue);
    grpc_event event;
    do {
        event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    } while (event.type != GRPC_QUEUE_SHUTDOWN);
}

void rpc_server_free(RpcServer *server)
{
    if (server == NULL) {
        return;
    }
    rpc_server_stop(server, 0);
    if (server->threads == NULL) {
        discard_unstarted(server);
    }
    grpc_server_destroy(server->server);
    grpc_completion_queue_destroy(server->queue);
    grpc_completion_queue_shutdown(server->stop_queue);
    grpc_completion_queue_destroy(server->stop_queue);
    grpc_shutdown();
    rpc_health_free(server->health);
    rpc_reflection_free(server->reflection);
    mem_free(server->routes);
    mem_free(server->threads);
    (void)pthread_cond_destroy(&server->all_calls_ended);
    (void)pthread_mutex_destroy(&server->mutex);
    mem_free(server);
}
