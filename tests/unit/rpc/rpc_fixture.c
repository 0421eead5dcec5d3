// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/rpc/rpc_fixture.h"

#include "common/clock.h"
#include "common/memory.h"

#include <stdio.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

Fixture *fixture_new(const char *certificate_pem, const char *key_pem)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    Secret key = secret_from_text(key_pem == NULL ? "" : key_pem);
    RpcServerOptions options = {
        .address = "127.0.0.1:0",
        .certificate_pem = certificate_pem,
        .key_pem = &key,
        .thread_count = 2,
        .context = &fixture->echo,
    };
    options.methods = echo_methods(&options.method_count);
    Status status = rpc_server_start(&options, &fixture->server, &fixture->error);
    secret_done(&key);
    assert_int_equal(status, STATUS_OK);
    (void)snprintf(fixture->address, sizeof(fixture->address), "127.0.0.1:%d",
                   rpc_server_port(fixture->server));
    fixture->client = fixture_client(fixture, certificate_pem, NULL);
    fixture->arena = arena_new();
    return fixture;
}

void fixture_stop_server(Fixture *fixture, int grace_ms)
{
    rpc_server_stop(fixture->server, grace_ms);
    rpc_server_free(fixture->server);
    fixture->server = NULL;
    assert_int_equal(atomic_load(&fixture->echo.open_count),
                     atomic_load(&fixture->echo.close_count));
    assert_int_equal(atomic_load(&fixture->echo.overlap_count), 0);
}

void fixture_free(Fixture *fixture)
{
    rpc_client_free(fixture->client);
    if (fixture->server != NULL) {
        fixture_stop_server(fixture, 1000);
    }
    arena_free(fixture->arena);
    mem_free(fixture);
}

RpcClient *fixture_client(Fixture *fixture, const char *root_pem, const char *authorization)
{
    RpcClientOptions options = {
        .address = fixture->address,
        .root_pem = root_pem,
        .server_name = "holdfast.test",
        .authorization = authorization,
        .keepalive_ms = 1000,
    };
    RpcClient *client = NULL;
    assert_int_equal(rpc_client_new(&options, &client, &fixture->error), STATUS_OK);
    return client;
}

Status fixture_say(Fixture *fixture, RpcClient *client, const char *text, EchoReply **ret_reply)
{
    EchoRequest request = HOLDFAST__TEST__ECHO_REQUEST__INIT;
    request.text = arena_string(fixture->arena, text);
    ProtobufCMessage *reply = NULL;
    Status status =
        rpc_client_call(client, ECHO_SAY, &request.base, &holdfast__test__echo_reply__descriptor,
                        FIXTURE_TIMEOUT_MS, fixture->arena, &reply, &fixture->error);
    *ret_reply = (EchoReply *)reply;
    return status;
}

RpcStream *fixture_chat(Fixture *fixture, RpcClient *client)
{
    RpcStream *stream = NULL;
    error_clear(&fixture->error);
    Status status =
        rpc_stream_open(client, ECHO_CHAT, FIXTURE_TIMEOUT_MS, &stream, &fixture->error);
    assert_string_equal(fixture->error.message, "");
    assert_int_equal(status, STATUS_OK);
    return stream;
}

void fixture_await(atomic_int *value, int expected)
{
    int64_t deadline_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;
    while (atomic_load(value) != expected && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(1);
    }
    assert_int_equal(atomic_load(value), expected);
}
