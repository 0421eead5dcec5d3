// SPDX-License-Identifier: Apache-2.0
// When this is red, unary calls, their errors and limits, TLS, or starting and stopping the server
// are broken.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/limits.h"
#include "common/memory.h"
#include "tests/unit/rpc/rpc_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

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

static void test_a_call_is_answered(void **state)
{
    Fixture *fixture = *state;
    EchoReply *reply = NULL;
    RpcClient *client = fixture_client(fixture, NULL, "Bearer token");
    assert_int_equal(fixture_say(fixture, client, "gr\xc3\xbc\xc3\x9f", &reply), STATUS_OK);
    assert_string_equal(reply->text, "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(reply->authorization, "Bearer token");
    assert_string_equal(reply->method, ECHO_SAY);
    assert_int_equal(strlen(reply->request_id), UUID_TEXT_SIZE - 1);
    assert_string_equal(reply->idempotency_key, "");
    rpc_client_free(client);
}

static void test_an_error_arrives_whole(void **state)
{
    Fixture *fixture = *state;
    EchoReply *reply = NULL;
    assert_int_equal(fixture_say(fixture, fixture->client, "fail", &reply),
                     STATUS_FAILED_PRECONDITION);
    assert_null(reply);
    assert_int_equal(fixture->error.reason, REASON_KEY_MISSING);
    assert_string_equal(fixture->error.message, "the key of 'shop' is m\xc3\xbc\xc3\x9fig\n");
    assert_string_equal(fixture->error.field, "policy.schedule");
    assert_string_equal(fixture->error.hint, "try 100% of \xe2\x80\x9cthese\xe2\x80\x9d\nlines");
}

static Status call_with(Fixture *fixture, const char *method, const ProtobufCMessage *request,
                        int64_t timeout_ms)
{
    ProtobufCMessage *reply = NULL;
    return rpc_client_call(fixture->client, method, request,
                           &holdfast__test__echo_reply__descriptor, timeout_ms, fixture->arena,
                           &reply, &fixture->error);
}

static void test_an_unknown_method_is_unimplemented(void **state)
{
    Fixture *fixture = *state;
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    assert_int_equal(
        call_with(fixture, "/holdfast.test.Echo/Nothing", &request.base, FIXTURE_TIMEOUT_MS),
        STATUS_UNIMPLEMENTED);
    assert_string_equal(fixture->error.message, "there is no method '/holdfast.test.Echo/Nothing'");
}

static void test_garbage_is_refused(void **state)
{
    Fixture *fixture = *state;
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    request.text = arena_string(fixture->arena, "\xff\xfe"); // not UTF-8
    assert_int_equal(call_with(fixture, ECHO_SAY, &request.base, FIXTURE_TIMEOUT_MS),
                     STATUS_INVALID_ARGUMENT);
}

static void test_a_message_over_the_limit_is_refused(void **state)
{
    Fixture *fixture = *state;
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    request.payload.len = LIMIT_RPC_MESSAGE_BYTES + 1;
    request.payload.data = arena_alloc(fixture->arena, request.payload.len);
    assert_int_equal(call_with(fixture, ECHO_SAY, &request.base, FIXTURE_TIMEOUT_MS),
                     STATUS_RESOURCE_EXHAUSTED);
    request.payload.len = LIMIT_RPC_MESSAGE_BYTES - 1024;
    assert_int_equal(call_with(fixture, ECHO_SAY, &request.base, FIXTURE_TIMEOUT_MS), STATUS_OK);
}

static void test_a_slow_call_ends_at_its_deadline(void **state)
{
    Fixture *fixture = *state;
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    request.text = arena_string(fixture->arena, "sleep");
    request.count = 1500;
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(call_with(fixture, ECHO_SAY, &request.base, 200), STATUS_DEADLINE_EXCEEDED);
    assert_in_range(clock_monotonic_ms() - start_ms, 150, 1400);
    // The client is of use afterwards.
    EchoReply *reply = NULL;
    assert_int_equal(fixture_say(fixture, fixture->client, "x", &reply), STATUS_OK);
}

typedef struct Sleeper {
    Fixture *fixture;
    RpcClient *client;
    Status status;
} Sleeper;

static void *call_sleep(void *context)
{
    Sleeper *sleeper = context;
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    char text[] = "sleep";
    request.text = text;
    request.count = 400;
    Error error = {0};
    ProtobufCMessage *reply = NULL;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    sleeper->status = rpc_client_call(sleeper->client, ECHO_SAY, &request.base,
                                      &holdfast__test__echo_reply__descriptor, FIXTURE_TIMEOUT_MS,
                                      arena, &reply, &error);
    return NULL;
}

// More blocked handlers than threads: the rest wait their turn, and stopping waits for all of them.
static void test_blocking_handlers_and_a_graceful_stop(void **state)
{
    Fixture *fixture = *state;
    Sleeper sleepers[4] = {0};
    pthread_t threads[ARRAY_COUNT(sleepers)];
    for (size_t i = 0; i < ARRAY_COUNT(sleepers); i++) {
        sleepers[i] = (Sleeper){fixture, fixture_client(fixture, NULL, NULL), STATUS_UNKNOWN};
        assert_int_equal(pthread_create(&threads[i], NULL, call_sleep, &sleepers[i]), 0);
    }
    fixture_await(&fixture->echo.sleeper_count, 2);
    for (size_t i = 0; i < ARRAY_COUNT(sleepers); i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(sleepers[i].status, STATUS_OK);
    }
    Sleeper last = {fixture, sleepers[0].client, STATUS_UNKNOWN};
    assert_int_equal(pthread_create(&threads[0], NULL, call_sleep, &last), 0);
    fixture_await(&fixture->echo.sleeper_count, 1);
    fixture_stop_server(fixture, FIXTURE_TIMEOUT_MS);
    (void)pthread_join(threads[0], NULL);
    assert_int_equal(last.status, STATUS_OK);
    EchoReply *reply = NULL;
    assert_int_equal(fixture_say(fixture, fixture->client, "x", &reply), STATUS_UNAVAILABLE);
    for (size_t i = 0; i < ARRAY_COUNT(sleepers); i++) {
        rpc_client_free(sleepers[i].client);
    }
}

static Status start_on(const char *address, RpcServer **ret_server, Error *error)
{
    RpcServerOptions options = {.address = address, .thread_count = 1};
    return rpc_server_start(&options, ret_server, error);
}

static void test_a_port_in_use_is_an_error(void **state)
{
    Fixture *fixture = *state;
    RpcServer *second = NULL;
    assert_int_equal(start_on(fixture->address, &second, &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_PORT_IN_USE);
    assert_string_not_equal(fixture->error.hint, "");
    assert_null(second);
    assert_int_equal(start_on("127.0.0.1", &second, &fixture->error), STATUS_INVALID_ARGUMENT);
    assert_int_equal(start_on("192.0.2.1:0", &second, &fixture->error), STATUS_INVALID_ARGUMENT);
    assert_int_equal(fixture->error.reason, REASON_OPTION_INVALID);
}

static void test_a_restarted_server_is_found_at_once(void **state)
{
    Fixture *fixture = *state;
    EchoReply *reply = NULL;
    assert_int_equal(fixture_say(fixture, fixture->client, "x", &reply), STATUS_OK);
    fixture_stop_server(fixture, 0);
    assert_int_equal(fixture_say(fixture, fixture->client, "x", &reply), STATUS_UNAVAILABLE);
    assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
    assert_non_null(strstr(fixture->error.message, fixture->address));
    RpcServerOptions options = {
        .address = fixture->address, .thread_count = 1, .context = &fixture->echo};
    options.methods = echo_methods(&options.method_count);
    assert_int_equal(rpc_server_start(&options, &fixture->server, &fixture->error), STATUS_OK);
    assert_int_equal(fixture_say(fixture, fixture->client, "x", &reply), STATUS_OK);
}

static void test_tls_trusts_the_pinned_certificate_only(void **state)
{
    (void)state;
    Error error = {0};
    CLEANUP_FREE char *certificate = NULL;
    CLEANUP_FREE char *key = NULL;
    CLEANUP_FREE char *other_certificate = NULL;
    CLEANUP_FREE char *other_key = NULL;
    assert_int_equal(
        crypto_self_signed_certificate("holdfast.test", 30, &certificate, &key, &error), STATUS_OK);
    assert_int_equal(
        crypto_self_signed_certificate("holdfast.test", 30, &other_certificate, &other_key, &error),
        STATUS_OK);
    Fixture *fixture = fixture_new(certificate, key);
    EchoReply *reply = NULL;
    assert_int_equal(fixture_say(fixture, fixture->client, "secret", &reply), STATUS_OK);
    assert_string_equal(reply->text, "secret");
    RpcClient *strangers[] = {fixture_client(fixture, other_certificate, NULL),
                              fixture_client(fixture, NULL, NULL)};
    for (size_t i = 0; i < ARRAY_COUNT(strangers); i++) {
        assert_int_equal(fixture_say(fixture, strangers[i], "x", &reply), STATUS_UNAVAILABLE);
        RpcStream *stream = NULL;
        int64_t start_ms = clock_monotonic_ms();
        assert_int_equal(
            rpc_stream_open(strangers[i], ECHO_CHAT, FIXTURE_TIMEOUT_MS, &stream, &fixture->error),
            STATUS_UNAVAILABLE);
        assert_in_range(clock_monotonic_ms() - start_ms, 0, FIXTURE_TIMEOUT_MS / 2);
        rpc_client_free(strangers[i]);
    }
    // A key that is another certificate's.
    Secret wrong_key = secret_from_text(other_key);
    RpcServerOptions options = {.address = "127.0.0.1:0",
                                .certificate_pem = certificate,
                                .key_pem = &wrong_key,
                                .thread_count = 1};
    RpcServer *server = NULL;
    assert_int_equal(rpc_server_start(&options, &server, &error), STATUS_INVALID_ARGUMENT);
    secret_done(&wrong_key);
    fixture_free(fixture);
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, open_plain, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(test_a_call_is_answered),
        with_server(test_an_error_arrives_whole),
        with_server(test_an_unknown_method_is_unimplemented),
        with_server(test_garbage_is_refused),
        with_server(test_a_message_over_the_limit_is_refused),
        with_server(test_a_slow_call_ends_at_its_deadline),
        with_server(test_blocking_handlers_and_a_graceful_stop),
        with_server(test_a_port_in_use_is_an_error),
        with_server(test_a_restarted_server_is_found_at_once),
        cmocka_unit_test(test_tls_trusts_the_pinned_certificate_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
