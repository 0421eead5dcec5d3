// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_routes.h"

#include "common/buffer.h"
#include "common/text.h"

#include <assert.h>
#include <string.h>

#define ALLOW_BYTES_MAX 128

static const HttpRoute ROUTES[] = {
#define ROUTE(verb, route_path, rpc_name, status, body_field)                                      \
    {.method = (verb),                                                                             \
     .path = (route_path),                                                                         \
     .rpc = #rpc_name,                                                                             \
     .success_status = (status),                                                                   \
     .body = (body_field)},
#include "server/http/routes.def"
#undef ROUTE
};

const HttpRoute *http_routes(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(ROUTES);
    return ROUTES;
}

// One segment of the table's path against one of the request's.
static bool match_segment(Arena *arena, const char *pattern, size_t pattern_size, const char *text,
                          size_t text_size, HttpMatch *match)
{
    if (pattern[0] != '{') {
        return pattern_size == text_size && memcmp(pattern, text, text_size) == 0;
    }
    if (text_size == 0) {
        return false;
    }
    assert(match->parameter_count < HTTP_PATH_PARAMETER_COUNT_MAX);
    match->names[match->parameter_count] = arena_string_n(arena, pattern + 1, pattern_size - 2);
    match->values[match->parameter_count++] = arena_string_n(arena, text, text_size);
    return true;
}

static bool match_path(Arena *arena, const char *pattern, const char *path, HttpMatch *match)
{
    match->parameter_count = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++;
        path++;
        size_t pattern_size = strcspn(pattern, "/");
        size_t path_size = strcspn(path, "/");
        if (!match_segment(arena, pattern, pattern_size, path, path_size, match)) {
            return false;
        }
        pattern += pattern_size;
        path += path_size;
    }
    return *pattern == '\0' && *path == '\0';
}

void http_route_find(Arena *arena, const char *method, const char *path, HttpMatch *ret_match)
{
    Buffer allow = {0};
    buffer_init(&allow, ALLOW_BYTES_MAX);
    *ret_match = (HttpMatch){0};
    for (size_t i = 0; i < ARRAY_COUNT(ROUTES) && ret_match->route == NULL; i++) {
        HttpMatch match = {0};
        if (!match_path(arena, ROUTES[i].path, path, &match)) {
            continue;
        }
        if (text_equal(ROUTES[i].method, method)) {
            *ret_match = match;
            ret_match->route = &ROUTES[i];
        } else {
            (void)buffer_append_format(&allow, "%s%s", allow.size > 0 ? ", " : "",
                                       ROUTES[i].method);
        }
    }
    ret_match->allow = arena_string(arena, buffer_text(&allow));
    buffer_done(&allow);
}
