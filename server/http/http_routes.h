// SPDX-License-Identifier: Apache-2.0
// The table of REST routes, and finding the one of a request. Immutable.
#pragma once

#include "common/arena.h"

#include <stdbool.h>
#include <stddef.h>

#define HTTP_PATH_PARAMETER_COUNT_MAX 4

typedef struct HttpRoute {
    const char *method;
    const char *path;
    const char *rpc;
    int success_status;
    const char
        *body; // the request's field that the JSON body is, "*" for all of it, "" for no body
} HttpRoute;

typedef struct HttpMatch {
    const HttpRoute *route; // NULL: none
    const char *allow; // without a route: the methods that the path has ("GET, POST"), "" for an
                       // unknown path
    size_t parameter_count;
    const char *names[HTTP_PATH_PARAMETER_COUNT_MAX]; // "shard.database"
    const char *values[HTTP_PATH_PARAMETER_COUNT_MAX];
} HttpMatch;

const HttpRoute *http_routes(size_t *ret_count);
// `path` is percent-decoded; texts of the match live in the arena.
void http_route_find(Arena *arena, const char *method, const char *path, HttpMatch *ret_match);
