// SPDX-License-Identifier: Apache-2.0
// When this goes red, the agent misunderstands its server, forgets what it must repeat, or outlives
// its limits.
#include "agent/agent_state.h"
#include "common/clock.h"
#include "common/text.h"
#include "repository/repository_limits.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef Holdfast__V1__ServerMessage ServerMessage;
typedef Holdfast__V1__AgentMessage AgentMessage;

static void receive_backup(AgentState *state, const char *attempt_id)
{
    Holdfast__V1__BackupAssignment backup = HOLDFAST__V1__BACKUP_ASSIGNMENT__INIT;
    char id[64];
    (void)snprintf(id, sizeof(id), "%s", attempt_id);
    backup.attempt_id = id;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP;
    message.backup = &backup;
    agent_state_receive(state, &message, clock_monotonic_ms());
}

static void receive_take(AgentState *state)
{
    char name[] = "holdfast-1";
    Holdfast__V1__TakeCheckpoint take = HOLDFAST__V1__TAKE_CHECKPOINT__INIT;
    take.name = name;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT;
    message.take_checkpoint = &take;
    agent_state_receive(state, &message, clock_monotonic_ms());
}

static void receive_commit_reply(AgentState *state, bool is_accepted)
{
    char why[] = "another attempt is the current one";
    Holdfast__V1__CommitReply reply = HOLDFAST__V1__COMMIT_REPLY__INIT;
    reply.is_accepted = is_accepted;
    reply.message = why;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_COMMIT_REPLY;
    message.commit_reply = &reply;
    agent_state_receive(state, &message, clock_monotonic_ms());
}

// Sends everything that waits, and says which kinds of message it was, in order: "phase checkpoint
// ".
static void drain(AgentState *state, char *ret_kinds, size_t size)
{
    Arena *arena = arena_new();
    ret_kinds[0] = '\0';
    int token = -1;
    AgentMessage *message = NULL;
    while ((message = agent_state_next_message(state, arena, &token)) != NULL) {
        const char *kind = "?";
        switch (message->message_case) {
        case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED:
            kind = "phase ";
            break;
        case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_CHECKPOINT_TAKEN:
            kind = "checkpoint ";
            break;
        case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_COMMIT_REQUEST:
            kind = "commit ";
            break;
        case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_FAILED:
            kind = "failed ";
            break;
        default:
            break;
        }
        (void)strncat(ret_kinds, kind, size - strlen(ret_kinds) - 1);
        agent_state_sent(state, token);
    }
    arena_free(arena);
}

static void test_the_first_assignment_stands(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    Arena *arena = arena_new();
    assert_null(agent_state_wait_assignment(state, 0, arena));
    receive_backup(state, "attempt-1");
    receive_backup(state, "attempt-1");
    receive_backup(state, "attempt-2");
    ServerMessage *assignment = agent_state_wait_assignment(state, 0, arena);
    assert_non_null(assignment);
    assert_string_equal(assignment->backup->attempt_id, "attempt-1");
    receive_backup(state, "attempt-1"); // said again: not a second job
    assert_null(agent_state_wait_assignment(state, 0, arena));
    Holdfast__V1__Join join = HOLDFAST__V1__JOIN__INIT;
    agent_state_fill_join(state, arena, &join);
    assert_string_equal(join.attempt_id, "attempt-1");
    assert_true(join.memory_bytes > 4096);
    arena_free(arena);
    agent_state_free(state);
}

static void test_a_reconnect_repeats_what_was_not_answered(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    char kinds[256];
    agent_state_phase(state, HOLDFAST__V1__PHASE__PHASE_REPLAY, NULL);
    agent_state_phase(state, HOLDFAST__V1__PHASE__PHASE_READY, "0-1-7");
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "phase phase ");
    agent_state_connected(state);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "phase ");

    Checkpoint checkpoint = {.position = "0-1-8"};
    agent_state_checkpoint_taken(state, &checkpoint);
    Holdfast__V1__CommitRequest request = HOLDFAST__V1__COMMIT_REQUEST__INIT;
    agent_state_commit(state, &request);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "checkpoint commit ");
    agent_state_connected(state);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "phase checkpoint commit ");

    receive_commit_reply(state, true);
    agent_state_connected(state);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "");
    agent_state_free(state);
}

static void test_a_checkpoint_is_taken_once_and_reported_as_often_as_asked(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    char kinds[256];
    assert_int_equal(agent_state_wait_checkpoint(state, 0).kind, CHECKPOINT_ORDER_NONE);
    receive_take(state);
    CheckpointOrder order = agent_state_wait_checkpoint(state, 0);
    assert_int_equal(order.kind, CHECKPOINT_ORDER_TAKE);
    assert_string_equal(order.checkpoint.name, "holdfast-1");
    Checkpoint checkpoint = {.position = "0-1-8"};
    agent_state_checkpoint_taken(state, &checkpoint);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "checkpoint ");
    receive_take(state);
    drain(state, kinds, sizeof(kinds));
    assert_string_equal(kinds, "checkpoint ");
    agent_state_free(state);
}

static void test_a_refused_commit_is_a_lost_lease(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    receive_commit_reply(state, false);
    receive_commit_reply(state, true); // the first answer stands
    Error error = {0};
    assert_int_equal(agent_state_wait_commit(state, &error), STATUS_ABORTED);
    assert_int_equal(error.reason, REASON_LEASE_LOST);
    assert_non_null(strstr(error.message, "another attempt"));
    agent_state_free(state);
}

static void *stop_soon(void *argument)
{
    clock_sleep_ms(20);
    agent_state_stop(argument, STOP_SIGNAL, "a test asked for it");
    return NULL;
}

static void test_stopping_wakes_every_wait_and_the_first_cause_stands(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, state), 0);
    Error error = {0};
    assert_int_equal(agent_state_wait_commit(state, &error), STATUS_CANCELED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(atomic_load(&agent_state_cancel(state)->is_requested));
    assert_true(agent_state_wait_stop(state, 100000));
    assert_int_equal(agent_state_wait_checkpoint(state, 100000).kind, CHECKPOINT_ORDER_NONE);
    agent_state_stop(state, STOP_DEADMAN, "later");
    assert_int_equal(agent_state_stop_cause(state), STOP_SIGNAL);
    char why[64];
    agent_state_stop_why(state, why, sizeof(why));
    assert_string_equal(why, "a test asked for it");
    agent_state_free(state);
}

// The server may say stop in the same breath; the source is still to be told of the commit.
static void test_a_stop_after_the_commit_cancels_nothing(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    receive_commit_reply(state, true);
    agent_state_stop(state, STOP_ORDERED, "done");
    Error error = {0};
    assert_int_equal(agent_state_wait_commit(state, &error), STATUS_OK);
    assert_false(atomic_load(&agent_state_cancel(state)->is_requested));
    assert_true(agent_state_wait_stop(state, 0));
    agent_state_free(state);
}

static void test_the_deadman_counts_from_the_last_word_of_a_server(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(1000, 500, 100000);
    assert_int_equal(agent_state_check_limits(state, 1499), STOP_NONE);
    Holdfast__V1__Idle idle = HOLDFAST__V1__IDLE__INIT;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_IDLE;
    message.idle = &idle;
    agent_state_receive(state, &message, 1400);
    assert_int_equal(agent_state_check_limits(state, 1899), STOP_NONE);
    // The server may change the limit when it is joined.
    Holdfast__V1__Joined joined = HOLDFAST__V1__JOINED__INIT;
    joined.deadman_ms = 2000;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED;
    message.joined = &joined;
    agent_state_receive(state, &message, 1900);
    assert_int_equal(agent_state_check_limits(state, 3899), STOP_NONE);
    assert_int_equal(agent_state_check_limits(state, 3900), STOP_DEADMAN);
    assert_true(atomic_load(&agent_state_cancel(state)->is_requested));
    agent_state_free(state);
}

static void test_a_lifetime_ends_however_well_connected(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 500, 10000);
    Holdfast__V1__Idle idle = HOLDFAST__V1__IDLE__INIT;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_IDLE;
    message.idle = &idle;
    agent_state_receive(state, &message, 9999);
    assert_int_equal(agent_state_check_limits(state, 9999), STOP_NONE);
    assert_int_equal(agent_state_check_limits(state, 10000), STOP_LIFETIME);
    agent_state_free(state);
}

static void test_a_failure_is_valid_utf8_whatever_a_program_said(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    agent_state_phase(state, HOLDFAST__V1__PHASE__PHASE_START, NULL);
    Error error = {0};
    (void)error_set(&error, REASON_ENGINE_FAILED, "it said '\xff\xc3', and \xc3\xa9");
    (void)error_hint(&error, "look at its log");
    agent_state_fail(state, &error);
    Arena *arena = arena_new();
    int token = -1;
    AgentMessage *message = agent_state_next_message(state, arena, &token);
    agent_state_sent(state, token);
    message = agent_state_next_message(state, arena, &token);
    assert_int_equal(message->message_case, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_FAILED);
    assert_string_equal(message->failed->reason, "engine-failed");
    assert_string_equal(message->failed->message, "it said '?\?', and \xc3\xa9");
    assert_string_equal(message->failed->hint, "look at its log");
    assert_int_equal(message->failed->phase, HOLDFAST__V1__PHASE__PHASE_START);
    arena_free(arena);
    agent_state_free(state);
}

static void test_progress_carries_the_newest_numbers(void **test_state)
{
    (void)test_state;
    AgentState *state = agent_state_new(0, 0, 0);
    agent_state_phase(state, HOLDFAST__V1__PHASE__PHASE_RESTORE, NULL);
    agent_state_progress(state, 10, 100);
    agent_state_received(state, 7, "0-1-9");
    agent_state_received(state, -1, NULL); // unknown: as before
    Arena *arena = arena_new();
    AgentMessage *message = agent_state_progress_message(state, arena);
    assert_int_equal(message->progress->phase, HOLDFAST__V1__PHASE__PHASE_RESTORE);
    assert_int_equal(message->progress->done_bytes, 10);
    assert_int_equal(message->progress->total_bytes, 100);
    assert_int_equal(message->progress->received_bytes, 7);
    assert_string_equal(message->progress->position, "0-1-9");
    assert_true(message->progress->memory_bytes > 0);
    arena_free(arena);
    agent_state_free(state);
}

static void receive_limits(AgentState *state, int64_t upload, int64_t memory)
{
    Holdfast__V1__ResourceLimits limits = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    limits.upload_bytes_per_second = upload;
    limits.cpu_count = 1;
    limits.memory_bytes = memory;
    ServerMessage message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_LIMITS;
    message.limits = &limits;
    agent_state_receive(state, &message, clock_monotonic_ms());
}

static void *upload(void *context)
{
    atomic_bool is_stopping;
    atomic_init(&is_stopping, false);
    limits_wait_upload(agent_state_limits(context), 1000000, &is_stopping); // goes at once
    limits_wait_upload(agent_state_limits(context), 1000000, &is_stopping);
    return NULL;
}

static void test_limits_change_for_a_transfer_under_way(void **state_unused)
{
    (void)state_unused;
    AgentState *state = agent_state_new(clock_monotonic_ms(), 0, 0);
    pthread_t thread;
    receive_limits(state, 1, 128 << 20);
    assert_int_equal(agent_state_memory_bytes(state), 128 << 20);
    assert_int_equal(pthread_create(&thread, NULL, upload, state), 0);
    clock_sleep_ms(50);
    receive_limits(state, 1, -1); // said again, and nonsense
    assert_int_equal(agent_state_memory_bytes(state), 0);
    receive_limits(state, 0, 0);
    assert_int_equal(pthread_join(thread, NULL), 0); // at the old rate in eleven days
    agent_state_free(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_assignment_stands),
        cmocka_unit_test(test_a_reconnect_repeats_what_was_not_answered),
        cmocka_unit_test(test_a_checkpoint_is_taken_once_and_reported_as_often_as_asked),
        cmocka_unit_test(test_a_refused_commit_is_a_lost_lease),
        cmocka_unit_test(test_stopping_wakes_every_wait_and_the_first_cause_stands),
        cmocka_unit_test(test_a_stop_after_the_commit_cancels_nothing),
        cmocka_unit_test(test_the_deadman_counts_from_the_last_word_of_a_server),
        cmocka_unit_test(test_a_lifetime_ends_however_well_connected),
        cmocka_unit_test(test_a_failure_is_valid_utf8_whatever_a_program_said),
        cmocka_unit_test(test_progress_carries_the_newest_numbers),
        cmocka_unit_test(test_limits_change_for_a_transfer_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
