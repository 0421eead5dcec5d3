// SPDX-License-Identifier: Apache-2.0
// If this goes red, Holdfast says "protected" of a database that is not, or raises a false alarm.
#include "server/service/protection.h"
#include "tests/harness/harness.h"

#define HOUR_US (INT64_C(3600) * 1000000)
#define NOW_US (500000 * HOUR_US)

static ProtectionFacts good(void)
{
    return (ProtectionFacts){.now_us = NOW_US,
                             .objective_us = 24 * HOUR_US,
                             .last_restorable_us = NOW_US - 2 * HOUR_US,
                             .next_run_us = NOW_US + 10 * HOUR_US,
                             .predicted_us = HOUR_US,
                             .shard_count = 2};
}

static void expect(const ProtectionFacts *facts, Holdfast__V1__Protection expected,
                   const char *part)
{
    char reason[PROTECTION_REASON_SIZE];
    Holdfast__V1__Protection protection = protection_of(facts, reason);
    assert_contains(reason, part);
    assert_int_equal(protection, expected);
}

static void test_protected(void **state)
{
    (void)state;
    ProtectionFacts facts = good();
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_PROTECTED, "Restorable to ");
    facts.next_run_us = 0;
    facts.running_since_us = NOW_US - HOUR_US / 2;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_PROTECTED, "Restorable to ");
}

static void test_at_risk(void **state)
{
    (void)state;
    ProtectionFacts facts = good();
    facts.next_run_us = 0;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK, "No backup is planned");
    facts = good();
    facts.next_run_us = NOW_US + 21 * HOUR_US + HOUR_US / 2; // ends half an hour after the deadline
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK, "expected to end at");
    facts = good();
    facts.is_last_failed = true;
    facts.last_failure = "the disk is full";
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK,
           "The last backup failed: the disk is full");
    facts = good();
    facts.running_since_us = NOW_US - 30 * HOUR_US;
    facts.predicted_us = 60 * HOUR_US;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK, "expected to end at");
}

static void test_unprotected(void **state)
{
    (void)state;
    ProtectionFacts facts = good();
    facts.shard_count = 0;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_UNPROTECTED, "no shards");
    facts = good();
    facts.last_restorable_us = 0;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_UNPROTECTED, "no restorable backup");
    facts = good();
    facts.uncovered_shard = "80-";
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_UNPROTECTED, "Shard '80-'");
    facts = good();
    facts.last_restorable_us = NOW_US - 25 * HOUR_US;
    expect(&facts, HOLDFAST__V1__PROTECTION__PROTECTION_UNPROTECTED,
           "25 h old, the objective is 24 h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protected),
        cmocka_unit_test(test_at_risk),
        cmocka_unit_test(test_unprotected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
