// SPDX-License-Identifier: Apache-2.0
// The worker is killed at every place of a backup's and of a restore's life, one after the other,
// and every word of an agent is lost once. If this goes red, something is done twice, never, or
// left behind when a server or a connection dies at the wrong moment.
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"
#include "tests/harness/worker_fixture.h"
#include "tests/harness/worker_process.h"

#include <stdio.h>
#include <string.h>

#define WAIT_MS 60000
#define PLACE_COUNT_MAX 200 // a life that is longer than that does something for ever
#define WORKER_TEST(name)                                                                          \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

// --- an agent that repeats what was not answered, on a new stream, as the real one does ---

static void join_again(FakeAgent *agent, const char *secret, int64_t deadline_ms)
{
    Error error = {0};
    const char *attempt_id = agent->backup != NULL ? agent->backup->attempt_id : "";
    do {
        assert_true(clock_monotonic_ms() < deadline_ms);
        fake_agent_disconnect(agent);
        fake_agent_connect(agent);
    } while (fake_agent_join(agent, secret, attempt_id, &error) != STATUS_OK);
}

static void say_until_ok(FakeAgent *agent, Holdfast__V1__AgentMessage__MessageCase kind,
                         ProtobufCMessage *message)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    Error error = {0};
    while (fake_agent_say(agent, kind, message, &error) != STATUS_OK) {
        join_again(agent, agent->session_token, deadline_ms);
    }
}

static FakeAgent *assigned(WorkerFixture *fixture)
{
    FakeAgent *agent = fake_agent_wait(fixture);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (agent->backup == NULL && agent->restore == NULL) {
        join_again(agent, agent->join_secret, deadline_ms);
        Holdfast__V1__ServerMessage *joined =
            fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED, 5000);
        assert_non_null(joined);
        (void)snprintf(agent->session_token, sizeof(agent->session_token), "%s",
                       joined->joined->session_token);
        fake_agent_take_assignment(agent, deadline_ms);
    }
    return agent;
}

static void say_phase(FakeAgent *agent, Holdfast__V1__Phase phase)
{
    Holdfast__V1__PhaseStarted started = HOLDFAST__V1__PHASE_STARTED__INIT;
    started.phase = phase;
    say_until_ok(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED, &started.base);
}

static Holdfast__V1__ServerMessage *
say_until_answered(FakeAgent *agent, Holdfast__V1__AgentMessage__MessageCase kind,
                   ProtobufCMessage *message, Holdfast__V1__ServerMessage__MessageCase answer)
{
    Holdfast__V1__ServerMessage *answered = NULL;
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (answered == NULL) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        say_until_ok(agent, kind, message);
        answered = fake_agent_receive(agent, answer, 1000);
    }
    return answered;
}

static void play_backup(FakeAgent *agent)
{
    bool is_seed = agent->backup->parent_manifest_id[0] == '\0';
    say_phase(agent,
              is_seed ? HOLDFAST__V1__PHASE__PHASE_SEED : HOLDFAST__V1__PHASE__PHASE_RESTORE);
    say_phase(agent, HOLDFAST__V1__PHASE__PHASE_REPLAY);
    say_phase(agent, HOLDFAST__V1__PHASE__PHASE_READY);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT, 500) ==
           NULL) {
        Holdfast__V1__Progress progress = HOLDFAST__V1__PROGRESS__INIT;
        say_until_ok(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS, &progress.base);
        assert_true(clock_monotonic_ms() < deadline_ms);
    }
    Holdfast__V1__CheckpointTaken taken = HOLDFAST__V1__CHECKPOINT_TAKEN__INIT;
    taken.position = (char *)(uintptr_t) "0/1";
    say_until_ok(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_CHECKPOINT_TAKEN, &taken.base);
    say_phase(agent, HOLDFAST__V1__PHASE__PHASE_PUBLISH);
    Holdfast__V1__CommitRequest request;
    fake_agent_publish(agent, &request);
    Holdfast__V1__ServerMessage *reply =
        say_until_answered(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_COMMIT_REQUEST,
                           &request.base, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_COMMIT_REPLY);
    assert_true(reply->commit_reply->is_accepted);
}

static void play_restore(FakeAgent *agent)
{
    Holdfast__V1__Progress progress = HOLDFAST__V1__PROGRESS__INIT;
    progress.done_bytes = 1;
    progress.total_bytes = 2;
    say_until_ok(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS, &progress.base);
    Holdfast__V1__RestoreDone done = HOLDFAST__V1__RESTORE_DONE__INIT;
    done.size_bytes = 2;
    done.restore_ms = 1;
    Holdfast__V1__ServerMessage *reply =
        say_until_answered(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_RESTORE_DONE, &done.base,
                           HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE_REPLY);
    assert_true(reply->restore_reply->is_accepted);
}

// --- lives ---

static char *start_restore(WorkerFixture *fixture, int number)
{
    CLEANUP_FREE char *request = string_format("{\"database\": \"shop\", \"mode\": \"directory\", "
                                               "\"directory\": \"%s/restored%d\"}",
                                               fixture->base->directory, number);
    return string_copy(
        json_get_text(service_fixture_call(fixture->base, "CreateRestore", request), "id", ""));
}

#define ATTEMPTS                                                                                   \
    "attempts a JOIN shard_backups s ON s.id = a.shard_backup_id AND s.backup_id = x.id"
#define LEFT_WORK                                                                                  \
    "work_items WHERE kind IN ('backup', 'restore', 'instance') OR kind LIKE 'instance:%%'"

// One query, since each is a process: waits until the run is over and asks then what there is.
static void assert_one(WorkerFixture *fixture, bool is_restore, const char *id, size_t launches)
{
    CLEANUP_FREE char *over =
        string_format("SELECT count(*) FROM %s WHERE id = '%s' AND state = 'succeeded'"
                      " AND NOT EXISTS (SELECT FROM " LEFT_WORK ")",
                      is_restore ? "restores" : "backups", id);
    worker_fixture_wait(fixture, over, 1);
    CLEANUP_FREE char *sql = string_format(
        is_restore
            ? "SELECT concat_ws(' ', (SELECT sum(attempt_count) FROM restore_shards"
              " WHERE restore_id = x.id AND state = 'succeeded'),"
              " (SELECT count(*) FROM instances WHERE subject_id = x.id AND state = 'destroyed'),"
              " (SELECT count(*) FROM events WHERE subject_id = x.id::text"
              "  AND kind = 'restore.succeeded'),"
              " (SELECT count(*) FROM instances WHERE state <> 'destroyed'), 0)"
              " FROM restores x WHERE x.id = '%s'"
            : "SELECT concat_ws(' ', (SELECT count(*) FROM " ATTEMPTS "),"
              " (SELECT count(*) FROM instances WHERE backup_id = x.id AND state = 'destroyed'),"
              " (SELECT count(*) FROM events WHERE backup_id = x.id::text"
              "  AND kind = 'backup.succeeded'),"
              " (SELECT count(*) FROM instances WHERE state <> 'destroyed'),"
              " (SELECT count(*) FROM attempt_phases p JOIN " ATTEMPTS
              "  ON a.id = p.attempt_id WHERE p.ended_at IS NULL))"
              " FROM backups x JOIN repositories r ON r.id = x.repository_id WHERE x.id = '%s'"
              " AND x.set_written_at IS NOT NULL"
              " AND r.added_bytes = (SELECT sum(stored_bytes) FROM shard_backups)",
        id);
    CLEANUP_FREE char *found = service_fixture_sql(fixture->base, sql);
    // One attempt, one instance, one event that it is done; none alive; no phase that goes on.
    assert_string_equal(found, "1 1 1 0 0");
    assert_int_equal(fake_driver_count(fixture->driver), 0);
    assert_int_equal(fake_driver_launches(fixture->driver), launches);
}

// One whole life; true: it was hit.
static bool live(WorkerFixture *fixture, bool is_restore, int number)
{
    CrashPlace place = {.commit = (number + 1) / 2, .is_after = number % 2 == 0};
    size_t launches = fake_driver_launches(fixture->driver);
    CLEANUP_FREE char *id =
        is_restore ? start_restore(fixture, number) : worker_fixture_start_backup(fixture);
    WorkerProcess *worker = worker_process_start(fixture, place);
    session_fault_begin(place);
    FakeAgent *agent = assigned(fixture);
    if (is_restore) {
        play_restore(agent);
    } else {
        play_backup(agent);
    }
    bool is_session_hit = session_fault_end();
    assert_one(fixture, is_restore, id, launches + 1);
    fake_agent_free(agent);
    bool is_worker_hit = worker_process_stop(worker);
    return is_worker_hit || is_session_hit;
}

static void live_until_not_hit(WorkerFixture *fixture, bool is_restore)
{
    int number = 1;
    // Both sides of a commit must be passed: a life may be one commit shorter than the one before.
    for (int misses = 0; misses < 2; number++) {
        assert_true(number < PLACE_COUNT_MAX);
        misses = live(fixture, is_restore, number) ? 0 : misses + 1;
    }
    print_message("%d lives\n", number - 1);
    assert_true(number > 10); // else the places are not seen any more
}

static void test_a_backup_survives_a_kill_at_every_place(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    live_until_not_hit(fixture, false);
    worker_fixture_free(fixture);
}

static void test_a_restore_survives_a_kill_at_every_place(void **state)
{
    WorkerFixture *fixture = worker_fixture_new(*state, 1);
    (void)live(fixture, false, 0);
    live_until_not_hit(fixture, true);
    worker_fixture_free(fixture);
}

int main(int argument_count, char **arguments)
{
    worker_process_main(argument_count, arguments);
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        WORKER_TEST(test_a_backup_survives_a_kill_at_every_place),
        WORKER_TEST(test_a_restore_survives_a_kill_at_every_place),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
