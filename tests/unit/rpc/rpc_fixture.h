// SPDX-License-Identifier: Apache-2.0
// A test server and a client of it, on a free port of the loopback.
#pragma once

#include "common/rpc/rpc_client.h"
#include "rpc_test.pb-c.h"
#include "tests/unit/rpc/rpc_echo.h"

#define FIXTURE_TIMEOUT_MS 20000 // far more than anything takes

typedef Holdfast__Test__EchoRequest EchoRequest;
typedef Holdfast__Test__EchoReply EchoReply;

typedef struct Fixture {
    Echo echo;
    RpcServer *server;
    RpcClient *client;
    Arena *arena;
    Error error;
    char address[64];
} Fixture;

// Plaintext when certificate_pem is NULL.
Fixture *fixture_new(const char *certificate_pem, const char *key_pem);
void fixture_free(
    Fixture *fixture); // the server is stopped, and every opened stream must have been closed once
void fixture_stop_server(Fixture *fixture, int grace_ms);
RpcClient *fixture_client(Fixture *fixture, const char *root_pem, const char *authorization);
Status fixture_say(Fixture *fixture, RpcClient *client, const char *text, EchoReply **ret_reply);
RpcStream *fixture_chat(Fixture *fixture, RpcClient *client);
// Polls until the value is there, at most FIXTURE_TIMEOUT_MS.
void fixture_await(atomic_int *value, int expected);
