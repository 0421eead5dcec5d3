// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/fake_gcs.h"

#include "common/buffer.h"
#include "common/checksum.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/free_port.h"
#include "tests/harness/gcp_account.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define START_MS 60000
#define REQUEST_MS 60000
#define FAULT_COUNT_MAX 64
#define SESSION_COUNT_MAX 256
#define PIECE_UNIT ((size_t)256 * 1024)
#define SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define NO_FAULT (-1)
#define CLIENT_COUNT_MAX 64

typedef struct Fault {
    FakeGcsFault fault;
    const char *method, *part;
    int left;
} Fault;

// A resumable upload.
typedef struct Session {
    pthread_mutex_t mutex; // guards what follows; held while a piece is taken
    char *path;            // of fake-gcs-server's own session
    char *object;          // the JSON of the finished object, or NULL
    int64_t kept;
} Session;

struct FakeGcs {
    pid_t pid;
    char *server_url;
    FakeHttp *proxy;
    GcpAccount *account;
    pthread_mutex_t mutex; // guards what follows
    Fault faults[FAULT_COUNT_MAX];
    size_t fault_count;
    Session sessions[SESSION_COUNT_MAX];
    size_t session_count;
    FakeGcsCounts counts;
    int token_number; // the one that is taken is "ya29.NUMBER"
    char *last_upload;
    char *complaint;
    HttpClient *clients[CLIENT_COUNT_MAX]; // idle ones, with their connections
    size_t client_count;
};

// One request on its way through.
typedef struct Pass {
    FakeGcs *gcs;
    const FakeHttpRequest *request;
    int fault; // a FakeGcsFault or NO_FAULT
} Pass;

static bool complain(FakeGcs *gcs, const FakeHttpRequest *request, const char *why)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    if (gcs->complaint == NULL) {
        gcs->complaint = string_format("%s %s: %s", request->method, request->target, why);
    }
    (void)pthread_mutex_unlock(&gcs->mutex);
    return false;
}

static bool answer_error(const FakeHttpRequest *request, int status, const char *word,
                         const char *message)
{
    CLEANUP_FREE char *body = string_format(
        "{\"error\":{\"code\":%d,\"message\":\"%s\",\"errors\":[{\"domain\":\"global\","
        "\"reason\":\"%s\",\"message\":\"%s\"}]}}",
        status, message, word, message);
    return fake_http_answer(request, status, "Content-Type: application/json\r\n", body,
                            strlen(body));
}

static bool refuse(const Pass *pass, const char *why)
{
    (void)complain(pass->gcs, pass->request, why);
    return answer_error(pass->request, 400, "invalid", why);
}

// --- the server behind ------------------------------------------------------------------------

static HttpClient *take_client(FakeGcs *gcs)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    HttpClient *client = gcs->client_count > 0 ? gcs->clients[--gcs->client_count] : NULL;
    (void)pthread_mutex_unlock(&gcs->mutex);
    return client != NULL ? client : http_client_new();
}

static void return_client(FakeGcs *gcs, HttpClient *client)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    if (gcs->client_count < CLIENT_COUNT_MAX) {
        gcs->clients[gcs->client_count++] = TAKE_PTR(client);
    }
    (void)pthread_mutex_unlock(&gcs->mutex);
    http_client_free(client);
}

static bool forward(const Pass *pass, const char *target, const char *const *headers,
                    const void *body, size_t size, HttpResponse *ret_response)
{
    CLEANUP_FREE char *url = string_format("%s%s", pass->gcs->server_url, target);
    HttpClient *client = take_client(pass->gcs);
    Error error = {0};
    const HttpRequest request = {.method = pass->request->method,
                                 .url = url,
                                 .headers = headers,
                                 .body = body,
                                 .body_size = size,
                                 .timeout_ms = REQUEST_MS};
    Status status = http_client_send(client, &request, ret_response, &error);
    return_client(pass->gcs, client);
    return status == STATUS_OK || complain(pass->gcs, pass->request, error.message);
}

static const char *pick_header(Arena *arena, const HttpResponse *response, const char *name)
{
    char value[1024];
    return http_response_header(response, name, value, sizeof(value))
               ? arena_format(arena, "%s: %s\r\n", name, value)
               : "";
}

static void stay_silent(const FakeHttpRequest *request)
{
    char byte;
    while (!fake_http_is_stopping(request->server) && recv(request->fd, &byte, 1, 0) > 0) {
    }
}

static bool relay_half(const Pass *pass, const HttpResponse *response, const char *headers)
{
    const FakeHttpRequest *request = pass->request;
    CLEANUP_FREE char *head = string_format("HTTP/1.1 %d Status\r\n%sContent-Length: %zu\r\n\r\n",
                                            response->status, headers, response->body.size);
    if (fake_http_send(request->fd, head, strlen(head)) &&
        fake_http_send(request->fd, response->body.data, response->body.size / 2) &&
        pass->fault == FAKE_GCS_STALL) {
        stay_silent(request);
    }
    return false;
}

static bool relay(const Pass *pass, const HttpResponse *response)
{
    static const char *const names[] = {"Content-Type",      "ETag",     "Content-Range",
                                        "X-Goog-Generation", "Location", "Range"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *headers = "";
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        headers = arena_format(arena, "%s%s", headers, pick_header(arena, response, names[i]));
    }
    headers = arena_format(arena, "%s%s", headers,
                           pass->fault == FAKE_GCS_WRONG_CRC && response->status == 206
                               ? "X-Goog-Hash: crc32c=AAAAAA==\r\n"
                               : pick_header(arena, response, "X-Goog-Hash"));
    switch (pass->fault) {
    case FAKE_GCS_LOST_REPLY:
        return false;
    case FAKE_GCS_HALF:
    case FAKE_GCS_STALL:
        return relay_half(pass, response, headers);
    case FAKE_GCS_SHORT:
        return fake_http_answer(pass->request, response->status, headers, response->body.data,
                                response->body.size - 1);
    default:
        return fake_http_answer(pass->request, response->status, headers, response->body.data,
                                response->body.size);
    }
}

// The JSON of an object, with another checksum when that is the fault.
static bool answer_object(const Pass *pass, int status, const char *text)
{
    CLEANUP_FREE char *copy = string_copy(text);
    char *crc = strstr(copy, "\"crc32c\":\"");
    if (pass->fault == FAKE_GCS_WRONG_CRC && crc != NULL) {
        crc += strlen("\"crc32c\":\"");
        *crc = *crc == 'A' ? 'B' : 'A';
    }
    return pass->fault != FAKE_GCS_LOST_REPLY &&
           fake_http_answer(pass->request, status, "Content-Type: application/json\r\n", copy,
                            strlen(copy));
}

// --- tokens -----------------------------------------------------------------------------------

static bool give_token(FakeGcs *gcs, const FakeHttpRequest *request)
{
    CLEANUP_FREE char *form = string_copy_n((const char *)request->body, request->body_size);
    const char *refusal = gcp_account_refusal(gcs->account, form, SCOPE);
    (void)pthread_mutex_lock(&gcs->mutex);
    gcs->counts.token_count++;
    CLEANUP_FREE char *token = string_format(
        "{\"access_token\":\"ya29.%d\",\"expires_in\":3599,\"token_type\":\"Bearer\"}",
        ++gcs->token_number);
    (void)pthread_mutex_unlock(&gcs->mutex);
    if (refusal != NULL) {
        (void)complain(gcs, request, refusal);
        return fake_http_answer(request, 400, NULL, "{\"error\":\"invalid_grant\"}", 25);
    }
    return fake_http_answer(request, 200, "Content-Type: application/json\r\n", token,
                            strlen(token));
}

static bool is_authorized(const Pass *pass)
{
    CLEANUP_FREE char *header = fake_http_header(pass->request, "Authorization");
    FakeGcs *gcs = pass->gcs;
    (void)pthread_mutex_lock(&gcs->mutex);
    if (pass->fault == FAKE_GCS_TOKEN_ENDED) {
        gcs->token_number++; // nobody has got this one
    }
    CLEANUP_FREE char *expected = string_format("Bearer ya29.%d", gcs->token_number);
    (void)pthread_mutex_unlock(&gcs->mutex);
    return text_equal(header, expected);
}

// --- uploads ----------------------------------------------------------------------------------

static void note_upload(const Pass *pass, const char *metadata)
{
    FakeGcs *gcs = pass->gcs;
    (void)pthread_mutex_lock(&gcs->mutex);
    mem_free(gcs->last_upload);
    gcs->last_upload = string_format("%s\n%s", pass->request->target, metadata);
    (void)pthread_mutex_unlock(&gcs->mutex);
}

static const char *crc_text(Arena *arena, const void *data, size_t size)
{
    uint32_t crc = crc32c_extend_portable(0, data, size);
    const uint8_t bytes[] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                             (uint8_t)crc};
    return base64_encode(arena, bytes, sizeof(bytes));
}

// "--B\r\nheaders\r\n\r\nmetadata\r\n--B\r\nheaders\r\n\r\ndata\r\n--B--": the metadata and the
// data.
static bool split_multipart(const FakeHttpRequest *request, Arena *arena, const char **ret_metadata,
                            const uint8_t **ret_data, size_t *ret_size)
{
    CLEANUP_FREE char *type = fake_http_header(request, "Content-Type");
    const char *boundary = type == NULL ? NULL : strstr(type, "multipart/related; boundary=");
    if (boundary != type || boundary == NULL) {
        return false;
    }
    const char *line =
        arena_format(arena, "\r\n--%s", type + strlen("multipart/related; boundary="));
    const uint8_t *end = request->body + request->body_size;
    const uint8_t *first = memmem(request->body, request->body_size, "\r\n\r\n", 4);
    const uint8_t *middle =
        first == NULL ? NULL : memmem(first, (size_t)(end - first), line, strlen(line));
    const uint8_t *second =
        middle == NULL ? NULL : memmem(middle + 4, (size_t)(end - middle) - 4, "\r\n\r\n", 4);
    const char *tail = arena_format(arena, "%s--\r\n", line);
    if (second == NULL || (size_t)(end - second) < 4 + strlen(tail) ||
        memcmp(end - strlen(tail), tail, strlen(tail)) != 0) {
        return false;
    }
    *ret_metadata = arena_string_n(arena, (const char *)first + 4, (size_t)(middle - first) - 4);
    *ret_data = second + 4;
    *ret_size = (size_t)(end - second) - 4 - strlen(tail);
    return true;
}

static const char *metadata_problem(const Pass *pass, const char *text, const char *crc)
{
    Error error = {0};
    CLEANUP(json_freep) Json *metadata = NULL;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (json_parse(text, strlen(text), &metadata, &error) != STATUS_OK) {
        return "the metadata is no JSON";
    }
    const char *name = arena_format(arena, "&name=%s",
                                    text_url_encode(arena, json_get_text(metadata, "name", "?")));
    if (strstr(pass->request->target, name) == NULL) {
        return "the name is not the one of the metadata";
    }
    return crc != NULL && !text_equal(json_get_text(metadata, "crc32c", ""), crc)
               ? "the checksum is missing or wrong"
               : NULL;
}

static bool pass_multipart(const Pass *pass)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    const FakeHttpRequest *request = pass->request;
    const char *metadata = NULL;
    const uint8_t *data = NULL;
    size_t size = 0;
    if (!split_multipart(request, arena, &metadata, &data, &size)) {
        return refuse(pass, "the body is not multipart/related");
    }
    const char *problem = metadata_problem(pass, metadata, crc_text(arena, data, size));
    if (problem != NULL) {
        return refuse(pass, problem);
    }
    note_upload(pass, metadata);
    CLEANUP_FREE char *type = fake_http_header(request, "Content-Type");
    const char *const headers[] = {arena_format(arena, "Content-Type: %s", type), NULL};
    return forward(pass, request->target, headers, request->body, request->body_size, &response) &&
           answer_object(pass, response.status, buffer_text(&response.body));
}

// As Google does, a session that may only create is refused when the object is there already.
static bool is_taken(const Pass *pass)
{
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *name = strstr(pass->request->target, "&name=") + strlen("&name=");
    FakeHttpRequest get = *pass->request;
    get.method = "GET";
    const Pass look = {.gcs = pass->gcs, .request = &get, .fault = NO_FAULT};
    const char *target =
        arena_format(arena, "/storage/v1/b/bucket/o/%.*s", (int)strcspn(name, "&"), name);
    return strstr(pass->request->target, "&ifGenerationMatch=0") != NULL &&
           forward(&look, target, NULL, NULL, 0, &response) && response.status == 200;
}

static bool begin_session(const Pass *pass)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    const FakeHttpRequest *request = pass->request;
    FakeGcs *gcs = pass->gcs;
    static const char *const json_type[] = {"Content-Type: application/json", NULL};
    const char *metadata = arena_string_n(arena, (const char *)request->body, request->body_size);
    const char *problem = metadata_problem(pass, metadata, NULL);
    if (problem != NULL) {
        return refuse(pass, problem);
    }
    note_upload(pass, metadata);
    if (is_taken(pass)) {
        return answer_error(request, 412, "conditionNotMet", "At least one condition is not met");
    }
    if (!forward(pass, request->target, json_type, request->body, request->body_size, &response)) {
        return false;
    }
    char *path = response.status == 200 ? strchr(response.location + strlen("http://"), '/') : NULL;
    (void)pthread_mutex_lock(&gcs->mutex);
    size_t number = gcs->session_count;
    if (path != NULL && number < SESSION_COUNT_MAX) {
        gcs->sessions[gcs->session_count++].path = string_copy(path);
    }
    (void)pthread_mutex_unlock(&gcs->mutex);
    if (path == NULL || number == SESSION_COUNT_MAX) {
        return answer_error(request, response.status == 200 ? 500 : response.status, "invalid",
                            "no session");
    }
    // A name that only the server itself could reach, as behind a load balancer.
    const char *headers = arena_format(
        arena, "Location: http://inside.invalid/upload/storage/v1/b/bucket/o?upload_id=%zu\r\n",
        number);
    return pass->fault != FAKE_GCS_LOST_REPLY && fake_http_answer(request, 200, headers, "", 0);
}

static bool answer_kept(const Pass *pass, int64_t kept)
{
    CLEANUP_FREE char *range =
        kept == 0 ? string_copy("") : string_format("Range: bytes=0-%lld\r\n", (long long)kept - 1);
    return pass->fault != FAKE_GCS_LOST_REPLY && fake_http_answer(pass->request, 308, range, "", 0);
}

// Gives the piece, or the part of it that a fault leaves, to the server behind.
static bool take_piece(const Pass *pass, Session *session, long long total, const uint8_t *data,
                       size_t size)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    long long first = (long long)session->kept;
    long long end = first + (long long)size;
    bool is_last = total == end;
    const char *const headers[] = {arena_format(arena, "Content-Range: bytes %lld-%lld/%s", first,
                                                end - 1,
                                                is_last ? arena_format(arena, "%lld", total) : "*"),
                                   NULL};
    if (size > 0 && !forward(pass, session->path, headers, data, size, &response)) {
        return false;
    }
    session->kept = end;
    if (!is_last) {
        return answer_kept(pass, end);
    }
    if (response.status != 200) {
        return answer_object(pass, response.status, buffer_text(&response.body));
    }
    session->object = string_copy(buffer_text(&response.body));
    CLEANUP_FREE char *hash = fake_http_header(pass->request, "X-Goog-Hash");
    CLEANUP_FREE char *member =
        string_format("\"crc32c\":\"%s\"", hash == NULL ? "" : hash + strlen("crc32c="));
    if (strstr(session->object, member) == NULL) {
        return refuse(pass, "the last piece has no or another checksum");
    }
    return answer_object(pass, 200, session->object);
}

static bool take_half(const Pass *pass, Session *session, const uint8_t *data, size_t size)
{
    (void)take_piece(&(Pass){pass->gcs, pass->request, FAKE_GCS_LOST_REPLY}, session, -1, data,
                     size / 2 / PIECE_UNIT * PIECE_UNIT);
    return false;
}

static bool serve_piece(const Pass *pass, Session *session)
{
    const FakeHttpRequest *request = pass->request;
    CLEANUP_FREE char *range = fake_http_header(request, "Content-Range");
    long long first = -1;
    long long last = -1;
    long long total = -1;
    size_t size = request->body_size;
    if (range != NULL && sscanf(range, "bytes */%lld", &total) >= 0 &&
        strstr(range, "*/") != NULL) {
        return size > 0                  ? refuse(pass, "a question has a body")
               : session->object != NULL ? answer_object(pass, 200, session->object)
               : total == session->kept  ? take_piece(pass, session, total, NULL, 0)
                                         : answer_kept(pass, session->kept);
    }
    if (range == NULL || sscanf(range, "bytes %lld-%lld/%lld", &first, &last, &total) < 2 ||
        first > session->kept || last - first + 1 != (long long)size || size == 0 ||
        (total < 0 && size % PIECE_UNIT != 0) || (total >= 0 && total != last + 1)) {
        return refuse(pass, "the Content-Range does not fit");
    }
    if (session->object != NULL) {
        return answer_object(pass, 200, session->object);
    }
    // What is kept already is passed over: libcurl sends a request again by itself when a
    // connection that it reused was closed before an answer.
    size_t known = MIN((size_t)(session->kept - first), size);
    const uint8_t *data = request->body + known;
    (void)pthread_mutex_lock(&pass->gcs->mutex);
    pass->gcs->counts.repeated_bytes += (int64_t)known;
    (void)pthread_mutex_unlock(&pass->gcs->mutex);
    return pass->fault == FAKE_GCS_HALF || pass->fault == FAKE_GCS_STALL
               ? take_half(pass, session, data, size - known)
               : take_piece(pass, session, total, data, size - known);
}

static bool pass_piece(const Pass *pass)
{
    const FakeHttpRequest *request = pass->request;
    FakeGcs *gcs = pass->gcs;
    size_t number = strtoul(strstr(request->target, "upload_id=") + 10, NULL, 10);
    (void)pthread_mutex_lock(&gcs->mutex);
    bool is_there = number < gcs->session_count;
    (void)pthread_mutex_unlock(&gcs->mutex);
    if (!is_there) {
        return answer_error(request, 404, "notFound", "Not Found");
    }
    Session *session = &gcs->sessions[number];
    (void)pthread_mutex_lock(&session->mutex);
    bool goes_on = serve_piece(pass, session);
    (void)pthread_mutex_unlock(&session->mutex);
    if (!goes_on && pass->fault == FAKE_GCS_STALL) {
        stay_silent(request);
    }
    return goes_on;
}

// --- every request ----------------------------------------------------------------------------

static int take_fault(FakeGcs *gcs, const FakeHttpRequest *request)
{
    int fault = NO_FAULT;
    (void)pthread_mutex_lock(&gcs->mutex);
    gcs->counts.request_count++;
    for (size_t i = 0; i < gcs->fault_count && fault == NO_FAULT; i++) {
        Fault *one = &gcs->faults[i];
        if (one->left > 0 && text_equal(one->method, request->method) &&
            strstr(request->target, one->part) != NULL) {
            one->left--;
            fault = (int)one->fault;
        }
    }
    (void)pthread_mutex_unlock(&gcs->mutex);
    return fault;
}

// The faults that need nothing to be done. False: it is none of them.
static bool answer_fault(const Pass *pass, bool *ret_goes_on)
{
    const FakeHttpRequest *request = pass->request;
    switch (pass->fault) {
    case FAKE_GCS_SLOW_DOWN:
        *ret_goes_on = answer_error(request, 503, "backendError", "Service Unavailable");
        return true;
    case FAKE_GCS_RATE_LIMIT:
        *ret_goes_on = answer_error(request, 403, "rateLimitExceeded", "Too many requests");
        return true;
    case FAKE_GCS_FORBIDDEN:
        *ret_goes_on = answer_error(
            request, 403, "forbidden",
            "holdfast@project.iam.gserviceaccount.com does not have storage.objects.create access");
        return true;
    case FAKE_GCS_LOCKED:
        *ret_goes_on = answer_error(request, 403, "retentionPolicyNotMet",
                                    "Object is subject to a retention policy");
        return true;
    case FAKE_GCS_NO_BUCKET:
        *ret_goes_on =
            answer_error(request, 404, "notFound", "The specified bucket does not exist.");
        return true;
    case FAKE_GCS_SESSION_GONE:
        *ret_goes_on = answer_error(request, 410, "gone", "The session has ended");
        return true;
    case FAKE_GCS_RESET:
        *ret_goes_on = false;
        return true;
    default:
        return false;
    }
}

static bool pass_other(const Pass *pass)
{
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP_FREE char *range = fake_http_header(pass->request, "Range");
    CLEANUP_FREE char *line = string_format("Range: %s", range == NULL ? "" : range);
    const char *const headers[] = {range == NULL ? NULL : line, NULL};
    if (strstr(pass->request->target, "alt=media") != NULL && range == NULL) {
        return refuse(pass, "a read without a range");
    }
    return forward(pass, pass->request->target, headers, NULL, 0, &response) &&
           relay(pass, &response);
}

static bool on_request(void *context, const FakeHttpRequest *request)
{
    FakeGcs *gcs = context;
    bool goes_on = false;
    if (text_equal(request->target, "/token")) {
        return give_token(gcs, request);
    }
    const Pass pass = {.gcs = gcs, .request = request, .fault = take_fault(gcs, request)};
    if (!is_authorized(&pass)) {
        return answer_error(request, 401, "authError", "Invalid Credentials");
    }
    if (answer_fault(&pass, &goes_on)) {
        return goes_on;
    }
    if (strstr(request->target, "upload_id=") != NULL && text_equal(request->method, "DELETE")) {
        return answer_error(request, 499, "canceled", "The upload is canceled");
    }
    if (strstr(request->target, "upload_id=") != NULL) {
        return pass_piece(&pass);
    }
    if (strstr(request->target, "uploadType=resumable") != NULL) {
        return begin_session(&pass);
    }
    return strstr(request->target, "uploadType=multipart") != NULL ? pass_multipart(&pass)
                                                                   : pass_other(&pass);
}

// --- life -------------------------------------------------------------------------------------

static bool try_to_make_bucket(const FakeGcs *gcs)
{
    static const char body[] = "{\"name\":\"bucket\"}";
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP_FREE char *url = string_format("%s/storage/v1/b?project=project", gcs->server_url);
    Error error = {0};
    const HttpRequest request = {.method = "POST",
                                 .url = url,
                                 .headers = headers,
                                 .body = body,
                                 .body_size = strlen(body),
                                 .timeout_ms = REQUEST_MS};
    HttpClient *client = http_client_new();
    Status status = http_client_send(client, &request, &response, &error);
    http_client_free(client);
    return status == STATUS_OK && response.status == 200;
}

static void start_server(FakeGcs *gcs)
{
    const char *tools = getenv("HOLDFAST_TOOLS_DIR");
    CLEANUP_FREE char *program = string_format(
        "%s/fake-gcs-server", tools != NULL ? tools : TEST_SOURCE_DIRECTORY "/.dev/tools");
    int port = free_port();
    CLEANUP_FREE char *port_text = string_format("%d", port);
    const char *const arguments[] = {program,     "-scheme",  "http",    "-host",
                                     "127.0.0.1", "-backend", "memory",  "-log-level",
                                     "error",     "-port",    port_text, NULL};
    Error error = {0};
    gcs->server_url = string_format("http://127.0.0.1:%d", port);
    const ProcessOptions options = {.arguments = arguments};
    if (process_spawn(&options, &gcs->pid, &error) != STATUS_OK) {
        fail_msg("fake-gcs-server is missing; run ./dev setup: %s", error.message);
    }
    int64_t end_ms = clock_monotonic_ms() + START_MS;
    while (!try_to_make_bucket(gcs)) {
        assert_true(clock_monotonic_ms() < end_ms);
        clock_sleep_ms(20);
    }
}

FakeGcs *fake_gcs_start(void)
{
    FakeGcs *gcs = mem_alloc(sizeof(*gcs));
    (void)pthread_mutex_init(&gcs->mutex, NULL); // cannot fail with default attributes
    for (size_t i = 0; i < SESSION_COUNT_MAX; i++) {
        (void)pthread_mutex_init(&gcs->sessions[i].mutex, NULL);
    }
    start_server(gcs);
    gcs->proxy = fake_http_start(on_request, gcs);
    CLEANUP_FREE char *token_uri = string_format("%s/token", fake_http_url(gcs->proxy));
    gcs->account = gcp_account_new(token_uri);
    return gcs;
}

void fake_gcs_stop(FakeGcs *gcs)
{
    if (gcs == NULL) {
        return;
    }
    fake_http_stop(gcs->proxy);
    process_stop(gcs->pid, SIGTERM, 5000);
    for (size_t i = 0; i < SESSION_COUNT_MAX; i++) {
        mem_free(gcs->sessions[i].path);
        mem_free(gcs->sessions[i].object);
        (void)pthread_mutex_destroy(&gcs->sessions[i].mutex);
    }
    for (size_t i = 0; i < gcs->client_count; i++) {
        http_client_free(gcs->clients[i]);
    }
    gcp_account_free(gcs->account);
    (void)pthread_mutex_destroy(&gcs->mutex);
    mem_free(gcs->last_upload);
    mem_free(gcs->complaint);
    mem_free(gcs->server_url);
    mem_free(gcs);
}

const char *fake_gcs_url(const FakeGcs *gcs)
{
    return fake_http_url(gcs->proxy);
}

Secret fake_gcs_key(const FakeGcs *gcs)
{
    return secret_from_text(gcp_account_key_json(gcs->account));
}

void fake_gcs_fail(FakeGcs *gcs, FakeGcsFault fault, const char *method, const char *part,
                   int count)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    assert_true(gcs->fault_count < FAULT_COUNT_MAX);
    gcs->faults[gcs->fault_count++] =
        (Fault){.fault = fault, .method = method, .part = part, .left = count};
    (void)pthread_mutex_unlock(&gcs->mutex);
}

int fake_gcs_faults_left(FakeGcs *gcs)
{
    int left = 0;
    (void)pthread_mutex_lock(&gcs->mutex);
    for (size_t i = 0; i < gcs->fault_count; i++) {
        left += gcs->faults[i].left;
    }
    (void)pthread_mutex_unlock(&gcs->mutex);
    return left;
}

FakeGcsCounts fake_gcs_counts(FakeGcs *gcs)
{
    int left = fake_gcs_faults_left(gcs);
    (void)pthread_mutex_lock(&gcs->mutex);
    gcs->fault_count = 0;
    FakeGcsCounts counts = gcs->counts;
    gcs->counts = (FakeGcsCounts){0};
    (void)pthread_mutex_unlock(&gcs->mutex);
    assert_int_equal(left, 0);
    return counts;
}

char *fake_gcs_last_upload(FakeGcs *gcs)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    char *copy = string_copy(gcs->last_upload);
    (void)pthread_mutex_unlock(&gcs->mutex);
    return copy;
}

char *fake_gcs_complaint(FakeGcs *gcs)
{
    (void)pthread_mutex_lock(&gcs->mutex);
    char *complaint = TAKE_PTR(gcs->complaint);
    (void)pthread_mutex_unlock(&gcs->mutex);
    return complaint;
}
