// SPDX-License-Identifier: Apache-2.0
// The store on a real PostgreSQL. If this goes red, state is lost, doubled or seen out of order.
#include "common/clock.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "server/service/time_zones.h"
#include "server/store/store.h"
#include "server/store/store_event.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/harness/service_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Status migrate_again(ServiceFixture *fixture, Error *error)
{
    Store *store = service_fixture_open_store(fixture, 1);
    Status status = store_migrate(store, error);
    store_close(store);
    return status;
}

static void test_migrates_once(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    assert_ok(migrate_again(fixture, &error), &error);
    int64_t count = service_fixture_number(fixture, "SELECT count(*) FROM schema_migrations");
    assert_true(count >= 1);
    assert_int_equal(service_fixture_number(fixture, "SELECT max(version) FROM schema_migrations"),
                     count);
}

static void *migrate_main(void *argument)
{
    Error error = {0};
    assert_ok(migrate_again(argument, &error), &error);
    return NULL;
}

static void test_servers_may_migrate_together(void **state)
{
    ServiceFixture *fixture = *state;
    CLEANUP_FREE char *dropped =
        service_fixture_sql(fixture, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT 1");
    pthread_t threads[6];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_main, fixture), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(service_fixture_number(fixture, "SELECT count(*) FROM databases") == 0);
}

static void test_refuses_a_newer_or_changed_schema(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    CLEANUP_FREE char *newer =
        service_fixture_sql(fixture, "INSERT INTO schema_migrations (version, name, checksum) "
                                     "VALUES (9000, 'future', 'x'); SELECT 1");
    assert_int_equal(migrate_again(fixture, &error), STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_SCHEMA_NEWER);
    assert_contains(error.message, "version 9000");
    CLEANUP_FREE char *changed = service_fixture_sql(
        fixture, "DELETE FROM schema_migrations WHERE version = 9000; "
                 "UPDATE schema_migrations SET checksum = 'x' WHERE version = 1; SELECT 1");
    assert_int_equal(migrate_again(fixture, &error), STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_PRECONDITION);
    assert_contains(error.message, "migration 1 (create_schema)");
}

static void test_names_an_unreachable_database(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    Store *store = NULL;
    CLEANUP_FREE char *url =
        string_format("postgresql://admin:sesame@127.0.0.1:%d/none", free_port());
    StoreOptions options = {.database_url = url, .connection_count = 1};
    assert_int_equal(store_open(&options, &store, &error), STATUS_UNAVAILABLE);
    assert_int_equal(error.reason, REASON_DATABASE_UNREACHABLE);
    assert_true(error.hint[0] != '\0');
    assert_null(strstr(error.message, "sesame"));
    CLEANUP_FREE char *missing = string_format("%s_missing", fixture->url);
    options.database_url = missing;
    assert_int_equal(store_open(&options, &store, &error), STATUS_UNAVAILABLE);
    options.database_url = "no url at all";
    assert_int_equal(store_open(&options, &store, &error), STATUS_UNAVAILABLE);
}

static void test_a_failed_transaction_commits_nothing(void **state)
{
    ServiceFixture *fixture = *state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    assert_ok(
        store_execute(transaction, arena, "CREATE TABLE t (i int PRIMARY KEY)", 0, NULL, &error),
        &error);
    assert_ok(store_execute(transaction, arena, "INSERT INTO t VALUES ($1::int)",
                            STORE_PARAMETERS("1"), &error),
              &error);
    assert_int_equal(store_execute(transaction, arena, "INSERT INTO t VALUES ($1::int)",
                                   STORE_PARAMETERS("1"), &error),
                     STATUS_ALREADY_EXISTS);
    assert_int_not_equal(store_execute(transaction, arena, "SELECT 1", 0, NULL, &error), STATUS_OK);
    assert_int_not_equal(store_commit(&transaction, &error), STATUS_OK);
    assert_null(transaction);
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM pg_tables WHERE tablename = 't'"), 0);
}

static void test_survives_lost_connections(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    assert_ok(store_ping(fixture->store, &error), &error);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    service_fixture_number(fixture, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                                    "WHERE application_name = 'test'");
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_int_equal(store_execute(transaction, arena, "SELECT 1", 0, NULL, &error),
                     STATUS_UNAVAILABLE);
    store_rollback(&transaction);
    for (int i = 0; i < 8; i++) {
        assert_ok(store_ping(fixture->store, &error), &error);
    }
}

static void test_comes_back_with_its_server(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    scratch_postgres_kill(fixture->postgres);
    // The processes that serve connections end when they notice that the first one is gone.
    int64_t deadline_ms = clock_monotonic_ms() + 15000;
    while (store_ping(fixture->store, &error) == STATUS_OK && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(10);
    }
    assert_int_equal(error.status, STATUS_UNAVAILABLE);
    error_clear(&error);
    scratch_postgres_start(fixture->postgres);
    assert_ok(store_ping(fixture->store, &error), &error);
}

static void test_says_when_all_connections_are_busy(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    Store *store = service_fixture_open_store(fixture, 1);
    StoreTransaction *transaction = NULL;
    StoreTransaction *second = NULL;
    assert_ok(store_begin(store, &transaction, &error), &error);
    assert_error(store_begin(store, &second, &error), &error, REASON_UNAVAILABLE,
                 "all 1 connections to PostgreSQL are busy");
    store_rollback(&transaction);
    assert_ok(store_begin(store, &second, &error), &error);
    store_rollback(&second);
    store_close(store);
}

typedef struct Heard {
    atomic_int events, work;
} Heard;

static void on_notify(void *context, const char *channel)
{
    Heard *heard = context;
    if (text_equal(channel, "events")) {
        atomic_fetch_add(&heard->events, 1);
    } else if (text_equal(channel, "work")) {
        atomic_fetch_add(&heard->work, 1);
    }
}

static void wait_above(atomic_int *counter, int value)
{
    int64_t deadline_ms = clock_monotonic_ms() + 15000;
    while (atomic_load(counter) <= value) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("no notification came");
        }
        clock_sleep_ms(5);
    }
}

static void notify(ServiceFixture *fixture, const char *channel)
{
    Error error = {0};
    StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    assert_ok(store_notify(transaction, channel, &error), &error);
    assert_ok(store_commit(&transaction, &error), &error);
}

static void test_listens_also_after_a_loss(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    Heard heard = {0};
    assert_ok(store_listen(fixture->store, on_notify, &heard, &error), &error);
    int before = atomic_load(&heard.work);
    notify(fixture, "work");
    wait_above(&heard.work, before);
    // The loss itself wakes everybody, since something may have been missed. Counted from before
    // it: it may be over when we hear that it has begun.
    int events = atomic_load(&heard.events);
    before = atomic_load(&heard.work);
    service_fixture_number(fixture, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                                    "WHERE query LIKE '%LISTEN%' AND pid <> pg_backend_pid()");
    wait_above(&heard.work, before);
    wait_above(&heard.events, events);
    before = atomic_load(&heard.work);
    notify(fixture, "work");
    wait_above(&heard.work, before);
    store_unlisten(fixture->store, &heard);
}

#define WRITER_COUNT 8
#define WRITES_EACH 60

static void *write_main(void *argument)
{
    Store *store = argument;
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (int i = 0; i < WRITES_EACH; i++) {
        StoreTransaction *transaction = NULL;
        assert_ok(store_begin(store, &transaction, &error), &error);
        store_event_add(
            transaction,
            &(StoreEventFields){.severity = "info", .kind = "test.first", .message = "first"});
        // Others take their ids meanwhile, and one in five never commits.
        assert_ok(
            store_execute(transaction, arena, "SELECT pg_sleep(random() * 0.003)", 0, NULL, &error),
            &error);
        store_event_add(
            transaction,
            &(StoreEventFields){.severity = "info", .kind = "test.second", .message = "second"});
        if (i % 5 == 4) {
            store_rollback(&transaction);
        } else {
            assert_ok(store_commit(&transaction, &error), &error);
        }
    }
    return NULL;
}

// A reader that goes on from the last id it saw must get every event, although ids are handed out
// before they are committed.
static void test_events_become_visible_in_order(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    Store *store = service_fixture_open_store(fixture, WRITER_COUNT);
    pthread_t threads[WRITER_COUNT];
    for (size_t i = 0; i < WRITER_COUNT; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_main, store), 0);
    }
    const int expected = WRITER_COUNT * WRITES_EACH / 5 * 4 * 2;
    int count = 0;
    int64_t after_id = 0;
    int64_t deadline_ms = clock_monotonic_ms() + 60000;
    while (count < expected) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        StoreRows rows;
        assert_ok(store_begin(fixture->store, &transaction, &error), &error);
        assert_ok(store_event_after(transaction, arena, &(StoreEventFilter){0}, after_id, 7, &rows,
                                    &error),
                  &error);
        for (int row = 0; row < rows.count; row++) {
            int64_t id = store_integer(&rows, row, "id", 0);
            assert_true(id > after_id);
            after_id = id;
        }
        count += rows.count;
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("%d of %d events were seen", count, expected);
        }
    }
    for (size_t i = 0; i < WRITER_COUNT; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM events"), expected);
    store_close(store);
}

// Every slot of one line of the oracle; the schedule goes on from slot to slot as the worker does.
static void check_slots(ServiceFixture *fixture, TimeZones *zones, char *line)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    size_t count = 0;
    char **parts = text_split(arena, line, '|', &count);
    assert_int_equal(count, 5);
    int64_t after_s = 0;
    assert_true(text_to_int64(parts[2], &after_s));
    int64_t slot_us = after_s * 1000000;
    StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    char **expected = text_split(arena, parts[4], ' ', &count);
    for (size_t i = 0; i < count && parts[4][0] != '\0'; i++) {
        int64_t expected_s = 0;
        assert_true(text_to_int64(expected[i], &expected_s));
        assert_ok(schedule_next(zones, transaction, parts[1], parts[0], slot_us, &slot_us, &error),
                  &error);
        if (slot_us != expected_s * 1000000) {
            fail_msg("%s '%s': slot %zu is %lld, expected %lld", parts[0], parts[1], i,
                     (long long)(slot_us / 1000000), (long long)expected_s);
        }
    }
    int64_t end_s = 0;
    assert_true(text_to_int64(parts[3], &end_s));
    assert_ok(schedule_next(zones, transaction, parts[1], parts[0], slot_us, &slot_us, &error),
              &error);
    if (slot_us < end_s * 1000000) {
        fail_msg("%s '%s': %lld is a slot too many", parts[0], parts[1],
                 (long long)(slot_us / 1000000));
    }
    store_rollback(&transaction);
}

static void test_schedules_agree_with_brute_force(void **state)
{
    ServiceFixture *fixture = *state;
    const char *arguments[] = {"/usr/bin/python3", "-I", TEST_SCHEDULE_ORACLE, NULL};
    ProcessOptions process = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 16 * 1024 * 1024);
    Error error = {0};
    assert_ok(process_run(&process, 120000, REASON_INTERNAL, &output, &error), &error);
    TimeZones *zones = time_zones_new();
    CLEANUP_FREE char *text = buffer_take_text(&output);
    int count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), count++) {
        check_slots(fixture, zones, line);
    }
    assert_true(count > 200);
    time_zones_free(zones);
}

static void test_refuses_unknown_zones(void **state)
{
    ServiceFixture *fixture = *state;
    TimeZones *zones = time_zones_new();
    static const char *const BAD[] = {"",          "Mars/Base", "FOO+5", "europe/berlin",
                                      "posix/UTC", "'; --"};
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        Error error = {0};
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        assert_ok(store_begin(fixture->store, &transaction, &error), &error);
        int64_t slot_us;
        assert_int_equal(
            schedule_next(zones, transaction, "0 0 * * *", BAD[i], 0, &slot_us, &error),
            STATUS_INVALID_ARGUMENT);
        assert_string_equal(error.field, "time_zone");
    }
    time_zones_free(zones);
}

#define STORE_TEST(name)                                                                           \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_migrates_once),
        STORE_TEST(test_servers_may_migrate_together),
        STORE_TEST(test_refuses_a_newer_or_changed_schema),
        STORE_TEST(test_names_an_unreachable_database),
        STORE_TEST(test_a_failed_transaction_commits_nothing),
        STORE_TEST(test_survives_lost_connections),
        STORE_TEST(test_comes_back_with_its_server),
        STORE_TEST(test_says_when_all_connections_are_busy),
        STORE_TEST(test_listens_also_after_a_loss),
        STORE_TEST(test_events_become_visible_in_order),
        STORE_TEST(test_schedules_agree_with_brute_force),
        STORE_TEST(test_refuses_unknown_zones),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
