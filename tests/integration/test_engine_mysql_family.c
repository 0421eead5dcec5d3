// SPDX-License-Identifier: Apache-2.0
// The MariaDB and MySQL engines against real servers; built once for each. Red here means: a backup
// is not exactly the source at its checkpoint, accounts or objects are lost, a generation does not
// follow the one before, a page error goes unseen, or a failure of the source has no name.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/integration/mysql_cycle.h"
#include "tests/integration/mysql_suite.h"
#include "tests/integration/recorder_check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_probe(void **state)
{
    (void)state;
    Error error = {0};
    EngineInfo info = {0};
    EngineSource source = scratch_mysql_source(shared.source);
    assert_ok(engine_probe(engine_name, &source, 10000, &info, &error), &error);
    for (size_t i = 0; i < info.problem_count; i++) {
        print_error("problem: %s\n", info.problems[i].message);
    }
    assert_int_equal(info.problem_count, 0);
    assert_true(info.has_page_checksums);
    assert_true(info.size_bytes > 100000);
    assert_true(info.version_number > 80000);
    assert_true(info.position[0] != '\0' && info.server_identity[0] != '\0');
    // The wrong engine is said first.
    assert_ok(engine_probe(is_mysql ? "mariadb" : "mysql", &source, 10000, &info, &error), &error);
    assert_int_equal(info.problem_count, 1);
    assert_int_equal(info.problems[0].reason, REASON_ENGINE_VERSION);
    secret_done(&source.password);

    source.password = secret_from_text("wrong");
    assert_int_equal(engine_probe(engine_name, &source, 10000, &info, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_SOURCE_AUTHENTICATION);
    assert_true(strstr(error.message, "wrong") == NULL);
    source.port = free_port();
    assert_int_equal(engine_probe(engine_name, &source, 10000, &info, &error), STATUS_UNAVAILABLE);
    assert_int_equal(error.reason, REASON_SOURCE_UNREACHABLE);
    source.port = shared.source->port;
    source.tls_mode = "verify-full"; // with whose certificates?
    assert_int_not_equal(engine_probe(engine_name, &source, 10000, &info, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_TLS);
    assert_contains(error.hint, "tls_ca");
    secret_done(&source.password);
}

static bool has_problem(const EngineInfo *info, Reason reason, const char *message,
                        const char *cure)
{
    for (size_t i = 0; i < info->problem_count; i++) {
        if (info->problems[i].reason == reason &&
            strstr(info->problems[i].message, message) != NULL &&
            strstr(info->problems[i].cure, cure) != NULL) {
            return true;
        }
    }
    return false;
}

// Each missing privilege has the statement that grants it, and running the statements is enough.
static void test_probe_names_missing_privileges(void **state)
{
    (void)state;
    Error error = {0};
    EngineInfo info = {0};
    scratch_mysql_run(shared.source, "CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'x'");
    EngineSource source = scratch_mysql_source(shared.source);
    secret_done(&source.password);
    source.username = "poor";
    source.password = secret_from_text("x");
    assert_ok(engine_probe(engine_name, &source, 10000, &info, &error), &error);
    assert_true(info.problem_count >= 3);
    assert_true(has_problem(&info, REASON_SOURCE_PRIVILEGES, "REPLICATION SLAVE",
                            "GRANT REPLICATION SLAVE ON *.* TO 'poor'@'127.0.0.1';"));
    for (size_t i = 0; i < info.problem_count; i++) {
        assert_int_equal(info.problems[i].reason, REASON_SOURCE_PRIVILEGES);
        CLEANUP_FREE char *cure = string_copy(info.problems[i].cure);
        *strrchr(cure, ';') = '\0';
        scratch_mysql_run(shared.source, cure);
    }
    assert_ok(engine_probe(engine_name, &source, 10000, &info, &error), &error);
    assert_int_equal(info.problem_count, 0);
    secret_done(&source.password);
    scratch_mysql_run(shared.source, "DROP USER poor@'127.0.0.1'");
}

static void test_probe_names_missing_settings(void **state)
{
    (void)state;
    static const char *const bad[] = {"--skip-log-bin", NULL};
    static const char *const bad_mysql[] = {"--skip-log-bin", "--gtid-mode=OFF",
                                            "--enforce-gtid-consistency=OFF", NULL};
    Error error = {0};
    EngineInfo info = {0};
    scratch_mysql_stop(shared.source);
    shared.source->options = is_mysql ? bad_mysql : bad;
    scratch_mysql_start(shared.source);
    EngineSource source = scratch_mysql_source(shared.source);
    assert_ok(engine_probe(engine_name, &source, 10000, &info, &error), &error);
    assert_true(has_problem(&info, REASON_SOURCE_CONFIGURATION, "binary log is off", "log_bin"));
    if (is_mysql) {
        assert_true(has_problem(&info, REASON_SOURCE_CONFIGURATION, "gtid_mode",
                                "SET PERSIST gtid_mode = ON"));
    }
    secret_done(&source.password);
    scratch_mysql_stop(shared.source);
    static const char *const none[] = {NULL};
    shared.source->options = none;
    scratch_mysql_start(shared.source);
}

static void test_seed_has_everything(void **state)
{
    (void)state;
    cycle_backup(&shared.cycle, NULL, &shared.seed);
    assert_true(shared.seed.checked_pages_files > 8);
    assert_true(shared.seed.received_bytes > 100000);
    assert_same_as_source(&shared.seed);
}

// A load of small transactions: each adds one row to shop.log.
typedef struct Writer {
    pthread_t thread;
    atomic_bool is_stopping;
    atomic_long count;
} Writer;

static void *write_load(void *argument)
{
    Writer *writer = argument;
    while (!atomic_load(&writer->is_stopping)) {
        if (scratch_mysql_try(shared.source,
                              "INSERT INTO shop.log (text) VALUES (REPEAT('w', 100))")) {
            atomic_fetch_add(&writer->count, 1);
        }
        clock_sleep_ms(1);
    }
    return NULL;
}

static void writer_start(Writer *writer)
{
    *writer = (Writer){0};
    assert_int_equal(pthread_create(&writer->thread, NULL, write_load, writer), 0);
}

static void writer_stop(Writer *writer)
{
    atomic_store(&writer->is_stopping, true);
    (void)pthread_join(writer->thread, NULL);
    assert_true(atomic_load(&writer->count) > 0);
}

static int64_t log_rows(const CycleBackup *backup)
{
    Error error = {0};
    CycleRun run = {0};
    int port = 0;
    assert_ok(cycle_serve(&shared.cycle, backup, &port, &run, &error), &error);
    MysqlClient *client = suite_connect(port, "app", "app-secret", &error);
    assert_non_null(client);
    CLEANUP_FREE char *text = scratch_mysql_rows(client, "SELECT COUNT(*) FROM shop.log");
    mysql_client_free(client);
    cycle_end(&run);
    return strtoll(text, NULL, 10);
}

// Under constant writes, three generations deep: each backup has exactly the transactions up to its
// checkpoint.
static void test_generations_are_exact(void **state)
{
    (void)state;
    CycleBackup generations[4] = {0};
    Writer writer;
    CLEANUP_FREE char *position =
        scratch_mysql_text(shared.source, is_mysql ? "SELECT @@global.gtid_executed"
                                                   : "SELECT @@global.gtid_binlog_pos");
    int64_t before = last_transaction(position) -
                     scratch_mysql_number(shared.source, "SELECT COUNT(*) FROM shop.log");
    writer_start(&writer);
    for (size_t i = 0; i < ARRAY_COUNT(generations); i++) {
        cycle_backup(&shared.cycle, i == 0 ? NULL : &generations[i - 1], &generations[i]);
    }
    writer_stop(&writer);
    // A row too many or too few in between would still be so in the last one.
    for (size_t i = 0; i < ARRAY_COUNT(generations); i += ARRAY_COUNT(generations) - 1) {
        assert_int_equal(log_rows(&generations[i]),
                         last_transaction(generations[i].checkpoint.position) - before);
    }
    assert_true(last_transaction(generations[3].checkpoint.position) >
                last_transaction(generations[0].checkpoint.position));
}

// What happened after the seed is replayed: accounts and schema too, and nothing after the
// checkpoint.
static void test_accounts_and_schema_are_replayed(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    CycleBackup backup = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    scratch_mysql_run(shared.source, "CREATE USER late@'127.0.0.1' IDENTIFIED BY 'late-secret';\n"
                                     "GRANT SELECT ON shop.* TO late@'127.0.0.1';\n"
                                     "REVOKE reader FROM app@'127.0.0.1';\n"
                                     "FLUSH PRIVILEGES;\n"
                                     "CREATE TABLE shop.later (id INT PRIMARY KEY);\n"
                                     "INSERT INTO shop.later VALUES (1);\n"
                                     "CREATE EVENT shop.later_event ON SCHEDULE EVERY 1 DAY STARTS "
                                     "'2035-01-01 00:00:00' DO DO 1;\n"
                                     "INSERT INTO shop.parts VALUES (55, 'fires triggers');\n");
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    assert_true(checkpoint.taken_us > 0 && checkpoint.server_identity[0] != '\0');
    scratch_mysql_run(shared.source, "INSERT INTO shop.later VALUES (2)");
    assert_ok(cycle_finish(&run, &checkpoint, &backup, &error), &error);
    cycle_end(&run);

    int port = 0;
    assert_ok(cycle_serve(&shared.cycle, &backup, &port, &run, &error), &error);
    MysqlClient *late = suite_connect(port, "late", "late-secret", &error);
    assert_non_null(late);
    CLEANUP_FREE char *rows = scratch_mysql_rows(late, "SELECT id FROM shop.later");
    assert_string_equal(rows, "1");
    mysql_client_free(late);
    cycle_end(&run);
    scratch_mysql_run(shared.source, "DELETE FROM shop.later WHERE id = 2");
    cycle_backup(&shared.cycle, &backup, &backup);
    assert_same_as_source(&backup);
}

#if TEST_IS_MYSQL
// A clone would lose the rows of such a table, so the seed is refused.
static void test_tables_that_cannot_be_cloned(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    scratch_mysql_run(shared.source, "CREATE TABLE shop.plain (id INT PRIMARY KEY) ENGINE=MyISAM;\n"
                                     "INSERT INTO shop.plain VALUES (1)");
    assert_int_not_equal(cycle_begin(&shared.cycle, NULL, &run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_SOURCE_CONFIGURATION);
    assert_contains(error.hint, "ALTER TABLE shop.plain ENGINE = InnoDB;");
    cycle_end(&run);
    scratch_mysql_run(shared.source, "DROP TABLE shop.plain");
}
#endif

// An idle shard costs almost nothing: neither bytes from the source nor changed extents.
static void test_idle_generation_is_small(void **state)
{
    (void)state;
    scratch_mysql_run(shared.source, "CREATE TABLE IF NOT EXISTS shop.bulk (id INT AUTO_INCREMENT "
                                     "PRIMARY KEY, v VARCHAR(1000))");
    scratch_mysql_run(shared.source, "INSERT INTO shop.bulk (v) SELECT REPEAT(UUID(), 27) FROM "
                                     "information_schema.COLUMNS LIMIT 2000");
    int doublings = getenv("CYCLE_DOUBLINGS") == NULL ? 4 : atoi(getenv("CYCLE_DOUBLINGS"));
    for (int i = 0; i < doublings; i++) {
        scratch_mysql_run(shared.source,
                          "INSERT INTO shop.bulk (v) SELECT REPEAT(UUID(), 27) FROM shop.bulk");
    }
    CycleBackup seed = {0}, first = {0}, second = {0};
    int64_t begin_ms = clock_monotonic_ms();
    cycle_backup(&shared.cycle, NULL, &seed);
    int64_t seeded_ms = clock_monotonic_ms();
    cycle_backup(&shared.cycle, &seed, &first);
    int64_t first_ms = clock_monotonic_ms();
    cycle_backup(&shared.cycle, &first, &second);
    print_message(
        "size %lld; received %lld, %lld, %lld; changed extents %lld, %lld; ms %lld, %lld, %lld\n",
        (long long)seed.size_bytes, (long long)seed.received_bytes, (long long)first.received_bytes,
        (long long)second.received_bytes, (long long)first.changed_bytes,
        (long long)second.changed_bytes, (long long)(seeded_ms - begin_ms),
        (long long)(first_ms - seeded_ms), (long long)(clock_monotonic_ms() - first_ms));
    assert_true(first.received_bytes > 0 && first.received_bytes < 200000);
    assert_true(second.received_bytes < 200000);
    assert_true(second.changed_bytes < 4 * 1024 * 1024);
}

static void flip_byte(const char *path, off_t offset)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

#if !TEST_IS_MYSQL
// MariaDB's own tool judges a file.
static bool innochecksum_accepts(const char *path)
{
    const char *const arguments[] = {"innochecksum", path, NULL};
    ProcessOptions options = {.arguments = arguments, .output_path = "/dev/null"};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 65536);
    Error error = {0};
    return process_run(&options, 60000, REASON_PAGE_CORRUPT, &output, &error) == STATUS_OK;
}

// An independent judge agrees: on good files and on a bad one.
static void test_innochecksum_agrees(void **state)
{
    (void)state;
    // Not ibdata1: MariaDB 11's tool refuses the doublewrite pages in any server's.
    static const char *const paths[] = {"shop/log.ibd", "shop/packed.ibd", "shop/page_packed.ibd",
                                        "shop/types.ibd"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        CLEANUP_FREE char *path = path_join(shared.seed.directory, paths[i]);
        assert_true(innochecksum_accepts(path)); // the seed's files have passed our own check
    }
    CLEANUP_FREE char *path = path_join(shared.seed.directory, "shop/types.ibd");
    flip_byte(path, 3 * 16384 + 5000);
    assert_false(innochecksum_accepts(path));
    flip_byte(path, 3 * 16384 + 5000);
}
#endif

// -1: all are good.
static int64_t first_bad_page(const EngineLayout *layout, const char *name, const char *path)
{
    int64_t bad_page = -1;
    for (size_t i = 0; i < layout->file_count; i++) {
        if (text_equal(layout->files[i].path, name)) {
            CLEANUP_FREE char *data = NULL;
            size_t size = 0;
            Error error = {0};
            assert_ok(file_read(path, 256 * 1024 * 1024, &data, &size, &error), &error);
            bool is_good = layout->files[i].check(layout->files[i].context, (const uint8_t *)data,
                                                  size, 0, &bad_page);
            assert_int_equal(is_good, bad_page < 0);
            return bad_page;
        }
    }
    fail_msg("'%s' is no part of the backup", name);
    return -1;
}

// Every byte counts: one flipped bit anywhere in a tablespace is found, and named.
static void test_bad_pages_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        off_t offset;
        int page;
    } damages[] = {{"shop/log.ibd", 3 * 16384 + 8000, 3},
                   {"shop/log.ibd", 3 * 16384 + 24, 3},
                   {"shop/packed.ibd", 4 * 8192 + 4000, 4},
                   {"ibdata1", 16384 + 100, 1},
                   {"shop/log.ibd", 60, 0}};
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    // No source is needed: the parent's own position is the checkpoint.
    EngineProgress progress = {0};
    bool is_caught_up = false;
    assert_ok(engine_position(run.engine, &progress, &is_caught_up, &error), &error);
    memcpy(checkpoint.position, progress.position, sizeof(checkpoint.position));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *engine_state = NULL;
    EngineLayout layout = {0};
    assert_ok(engine_replay_to(run.engine, &checkpoint, 1000, NULL, NULL, &error), &error);
    assert_ok(engine_stop(run.engine, arena, &engine_state, &error), &error);
    assert_ok(engine_layout(run.engine, arena, &layout, &error), &error);
    for (size_t i = 0; i < ARRAY_COUNT(damages); i++) {
        CLEANUP_FREE char *path = path_join(run.data_directory, damages[i].path);
        assert_int_equal(first_bad_page(&layout, damages[i].path, path), -1);
        flip_byte(path, damages[i].offset);
        assert_int_equal(first_bad_page(&layout, damages[i].path, path), damages[i].page);
        flip_byte(path, damages[i].offset);
    }
    cycle_end(&run);
}

static void test_bad_parents_are_named(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    CycleBackup bad = shared.seed;
    // The directory holds another state than the manifest says.
    char *position = strstr(bad.engine_state, "\"position\":\"");
    assert_non_null(position);
    position += strlen("\"position\":\"");
    // A server's UUID may begin with any digit.
    *position = *position == '9' ? '8' : '9';
    assert_int_not_equal(cycle_begin(&shared.cycle, &bad, &run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_PARENT_UNRESTORABLE);
    cycle_end(&run);

    bad = shared.seed;
    memcpy(bad.version, "5.1.1", 6);
    assert_int_not_equal(cycle_begin(&shared.cycle, &bad, &run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_ENGINE_VERSION);
    cycle_end(&run);

    CLEANUP_FREE char *system = path_join(shared.seed.directory, "ibdata1");
    CLEANUP_FREE char *aside = path_join(shared.seed.directory, "aside");
    assert_int_equal(rename(system, aside), 0);
    assert_int_not_equal(cycle_begin(&shared.cycle, &shared.seed, &run, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_PARENT_UNRESTORABLE);
    assert_int_equal(rename(aside, system), 0);
    cycle_end(&run);
}

static void test_prepared_directory(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    CycleBackup old = shared.seed;
    memcpy(old.version, "1.0", sizeof("1.0"));
    int port = 0;
    assert_int_equal(cycle_serve(&shared.cycle, &old, &port, &run, &error),
                     STATUS_FAILED_PRECONDITION);
    cycle_end(&run);
    assert_ok(cycle_serve(&shared.cycle, &shared.seed, &port, &run, &error), &error);
    CycleRun second = {0};
    int other_port = 0;
    assert_ok(cycle_serve(&shared.cycle, &shared.seed, &other_port, &second, &error), &error);
    cycle_end(&second);
    cycle_end(&run);
}

// What `--hold` of this program does: an engine whose owner is killed.
static void hold(const char *root, const char *backup_directory, const char *version,
                 const char *engine_state)
{
    Error error = {0};
    ScratchMysql source = {.is_mysql = is_mysql, .port = 1};
    Cycle cycle = {.source = &source,
                   .launcher = suite_program(),
                   .root = (char *)(uintptr_t)root,
                   .count = 5000};
    CycleBackup backup = {0};
    CycleRun run = {0};
    (void)snprintf(backup.directory, sizeof(backup.directory), "%s", backup_directory);
    (void)snprintf(backup.version, sizeof(backup.version), "%s", version);
    (void)snprintf(backup.engine_state, sizeof(backup.engine_state), "%s", engine_state);
    if (cycle_begin(&cycle, &backup, &run, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    CLEANUP_FREE char *ready = path_join(root, "ready");
    write_file(ready, "");
    for (;;) {
        (void)pause();
    }
}

static int count_engines(const char *root)
{
    CLEANUP_FREE char *pattern = string_format("datadir=%s/data", root);
    const char *const arguments[] = {"pgrep", "-f", "-c", pattern, NULL};
    ProcessOptions options = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    Error error = {0};
    (void)process_run(&options, 10000, REASON_INTERNAL, &output, &error);
    return atoi(buffer_text(&output));
}

static void test_engine_dies_with_its_owner(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *root = temp_dir_new();
    CLEANUP_FREE char *ready = path_join(root, "ready");
    const char *const arguments[] = {
        suite_program(),          "--hold", root, shared.seed.directory, shared.seed.version,
        shared.seed.engine_state, NULL};
    ProcessOptions options = {.arguments = arguments, .new_session = true};
    Error error = {0};
    pid_t pid = 0;
    assert_ok(process_spawn(&options, &pid, &error), &error);
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    while (access(ready, F_OK) != 0 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(20);
    }
    assert_int_equal(access(ready, F_OK), 0);
    assert_int_equal(count_engines(root), 1);
    assert_int_equal(kill(pid, SIGKILL), 0); // the owner alone, not its group
    bool is_done = false;
    int code = 0;
    assert_ok(process_wait(pid, 10000, &is_done, &code, &error), &error);
    deadline_ms = clock_monotonic_ms() + 10000;
    while (count_engines(root) > 0 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(20);
    }
    assert_int_equal(count_engines(root), 0);
}

static void test_a_killed_engine_has_noted_what_it_wrote(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    RecorderCheck check = {0};
    assert_ok(cycle_begin(&shared.cycle, &shared.seed, &run, &error), &error);
    assert_ok(cycle_catch_up(&run, &error), &error);
    recorder_check_kill(run.work_directory, "server.pid");
    recorder_check_tree(run.recorder, run.data_directory, shared.seed.directory, &check);
    recorder_check_end(run.recorder, &check, "killed");
    cycle_end(&run);
}

int main(int argc, char **argv)
{
    int exit_code = 0;
    if (suite_prepare(argc, argv, &exit_code)) {
        return exit_code;
    }
    if (argc == 6 && text_equal(argv[1], "--hold")) {
        hold(argv[2], argv[3], argv[4], argv[5]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_probe_names_missing_privileges),
        cmocka_unit_test(test_probe_names_missing_settings),
        cmocka_unit_test(test_seed_has_everything),
        cmocka_unit_test(test_generations_are_exact),
        cmocka_unit_test(test_accounts_and_schema_are_replayed),
#if !TEST_IS_MYSQL
        cmocka_unit_test(test_innochecksum_agrees),
#endif
        cmocka_unit_test(test_bad_pages_are_found),
        cmocka_unit_test(test_bad_parents_are_named),
        cmocka_unit_test(test_prepared_directory),
        cmocka_unit_test(test_a_killed_engine_has_noted_what_it_wrote),
        cmocka_unit_test(test_engine_dies_with_its_owner),
#if TEST_IS_MYSQL
        cmocka_unit_test(test_tables_that_cannot_be_cloned),
#endif
        cmocka_unit_test(test_idle_generation_is_small),
    };
    return cmocka_run_group_tests(tests, suite_set_up_objects, suite_tear_down);
}
