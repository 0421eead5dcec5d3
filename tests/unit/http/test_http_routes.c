// SPDX-License-Identifier: Apache-2.0
// When this is red, a REST path reaches the wrong RPC or none, or a row of the table names a field
// that its request does not have.
#include "common/text.h"
#include "holdfast/v1/holdfast.pb-c.h"
#include "server/http/http_routes.h"

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

static const ProtobufCMethodDescriptor *find_rpc(const char *name)
{
    return protobuf_c_service_descriptor_get_method_by_name(&holdfast__v1__holdfast__descriptor,
                                                            name);
}

static const ProtobufCMessageDescriptor *descend(const ProtobufCMessageDescriptor *descriptor,
                                                 const char *field_name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, field_name);
    assert_non_null(field);
    return field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
}

static void check_parameter(const HttpRoute *route, const ProtobufCMessageDescriptor *request,
                            const char *name)
{
    char copy[64];
    assert_true(strlen(name) < sizeof(copy));
    (void)snprintf(copy, sizeof(copy), "%s", name);
    char *dot = strchr(copy, '.');
    if (dot == NULL) {
        (void)descend(request, copy);
        return;
    }
    *dot = '\0';
    assert_string_equal(copy, route->body); // fills the resource that is the body
    assert_null(descend(descend(request, copy), dot + 1));
}

static void test_every_row_fits_its_request(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t count = 0;
    const HttpRoute *routes = http_routes(&count);
    assert_true(count > 30);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMethodDescriptor *rpc = find_rpc(routes[i].rpc);
        assert_non_null(rpc);
        if (routes[i].body[0] != '\0' && routes[i].body[0] != '*') {
            assert_non_null(descend(rpc->input, routes[i].body));
        }
        assert_in_range(routes[i].success_status, 200, 204);
        HttpMatch match = {0};
        http_route_find(arena, routes[i].method, routes[i].path, &match);
        assert_non_null(match.route); // the pattern matches itself
        assert_string_equal(match.route->rpc, routes[i].rpc);
        for (size_t k = 0; k < match.parameter_count; k++) {
            check_parameter(&routes[i], rpc->input, match.names[k]);
        }
    }
}

static void test_every_rpc_has_a_route(void **state)
{
    (void)state;
    size_t count = 0;
    const HttpRoute *routes = http_routes(&count);
    for (unsigned i = 0; i < holdfast__v1__holdfast__descriptor.n_methods; i++) {
        bool is_found = false;
        for (size_t k = 0; k < count; k++) {
            is_found = is_found || text_equal(routes[k].rpc,
                                              holdfast__v1__holdfast__descriptor.methods[i].name);
        }
        assert_true(is_found);
    }
}

static void test_paths_are_taken_apart(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    HttpMatch match = {0};
    http_route_find(arena, "PATCH", "/v1/databases/shop/shards/-80", &match);
    assert_string_equal(match.route->rpc, "UpdateShard");
    assert_int_equal(match.parameter_count, 2);
    assert_string_equal(match.names[0], "shard.database");
    assert_string_equal(match.values[0], "shop");
    assert_string_equal(match.names[1], "shard.name");
    assert_string_equal(match.values[1], "-80");
    http_route_find(arena, "GET", "/v1/events/stream", &match);
    assert_string_equal(match.route->rpc, "StreamEvents");
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *unknown[] = {
        "/v1/nothing", "/v1/databases/", "/v1/databases//shards", "/v1/databases/shop/x",
        "/v1",         "v1/databases",   "/v1/databases/a/b/c/d"};
    HttpMatch match = {0};
    for (size_t i = 0; i < ARRAY_COUNT(unknown); i++) {
        http_route_find(arena, "GET", unknown[i], &match);
        assert_null(match.route);
        assert_string_equal(match.allow, "");
    }
    http_route_find(arena, "PUT", "/v1/databases", &match);
    assert_null(match.route);
    assert_string_equal(match.allow, "POST, GET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_fits_its_request),
        cmocka_unit_test(test_every_rpc_has_a_route),
        cmocka_unit_test(test_paths_are_taken_apart),
        cmocka_unit_test(test_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
