// SPDX-License-Identifier: Apache-2.0
// MariaDB's GTID positions and the meaning of replication errors. Red here means: a diverged source
// is followed, a good one refused, or a failure gets the wrong name.
#include "agent/engine/engine_mysql_family.h"
#include "agent/engine/engine_mysql_gtid.h"
#include "tests/harness/harness.h"

static MariadbPosition parse(const char *text)
{
    MariadbPosition position;
    assert_true(mariadb_position_parse(&position, text));
    return position;
}

static void test_parse(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",
                                      "0-1",
                                      "0-1-",
                                      "0-1-2-3",
                                      "a-b-c",
                                      "0-1-2;0-1-3",
                                      "4294967296-1-1",
                                      "-1-1-1",
                                      "0-1-18446744073709551616",
                                      ",0-1-1"};
    MariadbPosition position = parse("0-1-42, 7-3-18446744073709551615,\n4294967295-4294967295-1");
    assert_int_equal(position.count, 3);
    assert_int_equal(position.items[1].domain, 7);
    assert_true(position.items[1].sequence == UINT64_MAX);
    assert_int_equal(parse("").count, 0);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (mariadb_position_parse(&position, bad[i])) {
            fail_msg("'%s' is taken for a position", bad[i]);
        }
    }
}

static bool is_reached(const char *ours, const char *wanted)
{
    MariadbPosition a = parse(ours), b = parse(wanted);
    return mariadb_position_reached(&a, &b);
}

static void test_reached_and_equal(void **state)
{
    (void)state;
    assert_true(is_reached("0-1-5", "0-1-5"));
    assert_true(is_reached("0-2-6", "0-1-5"));
    assert_false(is_reached("0-1-4", "0-1-5"));
    assert_false(is_reached("0-1-9", "0-1-5,1-1-1"));
    assert_true(is_reached("1-1-1,0-1-9", "0-1-5,1-1-1"));
    assert_true(is_reached("0-1-1", ""));
    MariadbPosition a = parse("0-1-5,2-7-1"), b = parse("2-7-1,0-1-5"), c = parse("0-2-5,2-7-1");
    assert_true(mariadb_position_equal(&a, &b));
    assert_false(mariadb_position_equal(&a, &c));
}

static bool is_known(const char *ours, const char *state, const char *replicated)
{
    MariadbPosition a = parse(ours), b = parse(state), c = parse(replicated);
    MariadbGtid missing = {0};
    return mariadb_position_is_known(&a, &b, &c, &missing);
}

static void test_history(void **state)
{
    (void)state;
    assert_true(is_known("", "", ""));
    assert_true(is_known("0-1-5", "0-1-9", ""));
    assert_true(is_known("0-1-5", "0-1-5,0-2-9", ""));  // failed over after our position
    assert_false(is_known("0-1-5", "0-1-4,0-2-9", "")); // failed over before it: our 5 was lost
    assert_false(is_known("0-1-5", "0-1-4", ""));       // restored from an older copy
    assert_false(is_known("0-1-5", "", ""));            // all forgotten
    assert_false(is_known("0-1-5,1-1-1", "0-1-9", "")); // a domain is gone
    assert_true(is_known("0-1-5", "", "0-1-5"));        // it replicated ours without logging it
    assert_true(is_known("0-1-5", "0-2-9", ""));        // only its binary logs can tell
}

static void test_receiver_errors(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *message;
        Reason reason;
    } cases[] = {
        {1236,
         "Got fatal error 1236 from master when reading data from binary log: 'Could not find GTID state requested by"
         " slave in any binlog files. Probably the slave state is too old and required binlog files have been purged.'",
         REASON_LOGS_GONE},
        {1236,
         "Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog. Since the"
         " master's binlog contains GTIDs with higher sequence numbers, it probably means that the slave has diverged",
         REASON_SOURCE_DIVERGED},
        {13114,
         "Got fatal error 1236 from source when reading data from binary log: 'Cannot replicate because"
         " the source purged required binary logs. Replicate the missing transactions from elsewhere'",
         REASON_LOGS_GONE},
        {13114,
         "Got fatal error 1236 from source when reading data from binary log: 'Replica has more GTIDs"
         " than the source has'",
         REASON_SOURCE_DIVERGED},
        {1236,
         "A slave with the same server_uuid/server_id as this slave has connected to the master",
         REASON_NONE},
        {1236, "log event entry exceeded max_allowed_packet", REASON_REPLICATION_BROKEN},
        {1045, "Access denied", REASON_SOURCE_AUTHENTICATION},
        {1597, "Master command COM_REGISTER_SLAVE failed: Access denied for user",
         REASON_SOURCE_PRIVILEGES},
        {2003, "error connecting to master", REASON_NONE},
        {2026, "TLS/SSL error: unexpected eof while reading", REASON_NONE},
        {1595, "Relay log write failure: No space left on device", REASON_DISK_FULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        Reason reason = mysql_receiver_reason(cases[i].number, cases[i].message);
        if (reason != cases[i].reason) {
            fail_msg("%d %s: %s", cases[i].number, cases[i].message, reason_slug(reason));
        }
    }
    assert_int_equal(mysql_applier_reason(1062, "Duplicate entry"), REASON_REPLICATION_BROKEN);
    assert_int_equal(mysql_applier_reason(1205, "Lock wait timeout"), REASON_NONE);
    assert_int_equal(mysql_applier_reason(1114, "The table 't' is full"), REASON_DISK_FULL);
}

static void test_versions(void **state)
{
    (void)state;
    Error error = {0};
    MysqlPrograms mariadb = {.version = "10.11.19-MariaDB", .version_number = 101119};
    MysqlPrograms mysql = {.version = "9.7.4-2", .version_number = 90704};
    assert_int_equal(mysql_version_number("10.11.19-MariaDB-0+deb12u1"), 101119);
    assert_int_equal(mysql_version_number("8.0.22"), 80022);
    assert_int_equal(mysql_version_number("nonsense"), 0);
    assert_ok(mysql_version_check(&mariadb, false, "10.11.2-MariaDB", &error), &error);
    assert_ok(mysql_version_check(&mysql, true, "9.7.9", &error),
              &error); // a long-term series goes back, too
    assert_ok(mysql_version_check(&mysql, true, "9.6.0", &error), &error);
    assert_int_not_equal(mysql_version_check(&mariadb, false, "10.6.2-MariaDB", &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_ENGINE_VERSION);
    assert_int_not_equal(mysql_version_check(&mysql, true, "8.0.40", &error), STATUS_OK);
    assert_ok(mysql_source_version_check(&mariadb, false, "10.11.2-MariaDB-log", &error), &error);
    assert_int_not_equal(mysql_source_version_check(&mariadb, false, "9.7.4", &error), STATUS_OK);
    assert_int_not_equal(mysql_source_version_check(&mysql, true, "9.6.1", &error), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_reached_and_equal),
        cmocka_unit_test(test_history),  cmocka_unit_test(test_receiver_errors),
        cmocka_unit_test(test_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
