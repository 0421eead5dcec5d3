// SPDX-License-Identifier: Apache-2.0
// A REST request on its way to a message. Input: "METHOD /path?query", a line break, the body.
#include "common/text.h"
#include "holdfast/v1/holdfast.pb-c.h"
#include "server/http/http_request.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#define QUERY_COUNT_MAX 64

static size_t split_query(Arena *arena, const char *query, HttpPair pairs[QUERY_COUNT_MAX])
{
    size_t count = 0;
    size_t pair_count = 0;
    char **pieces = text_split(arena, query, '&', &count);
    for (size_t i = 0; i < count && pair_count < QUERY_COUNT_MAX; i++) {
        char *equals = strchr(pieces[i], '=');
        if (equals != NULL) {
            *equals++ = '\0';
        }
        pairs[pair_count++] = (HttpPair){.name = pieces[i], .value = equals};
    }
    return pair_count;
}

static void handle(Arena *arena, const char *method, const char *path, const HttpInput *input)
{
    Error error = {0};
    HttpMatch match = {0};
    ProtobufCMessage *message = NULL;
    http_route_find(arena, method, path, &match);
    if (match.route == NULL) {
        assert(match.allow != NULL);
        return;
    }
    const ProtobufCMethodDescriptor *rpc = protobuf_c_service_descriptor_get_method_by_name(
        &holdfast__v1__holdfast__descriptor, match.route->rpc);
    assert(rpc != NULL);
    if (http_request_message(arena, &match, input, rpc->input, &message, &error) == STATUS_OK) {
        assert(message->descriptor == rpc->input);
        assert(protobuf_c_message_check(message));
    } else {
        http_request_name_field(match.route, &error);
        assert(error.message[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    size_t line_size = end == NULL ? size : (size_t)(end - data);
    char *method = arena_string_n(arena, (const char *)data, line_size);
    char *path = strchr(method, ' ');
    if (path == NULL) {
        return 0;
    }
    *path++ = '\0';
    HttpPair pairs[QUERY_COUNT_MAX];
    HttpInput input = {.body = "", .query = pairs};
    char *query = strchr(path, '?');
    if (query != NULL) {
        *query++ = '\0';
        input.query_count = split_query(arena, query, pairs);
    }
    if (end != NULL) {
        input.body = (const char *)end + 1;
        input.body_size = size - line_size - 1;
    }
    handle(arena, method, path, &input);
    return 0;
}
