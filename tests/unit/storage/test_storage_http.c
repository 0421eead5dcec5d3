// SPDX-License-Identifier: Apache-2.0
// Red when a passing failure of an object store ends a backup, or a lasting one does not end it.
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_http.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OBJECT_SIZE (1024 * 1024)

typedef enum Misdeed {
    WELL, // 200 or 206 with what was asked for
    SLOW_DOWN,
    SLOW_DOWN_LATER, // with Retry-After: 7
    BROKEN,          // 500
    FORBIDDEN,
    RESET,      // the connection is gone before an answer
    TRUNCATED,  // half of the body, then the connection is gone
    STALLED,    // half of the body, then nothing
    OTHER_PART, // bytes that were not asked for
    REPLACED,   // the right bytes of another object
    UNRANGED,   // the whole object for a range
} Misdeed;

typedef struct Fixture {
    FakeHttp *server;
    StorageHttp *http;
    Arena *arena;
    Error error;
    const Misdeed *script; // one for each request; the last is repeated
    int script_size;
    uint8_t *object;
    int64_t now_ms, waited_ms; // the injected clock
    atomic_bool is_canceled;
    uint8_t body_seen[8];
} Fixture;

static bool answer_range(const Fixture *fixture, const FakeHttpRequest *request, Misdeed misdeed)
{
    long first = 0;
    long last = OBJECT_SIZE - 1;
    CLEANUP_FREE char *range = fake_http_header(request, "Range");
    if (range != NULL && misdeed != UNRANGED) {
        assert_int_equal(sscanf(range, "bytes=%ld-%ld", &first, &last), 2);
    }
    last = MIN(last, OBJECT_SIZE - 1);
    first += misdeed == OTHER_PART ? 1 : 0;
    size_t size = (size_t)(last - first + 1);
    CLEANUP_FREE char *content_range =
        range == NULL || misdeed == UNRANGED
            ? string_copy("")
            : string_format("Content-Range: bytes %ld-%ld/%d\r\n", first, last, OBJECT_SIZE);
    CLEANUP_FREE char *head =
        string_format("HTTP/1.1 %d OK\r\nETag: \"%s\"\r\n%sContent-Length: %zu\r\n\r\n",
                      content_range[0] == '\0' ? 200 : 206, misdeed == REPLACED ? "new" : "old",
                      content_range, size);
    bool is_half = misdeed == TRUNCATED || misdeed == STALLED;
    bool is_sent = fake_http_send(request->fd, head, strlen(head)) &&
                   fake_http_send(request->fd, fixture->object + first, is_half ? size / 2 : size);
    while (misdeed == STALLED && !fake_http_is_stopping(request->server)) {
        char byte;
        if (recv(request->fd, &byte, 1, 0) <= 0) {
            break; // the client has cut it
        }
    }
    return is_sent && !is_half;
}

static bool on_request(void *context, const FakeHttpRequest *request)
{
    Fixture *fixture = context;
    int index = MIN(request->number, fixture->script_size) - 1;
    memcpy(fixture->body_seen, request->body, MIN(request->body_size, sizeof(fixture->body_seen)));
    Misdeed misdeed = fixture->script[index];
    switch (misdeed) {
    case SLOW_DOWN:
        return fake_http_answer(request, 503, NULL, "slow down", 9);
    case SLOW_DOWN_LATER:
        return fake_http_answer(request, 429, "Retry-After: 7\r\n", "", 0);
    case BROKEN:
        return fake_http_answer(request, 500, NULL, "", 0);
    case FORBIDDEN:
        return fake_http_answer(request, 403, NULL, "no", 2);
    case RESET:
        return false;
    default:
        return answer_range(fixture, request, misdeed);
    }
}

static int64_t fake_now_ms(void *context)
{
    const Fixture *fixture = context;
    return fixture->now_ms;
}

static void fake_wait_ms(void *context, int64_t duration_ms)
{
    Fixture *fixture = context;
    fixture->now_ms += duration_ms;
    fixture->waited_ms += duration_ms;
}

static int64_t random_most(void *context, int64_t most)
{
    (void)context;
    return most;
}

static int set_up(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->arena = arena_new();
    fixture->now_ms = 1000000;
    fixture->object = mem_alloc(OBJECT_SIZE);
    for (int i = 0; i < OBJECT_SIZE; i++) {
        fixture->object[i] = (uint8_t)(((uint32_t)i * 2654435761U) >> 13);
    }
    fixture->server = fake_http_start(on_request, fixture);
    const StorageHttpOptions options = {
        .limits = {.concurrency_max = 16,
                   .operation_timeout_ms = 600000,
                   .stall_timeout_ms = 1100,
                   .is_canceled = &fixture->is_canceled},
        .hooks = {.now_ms = fake_now_ms,
                  .wait_ms = fake_wait_ms,
                  .random = random_most,
                  .context = fixture},
    };
    fixture->http = storage_http_new(&options);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    storage_http_free(fixture->http);
    fake_http_stop(fixture->server);
    arena_free(fixture->arena);
    mem_free(fixture->object);
    mem_free(fixture);
    return 0;
}

static Status prepare(void *context, Arena *arena, StorageHttpTarget *target, Error *error)
{
    const Fixture *fixture = context;
    (void)error;
    target->url = arena_format(arena, "%s/bucket/key", fake_http_url(fixture->server));
    storage_http_header(target, arena, "X-Try", "yes");
    return STATUS_OK;
}

#define SCRIPT(fixture, ...)                                                                       \
    static const Misdeed script_[] = {__VA_ARGS__};                                                \
    (fixture)->script = script_;                                                                   \
    (fixture)->script_size = ARRAY_COUNT(script_)

// Reads bytes 1000 .. 1000 + size - 1.
static Status download(Fixture *fixture, uint8_t *sink, size_t size, StorageHttpCall *ret_call)
{
    StorageHttpCall call = {.method = "GET",
                            .sink = sink,
                            .sink_size = size,
                            .is_range = true,
                            .range_offset = 1000,
                            .prepare = prepare,
                            .context = fixture};
    CLEANUP(http_response_done) HttpResponse response = {0};
    Status status = storage_http_send(fixture->http, &call, &response, &fixture->error);
    *ret_call = call;
    return status;
}

static int send_status(Fixture *fixture, StorageHttpCall *call)
{
    call->prepare = prepare;
    call->context = fixture;
    CLEANUP(http_response_done) HttpResponse response = {0};
    assert_ok(storage_http_send(fixture->http, call, &response, &fixture->error), &fixture->error);
    return response.status;
}

static void test_passing_failures_are_retried(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, BROKEN, SLOW_DOWN, BROKEN, WELL);
    StorageHttpCall put = {.method = "PUT", .body = "the body", .body_size = 8};
    assert_int_equal(send_status(fixture, &put), 200);
    assert_int_equal(put.try_count, 4);
    assert_true(put.may_have_taken_effect);
    assert_memory_equal(fixture->body_seen, "the body", 8);
    // The doubled times, as the chance here is always the most: 100 + 200 + 400 ms.
    assert_int_equal(fixture->waited_ms, 700);
    StorageHttpStatistics statistics;
    storage_http_statistics(fixture->http, &statistics);
    assert_int_equal(statistics.retry_count, 3);
    assert_int_equal(statistics.throttled_count, 1);
}

static void test_lost_connections_are_retried(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, RESET, RESET, RESET, WELL);
    StorageHttpCall put = {.method = "PUT", .body = "the body", .body_size = 8};
    assert_int_equal(send_status(fixture, &put), 200);
    assert_true(put.may_have_taken_effect);
    assert_memory_equal(fixture->body_seen, "the body", 8);
}

static void test_an_answer_is_the_callers(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, FORBIDDEN);
    StorageHttpCall get = {.method = "GET"};
    assert_int_equal(send_status(fixture, &get), 403);
    assert_int_equal(get.try_count, 1);
    assert_false(get.may_have_taken_effect);
}

static void test_retry_after_is_honoured(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, SLOW_DOWN_LATER, WELL);
    StorageHttpCall get = {.method = "GET", .response_bytes_max = OBJECT_SIZE};
    assert_int_equal(send_status(fixture, &get), 200);
    assert_int_equal(fixture->waited_ms, 7000);
    assert_false(get.may_have_taken_effect);
}

static void test_the_budget_ends(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, SLOW_DOWN);
    StorageHttpCall get = {.method = "GET"};
    assert_int_equal(send_status(fixture, &get), 503); // the last answer tells why
    assert_int_equal(get.try_count, 20);
    assert_true(fixture->waited_ms < 600000);
}

static void test_the_deadline_holds(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, BROKEN);
    const StorageHttpOptions options = {
        .limits = {.deadline_ms = fixture->now_ms + 1000},
        .hooks = {.now_ms = fake_now_ms,
                  .wait_ms = fake_wait_ms,
                  .random = random_most,
                  .context = fixture},
    };
    storage_http_free(fixture->http);
    fixture->http = storage_http_new(&options);
    StorageHttpCall get = {.method = "GET", .prepare = prepare, .context = fixture};
    HttpResponse response;
    assert_int_equal(send_status(fixture, &get), 500);
    assert_int_equal(get.try_count, 4); // the waits of 100, 200 and 400 ms fit, 800 does not
    fixture->now_ms += 10000;
    assert_int_equal(storage_http_send(fixture->http, &get, &response, &fixture->error),
                     STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(get.try_count, 0);
}

static void test_cancel_ends_calls(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, WELL);
    atomic_store(&fixture->is_canceled, true);
    StorageHttpCall get = {.method = "GET", .prepare = prepare, .context = fixture};
    HttpResponse response;
    assert_int_equal(storage_http_send(fixture->http, &get, &response, &fixture->error),
                     STATUS_CANCELED);
    assert_int_equal(fake_http_request_count(fixture->server), 0);
}

static void test_downloads_go_on_where_they_broke(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, TRUNCATED, STALLED, RESET, WELL);
    enum { SIZE = 600000 };
    CLEANUP_FREE uint8_t *sink = mem_alloc(SIZE);
    StorageHttpCall call;
    assert_ok(download(fixture, sink, SIZE, &call), &fixture->error);
    assert_int_equal(call.sink_done, SIZE);
    assert_int_equal(call.total_size, OBJECT_SIZE);
    assert_int_equal(call.try_count, 4);
    assert_memory_equal(sink, fixture->object + 1000, SIZE);
    StorageHttpStatistics statistics;
    storage_http_statistics(fixture->http, &statistics);
    assert_int_equal(statistics.resumed_count, 3);
}

static void test_a_range_may_end_with_the_object(void **state)
{
    Fixture *fixture = *state;
    SCRIPT(fixture, WELL);
    CLEANUP_FREE uint8_t *sink = mem_alloc(2 * OBJECT_SIZE);
    StorageHttpCall call;
    assert_ok(download(fixture, sink, (size_t)2 * OBJECT_SIZE, &call), &fixture->error);
    assert_int_equal(call.sink_done, OBJECT_SIZE - 1000);
}

static void test_wrong_bytes_are_refused(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE uint8_t *sink = mem_alloc(OBJECT_SIZE);
    StorageHttpCall call;
    SCRIPT(fixture, OTHER_PART, TRUNCATED, REPLACED, UNRANGED);
    assert_error(download(fixture, sink, 1000, &call), &fixture->error, REASON_OBJECT_CORRUPT,
                 "other bytes came than were asked for");
    assert_error(download(fixture, sink, 100000, &call), &fixture->error, REASON_OBJECT_CORRUPT,
                 "it was replaced while it was read");
    assert_error(download(fixture, sink, 1000, &call), &fixture->error, REASON_OBJECT_CORRUPT,
                 "other bytes came than were asked for");
}

static void *download_many(void *context)
{
    Fixture *fixture = context;
    uint8_t *sink = mem_alloc(100000);
    bool is_good = true;
    for (int i = 0; i < 20; i++) {
        StorageHttpCall call = {.method = "GET",
                                .sink = sink,
                                .sink_size = 100000,
                                .is_range = true,
                                .range_offset = i * 1000,
                                .prepare = prepare,
                                .context = fixture};
        CLEANUP(http_response_done) HttpResponse response = {0};
        Error error = {0};
        is_good = is_good &&
                  storage_http_send(fixture->http, &call, &response, &error) == STATUS_OK &&
                  memcmp(sink, fixture->object + (ptrdiff_t)i * 1000, 100000) == 0;
    }
    mem_free(sink);
    return is_good ? fixture : NULL;
}

static void test_throttling_halves_concurrency_and_success_restores_it(void **state)
{
    Fixture *fixture = *state;
    // 16 -> 8 -> 4 -> 2: a burst, a second apart by the injected clock; then all is well.
    SCRIPT(fixture, SLOW_DOWN_LATER, SLOW_DOWN_LATER, SLOW_DOWN_LATER, WELL);
    StorageHttpCall get = {.method = "GET", .response_bytes_max = OBJECT_SIZE};
    assert_int_equal(send_status(fixture, &get), 200);
    StorageHttpStatistics statistics;
    storage_http_statistics(fixture->http, &statistics);
    assert_int_equal(statistics.concurrency_limit, 2);
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, download_many, fixture), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        void *result = NULL;
        (void)pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    storage_http_statistics(fixture->http, &statistics);
    assert_int_equal(statistics.concurrency_limit, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_passing_failures_are_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_connections_are_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_answer_is_the_callers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after_is_honoured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_budget_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_deadline_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel_ends_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_downloads_go_on_where_they_broke, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_range_may_end_with_the_object, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_bytes_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_throttling_halves_concurrency_and_success_restores_it,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
