// SPDX-License-Identifier: Apache-2.0
// When this is red, the agents' stream loses, repeats or reorders messages, or its end is not
// noticed on one side.
#include "common/clock.h"
#include "tests/unit/rpc/rpc_fixture.h"

#include <pthread.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define MESSAGE_COUNT 1000
#define UNREAD_COUNT_MAX 200 // fewer than the server queues for a client that does not read

static int open_plain(void **state)
{
    *state = fixture_new(NULL, NULL);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_free(*state);
    return 0;
}

static Status send_text(RpcStream *stream, const char *text, int32_t count, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    request.text = arena_string(arena, text);
    request.count = count;
    return rpc_stream_send(stream, &request.base, error);
}

static Status receive(Fixture *fixture, RpcStream *stream, int64_t timeout_ms,
                      EchoReply **ret_reply)
{
    ProtobufCMessage *reply = NULL;
    Status status = rpc_stream_receive(stream, &holdfast__test__echo_reply__descriptor, timeout_ms,
                                       fixture->arena, &reply, &fixture->error);
    *ret_reply = (EchoReply *)reply;
    return status;
}

static void test_messages_come_back(void **state)
{
    Fixture *fixture = *state;
    RpcStream *stream = fixture_chat(fixture, fixture->client);
    for (int32_t i = 0; i < MESSAGE_COUNT; i++) {
        EchoReply *reply = NULL;
        assert_int_equal(send_text(stream, "x", i, &fixture->error), STATUS_OK);
        assert_int_equal(receive(fixture, stream, FIXTURE_TIMEOUT_MS, &reply), STATUS_OK);
        assert_non_null(reply);
        assert_int_equal(reply->count, i);
    }
    rpc_stream_close(stream);
    fixture_await(&fixture->echo.close_count, 1);
    assert_int_equal(atomic_load(&fixture->echo.message_count), MESSAGE_COUNT);
}

typedef struct Sender {
    RpcStream *stream;
    Status status;
    atomic_int received_count;
} Sender;

static void *send_all(void *context)
{
    Sender *sender = context;
    Error error = {0};
    for (int32_t i = 0; i < MESSAGE_COUNT && sender->status == STATUS_OK; i++) {
        while (i - atomic_load(&sender->received_count) >= UNREAD_COUNT_MAX) {
            clock_sleep_ms(1);
        }
        sender->status = send_text(sender->stream, "x", i, &error);
    }
    return NULL;
}

// Sent by one thread and received by another, with a patience too short for most of the messages.
static void test_both_directions_at_once(void **state)
{
    Fixture *fixture = *state;
    Sender sender = {.stream = fixture_chat(fixture, fixture->client)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
    int64_t deadline_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;
    int32_t next = 0;
    while (next < MESSAGE_COUNT && clock_monotonic_ms() < deadline_ms) {
        EchoReply *reply = NULL;
        assert_int_equal(receive(fixture, sender.stream, 0, &reply), STATUS_OK);
        if (reply != NULL) {
            assert_int_equal(reply->count, next++);
            atomic_store(&sender.received_count, next);
        }
    }
    (void)pthread_join(thread, NULL);
    assert_int_equal(sender.status, STATUS_OK);
    assert_int_equal(next, MESSAGE_COUNT);
    rpc_stream_close(sender.stream);
}

static void test_a_message_after_the_timeout_is_not_lost(void **state)
{
    Fixture *fixture = *state;
    RpcStream *stream = fixture_chat(fixture, fixture->client);
    EchoReply *reply = NULL;
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(receive(fixture, stream, 100, &reply), STATUS_OK);
    assert_null(reply);
    assert_in_range(clock_monotonic_ms() - start_ms, 90, 10000);
    assert_int_equal(send_text(stream, "late", 5, &fixture->error), STATUS_OK);
    assert_int_equal(receive(fixture, stream, FIXTURE_TIMEOUT_MS, &reply), STATUS_OK);
    assert_non_null(reply);
    assert_string_equal(reply->text, "late");
    rpc_stream_close(stream);
}

static void test_the_servers_error_ends_the_stream(void **state)
{
    Fixture *fixture = *state;
    RpcStream *stream = fixture_chat(fixture, fixture->client);
    EchoReply *reply = NULL;
    assert_int_equal(send_text(stream, "fail", 0, &fixture->error), STATUS_OK);
    for (int i = 0; i < 2; i++) { // and again: it stays ended
        assert_int_equal(receive(fixture, stream, FIXTURE_TIMEOUT_MS, &reply), STATUS_ABORTED);
        assert_int_equal(fixture->error.reason, REASON_LEASE_LOST);
        assert_string_equal(fixture->error.message, "the epoch is old");
    }
    assert_int_equal(send_text(stream, "x", 0, &fixture->error), STATUS_ABORTED);
    rpc_stream_close(stream);
    fixture_await(&fixture->echo.close_count, 1);

    stream = fixture_chat(fixture, fixture->client);
    assert_int_equal(send_text(stream, "finish", 0, &fixture->error), STATUS_OK);
    assert_int_equal(receive(fixture, stream, FIXTURE_TIMEOUT_MS, &reply), STATUS_UNAVAILABLE);
    rpc_stream_close(stream);
}

static void test_a_refused_stream_is_not_opened(void **state)
{
    Fixture *fixture = *state;
    RpcClient *client = fixture_client(fixture, NULL, "Bearer wrong");
    RpcStream *stream = NULL;
    assert_int_equal(
        rpc_stream_open(client, ECHO_CHAT, FIXTURE_TIMEOUT_MS, &stream, &fixture->error),
        STATUS_UNAUTHENTICATED);
    assert_string_equal(fixture->error.message, "the token is not known");
    assert_int_equal(rpc_stream_open(client, "/holdfast.test.Echo/Nothing", FIXTURE_TIMEOUT_MS,
                                     &stream, &fixture->error),
                     STATUS_UNIMPLEMENTED);
    rpc_client_free(client);
    assert_int_equal(atomic_load(&fixture->echo.open_count), 0);
}

static void test_a_client_that_goes_is_noticed_once(void **state)
{
    Fixture *fixture = *state;
    RpcClient *client = fixture_client(fixture, NULL, NULL);
    RpcStream *first = fixture_chat(fixture, client);
    RpcStream *second = fixture_chat(fixture, client);
    rpc_client_free(client); // streams outlive their client
    EchoReply *reply = NULL;
    assert_int_equal(send_text(second, "x", 1, &fixture->error), STATUS_OK);
    assert_int_equal(receive(fixture, second, FIXTURE_TIMEOUT_MS, &reply), STATUS_OK);
    rpc_stream_close(first);
    fixture_await(&fixture->echo.close_count, 1);
    rpc_stream_close(second);
    fixture_await(&fixture->echo.close_count, 2);
}

static void test_stopping_closes_open_streams(void **state)
{
    Fixture *fixture = *state;
    RpcStream *streams[8];
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        streams[i] = fixture_chat(fixture, fixture->client);
    }
    int64_t start_ms = clock_monotonic_ms();
    fixture_stop_server(fixture, 100); // checks that on_close ran for each
    assert_in_range(clock_monotonic_ms() - start_ms, 90, 5000);
    assert_int_equal(atomic_load(&fixture->echo.close_count), ARRAY_COUNT(streams));
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        EchoReply *reply = NULL;
        assert_int_equal(receive(fixture, streams[i], FIXTURE_TIMEOUT_MS, &reply),
                         STATUS_UNAVAILABLE);
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        rpc_stream_close(streams[i]);
    }
}

static void test_a_dead_server_is_found_in_time(void **state)
{
    Fixture *fixture = *state;
    fixture_stop_server(fixture, 0);
    RpcStream *stream = NULL;
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(rpc_stream_open(fixture->client, ECHO_CHAT, 2000, &stream, &fixture->error),
                     STATUS_UNAVAILABLE);
    assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 4000);
}

// Fewer messages than the server's queue holds: all are accepted though none is read meanwhile.
static void test_unread_replies_wait(void **state)
{
    Fixture *fixture = *state;
    RpcStream *stream = fixture_chat(fixture, fixture->client);
    for (int32_t i = 0; i < UNREAD_COUNT_MAX; i++) {
        assert_int_equal(send_text(stream, "x", i, &fixture->error), STATUS_OK);
    }
    fixture_await(&fixture->echo.message_count, UNREAD_COUNT_MAX);
    for (int32_t i = 0; i < UNREAD_COUNT_MAX; i++) {
        EchoReply *reply = NULL;
        assert_int_equal(receive(fixture, stream, FIXTURE_TIMEOUT_MS, &reply), STATUS_OK);
        assert_non_null(reply);
        assert_int_equal(reply->count, i);
    }
    rpc_stream_close(stream);
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, open_plain, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(test_messages_come_back),
        with_server(test_both_directions_at_once),
        with_server(test_a_message_after_the_timeout_is_not_lost),
        with_server(test_the_servers_error_ends_the_stream),
        with_server(test_a_refused_stream_is_not_opened),
        with_server(test_a_client_that_goes_is_noticed_once),
        with_server(test_stopping_closes_open_streams),
        with_server(test_a_dead_server_is_found_in_time),
        with_server(test_unread_replies_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
