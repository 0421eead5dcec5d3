// SPDX-License-Identifier: Apache-2.0
// When this goes red, a broken connection loses what the agent had to say, or repeats what was
// answered.
#include "agent/outbox.h"
#include "tests/harness/harness.h"

static void add(Outbox *outbox, OutboxKind kind)
{
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    Holdfast__V1__PhaseStarted phase = HOLDFAST__V1__PHASE_STARTED__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED;
    message.phase_started = &phase;
    outbox_add(outbox, kind, &message);
}

static void send_all(Outbox *outbox)
{
    for (int index = outbox_next(outbox); index >= 0; index = outbox_next(outbox)) {
        outbox_sent(outbox, index);
    }
}

static void test_order_is_kept(void **test_state)
{
    (void)test_state;
    Outbox outbox = {0};
    assert_int_equal(outbox_next(&outbox), -1);
    add(&outbox, OUTBOX_PHASE);
    add(&outbox, OUTBOX_PHASE);
    assert_int_equal(outbox_next(&outbox), 0);
    outbox_sent(&outbox, 0);
    assert_int_equal(outbox_next(&outbox), 1);
    outbox_sent(&outbox, 1);
    assert_int_equal(outbox_next(&outbox), -1);
    outbox_done(&outbox);
    assert_int_equal(outbox.count, 0);
}

static void test_rewind_repeats_the_newest_sent_phase_and_what_has_no_answer(void **test_state)
{
    (void)test_state;
    Outbox outbox = {0};
    add(&outbox, OUTBOX_PHASE);      // 0: older, known
    add(&outbox, OUTBOX_PHASE);      // 1: the newest that was sent
    add(&outbox, OUTBOX_CHECKPOINT); // 2
    send_all(&outbox);
    add(&outbox, OUTBOX_PHASE); // 3: never sent
    outbox_rewind(&outbox);
    assert_int_equal(outbox_next(&outbox), 1);
    outbox_sent(&outbox, 1);
    assert_int_equal(outbox_next(&outbox), 2);
    outbox_sent(&outbox, 2);
    assert_int_equal(outbox_next(&outbox), 3);
    outbox_sent(&outbox, 3);
    assert_int_equal(outbox_next(&outbox), -1);
    outbox_done(&outbox);
}

static void test_answered_is_never_repeated(void **test_state)
{
    (void)test_state;
    Outbox outbox = {0};
    add(&outbox, OUTBOX_PHASE);
    add(&outbox, OUTBOX_COMMIT);
    send_all(&outbox);
    outbox_answered(&outbox, OUTBOX_COMMIT);
    outbox_answered(&outbox, OUTBOX_PHASE);
    outbox_rewind(&outbox);
    assert_int_equal(outbox_next(&outbox), -1);
    outbox_done(&outbox);
}

static void test_repeat_sends_the_newest_of_a_kind_again(void **test_state)
{
    (void)test_state;
    Outbox outbox = {0};
    outbox_repeat(&outbox, OUTBOX_CHECKPOINT); // nothing there: nothing happens
    add(&outbox, OUTBOX_CHECKPOINT);
    add(&outbox, OUTBOX_PHASE);
    send_all(&outbox);
    outbox_repeat(&outbox, OUTBOX_CHECKPOINT);
    assert_int_equal(outbox_next(&outbox), 0);
    outbox_done(&outbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_kept),
        cmocka_unit_test(test_rewind_repeats_the_newest_sent_phase_and_what_has_no_answer),
        cmocka_unit_test(test_answered_is_never_repeated),
        cmocka_unit_test(test_repeat_sends_the_newest_of_a_kind_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
