// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_http.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_limiter.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONCURRENCY_DEFAULT 32
#define CONCURRENCY_MAX 256
#define OPERATION_TIMEOUT_MS_DEFAULT (INT64_C(15) * 60 * 1000)
#define STALL_MS_DEFAULT 30000
#define TRY_COUNT_MAX 20 // without progress
#define BACKOFF_MS_BASE 100
#define BACKOFF_MS_MAX 20000
#define RETRY_AFTER_MS_MAX 120000
#define WAIT_SLICE_MS 100 // how late a cancel or a deadline is noticed
#define RESPONSE_BYTES_MAX_DEFAULT (1024 * 1024)

struct StorageHttp {
    char *ca_pem;
    StorageLimits limits;
    StorageHttpHooks hooks;
    StorageLimiter *limiter;
    pthread_mutex_t mutex; // guards the pool
    HttpClient *idle[CONCURRENCY_MAX];
    size_t idle_count;
    _Atomic int64_t try_count, retry_count, throttled_count, resumed_count;
};

// One call of storage_http_send.
typedef struct Run {
    StorageHttp *http;
    StorageHttpCall *call;
    int64_t deadline_ms;
    char etag[128]; // of the first answer that had bytes: what follows must be of the same object
    const char *mismatch; // why bytes were refused, or NULL
} Run;

static int64_t real_now_ms(void *context)
{
    (void)context;
    return clock_monotonic_ms();
}

static void real_wait_ms(void *context, int64_t duration_ms)
{
    (void)context;
    clock_sleep_ms(duration_ms);
}

static int64_t real_random(void *context, int64_t most)
{
    (void)context;
    uint32_t value = 0;
    crypto_random(&value, sizeof(value));
    return (int64_t)value % (most + 1);
}

StorageHttp *storage_http_new(const StorageHttpOptions *options)
{
    StorageHttp *http = mem_alloc(sizeof(*http));
    http->ca_pem = string_copy(options->ca_pem);
    http->limits = options->limits;
    http->hooks = options->hooks;
    StorageLimits *limits = &http->limits;
    limits->concurrency_max = limits->concurrency_max <= 0
                                  ? CONCURRENCY_DEFAULT
                                  : MIN(limits->concurrency_max, CONCURRENCY_MAX);
    if (limits->operation_timeout_ms <= 0) {
        limits->operation_timeout_ms = OPERATION_TIMEOUT_MS_DEFAULT;
    }
    StorageHttpHooks *hooks = &http->hooks;
    hooks->now_ms = hooks->now_ms != NULL ? hooks->now_ms : real_now_ms;
    hooks->wait_ms = hooks->wait_ms != NULL ? hooks->wait_ms : real_wait_ms;
    hooks->random = hooks->random != NULL ? hooks->random : real_random;
    if (limits->stall_timeout_ms <= 0) {
        limits->stall_timeout_ms = STALL_MS_DEFAULT;
    }
    http->limiter = storage_limiter_new(limits->concurrency_max);
    (void)pthread_mutex_init(&http->mutex, NULL); // cannot fail with default attributes
    return http;
}

void storage_http_free(StorageHttp *http)
{
    if (http == NULL) {
        return;
    }
    for (size_t i = 0; i < http->idle_count; i++) {
        http_client_free(http->idle[i]);
    }
    storage_limiter_free(http->limiter);
    (void)pthread_mutex_destroy(&http->mutex);
    mem_free(http->ca_pem);
    mem_free(http);
}

void storage_http_statistics(StorageHttp *http, StorageHttpStatistics *ret_statistics)
{
    *ret_statistics = (StorageHttpStatistics){
        .try_count = atomic_load(&http->try_count),
        .retry_count = atomic_load(&http->retry_count),
        .throttled_count = atomic_load(&http->throttled_count),
        .resumed_count = atomic_load(&http->resumed_count),
        .concurrency_limit = storage_limiter_limit(http->limiter),
    };
}

void storage_http_header(StorageHttpTarget *target, Arena *arena, const char *name,
                         const char *value)
{
    assert(target->header_count < STORAGE_HTTP_HEADER_COUNT_MAX);
    target->headers[target->header_count++] = arena_format(arena, "%s: %s", name, value);
}

StorageHttpVerdict storage_http_judge(const HttpResponse *response)
{
    switch (response->status) {
    case 429:
    case 503:
        return STORAGE_HTTP_THROTTLED;
    case 408:
    case 500:
    case 502:
    case 504:
        return STORAGE_HTTP_RETRY;
    default:
        return STORAGE_HTTP_DONE;
    }
}

static HttpClient *take_client(StorageHttp *http)
{
    HttpClient *client = NULL;
    (void)pthread_mutex_lock(&http->mutex);
    if (http->idle_count > 0) {
        client = http->idle[--http->idle_count];
    }
    (void)pthread_mutex_unlock(&http->mutex);
    return client != NULL ? client : http_client_new();
}

static void return_client(StorageHttp *http, HttpClient *client)
{
    (void)pthread_mutex_lock(&http->mutex);
    if (http->idle_count < CONCURRENCY_MAX) {
        http->idle[http->idle_count++] = TAKE_PTR(client);
    }
    (void)pthread_mutex_unlock(&http->mutex);
    if (client != NULL) {
        http_client_free(client);
    }
}

// --- the bytes of a download ------------------------------------------------------------------

// "bytes 0-9/100": the first byte and the whole size (-1 for "*").
static bool parse_content_range(const char *text, int64_t *ret_offset, int64_t *ret_total)
{
    char *end = NULL;
    if (!text_has_prefix(text, "bytes ") || text[6] < '0' || text[6] > '9') {
        return false;
    }
    *ret_offset = strtoll(text + 6, &end, 10);
    const char *slash = strchr(end, '/');
    if (*end != '-' || slash == NULL) {
        return false;
    }
    return text_equal(slash + 1, "*") ? (*ret_total = -1, true)
                                      : text_to_int64(slash + 1, ret_total) && *ret_total >= 0;
}

static bool refuse_bytes(Run *run, const char *why)
{
    run->mismatch = why;
    return false;
}

// Whether the bytes that come now are the ones that were asked for.
static bool on_answer(void *context, const HttpResponse *response)
{
    Run *run = context;
    StorageHttpCall *call = run->call;
    int64_t offset = 0;
    int64_t total = -1;
    int64_t expected = (call->is_range ? call->range_offset : 0) + (int64_t)call->sink_done;
    char text[128];
    if (http_response_header(response, "Content-Range", text, sizeof(text)) &&
        !parse_content_range(text, &offset, &total)) {
        return refuse_bytes(run, "the answer's Content-Range is not valid");
    }
    if (offset != expected) {
        return refuse_bytes(run, "other bytes came than were asked for");
    }
    if (!http_response_header(response, "ETag", text, sizeof(text))) {
        text[0] = '\0';
    }
    if (call->sink_done > 0 && !text_equal(text, run->etag)) {
        return refuse_bytes(run, "it was replaced while it was read");
    }
    (void)snprintf(run->etag, sizeof(run->etag), "%s", text);
    call->total_size = total;
    return true;
}

static bool on_data(void *context, const void *data, size_t size)
{
    Run *run = context;
    StorageHttpCall *call = run->call;
    if (size > call->sink_size - call->sink_done) {
        return refuse_bytes(run, "more bytes came than were asked for");
    }
    memcpy(call->sink + call->sink_done, data, size);
    call->sink_done += size;
    return true;
}

// --- one try ----------------------------------------------------------------------------------

static bool is_canceled(const Run *run)
{
    const atomic_bool *is_canceled = run->http->limits.is_canceled;
    const atomic_bool *is_abandoned = run->call->is_abandoned;
    return (is_canceled != NULL && atomic_load(is_canceled)) ||
           (is_abandoned != NULL && atomic_load(is_abandoned));
}

static Status check_run(const Run *run, Error *error)
{
    if (is_canceled(run)) {
        return error_set(error, REASON_CANCELED, "canceled");
    }
    if (run->http->hooks.now_ms(run->http->hooks.context) >= run->deadline_ms) {
        return error_set(error, REASON_DEADLINE, "the time for it is over");
    }
    return STATUS_OK;
}

static Status enter(Run *run, Error *error)
{
    do {
        RETURN_IF_ERROR(check_run(run, error));
    } while (!storage_limiter_enter(run->http->limiter, WAIT_SLICE_MS));
    return STATUS_OK;
}

static Status try_once(Run *run, HttpResponse *ret_response, Error *error)
{
    StorageHttp *http = run->http;
    StorageHttpCall *call = run->call;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StorageHttpTarget target = {0};
    RETURN_IF_ERROR(call->prepare(call->context, arena, &target, error));
    assert(target.url != NULL);
    if (call->is_range) {
        int64_t first = call->range_offset + (int64_t)call->sink_done;
        int64_t last = call->range_offset + (int64_t)call->sink_size - 1;
        storage_http_header(
            &target, arena, "Range",
            arena_format(arena, "bytes=%lld-%lld", (long long)first, (long long)last));
    }
    int64_t left_ms = run->deadline_ms - http->hooks.now_ms(http->hooks.context);
    const HttpRequest request = {
        .method = call->method,
        .url = target.url,
        .headers = target.headers,
        .body = call->body,
        .body_size = call->body_size,
        .timeout_ms = MAX(left_ms, 1),
        .stall_ms = http->limits.stall_timeout_ms,
        .ca_pem = http->ca_pem,
        .on_data = call->sink != NULL ? on_data : NULL,
        .on_answer = call->sink != NULL ? on_answer : NULL,
        .context = run,
        .response_bytes_max =
            call->response_bytes_max > 0 ? call->response_bytes_max : RESPONSE_BYTES_MAX_DEFAULT,
        .is_canceled = http->limits.is_canceled,
        .is_abandoned = call->is_abandoned,
        .pace = http->limits.pace,
        .pace_context = http->limits.pace_context,
    };
    HttpClient *client = take_client(http);
    Status status = http_client_send(client, &request, ret_response, error);
    return_client(http, client);
    return status;
}

// --- between tries ----------------------------------------------------------------------------

// Seconds or a date; 0 when there is none.
static int64_t retry_after_ms(const HttpResponse *response)
{
    char text[64];
    int64_t seconds = 0;
    struct tm fields = {0};
    if (!http_response_header(response, "Retry-After", text, sizeof(text))) {
        return 0;
    }
    if (!text_to_int64(text, &seconds)) {
        const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &fields);
        seconds = end != NULL ? (int64_t)timegm(&fields) - clock_now_us() / 1000000 : 0;
    }
    return seconds <= 0 ? 0 : MIN(seconds, RETRY_AFTER_MS_MAX / 1000) * 1000;
}

// Full jitter: anything between nothing and the doubled time, so that clients spread out.
static int64_t backoff_ms(const StorageHttp *http, int failure_count)
{
    int64_t most = BACKOFF_MS_BASE;
    for (int i = 1; i < failure_count && most < BACKOFF_MS_MAX; i++) {
        most *= 2;
    }
    most = MIN(most, BACKOFF_MS_MAX);
    return http->hooks.random(http->hooks.context, most);
}

// False when the deadline or a cancel would come first.
static bool wait_before_retry(const Run *run, int64_t duration_ms)
{
    const StorageHttpHooks *hooks = &run->http->hooks;
    if (hooks->now_ms(hooks->context) + duration_ms >= run->deadline_ms) {
        return false;
    }
    while (duration_ms > 0) {
        if (is_canceled(run)) {
            return false;
        }
        int64_t slice_ms = MIN(duration_ms, WAIT_SLICE_MS);
        hooks->wait_ms(hooks->context, slice_ms);
        duration_ms -= slice_ms;
    }
    return !is_canceled(run);
}

static StorageHttpVerdict judge(const Run *run, Status status, const HttpResponse *response,
                                const Error *error)
{
    const StorageHttpCall *call = run->call;
    if (run->mismatch != NULL) {
        return STORAGE_HTTP_DONE;
    }
    if (status != STATUS_OK) {
        return error->reason == REASON_UNAVAILABLE ? STORAGE_HTTP_RETRY : STORAGE_HTTP_DONE;
    }
    return call->judge != NULL ? call->judge(call->context, response)
                               : storage_http_judge(response);
}

static StorageLimiterOutcome limiter_outcome(StorageHttpVerdict verdict, Status status)
{
    if (verdict == STORAGE_HTTP_THROTTLED) {
        return STORAGE_LIMITER_THROTTLED;
    }
    return verdict == STORAGE_HTTP_DONE && status == STATUS_OK ? STORAGE_LIMITER_SUCCEEDED
                                                               : STORAGE_LIMITER_FAILED;
}

static Status finish(Run *run, Status status, HttpResponse *response, HttpResponse *ret_response,
                     Error *error)
{
    if (status == STATUS_OK && run->mismatch != NULL) {
        return error_set(error, REASON_OBJECT_CORRUPT, "%s", run->mismatch);
    }
    if (status == STATUS_OK) {
        *ret_response = *response;
        memset(response, 0, sizeof(*response));
    }
    return status;
}

// One try with its place in the limiter.
static Status try_in_turn(Run *run, HttpResponse *response, StorageHttpVerdict *ret_verdict,
                          Error *error)
{
    StorageHttp *http = run->http;
    *ret_verdict = STORAGE_HTTP_DONE;
    RETURN_IF_ERROR(enter(run, error));
    run->call->try_count++;
    atomic_fetch_add(&http->try_count, 1);
    Status status = try_once(run, response, error);
    *ret_verdict = judge(run, status, response, error);
    storage_limiter_leave(http->limiter, limiter_outcome(*ret_verdict, status),
                          http->hooks.now_ms(http->hooks.context));
    if (*ret_verdict == STORAGE_HTTP_THROTTLED) {
        atomic_fetch_add(&http->throttled_count, 1);
    }
    return status;
}

Status storage_http_send(StorageHttp *http, StorageHttpCall *call, HttpResponse *ret_response,
                         Error *error)
{
    assert(call->prepare != NULL);
    assert(!call->is_range || call->sink_size > 0);
    int64_t now_ms = http->hooks.now_ms(http->hooks.context);
    Run run = {.http = http, .call = call};
    run.deadline_ms = now_ms + http->limits.operation_timeout_ms;
    if (http->limits.deadline_ms > 0) {
        run.deadline_ms = MIN(run.deadline_ms, http->limits.deadline_ms);
    }
    call->total_size = -1;
    call->try_count = 0;
    int failure_count = call->failure_count;
    while (true) {
        CLEANUP(http_response_done) HttpResponse response = {0};
        StorageHttpVerdict verdict;
        size_t done_before = call->sink_done;
        Status status = try_in_turn(&run, &response, &verdict, error);
        failure_count = call->sink_done > done_before ? 1 : failure_count + 1;
        if (verdict == STORAGE_HTTP_DONE || failure_count >= TRY_COUNT_MAX) {
            return finish(&run, status, &response, ret_response, error);
        }
        int64_t wait_ms = backoff_ms(http, failure_count);
        if (status == STATUS_OK) {
            wait_ms = MAX(wait_ms, retry_after_ms(&response));
        }
        if (!wait_before_retry(&run, wait_ms)) {
            RETURN_IF_ERROR(is_canceled(&run) ? error_set(error, REASON_CANCELED, "canceled")
                                              : STATUS_OK);
            return finish(&run, status, &response, ret_response, error);
        }
        call->may_have_taken_effect =
            call->may_have_taken_effect || status != STATUS_OK || response.status >= 500;
        atomic_fetch_add(&http->retry_count, 1);
        atomic_fetch_add(&http->resumed_count, call->sink_done > 0 ? 1 : 0);
    }
}
