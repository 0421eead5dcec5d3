// SPDX-License-Identifier: Apache-2.0
// What happens to a source of the MySQL family, and what the engine makes of it; built once for
// MariaDB and once for MySQL. Red here means: a failure of the source has no name or the wrong one,
// hangs a backup, or spoils it.
#include "agent/engine/engine_mysql_family.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/harness.h"
#include "tests/integration/mysql_suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A server that cannot prove itself never gets a password: a wrong one is not refused, it is not
// even sent.
static void assert_proven_before_password(const char *certificate, const char *other_certificate)
{
    const struct {
        const char *host, *ca_pem;
        Reason reason;
    } cases[] = {{"127.0.0.1", other_certificate, REASON_SOURCE_TLS}, // another authority's
                 {"localhost", certificate, REASON_SOURCE_TLS},       // another server's
                 {"127.0.0.1", certificate, REASON_SOURCE_AUTHENTICATION}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        Error error = {0};
        EngineInfo info = {0};
        EngineSource source = scratch_mysql_source(shared.source);
        secret_done(&source.password);
        source.password = secret_from_text("wrong");
        source.host = cases[i].host;
        source.tls_mode = "verify-full";
        source.tls_ca_pem = cases[i].ca_pem;
        assert_int_not_equal(engine_probe(engine_name, &source, 10000, &info, &error), STATUS_OK);
        assert_string_equal(reason_slug(error.reason), reason_slug(cases[i].reason));
        secret_done(&source.password);
    }
}

// Everything over TLS with the server's certificate verified: seed, replication, our own questions.
static void test_verified_tls(void **state)
{
    (void)state;
    Error error = {0};
    char *certificate = NULL, *key = NULL;
    assert_ok(crypto_self_signed_certificate("127.0.0.1", 30, &certificate, &key, &error), &error);
    CLEANUP_FREE char *certificate_path = path_join(shared.root, "server.pem");
    CLEANUP_FREE char *key_path = path_join(shared.root, "server.key");
    write_file(certificate_path, certificate);
    write_file(key_path, key);
    CLEANUP_FREE char *certificate_option = string_format("--ssl-cert=%s", certificate_path);
    CLEANUP_FREE char *key_option = string_format("--ssl-key=%s", key_path);
    CLEANUP_FREE char *ca_option = string_format("--ssl-ca=%s", certificate_path);
    const char *const options[] = {certificate_option, key_option, ca_option,
                                   "--require-secure-transport=ON", NULL};
    const char *const *before = shared.source->options;
    scratch_mysql_stop(shared.source);
    shared.source->options = options;
    scratch_mysql_start(shared.source);

    CycleBackup seed = {0}, next = {0};
    shared.cycle.tls_mode = "verify-full";
    shared.cycle.tls_ca_pem = certificate;
    cycle_backup(&shared.cycle, NULL, &seed);
    scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('over TLS')");
    cycle_backup(&shared.cycle, &seed, &next);
    // Another authority: refused, by name.
    char *other_certificate = NULL, *other_key = NULL;
    CycleRun run = {0};
    assert_ok(
        crypto_self_signed_certificate("127.0.0.1", 30, &other_certificate, &other_key, &error),
        &error);
    assert_proven_before_password(certificate, other_certificate);
    shared.cycle.tls_ca_pem = other_certificate;
    assert_ok(cycle_begin(&shared.cycle, &next, &run, &error), &error);
    assert_int_not_equal(cycle_catch_up(&run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_TLS);
    cycle_end(&run);
    shared.cycle.tls_mode = "disable";
    assert_ok(cycle_begin(&shared.cycle, &next, &run, &error), &error);
    assert_int_not_equal(cycle_catch_up(&run, &error), STATUS_OK);
    // MariaDB 10.11 says the same as for a wrong password, so the hint must say what it may be.
    assert_true(error.reason == REASON_SOURCE_TLS ||
                (!is_mysql && error.reason == REASON_SOURCE_AUTHENTICATION));
    assert_contains(error.hint, "TLS mode");
    cycle_end(&run);

    shared.cycle.tls_mode = shared.cycle.tls_ca_pem = NULL;
    scratch_mysql_stop(shared.source);
    shared.source->options = before;
    scratch_mysql_start(shared.source);
    mem_free(certificate);
    mem_free(key);
    mem_free(other_certificate);
    mem_free(other_key);
}

static void test_source_restarts_in_the_middle(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    CycleBackup backup = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    scratch_mysql_kill(shared.source);
    EngineProgress progress = {0};
    bool is_caught_up = true;
    for (int i = 0; i < 20; i++) {
        assert_ok(engine_position(run.engine, &progress, &is_caught_up, &error), &error);
        clock_sleep_ms(50);
    }
    assert_false(is_caught_up); // what the source has is not known
    scratch_mysql_start(shared.source);
    scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('after the restart')");
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    while (!is_caught_up && clock_monotonic_ms() < deadline_ms) {
        assert_ok(engine_position(run.engine, &progress, &is_caught_up, &error), &error);
        clock_sleep_ms(50);
    }
    assert_true(is_caught_up);
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    scratch_mysql_stop(
        shared.source); // nothing more is needed from it but the probe of cycle_finish
    scratch_mysql_start(shared.source);
    assert_ok(cycle_finish(&run, &checkpoint, &backup, &error), &error);
    cycle_end(&run);
    assert_same_as_source(&backup);
}

// A checkpoint that never arrives: bounded, named, and a cancel ends the wait sooner.
static void test_stall_and_cancel(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('x')");
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    // A hundred transactions that will not come.
    int64_t number = last_transaction(checkpoint.position) + 100;
    char *last = strrchr(checkpoint.position, '-') + 1;
    (void)snprintf(last, sizeof(checkpoint.position) - (size_t)(last - checkpoint.position), "%lld",
                   (long long)number);
    int64_t begin_ms = clock_monotonic_ms();
    assert_int_not_equal(engine_replay_to(run.engine, &checkpoint, 2000, NULL, NULL, &error),
                         STATUS_OK);
    assert_int_equal(error.reason, REASON_REPLAY_STALLED);
    assert_true(clock_monotonic_ms() - begin_ms < 15000);

    assert_int_equal(kill(shared.source->pid, SIGSTOP), 0); // accepts connections and says nothing
    atomic_store(&shared.cycle.cancel.is_requested, true);
    begin_ms = clock_monotonic_ms();
    EngineProgress progress = {0};
    bool is_caught_up = false;
    assert_int_not_equal(engine_position(run.engine, &progress, &is_caught_up, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_CANCELED);
    assert_true(clock_monotonic_ms() - begin_ms < 1000);
    assert_int_equal(kill(shared.source->pid, SIGCONT), 0);
    atomic_store(&shared.cycle.cancel.is_requested, false);
    cycle_end(&run);
}

// The same address, another server.
static void replace_source(const char *directory)
{
    Error error = {0};
    scratch_mysql_stop(shared.source);
    if (directory != NULL) {
        assert_ok(dir_remove_all(shared.source->directory, &error), &error);
        assert_int_equal(rename(directory, shared.source->directory), 0);
    }
    CLEANUP_FREE char *identity = path_join(shared.source->directory, "auto.cnf");
    (void)unlink(identity);
    shared.source->server_id++;
    scratch_mysql_start(shared.source);
}

static Status follow_until_caught_up(CycleRun *run, Error *error)
{
    EngineProgress progress = {0};
    bool is_caught_up = false;
    int64_t deadline_ms = clock_monotonic_ms() + 60000;
    while (!is_caught_up && clock_monotonic_ms() < deadline_ms) {
        RETURN_IF_ERROR(engine_position(run->engine, &progress, &is_caught_up, error));
        clock_sleep_ms(50);
    }
    assert_true(is_caught_up);
    return STATUS_OK;
}

static void wait_for_applier_error(const CycleRun *run)
{
    MysqlReplicaStatus status = {0};
    Error error = {0};
    int64_t deadline_ms = clock_monotonic_ms() + 60000;
    while (status.applier_error == 0 && clock_monotonic_ms() < deadline_ms) {
        assert_ok(mysql_replica_status(mysql_engine(run->engine), &status, &error), &error);
        clock_sleep_ms(50);
    }
    assert_int_not_equal(status.applier_error, 0);
}

// A failover in the middle goes on when the new server continues the history, and is refused when
// it lost transactions that we have already replayed: they would stay in all later backups.
static void test_failover(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    scratch_mysql_stop(shared.source);
    CLEANUP_FREE char *old = path_join(shared.root, "old");
    cycle_copy_tree(shared.source->directory, old);
    scratch_mysql_start(shared.source);
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    replace_source(NULL);
    scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('by the new primary')");
    assert_ok(follow_until_caught_up(&run, &error), &error);

    replace_source(old); // without that row
    scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('another')");
    if (is_mysql) {
        wait_for_applier_error(
            &run); // the replica is quicker than we are, and fails in its own way
    }
    assert_int_not_equal(follow_until_caught_up(&run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_DIVERGED);
    cycle_end(&run);
}

static void assert_follow_fails(const CycleBackup *parent, Reason reason)
{
    Error error = {0};
    CycleRun run = {0};
    int64_t begin_ms = clock_monotonic_ms();
    assert_ok(cycle_begin(&shared.cycle, parent, &run, &error), &error);
    Status status = cycle_catch_up(&run, &error);
    if (status == STATUS_OK || error.reason != reason) {
        print_error("wanted %s, got %s: %s\n", reason_slug(reason),
                    status == STATUS_OK ? "ok" : reason_slug(error.reason), error.message);
        fail();
    }
    assert_true(error.hint[0] != '\0');
    assert_true(clock_monotonic_ms() - begin_ms < 20000);
    cycle_end(&run);
}

static void test_purged_logs_are_named_at_once(void **state)
{
    (void)state;
    scratch_mysql_run(
        shared.source,
        "FLUSH BINARY LOGS;\nINSERT INTO shop.log (text) VALUES ('p');\nFLUSH BINARY LOGS;\n");
    CLEANUP_FREE char *logs = scratch_mysql_text(shared.source, "SHOW BINARY LOGS");
    char *last = strrchr(logs, '\n') + 1;
    *strchr(last, '|') = '\0';
    CLEANUP_FREE char *purge = string_format("PURGE BINARY LOGS TO '%s'", last);
    scratch_mysql_run(shared.source, purge);
    assert_follow_fails(&shared.seed, REASON_LOGS_GONE);
}

// The source forgot transactions that the parent has: restored from an old copy, or failed over
// without them.
static void test_diverged_sources_are_refused(void **state)
{
    (void)state;
    CycleBackup backup = {0};
    cycle_backup(&shared.cycle, NULL, &backup);
    if (is_mysql) {
        scratch_mysql_run(shared.source, "RESET BINARY LOGS AND GTIDS");
    } else {
        scratch_mysql_run(shared.source, "RESET MASTER");
    }
    assert_follow_fails(&backup, REASON_SOURCE_DIVERGED);
    if (!is_mysql) {
        // Another server wrote the same numbers, and more: only its binary logs tell that ours is
        // not among them.
        scratch_mysql_run(shared.source, "SET GLOBAL server_id = 77");
        CLEANUP_FREE char *set =
            string_format("SET GLOBAL gtid_binlog_state = '0-77-%lld'",
                          (long long)last_transaction(backup.checkpoint.position) - 1);
        scratch_mysql_run(shared.source, set);
        scratch_mysql_run(shared.source, "INSERT INTO shop.log (text) VALUES ('e1');\n"
                                         "INSERT INTO shop.log (text) VALUES ('e2');\n"
                                         "INSERT INTO shop.log (text) VALUES ('e3');\n");
        assert_follow_fails(&backup, REASON_SOURCE_DIVERGED);
    }
}

static void test_wrong_credentials_are_named(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    scratch_mysql_run(shared.source, "REVOKE REPLICATION SLAVE ON *.* FROM holdfast@'127.0.0.1'");
    CycleBackup backup = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_int_not_equal(cycle_catch_up(&run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_PRIVILEGES);
    assert_contains(error.hint, "REPLICATION SLAVE");
    scratch_mysql_run(shared.source, "GRANT REPLICATION SLAVE ON *.* TO holdfast@'127.0.0.1'");
    error_clear(&error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    // The password is nowhere in what a backup holds, of the seed or since.
    Checkpoint checkpoint = {0};
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    assert_ok(cycle_finish(&run, &checkpoint, &backup, &error), &error);
    const char *const arguments[] = {"grep", "-rlF", SCRATCH_MYSQL_PASSWORD, backup.directory,
                                     NULL};
    ProcessOptions options = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    assert_int_not_equal(process_run(&options, 60000, REASON_INTERNAL, &output, &error),
                         STATUS_OK); // nothing found
    assert_string_equal(buffer_text(&output), "");
    assert_null(strstr(backup.engine_state, "word"));
    cycle_end(&run);
}

static void assert_disk_full(const Error *error)
{
    if (error->reason != REASON_DISK_FULL) {
        fail_msg("%s is said instead: %s", reason_slug(error->reason), error->message);
    }
}

// The parent fits on the disk, or an empty data directory, but not what comes from the source.
static void test_a_full_disk_is_named(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    Cycle small = shared.cycle;
    small.root = (char *)(uintptr_t)small_disk_new(SMALL_DISK_MIB);
    assert_ok(cycle_begin(&small, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    scratch_mysql_run(shared.source,
                      "CREATE TABLE shop.bulk (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)");
    for (int i = 0; i < SMALL_DISK_MIB / 10; i++) {
        scratch_mysql_run(shared.source,
                          "INSERT INTO shop.bulk (v) VALUES (REPEAT('x', 10485760))");
    }
    assert_int_not_equal(follow_until_caught_up(&run, &error), STATUS_OK);
    assert_disk_full(&error);
    cycle_end(&run);

    assert_int_not_equal(cycle_begin(&small, NULL, &run, &error), STATUS_OK);
    assert_disk_full(&error);
    cycle_end(&run);

    // A restore that fits as long as nobody starts it.
    CLEANUP_FREE char *ballast = path_join(small.root, "ballast");
    CLEANUP(fd_closep) int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int64_t size = (int64_t)SMALL_DISK_MIB * 1024 * 1024 - shared.seed.size_bytes - 1024 * 1024;
    assert_int_equal(posix_fallocate(fd, 0, size), 0);
    int port = 0;
    assert_int_not_equal(cycle_serve(&small, &shared.seed, &port, &run, &error), STATUS_OK);
    assert_disk_full(&error);
    cycle_end(&run);
    assert_int_equal(unlink(ballast), 0);
    scratch_mysql_run(shared.source, "DROP TABLE shop.bulk");
}

// The programs' own words when they cannot make a data directory, but for those of a password.
static void test_a_failed_installation_is_told(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    CLEANUP_FREE char *directory = path_join(shared.root, "programs");
    CLEANUP_FREE char *program = path_join(directory, is_mysql ? "mysqld" : "mariadb-install-db");
    CLEANUP_FREE char *script =
        string_format("#!/bin/sh\n"
                      "case \"$*\" in *--version*) exec '%s/%s' \"$@\" ;; esac\n"
                      "echo '[ERROR] A temporary password is generated for root: hunter2'\n"
                      "exec '%s/%s' \"$@\" --no-such-option\n",
                      is_mysql ? scratch_mysql_directory() : "/usr/bin", strrchr(program, '/') + 1,
                      is_mysql ? scratch_mysql_directory() : "/usr/bin", strrchr(program, '/') + 1);
    assert_int_equal(mkdir(directory, 0700), 0);
    write_file(program, script);
    assert_int_equal(chmod(program, 0700), 0);
    shared.cycle.program_directory = directory;
    assert_int_not_equal(cycle_begin(&shared.cycle, NULL, &run, &error), STATUS_OK);
    shared.cycle.program_directory = NULL;
    assert_string_equal(reason_slug(error.reason), "engine-failed");
    assert_contains(error.message, "no-such-option");
    assert_null(strstr(error.message, "hunter2"));
    cycle_end(&run);
}

static int set_up_seeded(void **state)
{
    suite_set_up_objects(state);
    cycle_backup(&shared.cycle, NULL, &shared.seed);
    return 0;
}

int main(int argc, char **argv)
{
    int exit_code = 0;
    if (suite_prepare(argc, argv, &exit_code)) {
        return exit_code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verified_tls),
        cmocka_unit_test(test_source_restarts_in_the_middle),
        cmocka_unit_test(test_stall_and_cancel),
        cmocka_unit_test(test_wrong_credentials_are_named),
        cmocka_unit_test(test_a_failed_installation_is_told),
        cmocka_unit_test(test_a_full_disk_is_named),
        cmocka_unit_test(test_failover),
        cmocka_unit_test(test_purged_logs_are_named_at_once),
        cmocka_unit_test(test_diverged_sources_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up_seeded, suite_tear_down);
}
