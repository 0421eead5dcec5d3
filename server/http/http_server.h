// SPDX-License-Identifier: Apache-2.0
// REST, the dashboard's files, health and metrics over HTTP/1.1. One thread at a time.
#pragma once

#include "common/error.h"
#include "common/secret.h"
#include "server/service/service.h"

typedef struct HttpServer HttpServer;

typedef struct HttpServerOptions {
    Service *service;            // borrowed
    const char *address;         // "127.0.0.1:8080"; port 0 takes a free one
    const char *certificate_pem; // NULL: plain HTTP
    const Secret *key_pem;
    int thread_count; // requests that may wait for the service at once
} HttpServerOptions;

Status http_server_start(const HttpServerOptions *options, HttpServer **ret_server, Error *error);
int http_server_port(const HttpServer *server);
// Stops accepting, answers what is under way, ends event streams, joins the threads.
void http_server_stop(HttpServer *server);
void http_server_free(HttpServer *server);
