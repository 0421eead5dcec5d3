// SPDX-License-Identifier: Apache-2.0
// Schedules, leases, retention, restores and sweeps on a real PostgreSQL and repository. If this
// goes red, a slot fires twice or never, work is done by two at once, or something is removed that
// is still needed - or never.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/repository_cache.h"
#include "server/store/store_work.h"
#include "server/worker/worker_internal.h"
#include "storage/storage_driver.h"
#include "storage/storage_drivers.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/harness/scratch_postgres.h"
#include "tests/harness/worker_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define OTHER_SERVER_ID "01890000-0000-7000-8000-00000000000c"
#define WORKER_TEST(name)                                                                          \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

static int64_t number(WorkerFixture *fixture, const char *sql)
{
    return service_fixture_number(fixture->base, sql);
}

static void run_sql(WorkerFixture *fixture, const char *sql)
{
    CLEANUP_FREE char *with_answer = string_format("%s; SELECT 1", sql);
    CLEANUP_FREE char *answer = service_fixture_sql(fixture->base, with_answer);
    assert_string_equal(answer, "1");
}

// --- policies ---

static void add_policy(WorkerFixture *fixture, const char *name, const char *schedule,
                       const char *retention)
{
    CLEANUP_FREE char *request =
        string_format("{\"database\": \"shop\", \"policy\": {\"name\": \"%s\", "
                      "\"schedule\": \"%s\", \"repository\": \"main\"%s}}",
                      name, schedule, retention);
    (void)service_fixture_call(fixture->base, "CreatePolicy", request);
}

typedef struct Firing {
    WorkerOptions options;
    Store *store;
} Firing;

static void *fire_main(void *context)
{
    Firing *firing = context;
    TimeZones *zones = time_zones_new();
    for (int i = 0; i < 20; i++) {
        int count = 0;
        Error error = {0};
        (void)work_policy(&firing->options, zones, &count, &error); // a lost race is no failure
        clock_sleep_ms(5);
    }
    time_zones_free(zones);
    return NULL;
}

// As many servers as threads, each with connections of its own.
static void fire_from_many_servers(WorkerFixture *fixture)
{
    Firing firings[4];
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        firings[i].options = fixture->options;
        firings[i].store = service_fixture_open_store(fixture->base, 2);
        firings[i].options.store = firings[i].store;
        assert_int_equal(pthread_create(&threads[i], NULL, fire_main, &firings[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        (void)pthread_join(threads[i], NULL);
        store_close(firings[i].store);
    }
}

static void test_a_slot_fires_once_whatever_the_number_of_servers(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "hourly", "0 * * * *", "");
    for (int round = 1; round <= 3; round++) {
        run_sql(
            fixture,
            "UPDATE policy_due SET next_at = date_trunc('hour', now()) - interval '1 hour' * 0");
        run_sql(fixture,
                "DELETE FROM policy_slots; UPDATE backups SET state = 'canceled', slot_at = NULL");
        fire_from_many_servers(fixture);
        assert_int_equal(
            number(fixture,
                   "SELECT count(*) FROM backups WHERE slot_at = date_trunc('hour', now())"),
            1);
        assert_int_equal(
            number(fixture, "SELECT count(*) FROM policy_slots WHERE outcome = 'fired'"), 1);
        assert_int_equal(number(fixture, "SELECT count(*) FROM policy_due WHERE next_at ="
                                         " date_trunc('hour', now()) + interval '1 hour'"),
                         1);
    }
    // The same slot again, as after a restored copy of the store: it does not fire a second time.
    run_sql(fixture, "UPDATE policy_due SET next_at = date_trunc('hour', now())");
    fire_from_many_servers(fixture);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups WHERE slot_at IS NOT NULL"), 1);
    worker_fixture_free(fixture);
}

// The slot is what the schedule says; the start is later by the policy's delay.
static void test_a_staggered_slot_fires_after_its_delay(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "hourly", "0 * * * *", ", \"stagger\": \"86400s\"");
    // Not before: the slot has passed, its delay has not.
    run_sql(fixture, "UPDATE policies SET stagger_delay = '3 hours'");
    run_sql(fixture,
            "UPDATE policy_due SET next_at = date_trunc('hour', now() - interval '3 hours')"
            " + interval '1 hour' + interval '3 hours'");
    fire_from_many_servers(fixture);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups"), 0);
    // Then, for a slot that lies hours back, and the next one is an hour after it.
    run_sql(fixture, "UPDATE policy_due SET next_at = next_at - interval '1 hour'");
    fire_from_many_servers(fixture);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups WHERE"
                                     " slot_at = date_trunc('hour', now() - interval '3 hours')"),
                     1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM policy_slots"), 1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM policy_due JOIN backups ON next_at ="
                                     " slot_at + interval '4 hours'"),
                     1);
    worker_fixture_free(fixture);
}

static void test_missed_slots_collapse_into_the_latest(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "hourly", "0 * * * *", "");
    run_sql(fixture,
            "UPDATE policy_due SET next_at = date_trunc('hour', now()) - interval '5 hours'");
    fire_from_many_servers(fixture);
    assert_int_equal(
        number(fixture, "SELECT count(*) FROM backups WHERE slot_at = date_trunc('hour', now())"),
        1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups"), 1);
    assert_int_equal(
        number(fixture, "SELECT count(*) FROM policy_slots WHERE outcome = 'collapsed'"), 5);
    assert_int_equal(number(fixture, "SELECT count(*) FROM events WHERE kind = 'policy.collapsed'"),
                     5);
    worker_fixture_free(fixture);
}

static void test_years_of_missed_minutes_are_one_backup(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "minutely", "* * * * *", "");
    run_sql(fixture,
            "UPDATE policy_due SET next_at = date_trunc('minute', now()) - interval '5 years'");
    int64_t started_ms = clock_monotonic_ms();
    fire_from_many_servers(fixture);
    assert_true(clock_monotonic_ms() - started_ms < 10000);
    assert_int_equal(
        number(fixture,
               "SELECT count(*) FROM backups WHERE slot_at > now() - interval '3 minutes'"),
        1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups"), 1);
    assert_true(number(fixture, "SELECT count(*) FROM policy_slots") <= 60);
    worker_fixture_free(fixture);
}

static void test_overlap_is_refused_and_recorded(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "hourly", "0 * * * *", "");
    CLEANUP_FREE char *running = worker_fixture_start_backup(fixture);
    run_sql(fixture, "UPDATE policy_due SET next_at = date_trunc('hour', now())");
    fire_from_many_servers(fixture);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups"), 1);
    CLEANUP_FREE char *sql =
        string_format("SELECT count(*) FROM policy_slots WHERE outcome = 'refused'"
                      " AND backup_id = '%s'",
                      running);
    assert_int_equal(number(fixture, sql), 1);
    assert_int_equal(
        number(
            fixture,
            "SELECT count(*) FROM events WHERE kind = 'policy.refused' AND severity = 'warning'"),
        1);
    worker_fixture_free(fixture);
}

static void test_a_paused_policy_does_not_fire(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    add_policy(fixture, "hourly", "0 * * * *", "");
    run_sql(fixture, "UPDATE policy_due SET next_at = date_trunc('hour', now())");
    (void)service_fixture_call(fixture->base, "PausePolicy",
                               "{\"database\": \"shop\", \"policy\": \"hourly\"}");
    fire_from_many_servers(fixture);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups"), 0);
    worker_fixture_free(fixture);
}

// --- leases ---

static size_t claim(WorkerFixture *fixture, Arena *arena, const char *server_id, int64_t lease_ms,
                    WorkItem **ret_items)
{
    Error error = {0};
    size_t count = 0;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->base->store, &transaction, &error), &error);
    assert_ok(
        store_work_claim(transaction, arena, server_id, lease_ms, 10, ret_items, &count, &error),
        &error);
    assert_ok(store_commit(&transaction, &error), &error);
    return count;
}

static void add_work(WorkerFixture *fixture, const char *kind)
{
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->base->store, &transaction, &error), &error);
    assert_ok(store_work_add(transaction, kind, WORK_SUBJECT_ALL, 0, &error), &error);
    assert_ok(store_commit(&transaction, &error), &error);
}

static bool finish(WorkerFixture *fixture, const char *server_id, const WorkItem *item,
                   int64_t next_ms)
{
    Error error = {0};
    bool is_due = false;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->base->store, &transaction, &error), &error);
    assert_ok(store_work_finish(transaction, server_id, item, next_ms, false, &is_due, &error),
              &error);
    assert_ok(store_commit(&transaction, &error), &error);
    return is_due;
}

static void test_work_of_a_dead_server_is_taken_over(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    WorkItem *first = NULL;
    WorkItem *second = NULL;
    add_work(fixture, "test");
    assert_int_equal(claim(fixture, arena, WORKER_FIXTURE_SERVER_ID, 300, &first), 1);
    assert_int_equal(claim(fixture, arena, OTHER_SERVER_ID, 300, &second),
                     0); // nobody does it twice
    clock_sleep_ms(400);
    assert_int_equal(claim(fixture, arena, OTHER_SERVER_ID, 60000, &second), 1);
    // The first one is back, and late: it can neither end nor put off what another one does now.
    (void)finish(fixture, WORKER_FIXTURE_SERVER_ID, first, WORK_DONE);
    assert_int_equal(number(fixture,
                            "SELECT count(*) FROM work_items WHERE lease_owner = '" OTHER_SERVER_ID
                            "'"),
                     1);
    assert_false(finish(fixture, OTHER_SERVER_ID, second, WORK_DONE));
    assert_int_equal(number(fixture, "SELECT count(*) FROM work_items"), 0);
    worker_fixture_free(fixture);
}

static void test_work_that_is_added_while_it_is_done_is_done_again(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    WorkItem *item = NULL;
    add_work(fixture, "test");
    assert_int_equal(claim(fixture, arena, WORKER_FIXTURE_SERVER_ID, 60000, &item), 1);
    add_work(fixture, "test");
    assert_true(finish(fixture, WORKER_FIXTURE_SERVER_ID, item, WORK_DONE));
    assert_int_equal(claim(fixture, arena, WORKER_FIXTURE_SERVER_ID, 60000, &item), 1);
    add_work(fixture, "test");
    assert_true(finish(fixture, WORKER_FIXTURE_SERVER_ID, item, 3600000)); // not in an hour
    assert_int_equal(claim(fixture, arena, WORKER_FIXTURE_SERVER_ID, 60000, &item), 1);
    assert_false(finish(fixture, WORKER_FIXTURE_SERVER_ID, item, WORK_DONE));
    assert_int_equal(number(fixture, "SELECT count(*) FROM work_items"), 0);
    worker_fixture_free(fixture);
}

static void test_work_bound_to_a_server_is_done_there(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    WorkItem *items = NULL;
    add_work(fixture, WORK_SWEEP_AT OTHER_SERVER_ID);
    assert_int_equal(claim(fixture, arena, WORKER_FIXTURE_SERVER_ID, 60000, &items), 0);
    assert_int_equal(claim(fixture, arena, OTHER_SERVER_ID, 60000, &items), 1);
    worker_fixture_free(fixture);
}

// --- whole runs ---

static void run_backup(WorkerFixture *fixture)
{
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    fake_agent_ready(agent);
    fake_agent_finish(agent);
    fake_agent_free(agent);
    CLEANUP_FREE char *ended = worker_fixture_backup_state(fixture, backup_id);
    assert_string_equal(ended, "succeeded");
}

static int64_t repository_files(WorkerFixture *fixture, const char *folder)
{
    CLEANUP_FREE char *shard = service_fixture_sql(fixture->base, "SELECT id FROM shards");
    CLEANUP_FREE char *sql = string_format("SELECT count(*) FROM pg_ls_dir('%s/shards/%s/%s')",
                                           fixture->repository_directory, shard, folder);
    return number(fixture, sql);
}

static int64_t set_files(WorkerFixture *fixture)
{
    CLEANUP_FREE char *database = service_fixture_sql(fixture->base, "SELECT id FROM databases");
    CLEANUP_FREE char *sql = string_format("SELECT count(*) FROM pg_ls_dir('%s/sets/%s')",
                                           fixture->repository_directory, database);
    return number(fixture, sql);
}

static void test_retention_removes_what_is_not_kept(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    add_policy(fixture, "yearly", "0 0 1 1 *", ", \"retention\": {\"keep_last\": 2}");
    for (int i = 0; i < 4; i++) {
        run_backup(fixture);
        // As if the policy had started it: what is started by hand is kept until it is deleted by
        // hand.
        run_sql(fixture,
                "UPDATE backups SET trigger = 'policy', policy_id = (SELECT id FROM policies)");
    }
    run_backup(fixture);
    worker_fixture_wait(fixture, "SELECT count(*) FROM backups WHERE state = 'deleted'", 2);
    worker_fixture_wait(fixture, "SELECT count(*) FROM work_items WHERE kind = 'retention'", 0);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups WHERE state = 'succeeded'"),
                     3); // and the newest, by hand
    assert_int_equal(repository_files(fixture, "manifests"), 3);
    assert_int_equal(set_files(fixture), 3);
    // By hand.
    CLEANUP_FREE char *id = service_fixture_sql(
        fixture->base,
        "SELECT id FROM backups WHERE state = 'succeeded' ORDER BY created_at LIMIT 1");
    CLEANUP_FREE char *request = string_format("{\"backup\": \"%s\"}", id);
    (void)service_fixture_call(fixture->base, "DeleteBackup", request);
    worker_fixture_wait(fixture, "SELECT count(*) FROM backups WHERE state = 'deleted'", 3);
    assert_int_equal(repository_files(fixture, "manifests"), 2);
    assert_int_equal(set_files(fixture), 2);
    // What is left can still be gone on from.
    run_backup(fixture);
    worker_fixture_free(fixture);
}

// A file system with object lock: what is in folder shards/ cannot be removed for now.
static StorageOperations locking_operations;
static Status (*remove_really)(Storage *storage, const char *key, Error *error);
static atomic_bool is_locked;

static Status remove_unless_locked(Storage *storage, const char *key, Error *error)
{
    return atomic_load(&is_locked) && text_has_prefix(key, "shards/")
               ? error_set(error, REASON_OBJECT_LOCKED, "object '%s' is locked", key)
               : remove_really(storage, key, error);
}

static Status open_locking(const StorageOptions *options, Storage **ret_storage, Error *error)
{
    RETURN_IF_ERROR(storage_open(options, ret_storage, error));
    locking_operations = *(*ret_storage)->operations;
    remove_really = locking_operations.remove;
    locking_operations.remove = remove_unless_locked;
    (*ret_storage)->operations = &locking_operations;
    return STATUS_OK;
}

static void test_what_the_store_keeps_locked_is_tried_again(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    RepositoryCache *repositories = repository_cache_new(open_locking, &fixture->base->secret_key);
    fixture->options.repositories = repositories;
    atomic_store(&is_locked, true);
    worker_fixture_start(fixture);
    run_backup(fixture);
    run_backup(fixture);
    CLEANUP_FREE char *id =
        service_fixture_sql(fixture->base, "SELECT id FROM backups ORDER BY created_at LIMIT 1");
    CLEANUP_FREE char *request = string_format("{\"backup\": \"%s\"}", id);
    (void)service_fixture_call(fixture->base, "DeleteBackup", request);
    worker_fixture_wait(fixture, "SELECT count(*) FROM events WHERE kind = 'backup.locked'", 1);
    assert_int_equal(set_files(fixture), 1); // nobody finds it any more
    assert_int_equal(repository_files(fixture, "manifests"), 2);
    assert_int_equal(number(fixture, "SELECT count(*) FROM backups WHERE state = 'deleting' AND "
                                     "message LIKE '%tried again%'"),
                     1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM shard_sweeps WHERE retry_at > now()"),
                     1);
    atomic_store(&is_locked, false);
    // As the next hour does.
    run_sql(fixture, "INSERT INTO work_items (kind, subject_id) SELECT 'retention', id FROM "
                     "databases ON CONFLICT DO NOTHING; NOTIFY work");
    worker_fixture_wait(fixture, "SELECT count(*) FROM backups WHERE state = 'deleted'", 1);
    assert_int_equal(repository_files(fixture, "manifests"), 1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM shard_sweeps WHERE retry_at IS NULL"),
                     1);
    worker_fixture_free(fixture);
    repository_cache_free(repositories);
}

static char *start_restore(WorkerFixture *fixture, const char *mode, int first_port)
{
    CLEANUP_FREE char *directory =
        string_format("%s/restored%d", fixture->base->directory, fixture->base->database_count);
    CLEANUP_FREE char *port =
        first_port > 0 ? string_format(", \"first_port\": %d", first_port) : string_copy("");
    CLEANUP_FREE char *request =
        string_format("{\"database\": \"shop\", \"mode\": \"%s\", \"directory\": \"%s\"%s}", mode,
                      directory, port);
    return string_copy(
        json_get_text(service_fixture_call(fixture->base, "CreateRestore", request), "id", ""));
}

static void say_restored(FakeAgent *agent, int port)
{
    Error error = {0};
    Holdfast__V1__RestoreDone done = HOLDFAST__V1__RESTORE_DONE__INIT;
    done.size_bytes = 4711;
    done.restore_ms = 100;
    done.start_ms = 10;
    done.port = port;
    assert_ok(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_RESTORE_DONE, &done.base,
                             &error),
              &error);
}

static void test_restored_servers_serve_until_they_are_stopped(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture);
    int port = free_port();
    CLEANUP_FREE char *id = start_restore(fixture, "server", port);
    FakeAgent *agent = fake_agent_assigned(fixture);
    assert_non_null(agent->restore);
    assert_int_equal(agent->restore->port, port);
    assert_string_not_equal(agent->restore->manifest_id, "");
    say_restored(agent, port);
    worker_fixture_wait(fixture, "SELECT count(*) FROM restores WHERE state = 'serving'", 1);
    // The server restarts; what serves goes on.
    worker_fixture_stop(fixture);
    worker_fixture_start(fixture);
    fake_agent_heartbeat(agent);
    assert_null(fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_STOP, 1500));
    CLEANUP_FREE char *request = string_format("{\"restore\": \"%s\"}", id);
    (void)service_fixture_call(fixture->base, "StopRestore", request);
    assert_non_null(fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_STOP, 10000));
    worker_fixture_wait(fixture, "SELECT count(*) FROM restores WHERE state = 'succeeded'", 1);
    assert_int_equal(fake_driver_count(fixture->driver), 0);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

static FakeAgent *lose(WorkerFixture *fixture, FakeAgent *agent)
{
    fake_driver_drop(fixture->driver, agent->instance_id);
    fake_agent_disconnect(agent);
    return fake_agent_assigned(fixture);
}

static bool is_taken(FakeAgent *agent)
{
    Holdfast__V1__ServerMessage *reply =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE_REPLY, 10000);
    assert_non_null(reply);
    return reply->restore_reply->is_accepted;
}

// The one that was thought lost comes back, and is not believed; the other one does it.
static void test_a_restore_whose_instance_is_lost_is_tried_again(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture);
    CLEANUP_FREE char *id = start_restore(fixture, "directory", 0);
    FakeAgent *lost = fake_agent_assigned(fixture);
    fake_driver_drop(fixture->driver, lost->instance_id); // its stream stays, as a zombie's may
    run_sql(fixture, "UPDATE instances SET last_seen_at = now() - interval '1 hour',"
                     " joined_at = now() - interval '1 hour',"
                     " created_at = now() - interval '1 hour' WHERE purpose = 'restore'");
    run_sql(fixture, "UPDATE servers SET started_at = now() - interval '1 hour'");
    FakeAgent *agent = fake_agent_assigned(fixture);
    assert_string_equal(agent->restore->restore_id, lost->restore->restore_id);
    assert_string_not_equal(agent->instance_id, lost->instance_id);
    say_restored(lost, 0);
    assert_false(is_taken(lost));
    fake_agent_fail(lost, REASON_INTERNAL, "a zombie's word");
    assert_int_equal(number(fixture, "SELECT count(*) FROM restore_shards WHERE state = 'running'"
                                     " AND attempt_count = 2"),
                     1);
    say_restored(agent, 0);
    assert_true(is_taken(agent));
    say_restored(agent, 0); // the answer got lost: the same one again
    assert_true(is_taken(agent));
    worker_fixture_wait(fixture, "SELECT count(*) FROM restores WHERE state = 'succeeded'", 1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM events WHERE severity = 'warning'"
                                     " AND kind = 'restore.attempt_lost' AND shard = '0'"),
                     1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM instances WHERE state <> 'destroyed'"),
                     0);
    fake_agent_free(lost);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

static void test_a_restore_is_not_tried_for_ever(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture);
    CLEANUP_FREE char *id = start_restore(fixture, "directory", 0);
    FakeAgent *first = fake_agent_assigned(fixture);
    FakeAgent *second = lose(fixture, first);
    run_sql(fixture, "UPDATE restore_shards SET attempt_count = 5"); // as after three more
    fake_driver_drop(fixture->driver, second->instance_id);
    fake_agent_disconnect(second);
    worker_fixture_wait(fixture,
                        "SELECT count(*) FROM restores WHERE state = 'failed'"
                        " AND reason = 'instance-lost' AND message LIKE '%try 5, the last one%'",
                        1);
    fake_agent_free(first);
    fake_agent_free(second);
    worker_fixture_free(fixture);
}

// Whoever used the server may have changed what it served: starting over would undo that.
static void test_a_server_that_is_lost_is_not_restored_over(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture);
    CLEANUP_FREE char *id = start_restore(fixture, "server", 45678);
    FakeAgent *agent = fake_agent_assigned(fixture);
    say_restored(agent, 45678);
    assert_true(is_taken(agent));
    worker_fixture_wait(fixture, "SELECT count(*) FROM restores WHERE state = 'serving'", 1);
    fake_driver_drop(fixture->driver, agent->instance_id);
    fake_agent_disconnect(agent);
    worker_fixture_wait(fixture,
                        "SELECT count(*) FROM restores WHERE state = 'failed'"
                        " AND reason = 'instance-lost' AND message LIKE '%its server is gone%'",
                        1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM instances WHERE purpose = 'restore'"),
                     1);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

static void test_the_limit_of_instances_holds(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 3);
    fixture->options.instance_count_max = 2;
    fixture->options.barrier_timeout_ms = 1000;
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *first = fake_agent_assigned(fixture);
    FakeAgent *second = fake_agent_assigned(fixture);
    clock_sleep_ms(1500); // time enough for a third one
    assert_int_equal(fake_driver_count(fixture->driver), 2);
    fake_agent_ready(first);
    fake_agent_ready(second);
    fake_agent_finish(first); // does not wait for the one that waits for its place
    FakeAgent *third = fake_agent_assigned(fixture);
    fake_agent_ready(third);
    fake_agent_finish(third);
    fake_agent_finish(second);
    CLEANUP_FREE char *ended = worker_fixture_backup_state(fixture, backup_id);
    assert_string_equal(ended, "succeeded");
    fake_agent_free(first);
    fake_agent_free(second);
    fake_agent_free(third);
    worker_fixture_free(fixture);
}

// --- sweeps ---

static void test_the_sweep_ends_what_the_store_does_not_know(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    char stray[UUID_TEXT_SIZE];
    crypto_uuid(stray);
    fake_driver_add(fixture->driver, stray);
    worker_fixture_start(fixture);
    int64_t started_ms = clock_monotonic_ms();
    clock_sleep_ms(4000);
    assert_int_equal(fake_driver_count(fixture->driver), 1); // seen, and not ended at first sight
    while (fake_driver_count(fixture->driver) > 0) {
        assert_true(clock_monotonic_ms() - started_ms < 25000);
        clock_sleep_ms(50);
    }
    worker_fixture_free(fixture);
}

static void test_the_sweep_freezes_when_it_knows_nothing(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    for (int i = 0; i < 12; i++) { // as after the store was restored from an old copy
        char stray[UUID_TEXT_SIZE];
        crypto_uuid(stray);
        fake_driver_add(fixture->driver, stray);
    }
    worker_fixture_start(fixture);
    clock_sleep_ms(14000);
    assert_int_equal(fake_driver_count(fixture->driver), 12);
    assert_int_equal(fake_driver_terminations(fixture->driver), 0);
    worker_fixture_free(fixture);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        WORKER_TEST(test_a_slot_fires_once_whatever_the_number_of_servers),
        WORKER_TEST(test_a_staggered_slot_fires_after_its_delay),
        WORKER_TEST(test_missed_slots_collapse_into_the_latest),
        WORKER_TEST(test_years_of_missed_minutes_are_one_backup),
        WORKER_TEST(test_overlap_is_refused_and_recorded),
        WORKER_TEST(test_a_paused_policy_does_not_fire),
        WORKER_TEST(test_work_of_a_dead_server_is_taken_over),
        WORKER_TEST(test_work_that_is_added_while_it_is_done_is_done_again),
        WORKER_TEST(test_work_bound_to_a_server_is_done_there),
        WORKER_TEST(test_retention_removes_what_is_not_kept),
        WORKER_TEST(test_what_the_store_keeps_locked_is_tried_again),
        WORKER_TEST(test_restored_servers_serve_until_they_are_stopped),
        WORKER_TEST(test_a_restore_whose_instance_is_lost_is_tried_again),
        WORKER_TEST(test_a_restore_is_not_tried_for_ever),
        WORKER_TEST(test_a_server_that_is_lost_is_not_restored_over),
        WORKER_TEST(test_the_limit_of_instances_holds),
        WORKER_TEST(test_the_sweep_ends_what_the_store_does_not_know),
        WORKER_TEST(test_the_sweep_freezes_when_it_knows_nothing),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
