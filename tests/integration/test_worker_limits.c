// SPDX-License-Identifier: Apache-2.0
// What agents are told of limits, on a real PostgreSQL, with agents played by the test. If this
// goes red, a limit does not reach who it is for, or two of them use it twice.
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/agent_sessions_internal.h"
#include "tests/harness/harness.h"
#include "tests/harness/worker_fixture.h"

#include <pthread.h>

#define MIB (INT64_C(1024) * 1024)
#define WAIT_MS 15000
#define WORKER_TEST(name)                                                                          \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

static void call(WorkerFixture *fixture, const char *method, const char *request)
{
    (void)service_fixture_call(fixture->base, method, request);
}

// Waits until exactly this was told last.
static Holdfast__V1__ResourceLimits assert_told(FakeAgent *agent, int64_t upload, int64_t download)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    Holdfast__V1__ResourceLimits limits;
    bool is_told = false;
    do {
        (void)pthread_mutex_lock(&agent->mutex);
        limits = agent->limits;
        is_told = agent->is_limited && limits.upload_bytes_per_second == upload &&
                  limits.download_bytes_per_second == download;
        (void)pthread_mutex_unlock(&agent->mutex);
        clock_sleep_ms(5);
    } while (!is_told && clock_monotonic_ms() < deadline_ms);
    if (!is_told) {
        fail_msg("told %lld up, %lld down at last, not %lld and %lld",
                 (long long)limits.upload_bytes_per_second,
                 (long long)limits.download_bytes_per_second, (long long)upload,
                 (long long)download);
    }
    return limits;
}

static void commit(FakeAgent *agent)
{
    Holdfast__V1__CommitRequest request;
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_STOP);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_PUBLISH);
    fake_agent_publish(agent, &request);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_COMMIT);
    assert_true(fake_agent_commit(agent, &request));
}

static void make_due_policy(WorkerFixture *fixture)
{
    call(fixture, "CreatePolicy",
         "{\"database\":\"shop\",\"policy\":{\"name\":\"nightly\",\"repository\":\"main\","
         "\"schedule\":\"0 0 1 1 *\",\"limits\":{\"upload_bytes_per_second\":8388608,"
         "\"download_bytes_per_second\":4194304,\"memory_bytes\":134217728}}}");
    CLEANUP_FREE char *due = service_fixture_sql(
        fixture->base, "UPDATE policy_due SET next_at = now() - interval '1 s'; SELECT 1");
}

static void test_changes_reach_what_is_running(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 2);
    worker_fixture_start(fixture);
    make_due_policy(fixture);
    FakeAgent *first = fake_agent_assigned(fixture);
    FakeAgent *second = fake_agent_assigned(fixture);
    // Both are about to restore, nobody uploads yet.
    Holdfast__V1__ResourceLimits limits = assert_told(first, 8 * MIB, 2 * MIB);
    assert_int_equal(limits.memory_bytes, 128 * MIB);
    call(fixture, "UpdatePolicy",
         "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"limits\":"
         "{\"upload_bytes_per_second\":2097152,\"cpu_count\":3}},\"update_mask\":"
         "\"limits.upload_bytes_per_second,limits.cpu_count\"}");
    limits = assert_told(first, 2 * MIB, 2 * MIB);
    assert_int_equal(limits.cpu_count, 3);
    (void)assert_told(second, 2 * MIB, 2 * MIB);
    // The run's own limits replace those of the policy, one by one.
    CLEANUP_FREE char *id = service_fixture_sql(fixture->base, "SELECT id FROM backups");
    CLEANUP_FREE char *own =
        string_format("{\"backup\":\"%s\",\"limits\":{\"download_bytes_per_second\":1048576}}", id);
    call(fixture, "LimitBackup", own);
    limits = assert_told(first, 2 * MIB, MIB / 2);
    assert_int_equal(limits.cpu_count, 3);
    (void)assert_told(second, 2 * MIB, MIB / 2);
    // The repository's are smaller for a while.
    call(fixture, "UpdateRepository",
         "{\"repository\":{\"name\":\"main\",\"limits\":{\"download_bytes_per_second\":262144}},"
         "\"update_mask\":\"limits\"}");
    (void)assert_told(first, 2 * MIB, 128 * 1024);
    (void)assert_told(second, 2 * MIB, 128 * 1024);
    call(fixture, "UpdateRepository",
         "{\"repository\":{\"name\":\"main\"},\"update_mask\":\"limits\"}");
    (void)assert_told(second, 2 * MIB, MIB / 2);
    fake_agent_free(first);
    fake_agent_free(second);
    worker_fixture_free(fixture);
}

static void test_who_moves_nothing_takes_nothing_from_the_others(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 2);
    worker_fixture_start(fixture);
    make_due_policy(fixture);
    FakeAgent *first = fake_agent_assigned(fixture);
    FakeAgent *second = fake_agent_assigned(fixture);
    (void)assert_told(first, 8 * MIB, 2 * MIB);
    fake_agent_ready(second);
    (void)assert_told(first, 8 * MIB, 4 * MIB);
    (void)assert_told(second, 8 * MIB, 2 * MIB); // were it to begin again
    fake_agent_ready(first);
    fake_agent_take_checkpoint(first, "0/1");
    (void)assert_told(second, 4 * MIB, 4 * MIB); // were it to begin now
    fake_agent_take_checkpoint(second, "0/1");
    (void)assert_told(first, 4 * MIB, 4 * MIB);
    (void)assert_told(second, 4 * MIB, 4 * MIB);
    commit(first);
    (void)assert_told(second, 8 * MIB, 4 * MIB);
    fake_agent_free(first);
    fake_agent_free(second);
    worker_fixture_free(fixture);
}

// An agent that comes back may have missed a change; it is told again, also that there is none.
static void test_an_agent_that_comes_back_is_told_again(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    Error error = {0};
    worker_fixture_start(fixture);
    CLEANUP_FREE char *id = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    fake_agent_disconnect(agent);
    fake_agent_connect(agent);
    assert_ok(fake_agent_join(agent, agent->session_token, agent->backup->attempt_id, &error),
              &error);
    (void)assert_told(agent, 0, 0);
    fake_agent_disconnect(agent);
    CLEANUP_FREE char *own =
        string_format("{\"backup\":\"%s\",\"limits\":{\"upload_bytes_per_second\":65536}}", id);
    call(fixture, "LimitBackup", own);
    fake_agent_connect(agent);
    assert_ok(fake_agent_join(agent, agent->session_token, agent->backup->attempt_id, &error),
              &error);
    (void)assert_told(agent, 64 * 1024, 0);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

// Instances of restores and of backups share downloads, whatever they work on; nobody shares
// uploads with a restore.
static void test_restores_and_backups_share_the_fleet(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    call(fixture, "UpdateFleetLimits",
         "{\"limits\":{\"upload_bytes_per_second\":6291456,\"download_bytes_per_second\":4194304},"
         "\"update_mask\":\"upload_bytes_per_second,download_bytes_per_second\"}");
    worker_fixture_start(fixture);
    CLEANUP_FREE char *first = worker_fixture_start_backup(fixture);
    FakeAgent *agent = fake_agent_assigned(fixture);
    (void)assert_told(agent, 6 * MIB, 4 * MIB);
    fake_agent_ready(agent);
    fake_agent_finish(agent);
    fake_agent_free(agent);
    CLEANUP_FREE char *state_of_first = worker_fixture_backup_state(fixture, first);
    assert_string_equal(state_of_first, "succeeded");
    CLEANUP_FREE char *request =
        string_format("{\"database\":\"shop\",\"mode\":\"directory\",\"directory\":\"%s/restored\","
                      "\"limits\":{\"download_bytes_per_second\":3145728}}",
                      fixture->base->directory);
    call(fixture, "CreateRestore", request);
    FakeAgent *restorer = fake_agent_assigned(fixture);
    assert_non_null(restorer->restore);
    (void)assert_told(restorer, 6 * MIB, 3 * MIB);
    CLEANUP_FREE char *second = worker_fixture_start_backup(fixture);
    agent = fake_agent_assigned(fixture);
    (void)assert_told(agent, 6 * MIB, 2 * MIB);
    (void)assert_told(restorer, 6 * MIB, 2 * MIB);
    CLEANUP_FREE char *id = service_fixture_sql(fixture->base, "SELECT id FROM restores");
    CLEANUP_FREE char *own =
        string_format("{\"restore\":\"%s\",\"limits\":{\"download_bytes_per_second\":65536}}", id);
    call(fixture, "LimitRestore", own);
    (void)assert_told(restorer, 6 * MIB, 64 * 1024);
    fake_agent_fail(restorer, REASON_DISK_FULL, "the disk is full");
    (void)assert_told(agent, 6 * MIB, 4 * MIB);
    // Changed while it runs: one raised, the other gone.
    call(fixture, "UpdateFleetLimits",
         "{\"limits\":{\"upload_bytes_per_second\":16777216},"
         "\"update_mask\":\"upload_bytes_per_second,download_bytes_per_second\"}");
    (void)assert_told(agent, 16 * MIB, 0);
    fake_agent_free(restorer);
    fake_agent_free(agent);
    worker_fixture_free(fixture);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        WORKER_TEST(test_changes_reach_what_is_running),
        WORKER_TEST(test_who_moves_nothing_takes_nothing_from_the_others),
        WORKER_TEST(test_an_agent_that_comes_back_is_told_again),
        WORKER_TEST(test_restores_and_backups_share_the_fleet),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
