// SPDX-License-Identifier: Apache-2.0
// If this goes red, what the tables hold reaches callers changed, or not at all.
#include "common/message_json.h"
#include "holdfast/v1/types.pb-c.h"
#include "server/store/store.h"
#include "tests/harness/harness.h"

static Holdfast__V1__Restore *fill(Arena *arena, const char *column, const char *value,
                                   Error *error)
{
    const char *names[] = {column};
    const char *values[] = {value};
    StoreRows rows = {.count = 1, .column_count = 1, .names = names, .values = values};
    ProtobufCMessage **messages = NULL;
    if (store_messages(&rows, arena, &holdfast__v1__restore__descriptor, &messages, error) !=
        STATUS_OK) {
        return NULL;
    }
    return (Holdfast__V1__Restore *)messages[0];
}

static void test_fills_fields_by_name(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    assert_string_equal(fill(arena, "id", "x", &error)->id, "x");
    assert_int_equal(fill(arena, "first_port", "4711", &error)->first_port, 4711);
    assert_true(fill(arena, "progress", "0.5", &error)->progress == 0.5);
    assert_int_equal(fill(arena, "state", "serving", &error)->state,
                     HOLDFAST__V1__RESTORE_STATE__RESTORE_STATE_SERVING);
    Holdfast__V1__Restore *restore =
        fill(arena, "created_at", "2026-11-21 08:00:00.123456+00", &error);
    assert_int_equal(restore->created_at->seconds, 1795248000);
    assert_int_equal(restore->created_at->nanos, 123456000);
    restore = fill(arena, "created_at", "1969-12-31 23:59:59.5+00", &error);
    assert_int_equal(restore->created_at->seconds, -1);
    assert_int_equal(restore->created_at->nanos, 500000000);
    assert_null(fill(arena, "created_at", NULL, &error)->created_at);
    assert_non_null(fill(arena, "no_such_field", "x", &error)); // a column for others
}

static void test_fills_repeated_fields_from_json(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    Holdfast__V1__Restore *restore = fill(arena, "shards",
                                          "[{\"shard\": \"-80\", \"restore_time\": \"1.500000s\", "
                                          "\"start_time\": null},\n {\"port\": 5}]",
                                          &error);
    assert_non_null(restore);
    assert_int_equal(restore->n_shards, 2);
    assert_string_equal(restore->shards[0]->shard, "-80");
    assert_int_equal(restore->shards[0]->restore_time->seconds, 1);
    assert_int_equal(restore->shards[0]->restore_time->nanos, 500000000);
    assert_int_equal(restore->shards[1]->port, 5);
}

static void test_fills_nested_messages(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    const char *names[] = {"source.host", "source.port", "no.thing"};
    const char *values[] = {"db1", "3306", "x"};
    StoreRows rows = {.count = 1, .column_count = 3, .names = names, .values = values};
    ProtobufCMessage **messages = NULL;
    assert_ok(store_messages(&rows, arena, &holdfast__v1__shard__descriptor, &messages, &error),
              &error);
    const Holdfast__V1__Shard *shard = (const Holdfast__V1__Shard *)messages[0];
    assert_string_equal(shard->source->host, "db1");
    assert_int_equal(shard->source->port, 3306);
    assert_null(shard->placement);
}

static void test_refuses_what_does_not_fit(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char *const BAD[][2] = {
        {"first_port", "99999999999"}, {"first_port", "x"}, {"state", "flying"},
        {"created_at", "today"},       {"shards", "{}"},    {"progress", "1.0x"}};
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        Error error = {0};
        assert_null(fill(arena, BAD[i][0], BAD[i][1], &error));
        assert_int_equal(error.reason, REASON_INTERNAL);
    }
}

static void test_reads_intervals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t interval_us;
    } GOOD[] = {{"PT0S", 0},
                {"PT24H", INT64_C(86400000000)},
                {"P1DT2H3M4.5S", INT64_C(93784500000)},
                {"PT-1.5S", -1500000},
                {"P1M", INT64_C(2592000000000)},
                {"PT5M", 300000000}};
    for (size_t i = 0; i < ARRAY_COUNT(GOOD); i++) {
        int64_t interval_us = -1;
        assert_true(store_interval_parse(GOOD[i].text, &interval_us));
        assert_int_equal(interval_us, GOOD[i].interval_us);
    }
    static const char *const BAD[] = {"", "1 day", "P1X", "PT1", "00:00:01"};
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        int64_t interval_us;
        assert_false(store_interval_parse(BAD[i], &interval_us));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fills_fields_by_name),
        cmocka_unit_test(test_fills_repeated_fields_from_json),
        cmocka_unit_test(test_fills_nested_messages),
        cmocka_unit_test(test_refuses_what_does_not_fit),
        cmocka_unit_test(test_reads_intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
