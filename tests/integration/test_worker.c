// SPDX-License-Identifier: Apache-2.0
// The worker and the agent sessions together, on a real PostgreSQL and repository, with agents
// played by the test. If this goes red, a backup is lost, doubled, committed by somebody who may
// not, or never ends.
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "tests/harness/harness.h"
#include "tests/harness/worker_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define WORKER_TEST(name)                                                                          \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

static int64_t number(WorkerFixture *fixture, const char *sql)
{
    return service_fixture_number(fixture->base, sql);
}

static void assert_state(WorkerFixture *fixture, const char *backup_id, const char *wanted)
{
    CLEANUP_FREE char *state = worker_fixture_backup_state(fixture, backup_id);
    CLEANUP_FREE char *sql =
        string_format("SELECT message FROM backups WHERE id = '%s'", backup_id);
    CLEANUP_FREE char *message = service_fixture_sql(fixture->base, sql);
    if (!text_equal(state, wanted)) {
        fail_msg("backup is %s, not %s: %s", state, wanted, message);
    }
}

// One whole backup with well-behaved agents.
static void run_backup(WorkerFixture *fixture, int shard_count)
{
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agents[8] = {0};
    for (int i = 0; i < shard_count; i++) {
        agents[i] = fake_agent_assigned(fixture);
        fake_agent_ready(agents[i]);
    }
    for (int i = 0; i < shard_count; i++) {
        fake_agent_finish(agents[i]);
        fake_agent_free(agents[i]);
    }
    assert_state(fixture, backup_id, "succeeded");
}

static BackupSet *read_set(WorkerFixture *fixture, Arena *arena)
{
    Error error = {0};
    Storage *storage = NULL;
    Repository *repository = NULL;
    BackupSet **sets = NULL;
    size_t count = 0;
    CLEANUP(secret_done) Secret key = {0};
    CLEANUP_FREE char *path =
        service_fixture_sql(fixture->base, "SELECT key_file FROM repositories");
    assert_ok(key_file_read(path, &key, &error), &error);
    assert_ok(storage_open(&(StorageOptions){.location = fixture->repository_directory}, &storage,
                           &error),
              &error);
    assert_ok(repository_open(storage, key_wrapper_from_key(&key), &repository, &error), &error);
    assert_ok(backup_set_list(repository, arena, &sets, &count, &error), &error);
    repository_free(repository);
    assert_int_equal(count, 1);
    return sets[0];
}

static void test_backs_up_all_shards_at_one_barrier(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 2);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *first = fake_agent_assigned(fixture);
    FakeAgent *second = fake_agent_assigned(fixture);
    assert_string_equal(first->backup->source->password, "pass-word");
    assert_int_equal(first->backup->source->engine, HOLDFAST__V1__ENGINE__ENGINE_POSTGRESQL);
    fake_agent_ready(first);
    // Nobody takes a checkpoint before everybody is ready.
    assert_null(
        fake_agent_receive(first, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT, 1500));
    fake_agent_ready(second);
    fake_agent_finish(first);
    assert_string_not_equal(first->backup->attempt_id, second->backup->attempt_id);
    fake_agent_finish(second);
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(
        number(fixture,
               "SELECT count(*) FROM backups WHERE barrier = 'taken' AND checkpoint_skew >= '0'"
               " AND checkpoint_skew < '20 s' AND set_written_at IS NOT NULL"),
        1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM instances WHERE state = 'destroyed'"),
                     2);
    assert_int_equal(fake_driver_count(fixture->driver), 0);
    BackupSet *set = read_set(fixture, arena);
    assert_true(set->is_complete);
    assert_int_equal(set->shard_count, 2);
    assert_string_equal(set->backup_id, backup_id);
    worker_fixture_wait(
        fixture,
        "SELECT count(*) FROM work_items WHERE kind IN ('backup', 'instance', 'retention')", 0);
    assert_int_equal(number(fixture, "SELECT count(*) FROM attempt_phases WHERE ended_at IS NULL"),
                     0);
    fake_agent_free(first);
    fake_agent_free(second);
    worker_fixture_free(fixture);
}

static void test_the_next_backup_starts_from_the_last(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    for (int generation = 0; generation < 3; generation++) {
        run_backup(fixture, 1);
        CLEANUP_FREE char *sql =
            string_format("SELECT count(*) FROM shard_backups WHERE generation = %d AND "
                          "state = 'committed' AND (parent_id IS NULL) = (%d = 0) AND "
                          "(parent_restore_time = '1.5 s') IS NOT DISTINCT FROM "
                          "(CASE WHEN %d > 0 THEN true END)",
                          generation, generation, generation);
        assert_int_equal(number(fixture, sql), 1);
    }
    assert_int_equal(number(fixture, "SELECT epoch FROM shards"), 3);
    worker_fixture_free(fixture);
}

// One generation whose agent says how much a full read found that the recorder had missed; returns
// whether it was told to read everything.
static bool run_generation(WorkerFixture *fixture, int64_t unrecorded_bytes)
{
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    CLEANUP(fake_agent_freep) FakeAgent *agent = fake_agent_assigned(fixture);
    Holdfast__V1__CommitRequest request;
    fake_agent_ready(agent);
    fake_agent_take_checkpoint(agent, "0/1");
    fake_agent_publish(agent, &request);
    request.read_bytes = 4711;
    request.unrecorded_bytes = unrecorded_bytes;
    request.reads_everything = agent->backup->reads_everything;
    assert_true(fake_agent_commit(agent, &request));
    assert_state(fixture, backup_id, "succeeded");
    return agent->backup->reads_everything;
}

static void test_the_recorder_is_checked_and_not_trusted_once_it_was_wrong(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    assert_true(run_generation(fixture, 0)); // a seed
    assert_false(run_generation(fixture, 0));
    CLEANUP_FREE char *skipped = service_fixture_sql(
        fixture->base, "UPDATE shard_backups SET generation = 9 WHERE generation = 1; SELECT 1");
    assert_true(run_generation(fixture, 0)); // the tenth
    assert_false(run_generation(fixture, 0));
    assert_int_equal(number(fixture, "SELECT count(*) FROM databases WHERE reads_everything"), 0);
    assert_int_equal(number(fixture, "SELECT max(read_bytes) FROM shard_backups"), 4711);
    assert_int_equal(number(fixture, "SELECT count(*) FROM shard_backups WHERE reads_everything"),
                     2);
    assert_int_equal(
        number(fixture, "SELECT count(*) FROM backups b JOIN shard_backups sb ON sb.backup_id = "
                        "b.id WHERE b.size_bytes = sb.size_bytes AND sb.size_bytes > 0 AND "
                        "b.stored_bytes = sb.stored_bytes"),
        4);
    assert_false(run_generation(fixture, 65536));
    assert_int_equal(number(fixture, "SELECT count(*) FROM databases WHERE reads_everything"), 1);
    assert_int_equal(number(fixture, "SELECT count(*) FROM events WHERE kind = "
                                     "'recorder.contradicted' AND severity = 'error'"),
                     1);
    assert_true(run_generation(fixture, 0)); // from now on always
    assert_true(run_generation(fixture, 0));
    worker_fixture_free(fixture);
}

static void test_a_lost_agent_cannot_commit(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    fixture->options.attempt_lease_ms = 500;
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *zombie = fake_agent_assigned(fixture);
    Holdfast__V1__CommitRequest old;
    Holdfast__V1__CommitRequest request;
    fake_agent_ready(zombie);
    fake_agent_take_checkpoint(zombie, "0/1");
    fake_agent_publish(zombie, &old);
    FakeAgent *agent =
        fake_agent_assigned(fixture); // the zombie is silent: another takes its place
    assert_int_equal(agent->backup->epoch, zombie->backup->epoch + 1);
    assert_non_null(fake_agent_receive(zombie, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_STOP, 10000));
    assert_false(fake_agent_commit(zombie, &old));
    fake_agent_ready(agent);
    fake_agent_take_checkpoint(agent, "0/2");
    fake_agent_publish(agent, &request);
    assert_false(fake_agent_commit(zombie, &old));
    assert_true(fake_agent_commit(agent, &request));
    assert_true(fake_agent_commit(agent, &request)); // its answer got lost: the same again
    assert_false(fake_agent_commit(zombie, &old));
    Holdfast__V1__CommitRequest other = request;
    other.manifest_id = old.manifest_id;
    assert_false(fake_agent_commit(agent, &other));
    assert_state(fixture, backup_id, "succeeded");
    CLEANUP_FREE char *manifest =
        service_fixture_sql(fixture->base, "SELECT manifest_id FROM shard_backups");
    assert_string_equal(manifest, request.manifest_id);
    assert_int_equal(
        number(fixture,
               "SELECT count(*) FROM attempts WHERE state = 'lost' AND reason = 'lease-lost'"),
        1);
    // What the zombie has published is not a backup, and is removed.
    CLEANUP_FREE char *place =
        string_format("%s/shards/%s/manifests/%s", fixture->repository_directory,
                      agent->backup->shard_id, old.manifest_id);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    FILE *file = NULL;
    while ((file = fopen(place, "r")) != NULL && clock_monotonic_ms() < deadline_ms) {
        (void)fclose(file);
        clock_sleep_ms(20);
    }
    assert_null(file);
    fake_agent_free(zombie);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

typedef struct Race {
    FakeAgent *agent;
    Holdfast__V1__CommitRequest request;
    atomic_bool is_accepted;
} Race;

static void *commit_main(void *context)
{
    Race *race = context;
    atomic_store(&race->is_accepted, fake_agent_commit(race->agent, &race->request));
    return NULL;
}

// A cancel and a commit at the same moment: whichever came first, what the agent was told is what
// the store says.
static void test_commit_and_cancel_race(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    for (int round = 0; round < 8; round++) {
        CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
        Race race = {.agent = fake_agent_assigned(fixture)};
        pthread_t thread;
        fake_agent_ready(race.agent);
        fake_agent_take_checkpoint(race.agent, "0/1");
        fake_agent_publish(race.agent, &race.request);
        assert_int_equal(pthread_create(&thread, NULL, commit_main, &race), 0);
        clock_sleep_ms(round % 4);
        CLEANUP_FREE char *cancel = string_format("{\"backup\": \"%s\"}", backup_id);
        CLEANUP(json_freep) Json *answer = NULL;
        Error error = {0};
        Status status = service_fixture_try(fixture->base, "CancelBackup", cancel, &answer, &error);
        if (status != STATUS_OK && error.reason == REASON_INVALID) {
            fail_msg("%s", error.message);
        }
        (void)pthread_join(thread, NULL);
        CLEANUP_FREE char *ended = worker_fixture_backup_state(fixture, backup_id);
        CLEANUP_FREE char *sql = string_format(
            "SELECT count(*) FROM shard_backups WHERE backup_id = '%s' AND state = 'committed'",
            backup_id);
        assert_int_equal(number(fixture, sql), atomic_load(&race.is_accepted) ? 1 : 0);
        assert_string_equal(ended, atomic_load(&race.is_accepted) ? "succeeded" : "canceled");
        fake_agent_free(race.agent);
    }
    worker_fixture_free(fixture);
}

static void test_logs_gone_means_a_new_copy_said_loudly(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture, 1);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    assert_string_not_equal(agent->backup->parent_manifest_id, "");
    fake_agent_fail(agent, REASON_LOGS_GONE, "the source no longer has the log");
    FakeAgent *again = fake_agent_assigned(fixture);
    assert_string_equal(again->backup->parent_manifest_id, "");
    assert_int_equal(again->backup->generation, 0);
    fake_agent_ready(again);
    fake_agent_finish(again);
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(
        number(fixture, "SELECT count(*) FROM shard_backups WHERE seed_reason LIKE 'logs-gone%'"),
        1);
    assert_int_equal(number(fixture,
                            "SELECT count(*) FROM events WHERE kind = 'shard_backup.reseeded'"
                            " AND severity = 'warning'"),
                     1);
    fake_agent_free(agent);
    fake_agent_free(again);
    worker_fixture_free(fixture);
}

static void test_a_broken_parent_means_an_older_one(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    run_backup(fixture, 1);
    CLEANUP_FREE char *oldest =
        service_fixture_sql(fixture->base, "SELECT manifest_id FROM shard_backups");
    run_backup(fixture, 1);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    assert_string_not_equal(agent->backup->parent_manifest_id, oldest);
    fake_agent_fail(agent, REASON_PARENT_UNRESTORABLE, "it does not start");
    FakeAgent *older = fake_agent_assigned(fixture);
    assert_string_equal(older->backup->parent_manifest_id, oldest);
    assert_int_equal(older->backup->generation, 1);
    fake_agent_fail(older, REASON_OBJECT_CORRUPT, "a pack is damaged");
    FakeAgent *seed = fake_agent_assigned(fixture);
    assert_string_equal(seed->backup->parent_manifest_id, "");
    fake_agent_ready(seed);
    fake_agent_finish(seed);
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(number(fixture, "SELECT count(*) FROM shard_backups WHERE is_unrestorable"),
                     2);
    assert_int_equal(
        number(fixture,
               "SELECT count(*) FROM events WHERE kind = 'shard_backup.parent_unrestorable'"
               " AND severity = 'error'"),
        2);
    fake_agent_free(agent);
    fake_agent_free(older);
    fake_agent_free(seed);
    worker_fixture_free(fixture);
}

static void test_a_wrong_password_fails_at_once(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 2);
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *refused = fake_agent_assigned(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    fake_agent_ready(agent);
    fake_agent_fail(refused, REASON_SOURCE_AUTHENTICATION, "access denied");
    fake_agent_finish(agent); // the barrier does not wait for the failed one
    assert_state(fixture, backup_id, "failed");
    assert_int_equal(number(fixture, "SELECT count(*) FROM attempts"), 2);
    assert_int_equal(number(fixture,
                            "SELECT count(*) FROM backups WHERE reason = 'source-authentication'"
                            " AND message LIKE '%access denied%'"),
                     1);
    assert_false(
        read_set(fixture, arena)->is_complete); // the other shard can be found all the same
    fake_agent_free(refused);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

static void test_an_instance_that_disappears_is_replaced(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    fake_driver_drop(fixture->driver, agent->instance_id);
    fake_agent_disconnect(agent);
    FakeAgent *again = fake_agent_assigned(fixture);
    fake_agent_ready(again);
    fake_agent_finish(again);
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(number(fixture, "SELECT count(*) FROM attempts WHERE state = 'lost'"), 1);
    fake_agent_free(agent);
    fake_agent_free(again);
    worker_fixture_free(fixture);
}

static void test_three_failures_are_enough(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    for (int i = 0; i < 3; i++) {
        FakeAgent *agent = fake_agent_assigned(fixture);
        fake_agent_fail(agent, REASON_ENGINE_FAILED, "it crashed");
        fake_agent_free(agent);
    }
    assert_state(fixture, backup_id, "failed");
    assert_int_equal(number(fixture, "SELECT count(*) FROM attempts WHERE state = 'failed'"), 3);
    worker_fixture_free(fixture);
}

static void test_launches_are_tried_again_and_then_given_up(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    fake_driver_fail_launches(fixture->driver, 1);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    fake_agent_ready(agent);
    fake_agent_finish(agent);
    fake_agent_free(agent);
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(number(fixture, "SELECT count(*) FROM attempts"), 1);
    worker_fixture_free(fixture);
}

static void test_the_barrier_does_not_wait_for_ever(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 2);
    fixture->options.barrier_timeout_ms = 300;
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    FakeAgent *quick = fake_agent_assigned(fixture);
    FakeAgent *slow = fake_agent_assigned(fixture);
    fake_agent_ready(quick);
    fake_agent_finish(quick);
    fake_agent_ready(slow);
    fake_agent_finish(slow); // gets one of its own
    assert_state(fixture, backup_id, "succeeded");
    assert_int_equal(
        number(fixture, "SELECT count(*) FROM events WHERE kind = 'backup.barrier_timeout'"), 1);
    assert_int_equal(
        number(fixture,
               "SELECT count(*) FROM backups b WHERE checkpoint_skew ="
               " (SELECT max(checkpoint_received_at) - min(checkpoint_sent_at) FROM attempts)"),
        1);
    fake_agent_free(quick);
    fake_agent_free(slow);
    worker_fixture_free(fixture);
}

static void test_the_join_secret_works_once(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    worker_fixture_start(fixture);
    CLEANUP_FREE char *backup_id = worker_fixture_start_backup(fixture);
    Error error = {0};
    FakeAgent *agent = fake_agent_wait(fixture);
    fake_agent_connect(agent);
    assert_int_equal(fake_agent_join(agent, "guess", "", &error), STATUS_UNAUTHENTICATED);
    Holdfast__V1__Progress progress = HOLDFAST__V1__PROGRESS__INIT;
    assert_int_equal(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS,
                                    &progress.base, &error),
                     STATUS_UNAUTHENTICATED);
    assert_ok(fake_agent_join(agent, agent->join_secret, "", &error), &error);
    Holdfast__V1__ServerMessage *joined =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED, 5000);
    assert_non_null(joined);
    assert_int_equal(joined->joined->deadman_ms, 5000);
    CLEANUP_FREE char *token = string_copy(joined->joined->session_token);
    // The answer got lost: the agent has nothing but the secret, and may use it again.
    fake_agent_disconnect(agent);
    fake_agent_connect(agent);
    assert_ok(fake_agent_join(agent, agent->join_secret, "", &error), &error);
    Holdfast__V1__ServerMessage *assigned =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP, 10000);
    assert_non_null(assigned);
    agent->backup = assigned->backup;
    fake_agent_heartbeat(agent); // it acts on its session: the secret is used up
    fake_agent_disconnect(agent);
    fake_agent_connect(agent);
    assert_int_equal(fake_agent_join(agent, agent->join_secret, "", &error),
                     STATUS_UNAUTHENTICATED);
    assert_ok(fake_agent_join(agent, token, agent->backup->attempt_id, &error), &error);
    fake_agent_ready(agent);
    fake_agent_take_checkpoint(agent, "0/1");
    // Back after the position was taken: told to replay to it, and assigned nothing again.
    fake_agent_disconnect(agent);
    CLEANUP_FREE char *unset =
        service_fixture_sql(fixture->base, "UPDATE attempts SET phase = 'ready' RETURNING phase");
    fake_agent_connect(agent);
    assert_ok(fake_agent_join(agent, token, agent->backup->attempt_id, &error), &error);
    Holdfast__V1__ServerMessage *replay = fake_agent_receive(
        agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_REPLAY_TO_CHECKPOINT, 10000);
    assert_non_null(replay);
    assert_string_equal(replay->replay_to_checkpoint->position, "0/1");
    assert_null(fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP, 100));
    Holdfast__V1__CommitRequest request;
    fake_agent_publish(agent, &request);
    assert_true(fake_agent_commit(agent, &request));
    assert_state(fixture, backup_id, "succeeded");
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        WORKER_TEST(test_backs_up_all_shards_at_one_barrier),
        WORKER_TEST(test_the_next_backup_starts_from_the_last),
        WORKER_TEST(test_the_recorder_is_checked_and_not_trusted_once_it_was_wrong),
        WORKER_TEST(test_a_lost_agent_cannot_commit),
        WORKER_TEST(test_commit_and_cancel_race),
        WORKER_TEST(test_logs_gone_means_a_new_copy_said_loudly),
        WORKER_TEST(test_a_broken_parent_means_an_older_one),
        WORKER_TEST(test_a_wrong_password_fails_at_once),
        WORKER_TEST(test_an_instance_that_disappears_is_replaced),
        WORKER_TEST(test_three_failures_are_enough),
        WORKER_TEST(test_launches_are_tried_again_and_then_given_up),
        WORKER_TEST(test_the_barrier_does_not_wait_for_ever),
        WORKER_TEST(test_the_join_secret_works_once),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
