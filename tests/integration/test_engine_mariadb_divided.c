// SPDX-License-Identifier: Apache-2.0
// The seed of large MariaDB tables, which several connections copy at once. Red here means: rows
// are lost, doubled or of another moment, an index or a foreign key is missing or another one, or
// one connection copies a large table alone.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"
#include "tests/integration/mysql_suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_COUNT_MIN 8

// Numbers 1 to 3000 and some noise for each.
#define NUMBERS "(SELECT CAST(seq AS SIGNED) AS n, MD5(seq) AS noise FROM seq_1_to_3000) numbers"

static const char DIVIDED[] =
    "CREATE DATABASE big;\n"
    "USE big;\n"
    "CREATE TABLE big.owner (id INT PRIMARY KEY, v VARCHAR(200), KEY other (id)) ENGINE=InnoDB;\n"
    "INSERT INTO big.owner SELECT n, noise FROM " NUMBERS ";\n"
    // Almost all rows have the same first column.
    "CREATE TABLE big.composite (tenant INT, kind VARCHAR(20), id BIGINT, v VARCHAR(200) NOT NULL,"
    " twice BIGINT AS (id * 2) VIRTUAL, PRIMARY KEY (tenant, kind, id), UNIQUE KEY `odd``name` (id,"
    " v) COMMENT 'it''s, (one) `KEY`', KEY twice (twice), KEY prefix (v(10) DESC), CONSTRAINT"
    " positive CHECK (id > 0)) ENGINE=InnoDB;\n"
    "INSERT INTO big.composite (tenant, kind, id, v) SELECT IF(n % 50 = 0, n % 3, 1), IF(n % 10 = 0,"
    " 'rare', 'common'), n, noise FROM " NUMBERS ";\n"
    "CREATE TABLE big.negative (id BIGINT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB;\n"
    "INSERT INTO big.negative SELECT (n - 1500) * 7, noise FROM " NUMBERS ";\n"
    "INSERT INTO big.negative VALUES (-9223372036854775808, 'min'), (9223372036854775807, 'max');\n"
    "CREATE TABLE big.unsigned_key (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB "
    "ROW_FORMAT=COMPRESSED;\n"
    "INSERT INTO big.unsigned_key SELECT n, REPEAT(noise, 3) FROM " NUMBERS ";\n"
    "INSERT INTO big.unsigned_key VALUES (18446744073709551615, 'max'), (0, 'min');\n"
    "CREATE TABLE big.text_key (id VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci "
    "PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB;\n"
    "INSERT INTO big.text_key SELECT IF(n % 2 = 0, UPPER(noise), CONCAT('key-', noise)), n FROM " NUMBERS
    ";\n"
    "INSERT INTO big.text_key VALUES ('', ''), ('ÄÖ', 'x'), ('äöü', 'y'), ('漢字', 'z'), ('a''\\\\', "
    "'q'), ('~~~', 't'), ('🐬', 'd');\n"
    "CREATE TABLE big.latin_key (id CHAR(40) CHARACTER SET latin1 COLLATE latin1_german1_ci, n INT,"
    " v INT, PRIMARY KEY (id, n)) ENGINE=InnoDB;\n"
    "INSERT INTO big.latin_key SELECT CONCAT('straße ', n % 10), n, n FROM " NUMBERS ";\n"
    "CREATE TABLE big.bytes_key (id BINARY(16) PRIMARY KEY, v INT, w VARCHAR(200), KEY v (v)) ENGINE=InnoDB;\n"
    "INSERT INTO big.bytes_key SELECT UNHEX(noise), n, noise FROM " NUMBERS ";\n"
    "CREATE TABLE big.`part``ed` (`i``d` INT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB PARTITION BY "
    "HASH (`i``d`) PARTITIONS 3;\n"
    "INSERT INTO big.`part``ed` SELECT n, noise FROM " NUMBERS ";\n"
    "CREATE TABLE big.child (id INT AUTO_INCREMENT PRIMARY KEY, owner INT, v VARCHAR(200), FOREIGN KEY (owner) "
    "REFERENCES owner(id) ON DELETE CASCADE) ENGINE=InnoDB;\n"
    "INSERT INTO big.child (owner, v) SELECT n, noise FROM " NUMBERS ";\n";

static const char WHOLE[] =
    "USE big;\n"
    "CREATE TABLE big.no_key (id INT, v VARCHAR(200)) ENGINE=InnoDB;\n"
    "INSERT INTO big.no_key SELECT n % 100, noise FROM " NUMBERS " WHERE n < 200;\n"
    "CREATE TABLE big.time_key (at DATETIME(6) PRIMARY KEY, v INT) ENGINE=InnoDB;\n"
    "INSERT INTO big.time_key SELECT '2020-01-01' + INTERVAL n MINUTE, n FROM " NUMBERS
    " WHERE n < 200;\n"
    "CREATE TABLE big.prefix_key (id VARCHAR(100), v INT, PRIMARY KEY (id(32))) ENGINE=InnoDB;\n"
    "INSERT INTO big.prefix_key SELECT noise, n FROM " NUMBERS " WHERE n < 200;\n"
    "CREATE TABLE big.words (id INT PRIMARY KEY, v TEXT, FULLTEXT KEY v (v)) ENGINE=InnoDB;\n"
    "INSERT INTO big.words SELECT n, noise FROM " NUMBERS " WHERE n < 200;\n"
    "CREATE TABLE big.counted (a INT PRIMARY KEY, b INT AUTO_INCREMENT, KEY b (b)) ENGINE=InnoDB;\n"
    "INSERT INTO big.counted (a) SELECT n FROM " NUMBERS " WHERE n < 200;\n"
    "CREATE TABLE big.empty_one (id INT PRIMARY KEY) ENGINE=InnoDB;\n"
    "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app-secret';\n"
    "GRANT SELECT ON *.* TO app@'127.0.0.1';\n"
    // The sizes that the seed goes by.
    "ANALYZE TABLE owner, composite, negative, unsigned_key, text_key, latin_key, bytes_key, "
    "`part``ed`, child, no_key, time_key, prefix_key, words, counted, empty_one;\n";

static const struct {
    const char *name;  // quoted
    const char *order; // of its rows
    bool is_divided;
} TABLES[] = {
    {"owner", "id", true},      {"composite", "tenant, kind, id", true},
    {"negative", "id", true},   {"unsigned_key", "id", true},
    {"text_key", "id", true},   {"latin_key", "id, n", true},
    {"bytes_key", "id", true},  {"`part``ed`", "`i``d`", true},
    {"child", "id", true},      {"no_key", "id, v", false},
    {"time_key", "at", false},  {"prefix_key", "id", false},
    {"words", "id", false},     {"counted", "a", false},
    {"empty_one", "id", false},
};

// Everywhere rows come, go and change, also at the edges of the keys.
static const char *const CHANGES[] = {
    "UPDATE big.composite SET v = UUID() ORDER BY RAND() LIMIT 9",
    "INSERT INTO big.composite (tenant, kind, id, v) SELECT MOD(RAND() * 100, 4), 'new', MAX(id) + 1, "
    "UUID() FROM big.composite",
    "DELETE FROM big.composite ORDER BY RAND() LIMIT 2",
    "INSERT IGNORE INTO big.negative VALUES (ROUND(RAND() * 40000) - 20000, UUID())",
    "DELETE FROM big.negative ORDER BY RAND() LIMIT 1",
    "UPDATE IGNORE big.unsigned_key SET id = id + 5000 ORDER BY RAND() LIMIT 3",
    "INSERT INTO big.text_key VALUES (UUID(), 'new')",
    "DELETE FROM big.text_key WHERE id <> '' ORDER BY RAND() LIMIT 1",
    "UPDATE big.latin_key SET v = v + 1 ORDER BY RAND() LIMIT 5",
    "INSERT INTO big.bytes_key VALUES (UNHEX(MD5(UUID())), 1, UUID())",
    "DELETE FROM big.bytes_key ORDER BY RAND() LIMIT 1",
    "INSERT INTO big.child (owner) SELECT id FROM big.owner ORDER BY RAND() LIMIT 2",
    "DELETE FROM big.owner ORDER BY RAND() LIMIT 1",
    "INSERT INTO big.no_key VALUES (1, UUID())",
    "UPDATE big.no_key SET v = UUID() WHERE id = 5 LIMIT 1",
    "INSERT IGNORE INTO big.`part``ed` VALUES (ROUND(RAND() * 100000), UUID())",
};

typedef struct Writer {
    pthread_t thread;
    atomic_bool is_stopping;
    atomic_long count;
} Writer;

static void *write_load(void *argument)
{
    Writer *writer = argument;
    for (size_t i = 0; !atomic_load(&writer->is_stopping); i++) {
        if (scratch_mysql_try(shared.source, CHANGES[i % ARRAY_COUNT(CHANGES)])) {
            atomic_fetch_add(&writer->count, 1);
        }
    }
    return NULL;
}

// How many questions for a range of the table the source has heard, and from how many connections.
static void count_ranges(const char *name, int64_t *ret_range_count, int64_t *ret_connection_count)
{
    CLEANUP_FREE char *sql = string_format(
        "SELECT COUNT(*), COUNT(DISTINCT thread_id) FROM mysql.general_log WHERE command_type ="
        " 'Query' AND LOCATE('FROM `big`.%s%s%s FORCE INDEX (PRIMARY) WHERE', argument) > 0 AND"
        " argument NOT LIKE '%%LIMIT 1' AND argument NOT LIKE 'EXPLAIN%%'",
        name[0] == '`' ? "" : "`", name, name[0] == '`' ? "" : "`");
    CLEANUP_FREE char *answer = scratch_mysql_text(shared.source, sql);
    char *end = NULL;
    *ret_range_count = strtoll(answer, &end, 10);
    *ret_connection_count = strtoll(end + 1, NULL, 10);
}

// Counters go ahead of the rows by what a statement reserved.
static void drop_counter(char *definition)
{
    char *counter = strstr(definition, " AUTO_INCREMENT=");
    if (counter != NULL) {
        char *end = counter + strlen(" AUTO_INCREMENT=");
        end += strspn(end, "0123456789");
        memmove(counter, end, strlen(end) + 1);
    }
}

static void assert_same_answer(MysqlClient *ours, MysqlClient *theirs, const char *sql)
{
    CLEANUP_FREE char *expected = scratch_mysql_rows(theirs, sql);
    CLEANUP_FREE char *got = scratch_mysql_rows(ours, sql);
    drop_counter(expected);
    drop_counter(got);
    if (!text_equal(expected, got)) {
        fail_msg("the backup answers differently: %s", sql);
    }
}

static void assert_same_table(MysqlClient *ours, const char *name, const char *order)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(mysql_client_freep) MysqlClient *theirs = scratch_mysql_client(shared.source);
    assert_same_answer(ours, theirs, arena_format(arena, "SHOW CREATE TABLE big.%s", name));
    assert_same_answer(ours, theirs, arena_format(arena, "SELECT COUNT(*) FROM big.%s", name));
    bool has_bytes = text_equal(name, "bytes_key");
    assert_same_answer(ours, theirs,
                       arena_format(arena, "SELECT %s FROM big.%s ORDER BY %s",
                                    has_bytes ? "HEX(id), v, w" : "*", name, order));
    // The indexes agree with the rows.
    CLEANUP_FREE char *said =
        scratch_mysql_rows(ours, arena_format(arena, "CHECK TABLE big.%s EXTENDED", name));
    assert_non_null(strstr(said, "|status|OK"));
}

static void test_divided_tables_are_exact(void **state)
{
    (void)state;
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    CycleBackup backup = {0};
    scratch_mysql_run(shared.source, DIVIDED);
    scratch_mysql_run(shared.source, WHOLE);
    scratch_mysql_run(shared.source,
                      "SET GLOBAL log_output = 'TABLE';\nSET GLOBAL general_log = 1");
    shared.cycle.divide_bytes = 1;
    Writer writer = {0};
    assert_int_equal(pthread_create(&writer.thread, NULL, write_load, &writer), 0);
    assert_ok(cycle_begin(&shared.cycle, NULL, &run, &error), &error);
    atomic_store(&writer.is_stopping, true);
    (void)pthread_join(writer.thread, NULL);
    assert_true(atomic_load(&writer.count) > (long)ARRAY_COUNT(CHANGES));
    scratch_mysql_run(shared.source, "SET GLOBAL general_log = 0");

    assert_ok(cycle_catch_up(&run, &error), &error);
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    assert_ok(cycle_finish(&run, &checkpoint, &backup, &error), &error);
    cycle_end(&run);
    int port = 0;
    assert_ok(cycle_serve(&shared.cycle, &backup, &port, &run, &error), &error);
    CLEANUP(mysql_client_freep)
    MysqlClient *ours = suite_connect(port, "app", "app-secret", &error);
    assert_non_null(ours);
    int64_t most_connections = 0;
    for (size_t i = 0; i < ARRAY_COUNT(TABLES); i++) {
        int64_t range_count = 0;
        int64_t connection_count = 0;
        count_ranges(TABLES[i].name, &range_count, &connection_count);
        print_message("  %s: %lld ranges, %lld connections\n", TABLES[i].name,
                      (long long)range_count, (long long)connection_count);
        if (TABLES[i].is_divided) {
            assert_in_range(range_count, RANGE_COUNT_MIN, 16);
        } else {
            assert_int_equal(range_count, 0);
        }
        most_connections = MAX(most_connections, connection_count);
        assert_same_table(ours, TABLES[i].name, TABLES[i].order);
    }
    assert_true(most_connections > 1);
    mysql_client_freep(&ours);
    cycle_end(&run);
}

int main(int argc, char **argv)
{
    int exit_code = 0;
    if (suite_prepare(argc, argv, &exit_code)) {
        return exit_code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divided_tables_are_exact),
    };
    return cmocka_run_group_tests(tests, suite_set_up, suite_tear_down);
}
