// SPDX-License-Identifier: Apache-2.0
// When this is red, a REST request becomes another message than the client meant, or nonsense is
// not refused.
#include "holdfast/v1/holdfast.pb-c.h"
#include "server/http/http_request.h"

#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

typedef struct Fixture {
    Arena *arena;
    Error error;
    ProtobufCMessage *message;
} Fixture;

static int open_fixture(void **state)
{
    static Fixture fixture;
    fixture = (Fixture){.arena = arena_new()};
    *state = &fixture;
    return 0;
}

static int close_fixture(void **state)
{
    Fixture *fixture = *state;
    arena_free(fixture->arena);
    return 0;
}

static Status request(Fixture *fixture, const char *method, const char *path, const char *body,
                      const HttpPair *query)
{
    HttpMatch match = {0};
    http_route_find(fixture->arena, method, path, &match);
    assert_non_null(match.route);
    size_t query_count = 0;
    while (query != NULL && query[query_count].name != NULL) {
        query_count++;
    }
    HttpInput input = {body, strlen(body), query, query_count};
    const ProtobufCMethodDescriptor *rpc = protobuf_c_service_descriptor_get_method_by_name(
        &holdfast__v1__holdfast__descriptor, match.route->rpc);
    fixture->message = NULL;
    error_clear(&fixture->error);
    Status status = http_request_message(fixture->arena, &match, &input, rpc->input,
                                         &fixture->message, &fixture->error);
    if (status != STATUS_OK) {
        http_request_name_field(match.route, &fixture->error);
    }
    return status;
}

static void test_path_and_query_fill_the_request(void **state)
{
    Fixture *fixture = *state;
    const HttpPair query[] = {
        {"state", "succeeded"}, {"page_size", "7"}, {"page_token", "a b"}, {NULL, NULL}};
    assert_int_equal(request(fixture, "GET", "/v1/databases/shop/backups", "", query), STATUS_OK);
    const Holdfast__V1__ListBackupsRequest *list = (const void *)fixture->message;
    assert_string_equal(list->database, "shop");
    assert_int_equal(list->state, HOLDFAST__V1__BACKUP_STATE__BACKUP_STATE_SUCCEEDED);
    assert_int_equal(list->page_size, 7);
    assert_string_equal(list->page_token, "a b");
}

static void test_booleans_of_the_query(void **state)
{
    Fixture *fixture = *state;
    const struct {
        const char *text;
        bool is_set;
    } cases[] = {{"true", true}, {"false", false}, {NULL, true}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const HttpPair query[] = {{"force", cases[i].text}, {NULL, NULL}};
        assert_int_equal(request(fixture, "DELETE", "/v1/databases/shop", "", query), STATUS_OK);
        const Holdfast__V1__DeleteDatabaseRequest *delete = (const void *)fixture->message;
        assert_int_equal(delete->force, cases[i].is_set);
    }
}

static void test_wrong_parameters_are_refused(void **state)
{
    Fixture *fixture = *state;
    const HttpPair wrong[][3] = {
        {{"nothing", "1"}, {NULL, NULL}, {NULL, NULL}},
        {{"page_size", "x"}, {NULL, NULL}, {NULL, NULL}},
        {{"page_size", NULL}, {NULL, NULL}, {NULL, NULL}},
        {{"page_size", "99999999999"}, {NULL, NULL}, {NULL, NULL}},
        {{"state", "finished"}, {NULL, NULL}, {NULL, NULL}},
        {{"page_size", "1"}, {"page_size", "2"}, {NULL, NULL}},
        {{"page_token", "\xff"}, {NULL, NULL}, {NULL, NULL}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_int_equal(request(fixture, "GET", "/v1/backups", "", wrong[i]),
                         STATUS_INVALID_ARGUMENT);
        assert_string_equal(fixture->error.field, wrong[i][0].name);
    }
    // What the path says cannot be said again, and a POST takes no parameters.
    const HttpPair database[] = {{"database", "other"}, {NULL, NULL}};
    assert_int_equal(request(fixture, "GET", "/v1/databases/shop/backups", "", database),
                     STATUS_INVALID_ARGUMENT);
    assert_int_equal(request(fixture, "POST", "/v1/databases/shop/backups", "", database),
                     STATUS_INVALID_ARGUMENT);
}

static void test_the_body_is_the_request_or_its_resource(void **state)
{
    Fixture *fixture = *state;
    assert_int_equal(request(fixture, "POST", "/v1/databases/shop/backups",
                             "{\"seed\":true,\"note\":\"n\"}", NULL),
                     STATUS_OK);
    const Holdfast__V1__StartBackupRequest *start = (const void *)fixture->message;
    assert_string_equal(start->database, "shop");
    assert_true(start->seed);
    assert_string_equal(start->note, "n");
    assert_int_equal(request(fixture, "POST", "/v1/databases/shop/backups", " \n", NULL),
                     STATUS_OK);

    assert_int_equal(request(fixture, "POST", "/v1/databases/shop/shards",
                             "{\"name\":\"-80\",\"source\":{\"host\":\"h\",\"port\":3306}}", NULL),
                     STATUS_OK);
    const Holdfast__V1__CreateShardRequest *create = (const void *)fixture->message;
    assert_string_equal(create->database, "shop");
    assert_string_equal(create->shard->name, "-80");
    assert_int_equal(create->shard->source->port, 3306);
}

static void test_wrong_bodies_are_refused_with_the_clients_path(void **state)
{
    Fixture *fixture = *state;
    const struct {
        const char *body;
        const char *field;
    } wrong[] = {
        {"{\"source\":{\"port\":\"x\"}}", "source.port"},
        {"{\"source\":{\"nothing\":1}}", "source.nothing"},
        {"{\"nothing\":1}", "nothing"},
        {"[]", ""},
        {"{", ""},
        {"1", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_int_equal(request(fixture, "POST", "/v1/databases/shop/shards", wrong[i].body, NULL),
                         STATUS_INVALID_ARGUMENT);
        assert_string_equal(fixture->error.field, wrong[i].field);
    }
    assert_int_equal(request(fixture, "GET", "/v1/databases", "{\"page_size\":1}", NULL),
                     STATUS_INVALID_ARGUMENT);
}

static const char *mask_of(Fixture *fixture)
{
    const Holdfast__V1__UpdateShardRequest *update = (const void *)fixture->message;
    const char *text = "";
    for (size_t i = 0; i < update->update_mask->n_paths; i++) {
        text = arena_format(fixture->arena, "%s%s%s", text, i > 0 ? " " : "",
                            update->update_mask->paths[i]);
    }
    return text;
}

static void test_a_patch_names_what_it_changes(void **state)
{
    Fixture *fixture = *state;
    const struct {
        const char *body;
        const char *mask;
    } cases[] = {
        {"{\"source\":{\"port\":1,\"host\":\"h\"},\"placement\":null}",
         "source.port source.host placement"},
        {"{\"source\":{}}", "source"},
        {"{\"etag\":\"e\",\"placement\":{\"zone\":\"z\"}}", "placement.zone"},
        {"{}", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_int_equal(
            request(fixture, "PATCH", "/v1/databases/shop/shards/-80", cases[i].body, NULL),
            STATUS_OK);
        const Holdfast__V1__UpdateShardRequest *update = (const void *)fixture->message;
        assert_string_equal(update->shard->database, "shop");
        assert_string_equal(update->shard->name, "-80");
        assert_string_equal(mask_of(fixture), cases[i].mask);
    }
}

static void test_the_path_cannot_be_contradicted(void **state)
{
    Fixture *fixture = *state;
    const char *path = "/v1/databases/shop/shards/-80";
    assert_int_equal(request(fixture, "PATCH", path, "{\"name\":\"-80\"}", NULL), STATUS_OK);
    assert_int_equal(request(fixture, "PATCH", path, "{\"name\":\"80-\"}", NULL),
                     STATUS_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.field, "name");
    assert_int_equal(
        request(fixture, "POST", "/v1/databases/shop/backups", "{\"database\":\"other\"}", NULL),
        STATUS_INVALID_ARGUMENT);
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fixture(test_path_and_query_fill_the_request),
        with_fixture(test_booleans_of_the_query),
        with_fixture(test_wrong_parameters_are_refused),
        with_fixture(test_the_body_is_the_request_or_its_resource),
        with_fixture(test_wrong_bodies_are_refused_with_the_clients_path),
        with_fixture(test_a_patch_names_what_it_changes),
        with_fixture(test_the_path_cannot_be_contradicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
