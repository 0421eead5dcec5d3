// SPDX-License-Identifier: Apache-2.0
// What the PostgreSQL engine reads and writes as text: positions, control files, histories, names,
// states, messages.
#include "agent/engine/engine_postgresql.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (INT64_C(1024) * 1024)

static void test_lsn(void **state)
{
    (void)state;
    uint64_t lsn = 0;
    char text[POSTGRESQL_LSN_TEXT_SIZE];
    assert_true(postgresql_lsn_parse("16/B374D848", &lsn));
    assert_int_equal(lsn, UINT64_C(0x16B374D848));
    postgresql_lsn_format(lsn, text);
    assert_string_equal(text, "16/B374D848");
    postgresql_lsn_format(UINT64_MAX, text);
    assert_string_equal(text, "FFFFFFFF/FFFFFFFF");
    static const char *const bad[] = {"",      "16",          "/",   "1/",   "/1",
                                      "1/2/3", "1/123456789", "G/1", "1/-1", "1/1 "};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(postgresql_lsn_parse(bad[i], &lsn));
    }
}

static void test_segment_names(void **state)
{
    (void)state;
    char name[POSTGRESQL_SEGMENT_NAME_SIZE];
    uint32_t timeline;
    uint64_t segment;
    postgresql_segment_name(3, 0x1FF, 16 * MIB, name);
    assert_string_equal(name, "0000000300000001000000FF");
    assert_true(postgresql_segment_parse(name, 16 * MIB, &timeline, &segment));
    assert_int_equal(timeline, 3);
    assert_int_equal(segment, 0x1FF);
    postgresql_segment_name(1, 5, 1024 * MIB, name); // four segments of 1 GiB to an id
    assert_string_equal(name, "000000010000000100000001");
    assert_false(
        postgresql_segment_parse("000000010000000100000004", 1024 * MIB, &timeline, &segment));
    assert_false(postgresql_segment_parse("00000002.history", 16 * MIB, &timeline, &segment));
    assert_false(
        postgresql_segment_parse("00000001000000000000000g", 16 * MIB, &timeline, &segment));
}

static void test_history(void **state)
{
    (void)state;
    static const char history[] = "1\t0/5000138\tno recovery target specified\n\n"
                                  "2\t1/A0000000\tat restore point \"3\t9/9\"\n";
    uint64_t lsn = 0;
    assert_true(postgresql_history_switch(history, 1, &lsn));
    assert_int_equal(lsn, 0x5000138);
    assert_true(postgresql_history_switch(history, 2, &lsn));
    assert_int_equal(lsn, UINT64_C(0x1A0000000));
    assert_false(postgresql_history_switch(history, 3, &lsn));
    assert_false(postgresql_history_switch("", 1, &lsn));
    assert_false(postgresql_history_switch("1\tnonsense", 1, &lsn));
}

// What is behind the checkpoint must not survive: a server started on the directory would replay
// it.
static void test_trim_leaves_exactly_what_is_needed(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *wal = path_join(directory, "pg_wal");
    assert_int_equal(mkdir(wal, 0700), 0);
    static const char *const names[] = {"000000010000000000000002",
                                        "000000010000000000000003",
                                        "000000010000000000000004",
                                        "000000020000000000000004",
                                        "000000010000000000000005",
                                        "00000002.history",
                                        "xlogtemp.17",
                                        "000000010000000000000004.partial"};
    CLEANUP_FREE char *content = mem_alloc(MIB + 1);
    memset(content, 'w', MIB);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        CLEANUP_FREE char *path = path_join(wal, names[i]);
        write_file(path, content);
    }
    Error error = {0};
    assert_ok(postgresql_wal_trim(directory, MIB, 3 * MIB + 17, 4 * MIB + 1000, NULL, &error),
              &error);
    static const bool is_left[] = {false, true, true, true, false, true, false, false};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        CLEANUP_FREE char *path = path_join(wal, names[i]);
        assert_int_equal(access(path, F_OK) == 0, is_left[i]);
    }
    CLEANUP_FREE char *last = path_join(wal, "000000020000000000000004");
    int fd = open(last, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, content, MIB), MIB);
    (void)close(fd);
    for (int64_t i = 0; i < MIB; i++) {
        assert_int_equal(content[i], i < 1000 ? 'w' : 0);
    }
    // A checkpoint at a segment's very end needs nothing of the next one.
    assert_ok(postgresql_wal_trim(directory, MIB, 3 * MIB, 4 * MIB, NULL, &error), &error);
    assert_int_not_equal(access(last, F_OK), 0);
    uint32_t timeline;
    uint64_t segment;
    assert_ok(postgresql_wal_newest(directory, MIB, &timeline, &segment, &error), &error);
    assert_int_equal(segment, 3);
}

static const char CONTROL[] = "pg_control version number:            1300\n"
                              "Database system identifier:           17710552986943324146\n"
                              "Database cluster state:               shut down in recovery\n"
                              "Latest checkpoint location:           0/17529B0\n"
                              "Latest checkpoint's REDO location:    0/1752978\n"
                              "Latest checkpoint's TimeLineID:       4\n"
                              "Latest checkpoint's PrevTimeLineID:   3\n"
                              "Minimum recovery ending location:     2/17\n"
                              "Min recovery ending loc's timeline:   5\n"
                              "max_connections setting:              100\n"
                              "max_worker_processes setting:         8\n"
                              "max_wal_senders setting:              10\n"
                              "max_prepared_xacts setting:           7\n"
                              "max_locks_per_xact setting:           64\n"
                              "Database block size:                  8192\n"
                              "Blocks per segment of large relation: 131072\n"
                              "Bytes per WAL segment:                16777216\n"
                              "Data page checksum version:           1\n";

static void test_control_file(void **state)
{
    (void)state;
    PostgresqlControl control;
    assert_true(postgresql_control_parse(CONTROL, &control));
    assert_true(control.system_identifier == UINT64_C(17710552986943324146));
    assert_string_equal(control.state, "shut down in recovery");
    assert_int_equal(control.redo_lsn, 0x1752978);
    assert_int_equal(control.timeline, 4);
    assert_int_equal(control.min_recovery_lsn, UINT64_C(0x200000017));
    assert_int_equal(control.min_recovery_timeline, 5);
    assert_int_equal(control.wal_segment_bytes, 16777216);
    assert_int_equal(control.max_prepared_transactions, 7);
    assert_int_equal(control.checksum_version, 1);
    // Every line counts.
    for (const char *line = strchr(CONTROL, '\n') + 1; *line != '\0';
         line = strchr(line, '\n') + 1) {
        if (strncmp(line, "Latest checkpoint location", 26) == 0 ||
            strncmp(line, "Latest checkpoint's Prev", 24) == 0) {
            continue;
        }
        CLEANUP_FREE char *without =
            string_format("%.*s%s", (int)(line - CONTROL), CONTROL, strchr(line, '\n') + 1);
        assert_false(postgresql_control_parse(without, &control));
    }
}

static void test_state_goes_round(void **state)
{
    (void)state;
    Arena *arena = arena_new();
    Error error = {0};
    PostgresqlState written = {.system_identifier = UINT64_MAX - 1,
                               .timeline = 3,
                               .checkpoint_lsn = UINT64_C(0x1600000010),
                               .checkpoint_name = "holdfast-1",
                               .superuser = "ad\"min"};
    const char *text = postgresql_state_write(arena, &written, 15);
    assert_contains(text, "recovery_target_name = 'holdfast-1'");
    PostgresqlState read;
    assert_ok(postgresql_state_parse(text, &read, &error), &error);
    assert_true(read.system_identifier == written.system_identifier);
    assert_int_equal(read.timeline, 3);
    assert_true(read.checkpoint_lsn == written.checkpoint_lsn);
    assert_string_equal(read.checkpoint_name, "holdfast-1");
    assert_string_equal(read.superuser, "ad\"min");
    static const char *const bad[] = {
        "", "{}", "[]", "{\"format\":2}",
        "{\"format\":1,\"system_identifier\":\"1\",\"timeline\":1,\"checkpoint_name\":\"x\"}"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_not_equal(postgresql_state_parse(bad[i], &read, &error), STATUS_OK);
        assert_int_equal(error.reason, REASON_PARENT_UNRESTORABLE);
    }
    arena_free(arena);
}

static void test_sqlstate_in_messages(void **state)
{
    (void)state;
    char sqlstate[6] = "";
    const char *said = postgresql_find_sqlstate(
        "connection to server at \"h\", port 1 failed: FATAL:  28000: no entry\n"
        "connection to server at \"h\", port 1 failed: FATAL:  28P01: password authentication "
        "failed\n"
        "LOCATION:  auth_failed, auth.c:326\n",
        sqlstate);
    assert_string_equal(sqlstate, "28P01");
    assert_true(strncmp(said, "password", 8) == 0);
    assert_null(postgresql_find_sqlstate("could not translate host name:  x", sqlstate));
    assert_null(postgresql_find_sqlstate("", sqlstate));
}

static void test_secrets_stay_out_of_connection_strings(void **state)
{
    (void)state;
    EngineSource source = {.host = "h'ost",
                           .port = 5433,
                           .username = "a\\b",
                           .password = secret_from_text("pa:ss\\'x"),
                           .tls_mode = "verify-full"};
    CLEANUP(buffer_done) Buffer conninfo = {0};
    buffer_init(&conninfo, 4096);
    assert_true(postgresql_conninfo(&source, "/w/pgpass", "/w/ca.pem", &conninfo));
    assert_contains(buffer_text(&conninfo),
                    "host='h\\'ost' port='5433' user='a\\\\b' passfile='/w/pgpass'");
    assert_contains(buffer_text(&conninfo), "sslrootcert='/w/ca.pem'");
    assert_null(strstr(buffer_text(&conninfo), "pa:ss"));
    CLEANUP(buffer_done) Buffer passfile = {0};
    buffer_init(&passfile, 4096);
    assert_true(postgresql_passfile(&source.password, &passfile));
    assert_string_equal(buffer_text(&passfile), "*:*:*:*:pa\\:ss\\\\'x\n");
    secret_done(&source.password);
    source.password = secret_from_text("two\nlines");
    buffer_clear(&passfile);
    assert_false(postgresql_passfile(&source.password, &passfile));
    secret_done(&source.password);
}

static void test_seed_progress(void **state)
{
    (void)state;
    int64_t done = 0;
    int64_t total = 0;
    assert_true(postgresql_seed_parse_progress(
        "waiting for checkpoint\r     0/30000 kB (0%), 0/1 tablespace\r"
        " 12345/30000 kB (41%), 0/1 tablespace\r",
        &done, &total));
    assert_int_equal(done, 12345 * 1024);
    assert_int_equal(total, 30000 * 1024);
    assert_true(
        postgresql_seed_parse_progress("31000/30000 kB (100%), 1/1 tablespace\n", &done, &total));
    assert_int_equal(total, 31000 * 1024);
    assert_false(postgresql_seed_parse_progress("waiting for checkpoint", &done, &total));
    assert_false(postgresql_seed_parse_progress("", &done, &total));
    assert_false(postgresql_seed_parse_progress(" kB (", &done, &total));
}

static void test_layout_leaves_out_what_is_made_anew(void **state)
{
    (void)state;
    static const char *const kept[] = {"base/5/16384",
                                       "global/pg_control",
                                       "pg_wal/000000010000000000000001",
                                       "pg_wal/00000002.history",
                                       "pg_replslot",
                                       "pg_notify",
                                       "postgresql.conf",
                                       "postgresql.auto.conf",
                                       "pg_xact/0000",
                                       "pg_wal/archive_status",
                                       "backup_label"};
    static const char *const left_out[] = {
        "postmaster.pid",          "postmaster.opts",
        "standby.signal",          "recovery.signal",
        "pg_replslot/s/state",     "pg_notify/0000",
        "pg_stat/pgstat.stat",     "pg_wal/archive_status/1.done",
        "base/pgsql_tmp",          "base/pgsql_tmp/pgsql_tmp1.0",
        "base/5/pg_internal.init", "log",
        "log/postgresql.log",      "current_logfile",
        "backup_label.old",        "postgresql.auto.conf.source",
        "pg_subtrans/0000"};
    for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
        if (!postgresql_layout_keeps(kept[i])) {
            fail_msg("'%s' is left out", kept[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(left_out); i++) {
        if (postgresql_layout_keeps(left_out[i])) {
            fail_msg("'%s' is kept", left_out[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsn),
        cmocka_unit_test(test_segment_names),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_trim_leaves_exactly_what_is_needed),
        cmocka_unit_test(test_control_file),
        cmocka_unit_test(test_state_goes_round),
        cmocka_unit_test(test_sqlstate_in_messages),
        cmocka_unit_test(test_secrets_stay_out_of_connection_strings),
        cmocka_unit_test(test_seed_progress),
        cmocka_unit_test(test_layout_leaves_out_what_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
