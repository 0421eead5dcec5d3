// SPDX-License-Identifier: Apache-2.0
// What can be wrong with a PostgreSQL source, and what can happen to it during a backup. Red here
// means: a failure has not the name (and cure) it should have, or one is taken for a failure that
// is none.
#include "agent/engine/child.h"
#include "agent/engine/engine.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/harness/scratch_postgres.h"
#include "tests/integration/postgres_cycle.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_problem(const EngineInfo *info, Reason reason, const char *message,
                           const char *cure)
{
    for (size_t i = 0; i < info->problem_count; i++) {
        if (info->problems[i].reason == reason &&
            strstr(info->problems[i].message, message) != NULL) {
            assert_contains(info->problems[i].cure, cure);
            return;
        }
    }
    for (size_t i = 0; i < info->problem_count; i++) {
        print_error("problem: %s | %s\n", info->problems[i].message, info->problems[i].cure);
    }
    fail_msg("no problem says '%s'", message);
}

static void test_probe_of_a_ready_source(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    EngineSource source = cycle_source(site.primary);
    EngineInfo info;
    Error error = {0};
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    for (size_t i = 0; i < info.problem_count; i++) {
        print_error("problem: %s | %s\n", info.problems[i].message, info.problems[i].cure);
    }
    assert_int_equal(info.problem_count, 0);
    assert_true(info.has_page_checksums);
    assert_true(info.version_number >= 130000);
    assert_true(info.size_bytes > 10000000);
    assert_contains(info.position, "/");
    CLEANUP_FREE char *identifier =
        scratch_postgres_text(site.primary, "SELECT system_identifier FROM pg_control_system()");
    assert_string_equal(info.server_identity, identifier);

    secret_done(&source.password);
    source.password = secret_from_text("wrong");
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_AUTHENTICATION);
    assert_null(strstr(error.message, "wrong"));
    source.tls_mode = "require";
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_TLS);
    source.tls_mode = "prefer";
    source.port = free_port();
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_UNREACHABLE);
    secret_done(&source.password);
}

static void test_probe_names_everything_missing(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done)
    CycleSite site = cycle_site_new("wal_level = minimal\nmax_wal_senders = 0\n"
                                    "max_replication_slots = 1\nmax_slot_wal_keep_size = -1\n");
    scratch_postgres_run(site.primary,
                         "ALTER ROLE holdfast NOREPLICATION;"
                         "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM holdfast");
    CLEANUP_FREE char *space = path_join(site.directory, "space");
    assert_int_equal(mkdir(space, 0700), 0);
    CLEANUP_FREE char *create =
        string_format("CREATE TABLESPACE \"far away\" LOCATION '%s'", space);
    scratch_postgres_run(site.primary, create);
    EngineSource source = cycle_source(site.primary);
    EngineInfo info;
    Error error = {0};
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "wal_level",
                   "ALTER SYSTEM SET wal_level = 'replica'");
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "max_wal_senders",
                   "SET max_wal_senders = 10");
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "max_replication_slots",
                   "max_replication_slots = 10");
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "max_slot_wal_keep_size", "pg_reload_conf");
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "\"far away\"", "SET TABLESPACE pg_default");
    assert_problem(&info, REASON_SOURCE_PRIVILEGES, "lacks REPLICATION",
                   "ALTER ROLE holdfast REPLICATION;");
    assert_problem(
        &info, REASON_SOURCE_PRIVILEGES, "pg_create_restore_point",
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO holdfast;");
    assert_int_equal(info.problem_count, 7);
    secret_done(&source.password);
}

static void test_probe_finds_hba_and_standby(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *standby =
        scratch_postgres_new_standby(site.primary, site.directory, "standby");
    EngineSource source = cycle_source(standby);
    EngineInfo info;
    Error error = {0};
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "is a standby", "primary");
    CLEANUP_FREE char *hba = path_join(site.primary->directory, "pg_hba.conf");
    write_file(hba, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    scratch_postgres_run(site.primary, "SELECT pg_reload_conf()");
    source.port = site.primary->port;
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    do { // the reload takes a moment
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    } while (info.problem_count == 0);
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "refuses replication connections",
                   "host replication holdfast 127.0.0.1/32 scram-sha-256");
    secret_done(&source.password);
}

static void test_logs_gone(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done)
    CycleSite site = cycle_site_new("max_slot_wal_keep_size = 32MB\nmax_wal_size = 64MB\n"
                                    "min_wal_size = 32MB\n");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    for (int i = 0; i < 8; i++) {
        scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('x')");
        scratch_postgres_run(site.primary, "SELECT pg_switch_wal()");
    }
    scratch_postgres_run(site.primary, "CHECKPOINT");
    scratch_postgres_run(site.primary, "CHECKPOINT");
    assert_int_equal(scratch_postgres_number(site.primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "wal_status = 'lost'"),
                     1);
    Cycle *next = cycle_new(&site);
    Error error = {0};
    assert_int_not_equal(cycle_try_ready(next, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_LOGS_GONE);
    assert_contains(error.hint, "max_slot_wal_keep_size");
    cycle_free(next);
    // A new seed puts the lineage right again.
    Cycle *again = cycle_new(&site);
    cycle_run(again, NULL);
    assert_int_equal(scratch_postgres_number(site.primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "wal_status = 'reserved'"),
                     1);
    cycle_free(again);
    cycle_free(seed);
}

static void test_another_cluster_is_refused(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *other = cycle_site_server(&site, "other");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new_from(&site, other);
    Error error = {0};
    assert_int_not_equal(cycle_try_ready(next, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_DIVERGED);
    assert_contains(error.message, "another cluster");
    cycle_free(next);
    cycle_free(seed);
}

// The standby that takes over has everything the parent has: its history is followed. One that was
// promoted before the parent's checkpoint is another history.
static void test_failover(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("wal_keep_size = 256MB\n");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *early = scratch_postgres_new_standby(site.primary, site.directory, "early");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *good = scratch_postgres_new_standby(site.primary, site.directory, "good");
    scratch_postgres_run(early, "SELECT pg_promote()");
    scratch_postgres_run(early, "CHECKPOINT");

    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('1')");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);

    Cycle *refused = cycle_new_from(&site, early);
    Error error = {0};
    assert_int_not_equal(cycle_try_ready(refused, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_DIVERGED);
    assert_contains(error.message, "timeline");
    cycle_free(refused);

    // In the middle of a run: the source's address leads to the new primary from one moment to the
    // next.
    Cycle *next = cycle_new(&site);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('2')");
    scratch_postgres_stop(site.primary); // a shutdown waits until its standby has everything
    scratch_postgres_run(good, "SELECT pg_promote()");
    scratch_postgres_stop(good);
    good->port = site.primary->port;
    scratch_postgres_start(good);
    scratch_postgres_run(good, "INSERT INTO mark VALUES ('3')");
    cycle_wait_replayed(next, good);
    cycle_take(next);
    scratch_postgres_run(good, "INSERT INTO mark VALUES ('late')");
    cycle_finish(next);
    assert_int_equal(cycle_timeline(next), 2);
    cycle_assert_marks(next, "1 2 3");

    Cycle *third = cycle_new_from(&site, good);
    cycle_run(third, next);
    cycle_assert_marks(third, "1 2 3 late");
    cycle_free(third);
    cycle_free(next);
    cycle_free(seed);
}

static void test_source_restarts_in_the_middle(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new(&site);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    // Raising a limit that standbys must follow makes it harder.
    scratch_postgres_run(site.primary, "ALTER SYSTEM SET max_connections = 150");
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('1')");
    int64_t begun_ms = clock_monotonic_ms();
    scratch_postgres_stop(site.primary);
    assert_true(clock_monotonic_ms() - begun_ms < 10000); // our stream does not hold up a shutdown
    scratch_postgres_start(site.primary);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('2')");
    cycle_wait_replayed(next, site.primary);
    scratch_postgres_kill(site.primary);
    CLEANUP_FREE char *pid_file = path_join(site.primary->directory, "postmaster.pid");
    (void)unlink(pid_file); // its number may be another process's by now
    scratch_postgres_start(site.primary);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('3')");
    cycle_wait_replayed(next, site.primary);
    cycle_take(next);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(next);
    cycle_assert_marks(next, "1 2 3");
    cycle_free(next);
    cycle_free(seed);
}

static void test_tls_is_verified(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    char *certificate = NULL;
    char *key = NULL;
    char *other_certificate = NULL;
    char *other_key = NULL;
    Error error = {0};
    assert_ok(crypto_self_signed_certificate("localhost", 1, &certificate, &key, &error), &error);
    assert_ok(
        crypto_self_signed_certificate("localhost", 1, &other_certificate, &other_key, &error),
        &error);
    CLEANUP_FREE char *certificate_path = path_join(site.primary->directory, "server.crt");
    CLEANUP_FREE char *key_path = path_join(site.primary->directory, "server.key");
    CLEANUP_FREE char *hba = path_join(site.primary->directory, "pg_hba.conf");
    write_file(certificate_path, certificate);
    write_file(key_path, key);
    assert_int_equal(chmod(key_path, 0600), 0);
    write_file(hba, "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
                    "hostssl replication holdfast 127.0.0.1/32 scram-sha-256\n");
    scratch_postgres_run(site.primary, "ALTER SYSTEM SET ssl = on");
    scratch_postgres_stop(site.primary);
    scratch_postgres_start(site.primary);

    EngineSource source = cycle_source(site.primary);
    EngineInfo info;
    source.host = "localhost";
    source.tls_mode = "verify-full";
    // A server that cannot prove itself gets no password: a wrong one is not refused, it is not
    // even sent. Without an authority those of the machine decide.
    Secret right = source.password;
    source.password = secret_from_text("wrong");
    const char *const authorities[] = {NULL, other_certificate, certificate};
    for (size_t i = 0; i < ARRAY_COUNT(authorities); i++) {
        source.tls_ca_pem = authorities[i];
        assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
        assert_int_equal(error.reason, authorities[i] == certificate ? REASON_SOURCE_AUTHENTICATION
                                                                     : REASON_SOURCE_TLS);
    }
    secret_done(&source.password);
    source.password = right;
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    assert_int_equal(info.problem_count, 0);
    source.tls_mode = "disable";
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_AUTHENTICATION);
    secret_done(&source.password);

    Cycle *seed = cycle_new_verified(&site, certificate);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new_verified(&site, certificate);
    cycle_run(next, seed);
    cycle_free(next);
    cycle_free(seed);
    mem_free(certificate);
    mem_free(key);
    mem_free(other_certificate);
    mem_free(other_key);
}

static void take_and_expect(Cycle *cycle, Reason reason, const char *hint)
{
    Error error = {0};
    assert_int_not_equal(
        engine_checkpoint_take(cycle->engine, "refused", &cycle->checkpoint, &error), STATUS_OK);
    assert_int_equal(error.reason, reason);
    assert_contains(error.hint, hint);
}

static void test_failures_have_names(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Cycle *cycle = cycle_new(&site);
    cycle_begin(cycle, NULL);
    cycle_wait_ready(cycle);
    scratch_postgres_run(site.primary,
                         "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM holdfast");
    take_and_expect(cycle, REASON_SOURCE_PRIVILEGES, "GRANT EXECUTE ON FUNCTION");
    scratch_postgres_run(site.primary,
                         "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO holdfast");

    // The source answers, but its WAL does not come any more.
    pid_t sender = (pid_t)scratch_postgres_number(
        site.primary, "SELECT pid FROM pg_stat_replication WHERE application_name = 'holdfast'");
    assert_int_equal(kill(sender, SIGSTOP), 0);
    cycle_take(cycle);
    Error error = {0};
    assert_int_not_equal(
        engine_replay_to(cycle->engine, &cycle->checkpoint, 1500, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_REPLAY_STALLED);
    // A cancel ends it early.
    atomic_store(&cycle->cancel.is_requested, true);
    int64_t begun_ms = clock_monotonic_ms();
    assert_int_not_equal(
        engine_replay_to(cycle->engine, &cycle->checkpoint, 60000, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_CANCELED);
    assert_true(clock_monotonic_ms() - begun_ms < 1000);
    atomic_store(&cycle->cancel.is_requested, false);
    assert_int_equal(kill(sender, SIGCONT), 0);

    // The private server dies.
    CLEANUP_FREE char *pid_path = path_join(cycle->data, "postmaster.pid");
    CLEANUP_FREE char *text = NULL;
    size_t size;
    assert_ok(file_read(pid_path, 4096, &text, &size, &error), &error);
    assert_int_equal(kill((pid_t)strtol(text, NULL, 10), SIGKILL), 0);
    assert_int_not_equal(cycle_try_replay(cycle, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_ENGINE_FAILED);
    cycle_free(cycle);
}

// A checkpoint that was taken before this process knew of it: reached exactly while it is ahead,
// refused when passed.
static void test_a_checkpoint_taken_by_others(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Cycle *cycle = cycle_new(&site);
    cycle_begin(cycle, NULL);
    cycle_wait_ready(cycle);
    CLEANUP_FREE char *passed =
        scratch_postgres_text(site.primary, "SELECT pg_current_wal_flush_lsn()");
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('1')");
    cycle_wait_replayed(cycle, site.primary);
    (void)snprintf(cycle->checkpoint.position, sizeof(cycle->checkpoint.position), "%s", passed);
    Error error = {0};
    assert_int_not_equal(cycle_try_replay(cycle, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_PRECONDITION);

    pid_t sender = (pid_t)scratch_postgres_number(
        site.primary, "SELECT pid FROM pg_stat_replication WHERE application_name = 'holdfast'");
    assert_int_equal(kill(sender, SIGSTOP), 0);
    CLEANUP_FREE char *ahead =
        scratch_postgres_text(site.primary, "SELECT pg_create_restore_point('theirs')");
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('late')");
    (void)snprintf(cycle->checkpoint.position, sizeof(cycle->checkpoint.position), "%s", ahead);
    (void)snprintf(cycle->checkpoint.name, sizeof(cycle->checkpoint.name), "theirs");
    assert_int_not_equal(
        engine_replay_to(cycle->engine, &cycle->checkpoint, 1000, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_REPLAY_STALLED);
    assert_int_equal(kill(sender, SIGCONT), 0);
    cycle_finish(cycle);
    cycle_assert_marks(cycle, "1");
    cycle_free(cycle);
}

static void test_a_damaged_parent_is_unrestorable(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    Error error = {0};
    Cycle *other = cycle_new(&site);
    cycle_copy_tree(seed->published, other->data);
    assert_int_not_equal(engine_adopt(other->engine, "9.6.1", seed->state, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_ENGINE_VERSION);
    cycle_free(other);

    CLEANUP_FREE char *control = path_join(seed->published, "global/pg_control");
    CLEANUP(fd_closep) int fd = open(control, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "damaged!", 8, 40), 8);
    Cycle *next = cycle_new(&site);
    assert_int_not_equal(cycle_try_ready(next, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_PARENT_UNRESTORABLE);
    cycle_free(next);
    cycle_free(seed);
}

// A transaction with so many subtransactions that a standby lets nobody in before it has ended: the
// backup must not wait.
static void test_a_transaction_with_many_subtransactions(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    CLEANUP_FREE char *port = string_format("%d", site.primary->port);
    CLEANUP_FREE char *psql = scratch_postgres_program("psql");
    CLEANUP_FREE char *log = path_join(site.directory, "psql.log");
    const char *arguments[] = {
        "setpriv",
        "--pdeathsig",
        "KILL",
        psql,
        "-X",
        "-h",
        site.directory,
        "-p",
        port,
        "-U",
        "admin",
        "-c",
        "DO $$ BEGIN FOR i IN 1..100 LOOP BEGIN INSERT INTO mark VALUES ('open'); EXCEPTION "
        "WHEN division_by_zero THEN NULL; END; END LOOP; PERFORM pg_sleep(600); END $$",
        "postgres",
        NULL};
    ProcessOptions process = {.arguments = arguments, .output_path = log, .new_session = true};
    pid_t pid = 0;
    Error error = {0};
    assert_ok(process_spawn(&process, &pid, &error), &error);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    while (scratch_postgres_number(
               site.primary,
               "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
    Cycle *seed = cycle_new(&site);
    cycle_begin(seed, NULL);
    cycle_wait_ready(seed);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('1')");
    cycle_take(seed);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(seed);
    process_stop(pid, SIGKILL, 1000);
    cycle_assert_marks(seed, "1");
    cycle_free(seed);
}

static void assert_disk_full(Status status, const Error *error)
{
    assert_int_not_equal(status, STATUS_OK);
    if (error->reason != REASON_DISK_FULL) {
        fail_msg("%s is said instead: %s", reason_slug(error->reason), error->message);
    }
}

static Status follow_until_it_fails(Cycle *cycle, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + 60000;
    while (clock_monotonic_ms() < deadline_ms) {
        EngineProgress progress;
        bool is_caught_up = false;
        RETURN_IF_ERROR(engine_position(cycle->engine, &progress, &is_caught_up, error));
        clock_sleep_ms(50);
    }
    return STATUS_OK;
}

// The parent fits on the disk, but not what comes from the source.
static void test_a_full_disk_is_named(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("max_slot_wal_keep_size = 1GB\n");
    const char *disk = cycle_small_disk();
    Error error = {0};
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new_in(disk, 1, site.primary);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    scratch_postgres_run(site.primary, "INSERT INTO load(v) SELECT repeat(md5(g::text), 30) FROM "
                                       "generate_series(1, 150000) g");
    assert_disk_full(follow_until_it_fails(next, &error), &error);
    cycle_free(next);
    CLEANUP_FREE char *base = path_join(disk, "1");
    assert_ok(dir_remove_all(base, &error), &error);

    Cycle *whole = cycle_new_in(disk, 2, site.primary);
    error_clear(&error);
    assert_disk_full(cycle_try_ready(whole, NULL, &error), &error);
    cycle_free(whole);
    CLEANUP_FREE char *whole_base = path_join(disk, "2");
    assert_ok(dir_remove_all(whole_base, &error), &error);

    // A restore that fits as long as nobody starts it.
    CLEANUP_FREE char *data = path_join(disk, "data");
    CLEANUP_FREE char *work = path_join(disk, "w");
    CLEANUP_FREE char *ballast = path_join(disk, "ballast");
    cycle_copy_tree(seed->published, data);
    int64_t free_bytes = 0;
    assert_ok(disk_free_bytes(disk, &free_bytes, &error), &error);
    CLEANUP(fd_closep) int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, free_bytes - 1024 * 1024), 0);
    Engine *engine = cycle_open_restore(seed, data, work);
    int64_t started_ms = 0;
    error_clear(&error);
    assert_disk_full(engine_serve(engine, seed->version, seed->state, 0, &started_ms, &error),
                     &error);
    engine_close(engine);
    assert_int_equal(unlink(ballast), 0);
    assert_ok(dir_remove_all(data, &error), &error);
    cycle_free(seed);
}

int main(int argc, char **argv)
{
    int exit_code = 0;
    if (cycle_prepare(argc, argv, &exit_code)) {
        return exit_code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_of_a_ready_source),
        cmocka_unit_test(test_probe_names_everything_missing),
        cmocka_unit_test(test_probe_finds_hba_and_standby),
        cmocka_unit_test(test_tls_is_verified),
        cmocka_unit_test(test_logs_gone),
        cmocka_unit_test(test_another_cluster_is_refused),
        cmocka_unit_test(test_failover),
        cmocka_unit_test(test_source_restarts_in_the_middle),
        cmocka_unit_test(test_failures_have_names),
        cmocka_unit_test(test_a_checkpoint_taken_by_others),
        cmocka_unit_test(test_a_damaged_parent_is_unrestorable),
        cmocka_unit_test(test_a_full_disk_is_named),
        cmocka_unit_test(test_a_transaction_with_many_subtransactions),
    };
    cmocka_set_test_filter(argc == 2 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
