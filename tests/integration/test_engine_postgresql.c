// SPDX-License-Identifier: Apache-2.0
// The PostgreSQL engine against real servers. Red here means: a backup is not exactly the source at
// its checkpoint, a generation does not follow the one before, or something is left behind on the
// source.
#include "agent/engine/child.h"
#include "agent/engine/engine.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
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

static const char *program_path; // of this test: also the launcher of engine children

// A load of small transactions for as long as a test wants it.
typedef struct Writer {
    const ScratchPostgres *server;
    pthread_t thread;
    atomic_bool is_stopping;
    atomic_long count;
} Writer;

static void *write_load(void *argument)
{
    Writer *writer = argument;
    while (!atomic_load(&writer->is_stopping)) {
        if (cycle_try_sql(writer->server, "INSERT INTO load(v) SELECT repeat('x', 200) FROM "
                                          "generate_series(1, 20)")) {
            atomic_fetch_add(&writer->count, 1);
        }
        clock_sleep_ms(2);
    }
    return NULL;
}

static void writer_start(Writer *writer, const ScratchPostgres *server)
{
    *writer = (Writer){.server = server};
    assert_int_equal(pthread_create(&writer->thread, NULL, write_load, writer), 0);
}

static void writer_stop(Writer *writer)
{
    atomic_store(&writer->is_stopping, true);
    (void)pthread_join(writer->thread, NULL);
    assert_true(atomic_load(&writer->count) > 0);
}

static ScratchPostgres *new_primary(const char *directory, const char *name, const char *settings)
{
    ScratchPostgres *server = scratch_postgres_new(directory, name, settings);
    scratch_postgres_run(
        server, "CREATE TABLE mark(text text); CREATE TABLE load(id bigserial, v text);"
                "INSERT INTO load(v) SELECT repeat('y', 200) FROM generate_series(1, 20000)");
    return server;
}

// Rows of a served backup, as the user of the source sees them.
static void assert_marks(const Cycle *cycle, const char *expected)
{
    Arena *arena = arena_new();
    CLEANUP_FREE char *data = string_format("%s-restored", cycle->published);
    CLEANUP_FREE char *work = string_format("%s-work", cycle->published);
    cycle_copy_tree(cycle->published, data);
    int port = scratch_postgres_free_port();
    int64_t started_ms = -1;
    Error error = {0};
    Engine *engine = cycle_open_restore(cycle, data, work, program_path);
    assert_ok(engine_serve(engine, cycle->version, cycle->state, port, &started_ms, &error),
              &error);
    assert_in_range(started_ms, 1, 30000);
    CLEANUP_FREE char *marks =
        scratch_postgres_text_at("127.0.0.1", port, "reader", "readers' password",
                                 "SELECT string_agg(text, ' ' ORDER BY text) FROM mark");
    assert_string_equal(marks, expected);
    assert_ok(engine_check_alive(engine, &error), &error);
    engine_close(engine);
    Error removal = {0};
    assert_ok(dir_remove_all(data, &removal), &removal);
    arena_free(arena);
}

static void test_generations_follow_each_other_exactly(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    scratch_postgres_run(primary, "CREATE ROLE reader LOGIN PASSWORD $$readers' password$$;"
                                  "GRANT SELECT ON mark, load TO reader");
    Writer writer;
    writer_start(&writer, primary);
    Cycle *parent = NULL;
    CLEANUP_FREE char *expected = string_copy("");
    for (int generation = 0; generation < 4; generation++) {
        Cycle *cycle = cycle_new(directory, generation, primary, program_path);
        cycle_begin(cycle, parent);
        CLEANUP_FREE char *before =
            string_format("INSERT INTO mark VALUES ('%d-before')", generation);
        CLEANUP_FREE char *after = string_format("INSERT INTO mark VALUES ('%d-late')", generation);
        cycle_wait_ready(cycle);
        scratch_postgres_run(primary, before);
        cycle_take(cycle);
        scratch_postgres_run(primary, after);
        cycle_finish(cycle);
        char *longer =
            string_format("%s%s%d-before", expected, generation > 0 ? " " : "", generation);
        mem_free(expected);
        expected = longer;
        assert_marks(cycle, expected);
        assert_int_equal(cycle_timeline(cycle), 1);
        longer = string_format("%s %d-late", expected, generation);
        mem_free(expected);
        expected = longer;
        cycle_free(parent);
        parent = cycle;
    }
    writer_stop(&writer);
    cycle_free(parent);
    // Only what keeps the WAL for the next generation is left on the source.
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     1);
    assert_int_equal(scratch_postgres_number(primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "slot_name LIKE 'holdfast\\_keep\\_%'"),
                     1);
    Error error = {0};
    EngineSource source = cycle_source(primary);
    assert_ok(engine_forget_source("postgresql", &source, CYCLE_SHARD, &error), &error);
    secret_done(&source.password);
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     0);
}

static void test_prepared_directory_opens_by_hand_at_the_checkpoint(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary",
                                           "shared_buffers = 24MB\narchive_mode = on\n"
                                           "archive_command = 'false'\n");
    // What only the source has must not matter to a private start.
    scratch_postgres_run(primary, "ALTER SYSTEM SET shared_preload_libraries = 'not_here'");
    Cycle *cycle = cycle_new(directory, 0, primary, program_path);
    cycle_begin(cycle, NULL);
    cycle_wait_ready(cycle);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('before')");
    cycle_take(cycle);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(cycle);

    // Started just as they are, the files hold nothing behind the checkpoint.
    CLEANUP_FREE char *plain_data = path_join(directory, "plain");
    CLEANUP_FREE char *plain_log = path_join(directory, "plain.log");
    CLEANUP_FREE char *plain_conf = path_join(plain_data, "postgresql.auto.conf");
    cycle_copy_tree(cycle->published, plain_data);
    write_file(plain_conf, "archive_mode = off\n");
    ScratchPostgres plain = {.directory = plain_data,
                             .socket_directory = directory,
                             .log_path = plain_log,
                             .port = scratch_postgres_free_port()};
    scratch_postgres_start(&plain);
    CLEANUP_FREE char *plain_marks =
        scratch_postgres_text(&plain, "SELECT string_agg(text, ' ') FROM mark");
    assert_string_equal(plain_marks, "before");
    scratch_postgres_stop(&plain);

    CLEANUP_FREE char *data = path_join(directory, "by-hand");
    CLEANUP_FREE char *work = path_join(directory, "w");
    cycle_copy_tree(cycle->published, data);
    int64_t started_ms = -1;
    Error error = {0};
    Engine *engine = cycle_open_restore(cycle, data, work, program_path);
    assert_ok(engine_serve(engine, cycle->version, cycle->state, 0, &started_ms, &error), &error);
    engine_close(engine);

    CLEANUP_FREE char *auto_conf = path_join(data, "postgresql.auto.conf");
    CLEANUP_FREE char *text = NULL;
    size_t size;
    assert_ok(file_read(auto_conf, 65536, &text, &size, &error), &error);
    assert_contains(text, "not_here"); // the source's configuration is kept as it is ...
    assert_contains(text, "archive_mode = 'off'"); // ... but must not write into its archive
    write_file(auto_conf, "archive_mode = off\n");

    ScratchPostgres by_hand = {.directory = data,
                               .socket_directory = directory,
                               .log_path = path_join(directory, "by-hand.log"),
                               .port = scratch_postgres_free_port()};
    scratch_postgres_start(&by_hand);
    CLEANUP_FREE char *marks =
        scratch_postgres_text(&by_hand, "SELECT string_agg(text, ' ') FROM mark");
    assert_string_equal(marks, "before");
    scratch_postgres_run(&by_hand, "INSERT INTO mark VALUES ('written')");
    scratch_postgres_stop(&by_hand);
    mem_free(by_hand.log_path);
    cycle_free(cycle);
}

static void test_logs_gone(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary",
                                           "max_slot_wal_keep_size = 32MB\nmax_wal_size = 64MB\n"
                                           "min_wal_size = 32MB\n");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);
    for (int i = 0; i < 8; i++) {
        scratch_postgres_run(primary, "INSERT INTO mark VALUES ('x')");
        scratch_postgres_run(primary, "SELECT pg_switch_wal()");
    }
    scratch_postgres_run(primary, "CHECKPOINT");
    scratch_postgres_run(primary, "CHECKPOINT");
    assert_int_equal(scratch_postgres_number(primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "wal_status = 'lost'"),
                     1);
    Cycle *next = cycle_new(directory, 1, primary, program_path);
    Error error = {0};
    assert_int_not_equal(cycle_try_ready(next, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_LOGS_GONE);
    assert_contains(error.hint, "max_slot_wal_keep_size");
    cycle_free(next);
    // A new seed puts the lineage right again.
    Cycle *again = cycle_new(directory, 2, primary, program_path);
    cycle_run(again, NULL);
    assert_int_equal(scratch_postgres_number(primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "wal_status = 'reserved'"),
                     1);
    cycle_free(again);
    cycle_free(seed);
}

static void test_another_cluster_is_refused(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    CLEANUP(scratch_postgres_freep) ScratchPostgres *other = new_primary(directory, "other", "");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new(directory, 1, other, program_path);
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
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "wal_keep_size = 256MB\n");
    scratch_postgres_run(primary, "CREATE ROLE reader LOGIN PASSWORD $$readers' password$$;"
                                  "GRANT SELECT ON mark, load TO reader");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *early = scratch_postgres_new_standby(primary, directory, "early");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *good = scratch_postgres_new_standby(primary, directory, "good");
    scratch_postgres_run(early, "SELECT pg_promote()");
    scratch_postgres_run(early, "CHECKPOINT");

    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('1')");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);

    Cycle *refused = cycle_new(directory, 1, early, program_path);
    Error error = {0};
    assert_int_not_equal(cycle_try_ready(refused, seed, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_DIVERGED);
    assert_contains(error.message, "timeline");
    cycle_free(refused);

    // In the middle of a run: the source's address leads to the new primary from one moment to the
    // next.
    Cycle *next = cycle_new(directory, 2, primary, program_path);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('2')");
    scratch_postgres_stop(primary); // a shutdown waits until its standby has everything
    scratch_postgres_run(good, "SELECT pg_promote()");
    scratch_postgres_stop(good);
    good->port = primary->port;
    scratch_postgres_start(good);
    scratch_postgres_run(good, "INSERT INTO mark VALUES ('3')");
    cycle_wait_ready(next);
    cycle_take(next);
    scratch_postgres_run(good, "INSERT INTO mark VALUES ('late')");
    cycle_finish(next);
    assert_int_equal(cycle_timeline(next), 2);
    assert_marks(next, "1 2 3");

    Cycle *third = cycle_new(directory, 3, good, program_path);
    cycle_run(third, next);
    assert_marks(third, "1 2 3 late");
    cycle_free(third);
    cycle_free(next);
    cycle_free(seed);
}

static void test_source_restarts_in_the_middle(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    scratch_postgres_run(primary, "CREATE ROLE reader LOGIN PASSWORD $$readers' password$$;"
                                  "GRANT SELECT ON mark, load TO reader");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new(directory, 1, primary, program_path);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    // Raising a limit that standbys must follow makes it harder.
    scratch_postgres_run(primary, "ALTER SYSTEM SET max_connections = 150");
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('1')");
    int64_t begun_ms = clock_monotonic_ms();
    scratch_postgres_stop(primary);
    assert_true(clock_monotonic_ms() - begun_ms < 10000); // our stream does not hold up a shutdown
    scratch_postgres_start(primary);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('2')");
    cycle_wait_ready(next);
    scratch_postgres_kill(primary);
    CLEANUP_FREE char *pid_file = path_join(primary->directory, "postmaster.pid");
    (void)unlink(pid_file); // its number may be another process's by now
    scratch_postgres_start(primary);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('3')");
    cycle_wait_ready(next);
    cycle_take(next);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(next);
    assert_marks(next, "1 2 3");
    cycle_free(next);
    cycle_free(seed);
}

static void test_tls_is_verified(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    char *certificate = NULL;
    char *key = NULL;
    char *other_certificate = NULL;
    char *other_key = NULL;
    Error error = {0};
    assert_ok(crypto_self_signed_certificate("localhost", 1, &certificate, &key, &error), &error);
    assert_ok(
        crypto_self_signed_certificate("localhost", 1, &other_certificate, &other_key, &error),
        &error);
    CLEANUP_FREE char *certificate_path = path_join(primary->directory, "server.crt");
    CLEANUP_FREE char *key_path = path_join(primary->directory, "server.key");
    CLEANUP_FREE char *hba = path_join(primary->directory, "pg_hba.conf");
    write_file(certificate_path, certificate);
    write_file(key_path, key);
    assert_int_equal(chmod(key_path, 0600), 0);
    write_file(hba, "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
                    "hostssl replication holdfast 127.0.0.1/32 scram-sha-256\n");
    scratch_postgres_run(primary, "ALTER SYSTEM SET ssl = on");
    scratch_postgres_stop(primary);
    scratch_postgres_start(primary);

    EngineSource source = cycle_source(primary);
    EngineInfo info;
    source.host = "localhost";
    source.tls_mode = "verify-full";
    source.tls_ca_pem = other_certificate;
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_TLS);
    source.tls_ca_pem = certificate;
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    assert_int_equal(info.problem_count, 0);
    source.tls_mode = "disable";
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_AUTHENTICATION);
    secret_done(&source.password);

    Cycle *seed = cycle_new_verified(directory, 0, primary, program_path, certificate);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new_verified(directory, 1, primary, program_path, certificate);
    cycle_run(next, seed);
    cycle_free(next);
    cycle_free(seed);
    mem_free(certificate);
    mem_free(key);
    mem_free(other_certificate);
    mem_free(other_key);
}

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
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    EngineSource source = cycle_source(primary);
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
        scratch_postgres_text(primary, "SELECT system_identifier FROM pg_control_system()");
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
    source.port = scratch_postgres_free_port();
    assert_int_not_equal(engine_probe("postgresql", &source, 5000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_UNREACHABLE);
    secret_done(&source.password);
}

static void test_probe_names_everything_missing(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary =
        new_primary(directory, "primary",
                    "wal_level = minimal\nmax_wal_senders = 0\n"
                    "max_replication_slots = 1\nmax_slot_wal_keep_size = -1\n");
    scratch_postgres_run(primary,
                         "ALTER ROLE holdfast NOREPLICATION;"
                         "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM holdfast");
    CLEANUP_FREE char *space = path_join(directory, "space");
    assert_int_equal(mkdir(space, 0700), 0);
    CLEANUP_FREE char *create =
        string_format("CREATE TABLESPACE \"far away\" LOCATION '%s'", space);
    scratch_postgres_run(primary, create);
    EngineSource source = cycle_source(primary);
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
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *standby = scratch_postgres_new_standby(primary, directory, "standby");
    EngineSource source = cycle_source(standby);
    EngineInfo info;
    Error error = {0};
    assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "is a standby", "primary");
    CLEANUP_FREE char *hba = path_join(primary->directory, "pg_hba.conf");
    write_file(hba, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    scratch_postgres_run(primary, "SELECT pg_reload_conf()");
    source.port = primary->port;
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    do { // the reload takes a moment
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_ok(engine_probe("postgresql", &source, 5000, &info, &error), &error);
    } while (info.problem_count == 0);
    assert_problem(&info, REASON_SOURCE_CONFIGURATION, "refuses replication connections",
                   "host replication holdfast 127.0.0.1/32 scram-sha-256");
    secret_done(&source.password);
}

// A run that is killed leaves its slot; the sweep takes it away, and only it.
static void test_a_killed_run_is_cleaned_up(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", primary->port);
    CLEANUP_FREE char *log = path_join(directory, "run.log");
    const char *arguments[] = {"setpriv", "--pdeathsig", "KILL", program_path,
                               "--hang",  directory,     port,   NULL};
    ProcessOptions process = {.arguments = arguments, .output_path = log, .new_session = true};
    pid_t pid = 0;
    Error error = {0};
    assert_ok(process_spawn(&process, &pid, &error), &error);
    CLEANUP_FREE char *sign = path_join(directory, "following");
    int64_t deadline_ms = clock_monotonic_ms() + 60000;
    while (access(sign, F_OK) != 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
    (void)kill(pid, SIGKILL);
    bool is_done = false;
    int code;
    assert_ok(process_wait(pid, 10000, &is_done, &code, &error), &error);
    assert_true(is_done);
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     1);

    EngineSource source = cycle_source(primary);
    int removed = -1;
    const char *alive[] = {"instance-77", NULL};
    assert_ok(engine_clean_source("postgresql", &source, CYCLE_SHARD, alive, &removed, &error),
              &error);
    assert_int_equal(removed, 0);
    const char *others[] = {"instance-78", NULL};
    assert_ok(engine_clean_source("postgresql", &source, "another shard", others, &removed, &error),
              &error);
    assert_int_equal(removed, 0);
    assert_ok(engine_clean_source("postgresql", &source, CYCLE_SHARD, others, &removed, &error),
              &error);
    assert_int_equal(removed, 1);
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     0);
    secret_done(&source.password);
    // Its server went with it: nothing works on its directory any more.
    CLEANUP_FREE char *pid_path = path_join(directory, "77/data/postmaster.pid");
    CLEANUP_FREE char *text = NULL;
    size_t size;
    assert_ok(file_read(pid_path, 4096, &text, &size, &error), &error);
    pid_t server = (pid_t)strtol(text, NULL, 10);
    while (kill(server, 0) == 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
}

// The body of the process that the test above kills.
static _Noreturn void hang(const char *directory, const char *port)
{
    ScratchPostgres primary = {.port = (int)strtol(port, NULL, 10)};
    Cycle *cycle = cycle_new(directory, 77, &primary, program_path);
    cycle_begin(cycle, NULL);
    CLEANUP_FREE char *sign = path_join(directory, "following");
    write_file(sign, "");
    for (;;) {
        clock_sleep_ms(1000);
    }
}

static void test_a_closed_run_leaves_nothing(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    Cycle *cycle = cycle_new(directory, 0, primary, program_path);
    cycle_begin(cycle, NULL);
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     1);
    cycle_wait_ready(cycle);
    cycle_take(cycle);
    CLEANUP_FREE char *work = string_copy(cycle->work);
    cycle_free(cycle); // uncommitted
    assert_int_equal(scratch_postgres_number(primary, "SELECT count(*) FROM pg_replication_slots"),
                     0);
    bool is_empty = false;
    Error error = {0};
    assert_ok(dir_is_empty(work, &is_empty, &error), &error);
    assert_true(is_empty);
}

static void test_a_bad_page_is_found(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    CLEANUP_FREE char *relation =
        scratch_postgres_text(primary, "SELECT pg_relation_filepath('load')");
    Cycle *cycle = cycle_new(directory, 0, primary, program_path);
    cycle_run(cycle, NULL); // every page of it was checked
    assert_true(cycle->checked_file_count > 200);
    // The server's own tool agrees.
    CLEANUP_FREE char *tool = scratch_postgres_program("pg_checksums");
    CLEANUP_FREE char *data = path_join(directory, "checked");
    CLEANUP_FREE char *work = path_join(directory, "w");
    cycle_copy_tree(cycle->published, data);
    // As from a source that keeps its configuration outside the data directory.
    CLEANUP_FREE char *conf = path_join(data, "postgresql.conf");
    CLEANUP_FREE char *hba = path_join(data, "pg_hba.conf");
    assert_int_equal(unlink(conf), 0);
    assert_int_equal(unlink(hba), 0);
    Error error = {0};
    int64_t started_ms;
    Engine *engine = cycle_open_restore(cycle, data, work, program_path);
    assert_ok(engine_serve(engine, cycle->version, cycle->state, 0, &started_ms, &error), &error);
    engine_close(engine);
    assert_int_equal(access(conf, R_OK), 0);
    assert_int_equal(access(hba, R_OK), 0);
    const char *arguments[] = {tool, "--check", "-D", data, NULL};
    ProcessOptions process = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 65536);
    assert_ok(process_run(&process, 60000, REASON_INTERNAL, &output, &error), &error);

    CLEANUP_FREE char *path = path_join(cycle->published, relation);
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "!", 1, 8192 * 3 + 4000), 1);
    char bad_file[256];
    int64_t bad_page = -1;
    assert_false(cycle_check_pages(cycle, bad_file, &bad_page));
    assert_string_equal(bad_file, relation);
    assert_int_equal(bad_page, 3);
    cycle_free(cycle);
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
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    Cycle *cycle = cycle_new(directory, 0, primary, program_path);
    cycle_begin(cycle, NULL);
    cycle_wait_ready(cycle);
    scratch_postgres_run(primary,
                         "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM holdfast");
    take_and_expect(cycle, REASON_SOURCE_PRIVILEGES, "GRANT EXECUTE ON FUNCTION");
    scratch_postgres_run(primary,
                         "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO holdfast");

    // The source answers, but its WAL does not come any more.
    pid_t sender = (pid_t)scratch_postgres_number(
        primary, "SELECT pid FROM pg_stat_replication WHERE application_name = 'holdfast'");
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

static void test_a_damaged_parent_is_unrestorable(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);
    Error error = {0};
    Cycle *other = cycle_new(directory, 1, primary, program_path);
    cycle_copy_tree(seed->published, other->data);
    assert_int_not_equal(engine_adopt(other->engine, "9.6.1", seed->state, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_ENGINE_VERSION);
    cycle_free(other);

    CLEANUP_FREE char *control = path_join(seed->published, "global/pg_control");
    CLEANUP(fd_closep) int fd = open(control, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "damaged!", 8, 40), 8);
    Cycle *next = cycle_new(directory, 2, primary, program_path);
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
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "");
    scratch_postgres_run(primary, "CREATE ROLE reader LOGIN PASSWORD $$readers' password$$;"
                                  "GRANT SELECT ON mark, load TO reader");
    CLEANUP_FREE char *port = string_format("%d", primary->port);
    CLEANUP_FREE char *psql = scratch_postgres_program("psql");
    CLEANUP_FREE char *log = path_join(directory, "psql.log");
    const char *arguments[] = {
        "setpriv",
        "--pdeathsig",
        "KILL",
        psql,
        "-X",
        "-h",
        directory,
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
               primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") ==
           0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_begin(seed, NULL);
    cycle_wait_ready(seed);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('1')");
    cycle_take(seed);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(seed);
    process_stop(pid, SIGKILL, 1000);
    assert_marks(seed, "1");
    cycle_free(seed);
}

// An idle shard costs next to nothing: neither on the wire nor in changed pieces.
static void test_idle_generation_is_small(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(scratch_postgres_freep)
    ScratchPostgres *primary = new_primary(directory, "primary", "max_wal_size = 512MB\n");
    scratch_postgres_run(primary, "INSERT INTO load(v) SELECT repeat(md5(g::text), 20) FROM "
                                  "generate_series(1, 120000) g");
    scratch_postgres_run(primary, "CHECKPOINT");
    Cycle *seed = cycle_new(directory, 0, primary, program_path);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new(directory, 1, primary, program_path);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    scratch_postgres_run(primary, "INSERT INTO mark VALUES ('1')");
    cycle_take(next);
    cycle_finish(next);
    int64_t size_bytes = 0;
    Error error = {0};
    assert_ok(dir_size(next->published, &size_bytes, NULL, &error), &error);
    int64_t changed_bytes = cycle_changed_bytes(seed, next);
    print_message("idle generation: %lld bytes, received %lld, changed %lld\n",
                  (long long)size_bytes, (long long)next->received_bytes, (long long)changed_bytes);
    assert_true(size_bytes > 100 * 1000 * 1000);
    assert_true(next->received_bytes * 100 < size_bytes * 2);
    assert_true(changed_bytes * 100 < size_bytes * 2);
    cycle_free(next);
    cycle_free(seed);
}

int main(int argc, char **argv)
{
    if (argc > 2 && text_equal(argv[1], "--child")) {
        return child_main(argc, argv);
    }
    program_path = argv[0];
    if (!scratch_postgres_is_installed()) {
        (void)fprintf(stderr, "PostgreSQL is not installed: skipped\n");
        return 77;
    }
    if (argc == 4 && text_equal(argv[1], "--hang")) {
        hang(argv[2], argv[3]);
    }
    static char own_path[4096];
    ssize_t size = readlink("/proc/self/exe", own_path, sizeof(own_path) - 1);
    assert_true(size > 0);
    program_path = own_path;
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_of_a_ready_source),
        cmocka_unit_test(test_probe_names_everything_missing),
        cmocka_unit_test(test_probe_finds_hba_and_standby),
        cmocka_unit_test(test_tls_is_verified),
        cmocka_unit_test(test_generations_follow_each_other_exactly),
        cmocka_unit_test(test_prepared_directory_opens_by_hand_at_the_checkpoint),
        cmocka_unit_test(test_idle_generation_is_small),
        cmocka_unit_test(test_logs_gone),
        cmocka_unit_test(test_another_cluster_is_refused),
        cmocka_unit_test(test_failover),
        cmocka_unit_test(test_source_restarts_in_the_middle),
        cmocka_unit_test(test_a_killed_run_is_cleaned_up),
        cmocka_unit_test(test_a_closed_run_leaves_nothing),
        cmocka_unit_test(test_a_bad_page_is_found),
        cmocka_unit_test(test_failures_have_names),
        cmocka_unit_test(test_a_damaged_parent_is_unrestorable),
        cmocka_unit_test(test_a_transaction_with_many_subtransactions),
    };
    cmocka_set_test_filter(argc == 2 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
