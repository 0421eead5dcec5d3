// SPDX-License-Identifier: Apache-2.0
// One request: collected in libmicrohttpd's thread, asked of the service in one of ours while the
// connection is suspended, answered in libmicrohttpd's thread again.
#define LOG_MODULE "http"

#include "common/limits.h"
#include "common/memory.h"
#include "common/request_id.h"
#include "common/text.h"
#include "holdfast/v1/holdfast.pb-c.h"
#include "server/http/http_internal.h"

#include <assert.h>
#include <string.h>

#define QUERY_COUNT_MAX 64
#define DISCARD_BYTES_MAX (256 * 1024 * 1024)
#define METRICS_BYTES_MAX (16 * 1024 * 1024)

const char *http_exchange_header(const HttpExchange *exchange, const char *name)
{
    const char *value = MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
    return value == NULL ? "" : arena_string(exchange->arena, value);
}

// "\"abc\"" and "W/\"abc\"" are abc; "*" is any, which is "".
static const char *plain_etag(Arena *arena, const char *value)
{
    if (text_equal(value, "*")) {
        return "";
    }
    if (text_has_prefix(value, "W/")) {
        value += 2;
    }
    size_t size = strlen(value);
    if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
        return arena_string_n(arena, value + 1, size - 2);
    }
    return value;
}

static HttpExchange *exchange_new(HttpServer *server, struct MHD_Connection *connection,
                                  const char *url, const char *method)
{
    HttpExchange *exchange = mem_alloc(sizeof(*exchange));
    atomic_fetch_add(&server->exchange_count, 1);
    exchange->server = server;
    exchange->connection = connection;
    exchange->arena = arena_new();
    exchange->method = text_equal(method, "HEAD") ? "GET" : arena_string(exchange->arena, method);
    exchange->path = arena_string(exchange->arena, url);
    exchange->request_id =
        request_id_accept(exchange->arena, http_exchange_header(exchange, "X-Request-Id"));
    buffer_init(&exchange->body, LIMIT_HTTP_BODY_BYTES);
    return exchange;
}

void http_exchange_completed(void *context, struct MHD_Connection *connection,
                             void **exchange_place, enum MHD_RequestTerminationCode code)
{
    (void)code;
    http_connection_is_idle(context, connection);
    HttpExchange *exchange = *exchange_place;
    *exchange_place = NULL;
    if (exchange == NULL) {
        return;
    }
    if (exchange->response != NULL) {
        MHD_destroy_response(exchange->response);
    }
    atomic_fetch_sub(&exchange->server->exchange_count, 1);
    buffer_done(&exchange->body);
    arena_free(exchange->arena);
    mem_free(exchange);
}

static enum MHD_Result send_answer(HttpExchange *exchange)
{
    assert(exchange->response != NULL);
    return MHD_queue_response(exchange->connection, exchange->status, exchange->response);
}

// ---- in a thread of ours ----

static void ask_service(HttpExchange *exchange)
{
    HttpServer *server = exchange->server;
    const HttpRoute *route = exchange->match.route;
    const ServiceMethod *method = service_method_find(route->rpc);
    const ProtobufCMessageDescriptor *descriptor =
        method == NULL ? &holdfast__v1__stream_events_request__descriptor : method->request;
    HttpInput input = {buffer_text(&exchange->body), exchange->body.size, exchange->query,
                       exchange->query_count};
    Error error = {0};
    ProtobufCMessage *request = NULL;
    ProtobufCMessage *response = NULL;
    Status status = http_request_message(exchange->arena, &exchange->match, &input, descriptor,
                                         &request, &error);
    if (status != STATUS_OK) {
        // Who may not come in is not told what was wrong with the request.
        Error refusal = {0};
        Role role = method == NULL ? ROLE_VIEWER : method->role;
        if (service_authorize(server->service, &exchange->call, role, &refusal) != STATUS_OK) {
            error = refusal;
        }
    } else if (method == NULL) {
        http_events_answer(exchange, request);
        return;
    } else {
        status = service_call(server->service, method, &exchange->call, request, &response, &error);
    }
    if (status != STATUS_OK) {
        http_request_name_field(route, &error);
        http_answer_problem(exchange, &error);
        return;
    }
    http_answer_message(exchange, (unsigned)route->success_status, response);
}

static void answer_ready(HttpExchange *exchange)
{
    Error error = {0};
    if (service_ready(exchange->server->service, &error) == STATUS_OK) {
        http_answer_text(exchange, MHD_HTTP_OK, "ready\n");
        return;
    }
    http_answer_text(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "the database cannot be reached\n");
}

static void answer_metrics(HttpExchange *exchange)
{
    Error error = {0};
    Buffer text = {0};
    buffer_init(&text, METRICS_BYTES_MAX);
    if (service_metrics(exchange->server->service, &text, &error) == STATUS_OK) {
        http_answer_bytes(exchange, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &text);
    } else {
        http_answer_problem(exchange, &error);
    }
    buffer_done(&text);
}

static void run_exchange(void *context)
{
    HttpExchange *exchange = context;
    if (exchange->match.route != NULL) {
        ask_service(exchange);
    } else if (text_equal(exchange->path, "/metrics")) {
        answer_metrics(exchange);
    } else {
        answer_ready(exchange);
    }
    assert(exchange->response != NULL);
    MHD_resume_connection(exchange->connection); // the exchange is not ours any more
}

// ---- in libmicrohttpd's thread ----

static enum MHD_Result add_pair(void *context, enum MHD_ValueKind kind, const char *name,
                                const char *value)
{
    (void)kind;
    HttpExchange *exchange = context;
    if (exchange->query_count >= QUERY_COUNT_MAX) {
        return MHD_NO;
    }
    exchange->query[exchange->query_count++] =
        (HttpPair){arena_string(exchange->arena, name), arena_string(exchange->arena, value)};
    return MHD_YES;
}

static void collect(HttpExchange *exchange)
{
    exchange->query = arena_alloc_array(exchange->arena, QUERY_COUNT_MAX, sizeof(*exchange->query));
    (void)MHD_get_connection_values(exchange->connection, MHD_GET_ARGUMENT_KIND, add_pair,
                                    exchange);
    exchange->call.arena = exchange->arena;
    exchange->call.authorization = http_exchange_header(exchange, "Authorization");
    exchange->call.idempotency_key = http_exchange_header(exchange, "Idempotency-Key");
    exchange->call.if_match =
        plain_etag(exchange->arena, http_exchange_header(exchange, "If-Match"));
    exchange->call.request_id = exchange->request_id;
    exchange->last_event_id = http_exchange_header(exchange, "Last-Event-ID");
}

static enum MHD_Result refuse(HttpExchange *exchange, Reason reason, const char *message)
{
    Error error = {0};
    (void)error_set(&error, reason, "%s", message);
    http_answer_problem(exchange, &error);
    return send_answer(exchange);
}

static enum MHD_Result refuse_body(HttpExchange *exchange)
{
    Error error = {0};
    (void)error_set(&error, REASON_BODY_TOO_LARGE, "the body is over %d bytes",
                    LIMIT_HTTP_BODY_BYTES);
    (void)error_hint(&error, "send at most %d bytes", LIMIT_HTTP_BODY_BYTES);
    http_answer_problem(exchange, &error);
    return send_answer(exchange);
}

static enum MHD_Result refuse_method(HttpExchange *exchange)
{
    Error error = {0};
    (void)error_set(&error, REASON_UNIMPLEMENTED, "'%s' does not have the method %s",
                    exchange->path, exchange->method);
    (void)error_hint(&error, "it has %s", exchange->match.allow);
    http_answer_problem_as(exchange, MHD_HTTP_METHOD_NOT_ALLOWED, &error);
    http_answer_header(exchange, "Allow", exchange->match.allow);
    return send_answer(exchange);
}

static enum MHD_Result submit(HttpExchange *exchange)
{
    exchange->job = (HttpJob){.run = run_exchange, .context = exchange};
    if (http_server_submit(exchange->server, &exchange->job, exchange->connection)) {
        return MHD_YES;
    }
    return refuse(exchange, REASON_UNAVAILABLE, "the server stops");
}

static enum MHD_Result dispatch(HttpExchange *exchange)
{
    const char *path = exchange->path;
    bool is_get = text_equal(exchange->method, "GET");
    if (exchange->body.is_overflowed) {
        return refuse_body(exchange);
    }
    if (text_has_prefix(path, "/v1/")) {
        http_route_find(exchange->arena, exchange->method, path, &exchange->match);
        if (exchange->match.route != NULL) {
            collect(exchange);
            return submit(exchange);
        }
        if (exchange->match.allow[0] != '\0') {
            return refuse_method(exchange);
        }
        return refuse(exchange, REASON_NOT_FOUND, "there is no such path");
    }
    if (!is_get) {
        exchange->match.allow = "GET";
        return refuse_method(exchange);
    }
    if (text_equal(path, "/healthz")) {
        http_answer_text(exchange, MHD_HTTP_OK, "ok\n");
        return send_answer(exchange);
    }
    if (text_equal(path, "/readyz") || text_equal(path, "/metrics")) {
        return submit(exchange);
    }
    http_static_answer(exchange);
    return send_answer(exchange);
}

// A body that is too large is read to its end all the same, and thrown away: closing on a client
// that is still sending would lose our answer on its way. Unless the client asked before sending,
// or it would take too long.
static bool is_refused_unread(const HttpExchange *exchange)
{
    int64_t size = 0;
    const char *length = http_exchange_header(exchange, "Content-Length");
    if (length[0] == '\0') {
        return false;
    }
    if (!text_to_int64(length, &size) || size > DISCARD_BYTES_MAX) {
        return true;
    }
    return size > LIMIT_HTTP_BODY_BYTES && http_exchange_header(exchange, "Expect")[0] != '\0';
}

static enum MHD_Result begin(HttpServer *server, struct MHD_Connection *connection, const char *url,
                             const char *method, void **exchange_place)
{
    HttpExchange *exchange = exchange_new(server, connection, url, method);
    *exchange_place = exchange;
    http_connection_body_begins(server, connection);
    if (is_refused_unread(exchange)) {
        http_connection_is_answering(server, connection);
        return refuse_body(exchange);
    }
    return MHD_YES;
}

enum MHD_Result http_exchange_handle(void *context, struct MHD_Connection *connection,
                                     const char *url, const char *method, const char *version,
                                     const char *data, size_t *data_size, void **exchange_place)
{
    (void)version;
    HttpServer *server = context;
    HttpExchange *exchange = *exchange_place;
    if (exchange == NULL) {
        return begin(server, connection, url, method, exchange_place);
    }
    if (*data_size > 0) {
        (void)buffer_append(&exchange->body, data, *data_size); // too much is refused at the end
        *data_size = 0;
        return MHD_YES;
    }
    if (exchange->response != NULL) {
        return send_answer(exchange);
    }
    http_connection_is_answering(server, connection);
    return dispatch(exchange);
}
