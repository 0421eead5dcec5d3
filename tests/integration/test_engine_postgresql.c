// SPDX-License-Identifier: Apache-2.0
// Backups by the PostgreSQL engine, and what becomes of them. Red here means: a backup is not
// exactly the source at its checkpoint, a generation does not follow the one before, or something
// is left behind on the source.
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
#include "tests/integration/recorder_check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void test_generations_follow_each_other_exactly(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Writer writer;
    writer_start(&writer, site.primary);
    Cycle *parent = NULL;
    CLEANUP_FREE char *expected = string_copy("");
    for (int generation = 0; generation < 4; generation++) {
        Cycle *cycle = cycle_new(&site);
        cycle_begin(cycle, parent);
        CLEANUP_FREE char *before =
            string_format("INSERT INTO mark VALUES ('%d-before')", generation);
        CLEANUP_FREE char *after = string_format("INSERT INTO mark VALUES ('%d-late')", generation);
        cycle_wait_ready(cycle);
        scratch_postgres_run(site.primary, before);
        cycle_take(cycle);
        scratch_postgres_run(site.primary, after);
        cycle_finish(cycle);
        char *longer =
            string_format("%s%s%d-before", expected, generation > 0 ? " " : "", generation);
        mem_free(expected);
        expected = longer;
        cycle_assert_marks(cycle, expected);
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
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 1);
    assert_int_equal(scratch_postgres_number(site.primary,
                                             "SELECT count(*) FROM pg_replication_slots WHERE "
                                             "slot_name LIKE 'holdfast\\_keep\\_%'"),
                     1);
    Error error = {0};
    EngineSource source = cycle_source(site.primary);
    assert_ok(engine_forget_source("postgresql", &source, CYCLE_SHARD, &error), &error);
    secret_done(&source.password);
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 0);
}

static void test_prepared_directory_opens_by_hand_at_the_checkpoint(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done)
    CycleSite site = cycle_site_new("shared_buffers = 24MB\narchive_mode = on\n"
                                    "archive_command = 'false'\n");
    // What only the source has must not matter to a private start.
    scratch_postgres_run(site.primary, "ALTER SYSTEM SET shared_preload_libraries = 'not_here'");
    Cycle *cycle = cycle_new(&site);
    cycle_begin(cycle, NULL);
    cycle_wait_ready(cycle);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('before')");
    cycle_take(cycle);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('more')");
    cycle_take(cycle); // the barrier was repeated: the same name again
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('late')");
    cycle_finish(cycle);

    // Started just as they are, the files hold nothing behind the checkpoint.
    CLEANUP_FREE char *plain_data = path_join(site.directory, "plain");
    CLEANUP_FREE char *plain_log = path_join(site.directory, "plain.log");
    CLEANUP_FREE char *plain_conf = path_join(plain_data, "postgresql.auto.conf");
    cycle_copy_tree(cycle->published, plain_data);
    write_file(plain_conf, "archive_mode = off\n");
    ScratchPostgres plain = {.directory = plain_data,
                             .socket_directory = site.directory,
                             .log_path = plain_log,
                             .port = free_port()};
    scratch_postgres_start(&plain);
    CLEANUP_FREE char *plain_marks =
        scratch_postgres_text(&plain, "SELECT string_agg(text, ' ') FROM mark");
    assert_string_equal(plain_marks, "before more");
    scratch_postgres_stop(&plain);

    CLEANUP_FREE char *data = path_join(site.directory, "by-hand");
    CLEANUP_FREE char *work = path_join(site.directory, "w");
    cycle_copy_tree(cycle->published, data);
    int64_t started_ms = -1;
    Error error = {0};
    Engine *engine = cycle_open_restore(cycle, data, work);
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
                               .socket_directory = site.directory,
                               .log_path = path_join(site.directory, "by-hand.log"),
                               .port = free_port()};
    scratch_postgres_start(&by_hand);
    CLEANUP_FREE char *marks =
        scratch_postgres_text(&by_hand, "SELECT string_agg(text, ' ') FROM mark");
    assert_string_equal(marks, "before more");
    scratch_postgres_run(&by_hand, "INSERT INTO mark VALUES ('written')");
    scratch_postgres_stop(&by_hand);
    mem_free(by_hand.log_path);
    cycle_free(cycle);
}

// A run that is killed leaves its slot; the sweep takes it away, and only it.
static void test_a_killed_run_is_cleaned_up(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", site.primary->port);
    CLEANUP_FREE char *log = path_join(site.directory, "run.log");
    const char *arguments[] = {"setpriv", "--pdeathsig",  "KILL", cycle_program(),
                               "--hang",  site.directory, port,   NULL};
    ProcessOptions process = {.arguments = arguments, .output_path = log, .new_session = true};
    pid_t pid = 0;
    Error error = {0};
    assert_ok(process_spawn(&process, &pid, &error), &error);
    CLEANUP_FREE char *sign = path_join(site.directory, "following");
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
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 1);

    EngineSource source = cycle_source(site.primary);
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
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 0);
    secret_done(&source.password);
    // Its server went with it: nothing works on its directory any more.
    CLEANUP_FREE char *pid_path = path_join(site.directory, "77/data/postmaster.pid");
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
    ScratchPostgres server = {.port = (int)strtol(port, NULL, 10)};
    Cycle *cycle = cycle_new_in(directory, 77, &server);
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
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    Cycle *cycle = cycle_new(&site);
    cycle_begin(cycle, NULL);
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 1);
    cycle_wait_ready(cycle);
    cycle_take(cycle);
    CLEANUP_FREE char *work = string_copy(cycle->work);
    cycle_free(cycle); // uncommitted
    assert_int_equal(
        scratch_postgres_number(site.primary, "SELECT count(*) FROM pg_replication_slots"), 0);
    bool is_empty = false;
    Error error = {0};
    assert_ok(dir_is_empty(work, &is_empty, &error), &error);
    assert_true(is_empty);
}

static void test_a_bad_page_is_found(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("");
    CLEANUP_FREE char *relation =
        scratch_postgres_text(site.primary, "SELECT pg_relation_filepath('load')");
    Cycle *cycle = cycle_new(&site);
    cycle_run(cycle, NULL); // every page of it was checked
    assert_true(cycle->checked_file_count > 200);
    // The server's own tool agrees.
    CLEANUP_FREE char *tool = scratch_postgres_program("pg_checksums");
    CLEANUP_FREE char *data = path_join(site.directory, "checked");
    CLEANUP_FREE char *work = path_join(site.directory, "w");
    cycle_copy_tree(cycle->published, data);
    // As from a source that keeps its configuration outside the data directory.
    CLEANUP_FREE char *conf = path_join(data, "postgresql.conf");
    CLEANUP_FREE char *hba = path_join(data, "pg_hba.conf");
    assert_int_equal(unlink(conf), 0);
    assert_int_equal(unlink(hba), 0);
    Error error = {0};
    int64_t started_ms;
    Engine *engine = cycle_open_restore(cycle, data, work);
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

// An idle shard costs next to nothing: neither on the wire nor in changed pieces.
static void test_idle_generation_is_small(void **state)
{
    (void)state;
    CLEANUP(cycle_site_done) CycleSite site = cycle_site_new("max_wal_size = 512MB\n");
    scratch_postgres_run(site.primary, "INSERT INTO load(v) SELECT repeat(md5(g::text), 20) FROM "
                                       "generate_series(1, 120000) g");
    scratch_postgres_run(site.primary, "CHECKPOINT");
    Cycle *seed = cycle_new(&site);
    cycle_run(seed, NULL);
    Cycle *next = cycle_new(&site);
    cycle_begin(next, seed);
    cycle_wait_ready(next);
    scratch_postgres_run(site.primary, "INSERT INTO mark VALUES ('1')");
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

    // An engine that is killed has noted what it wrote.
    Cycle *killed = cycle_new(&site);
    RecorderCheck check = {0};
    cycle_begin(killed, next);
    scratch_postgres_run(site.primary, "UPDATE load SET v = 'new' WHERE id % 9 = 0");
    cycle_wait_replayed(killed, site.primary);
    recorder_check_kill(killed->data, "postmaster.pid");
    recorder_check_tree(killed->recorder, killed->data, next->published, &check);
    recorder_check_end(killed->recorder, &check, "killed");
    cycle_free(killed);
    cycle_free(next);
    cycle_free(seed);
}

int main(int argc, char **argv)
{
    int exit_code = 0;
    if (cycle_prepare(argc, argv, &exit_code)) {
        return exit_code;
    }
    if (argc == 4 && text_equal(argv[1], "--hang")) {
        hang(argv[2], argv[3]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generations_follow_each_other_exactly),
        cmocka_unit_test(test_prepared_directory_opens_by_hand_at_the_checkpoint),
        cmocka_unit_test(test_idle_generation_is_small),
        cmocka_unit_test(test_a_killed_run_is_cleaned_up),
        cmocka_unit_test(test_a_closed_run_leaves_nothing),
        cmocka_unit_test(test_a_bad_page_is_found),
    };
    cmocka_set_test_filter(argc == 2 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
