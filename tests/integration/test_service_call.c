// SPDX-License-Identifier: Apache-2.0
// What holds for every call: pages, idempotency, the stream of events, on a real PostgreSQL. If
// this goes red, something is done twice, left out, or lost.
#include "common/clock.h"
#include "server/service/event_stream.h"
#include "server/store/store_backup.h"
#include "server/store/store_event.h"
#include "tests/integration/service_case.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

// --- lists ---

static void test_pages_are_stable_under_inserts(void **state)
{
    ServiceFixture *fixture = *state;
    for (int i = 10; i < 30; i++) {
        CALL("CreateDatabase",
             arena_format(fixture->arena, "{\"database\":{\"name\":\"db%d\",\"engine\":\"mysql\"}}",
                          i));
    }
    char seen[64] = {0};
    const char *token = "";
    int page_count = 0;
    int total = 0;
    do {
        const Json *page =
            CALL("ListDatabases",
                 arena_format(fixture->arena, "{\"page_size\":3,\"page_token\":\"%s\"}", token));
        const Json *databases = json_get(page, "databases");
        for (const Json *item = json_first(databases); item != NULL; item = json_next(item)) {
            int64_t number = 0;
            assert_true(text_to_int64(json_get_text(item, "name", "") + 2, &number));
            assert_int_equal(seen[number], 0);
            seen[number] = 1;
            total++;
        }
        token = json_get_text(page, "next_page_token", "");
        // Before the place that was reached: must neither shift nor repeat anything.
        CALL("CreateDatabase",
             arena_format(fixture->arena, "{\"database\":{\"name\":\"a%d\",\"engine\":\"mysql\"}}",
                          page_count++));
    } while (token[0] != '\0');
    assert_int_equal(total, 20);
    assert_int_equal(page_count, 7);
}

static void test_refuses_bad_pages(void **state)
{
    ServiceFixture *fixture = *state;
    static const char *const LISTS[] = {"ListDatabases", "ListCredentials", "ListRepositories",
                                        "ListPolicies",  "ListBackups",     "ListRestores",
                                        "ListInstances", "ListEvents"};
    for (size_t i = 0; i < ARRAY_COUNT(LISTS); i++) {
        REFUSE(LISTS[i], "{\"page_size\":1001}", INVALID, "page_size");
        REFUSE(LISTS[i], "{\"page_size\":-1}", INVALID, "page_size");
        REFUSE(LISTS[i], "{\"page_token\":\"nonsense\"}", INVALID, "page_token");
        REFUSE(LISTS[i], "{\"page_token\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", INVALID,
               "page_token");
        CALL(LISTS[i], "{\"page_size\":1000}");
    }
    CALL("CreateDatabase", "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"}}");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"b\",\"engine\":\"mysql\"}}");
    const char *token =
        json_get_text(CALL("ListEvents", "{\"page_size\":1}"), "next_page_token", "");
    assert_true(token[0] != '\0');
    CALL("ListEvents", text_with(fixture, "{\"page_token\":\"%s\"}", token));
    REFUSE("ListEvents", text_with(fixture, "{\"page_token\":\"%s\",\"database\":\"a\"}", token),
           INVALID, "page_token");
    REFUSE("ListDatabases", text_with(fixture, "{\"page_token\":\"%s\"}", token), INVALID,
           "page_token");
    REFUSE("ListShards", "{\"database\":\"a\",\"page_size\":5000}", INVALID, "page_size");
    REFUSE("ListShards", "{\"database\":\"none\"}", NOT_FOUND, "");
}

static void test_lists_backups_and_policies_newest_first(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = start_backup(fixture);
        finish_backup(fixture, ids[i], i == 2 ? "failed" : "succeeded");
    }
    const char *token = "";
    for (int i = 4; i >= 0; i--) {
        const Json *page = CALL(
            "ListBackups",
            arena_format(fixture->arena,
                         "{\"database\":\"shop\",\"page_size\":1,\"page_token\":\"%s\"}", token));
        assert_string_equal(json_get_text(json_item(json_get(page, "backups"), 0), "id", ""),
                            ids[i]);
        token = json_get_text(page, "next_page_token", "");
    }
    assert_string_equal(token, "");
    assert_int_equal(json_count(json_get(CALL("ListBackups", "{\"state\":\"failed\"}"), "backups")),
                     1);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    CALL("CreateDatabase", "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"}}");
    CALL(
        "CreatePolicy",
        "{\"database\":\"a\",\"policy\":{\"name\":\"p\",\"schedule\":\"@daily\",\"repository\":\"main\"}}");
    const Json *page = CALL("ListPolicies", "{\"page_size\":1}");
    assert_string_equal(json_get_text(json_item(json_get(page, "policies"), 0), "database", ""),
                        "a");
    page = CALL("ListPolicies", text_with(fixture, "{\"page_size\":1,\"page_token\":\"%s\"}",
                                          json_get_text(page, "next_page_token", "")));
    assert_string_equal(json_get_text(json_item(json_get(page, "policies"), 0), "database", ""),
                        "shop");
    assert_int_equal(
        json_count(json_get(CALL("ListPolicies", "{\"database\":\"shop\"}"), "policies")), 1);
}

// --- idempotency ---

static void test_the_same_key_gives_the_same_answer(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    fixture->idempotency_key = "key-1";
    CLEANUP_FREE char *id = string_copy(start_backup(fixture));
    assert_false(fixture->is_replayed);
    finish_backup(fixture, id, "succeeded");
    assert_string_equal(start_backup(fixture), id);
    assert_true(fixture->is_replayed);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 1);
    REFUSE("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\",\"note\":\"other\"}",
           IDEMPOTENCY_MISMATCH, "");
    REFUSE("CancelBackup", text_with(fixture, "{\"backup\":\"%s\"}", id), IDEMPOTENCY_MISMATCH, "");
    CALL("ListBackups", "{}"); // reading takes no key
    // What failed may be tried again with the same key.
    fixture->idempotency_key = "key-2";
    REFUSE("CreateDatabase", "{\"database\":{\"name\":\"X\",\"engine\":\"mysql\"}}", INVALID,
           "database.name");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}");
    assert_true(fixture->is_replayed);
    assert_true(fixture->etag[0] != '\0');
    fixture->idempotency_key = "with\nnewline";
    REFUSE("DeleteDatabase", "{\"database\":\"x\"}", INVALID, "Idempotency-Key");
    // A key that has expired is a new one.
    fixture->idempotency_key = "key-1";
    CLEANUP_FREE char *old = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'; SELECT 1");
    assert_string_not_equal(start_backup(fixture), id);
}

static void test_abandoned_claims_are_taken_over(void **state)
{
    ServiceFixture *fixture = *state;
    const char *request = "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}";
    fixture->idempotency_key = "key";
    CALL("CreateDatabase", request);
    fixture->idempotency_key = NULL;
    CALL("DeleteDatabase", "{\"database\":\"x\"}");
    // A server died between its claim and the effect.
    CLEANUP_FREE char *fresh = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET response = NULL, created_at = now(); SELECT 1");
    fixture->idempotency_key = "key";
    REFUSE("CreateDatabase", request, CONFLICT, "");
    CLEANUP_FREE char *stale = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET created_at = now() - interval '3 min'; SELECT 1");
    CALL("CreateDatabase", request);
    assert_false(fixture->is_replayed);
}

typedef struct Race {
    ServiceFixture *fixture;
    Service *service;
    const char *request;
    atomic_int *success_count, *busy_count, *other_count;
    char id[40];
} Race;

static void *race_main(void *argument)
{
    Race *race = argument;
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    for (;;) {
        Error error = {0};
        CLEANUP(json_freep) Json *response = NULL;
        Status status = service_fixture_try_at(race->fixture, race->service, "StartBackup",
                                               race->request, &response, &error);
        if (status == STATUS_OK) {
            (void)snprintf(race->id, sizeof(race->id), "%s", json_get_text(response, "id", ""));
            atomic_fetch_add(race->success_count, 1);
            return NULL;
        }
        if (error.reason != REASON_CONFLICT || clock_monotonic_ms() > deadline_ms) {
            atomic_fetch_add(race->other_count, 1);
            return NULL;
        }
        atomic_fetch_add(race->busy_count, 1);
        clock_sleep_ms(2);
    }
}

static void test_concurrent_duplicates_do_it_once(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    Store *stores[2] = {service_fixture_open_store(fixture, 4),
                        service_fixture_open_store(fixture, 4)};
    Service *services[2] = {service_fixture_open_service(fixture, stores[0], NULL),
                            service_fixture_open_service(fixture, stores[1], NULL)};
    fixture->idempotency_key = "race";
    atomic_int success_count = 0, busy_count = 0, other_count = 0;
    Race races[8];
    pthread_t threads[ARRAY_COUNT(races)];
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        races[i] = (Race){.fixture = fixture,
                          .service = services[i % 2],
                          .request = "{\"database\":\"shop\",\"repository\":\"main\"}",
                          .success_count = &success_count,
                          .busy_count = &busy_count,
                          .other_count = &other_count};
        assert_int_equal(pthread_create(&threads[i], NULL, race_main, &races[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&success_count), ARRAY_COUNT(races));
    for (size_t i = 1; i < ARRAY_COUNT(races); i++) {
        assert_string_equal(races[i].id, races[0].id);
    }
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 1);
    // Without a key the rest is told that one runs.
    fixture->idempotency_key = NULL;
    finish_backup(fixture, races[0].id, "succeeded");
    atomic_store(&success_count, 0);
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race_main, &races[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&success_count), 1);
    assert_int_equal(atomic_load(&other_count), ARRAY_COUNT(races) - 1);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 2);
    for (size_t i = 0; i < 2; i++) {
        service_free(services[i]);
        store_close(stores[i]);
    }
}

// Both replicas fire the same slot: one backup.
static void test_a_slot_fires_once(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    CLEANUP_FREE char *ids = service_fixture_sql(
        fixture, "SELECT database_id || ' ' || repository_id || ' ' || id FROM policies");
    char **parts = text_split(fixture->arena, ids, ' ', NULL);
    StoreBackupRequest request = {.database_id = parts[0],
                                  .repository_id = parts[1],
                                  .policy_id = parts[2],
                                  .slot_at = "2026-11-21T00:00:00Z"};
    static const StoreBackupOutcome EXPECTED[] = {STORE_BACKUP_CREATED, STORE_BACKUP_SLOT_TAKEN,
                                                  STORE_BACKUP_OVERLAP};
    const char *first = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(EXPECTED); i++) {
        request.slot_at = i == 2 ? "2026-11-22T00:00:00Z" : request.slot_at;
        Error error = {0};
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        StoreBackupOutcome outcome;
        const char *id = NULL;
        assert_ok(store_begin(fixture->store, &transaction, &error), &error);
        assert_ok(store_backup_create(transaction, fixture->arena, &request, &outcome, &id, &error),
                  &error);
        assert_int_equal(outcome, EXPECTED[i]);
        first = i == 0 ? id : first;
        assert_string_equal(id, first);
        assert_ok(store_commit(&transaction, &error), &error);
    }
    const Json *backup = CALL("GetBackup", text_with(fixture, "{\"backup\":\"%s\"}", first));
    assert_string_equal(json_get_text(backup, "policy", ""), "nightly");
    assert_string_equal(json_get_text(backup, "trigger", ""), "policy");
    assert_string_equal(json_get_text(backup, "slot_at", ""), "2026-11-21T00:00:00Z");
    assert_string_equal(
        json_get_text(CALL("GetPolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}"),
                      "last_backup_id", ""),
        first);
}

// --- events ---

static void on_wake(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static void add_events(ServiceFixture *fixture, int count, const char *database)
{
    Error error = {0};
    StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    for (int i = 0; i < count; i++) {
        store_event_add(transaction, &(StoreEventFields){.severity = "warning",
                                                         .kind = "test",
                                                         .database = database,
                                                         .message = "m"});
    }
    assert_ok(store_commit(&transaction, &error), &error);
}

static size_t read_all(EventSubscription *subscription, int64_t *last_id, size_t expected)
{
    size_t total = 0;
    int64_t deadline_ms = clock_monotonic_ms() + 20000;
    while (total < expected && clock_monotonic_ms() < deadline_ms) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Holdfast__V1__Event **events = NULL;
        size_t count = 0;
        Error error = {0};
        assert_ok(event_subscription_next(subscription, arena, &events, &count, &error), &error);
        for (size_t i = 0; i < count; i++) {
            assert_true(events[i]->id > *last_id);
            *last_id = events[i]->id;
        }
        total += count;
        if (count == 0) {
            clock_sleep_ms(5);
        }
    }
    return total;
}

static EventSubscription *subscribe(ServiceFixture *fixture, int64_t after_id, const char *database,
                                    atomic_int *wakes)
{
    Holdfast__V1__StreamEventsRequest request = HOLDFAST__V1__STREAM_EVENTS_REQUEST__INIT;
    CLEANUP_FREE char *copy = string_copy(database);
    request.after_id = after_id;
    request.database = copy;
    ServiceCall call = {.arena = fixture->arena,
                        .authorization = text_with(fixture, "Bearer %s", fixture->token)};
    EventSubscription *subscription = NULL;
    Error error = {0};
    assert_ok(event_subscription_open(fixture->service, &call, &request, on_wake, wakes,
                                      &subscription, &error),
              &error);
    return subscription;
}

static void test_streams_events_from_anywhere(void **state)
{
    ServiceFixture *fixture = *state;
    add_events(fixture, 1500, "a"); // more than stay in memory
    atomic_int wakes = 0;
    EventSubscription *all = subscribe(fixture, 0, "", &wakes);
    EventSubscription *live = subscribe(fixture, -1, "", &wakes);
    EventSubscription *filtered = subscribe(fixture, 0, "b", &wakes);
    int64_t last_all = 0, last_live = 0, last_filtered = 0;
    assert_int_equal(read_all(all, &last_all, 1500), 1500);
    add_events(fixture, 5, "b");
    add_events(fixture, 1300, "a");
    add_events(fixture, 5, "b");
    assert_int_equal(read_all(all, &last_all, 1310), 1310);
    assert_int_equal(read_all(live, &last_live, 1310), 1310);
    assert_int_equal(read_all(filtered, &last_filtered, 10), 10);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    int before = atomic_load(&wakes);
    add_events(fixture, 1, "b");
    while (atomic_load(&wakes) < before + 3 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(2);
    }
    assert_true(atomic_load(&wakes) >= before + 3);
    assert_int_equal(read_all(filtered, &last_filtered, 1), 1);
    event_subscription_close(all);
    event_subscription_close(live);
    event_subscription_close(filtered);
    const Json *events = json_get(CALL("ListEvents", "{\"minimum_severity\":\"error\"}"), "events");
    assert_int_equal(json_count(events), 0);
    events = json_get(CALL("ListEvents", "{\"database\":\"b\",\"minimum_severity\":\"warning\"}"),
                      "events");
    assert_int_equal(json_count(events), 11);
    assert_true(json_get_integer(json_item(events, 0), "id", 0) >
                json_get_integer(json_item(events, 1), "id", 0));
}

static void test_streaming_needs_a_token(void **state)
{
    ServiceFixture *fixture = *state;
    Holdfast__V1__StreamEventsRequest request = HOLDFAST__V1__STREAM_EVENTS_REQUEST__INIT;
    ServiceCall call = {.arena = fixture->arena, .authorization = "Bearer no"};
    EventSubscription *subscription = NULL;
    Error error = {0};
    atomic_int wakes = 0;
    assert_int_equal(event_subscription_open(fixture->service, &call, &request, on_wake, &wakes,
                                             &subscription, &error),
                     STATUS_UNAUTHENTICATED);
}

// Every method: named, with descriptors, and refusing an empty request or answering it, never
// crashing.
static void test_every_method_takes_an_empty_request(void **state)
{
    ServiceFixture *fixture = *state;
    size_t count = 0;
    const ServiceMethod *methods = service_methods(&count);
    // All of the contract but StreamEvents, which is served as a stream.
    assert_int_equal(count, holdfast__v1__holdfast__descriptor.n_methods - 1);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(service_method_find(methods[i].name), &methods[i]);
        Error error = {0};
        CLEANUP(json_freep) Json *response = NULL;
        Status status = service_fixture_try(fixture, methods[i].name, "{}", &response, &error);
        if (status != STATUS_OK && error.reason != REASON_INVALID &&
            error.reason != REASON_PRECONDITION) {
            fail_msg("%s: %s", methods[i].name, error.message);
        }
    }
    assert_null(service_method_find("NoSuchMethod"));
}

static void test_metrics_outlive_the_database(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    scratch_postgres_kill(fixture->postgres);
    // Its processes live on for a moment, and answer.
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    for (bool is_gone = false; !is_gone;) {
        CLEANUP(buffer_done) Buffer buffer = {0};
        buffer_init(&buffer, 65536);
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_ok(service_metrics(fixture->service, &buffer, &error), &error);
        is_gone = strstr(buffer_text(&buffer), "holdfast_store_up 0\n") != NULL &&
                  service_ready(fixture->service, &error) == STATUS_UNAVAILABLE;
    }
    REFUSE("ListDatabases", "{}", DATABASE_UNREACHABLE, "");
    scratch_postgres_start(fixture->postgres);
    assert_ok(service_ready(fixture->service, &error), &error);
    CALL("ListDatabases", "{}");
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_pages_are_stable_under_inserts),
        SERVICE_TEST(test_refuses_bad_pages),
        SERVICE_TEST(test_lists_backups_and_policies_newest_first),
        SERVICE_TEST(test_the_same_key_gives_the_same_answer),
        SERVICE_TEST(test_abandoned_claims_are_taken_over),
        SERVICE_TEST(test_concurrent_duplicates_do_it_once),
        SERVICE_TEST(test_a_slot_fires_once),
        SERVICE_TEST(test_streams_events_from_anywhere),
        SERVICE_TEST(test_streaming_needs_a_token),
        SERVICE_TEST(test_every_method_takes_an_empty_request),
        SERVICE_TEST(test_metrics_outlive_the_database),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
