// SPDX-License-Identifier: Apache-2.0
// Holdfast's own PostgreSQL. If this goes red, the server does not come up, loses its state, or
// leaves a database running.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/embedded_postgres.h"
#include "server/embedded_postgres_internal.h"
#include "server/server_identity.h"
#include "server/store/store.h"
#include "tests/harness/harness.h"
#include "tests/harness/scratch_postgres.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static EmbeddedPostgres *start(const char *directory)
{
    EmbeddedPostgresOptions options = {
        .data_directory = directory, .connection_count = 4, .start_timeout_ms = 60000};
    EmbeddedPostgres *postgres = NULL;
    Error error = {0};
    assert_ok(embedded_postgres_start(&options, &postgres, &error), &error);
    assert_true(embedded_postgres_pid(postgres) > 1);
    return postgres;
}

static Status try_start(const char *directory, Error *error)
{
    EmbeddedPostgresOptions options = {.data_directory = directory, .connection_count = 4};
    EmbeddedPostgres *postgres = NULL;
    return embedded_postgres_start(&options, &postgres, error);
}

static Store *open_store(const EmbeddedPostgres *postgres)
{
    StoreOptions options = {.database_url = embedded_postgres_url(postgres),
                            .connection_count = 2,
                            .application_name = "test"};
    Store *store = NULL;
    Error error = {0};
    assert_ok(store_open(&options, &store, &error), &error);
    return store;
}

static void wait_ping(Store *store)
{
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    Error error = {0};
    while (store_ping(store, &error) != STATUS_OK) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("%s", error.message);
        }
        error_clear(&error);
        clock_sleep_ms(50);
    }
}

static void wait_other_pid(EmbeddedPostgres *postgres, pid_t old, Store *store)
{
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    pid_t pid = 0;
    // Old sessions answer for a moment after their postmaster was killed: the process first, then
    // the connection.
    while ((pid = embedded_postgres_pid(postgres)) == 0 || pid == old) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
    wait_ping(store);
}

static void test_keeps_its_state_and_ends_with_us(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *key_file = path_join(directory, "secret.key");
    CLEANUP_FREE char *other_file = path_join(directory, "other.key");
    Error error = {0};
    ServerIdentity first = {0};
    ServerIdentity second = {0};
    EmbeddedPostgres *postgres = start(directory);
    Store *store = open_store(postgres);
    assert_ok(store_migrate(store, &error), &error);
    assert_ok(server_identity_load(store, key_file, &first, &error), &error);
    store_close(store);
    pid_t pid = embedded_postgres_pid(postgres);
    embedded_postgres_stop(postgres);
    assert_int_not_equal(kill(pid, 0), 0);
    // Another start: the same state.
    postgres = start(directory);
    store = open_store(postgres);
    assert_ok(store_migrate(store, &error), &error);
    assert_ok(server_identity_load(store, key_file, &second, &error), &error);
    assert_string_equal(first.certificate_pem, second.certificate_pem);
    assert_string_equal(secret_text(&first.key_pem), secret_text(&second.key_pem));
    // Another secret key is not this database's.
    ServerIdentity unused = {0};
    assert_int_equal(server_identity_load(store, other_file, &unused, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_KEY_WRONG);
    assert_true(error.hint[0] != '\0');
    server_identity_done(&first);
    server_identity_done(&second);
    store_close(store);
    embedded_postgres_stop(postgres);
}

static void test_listens_on_a_private_socket_only(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *sockets = path_join(directory, "run");
    CLEANUP_FREE char *lock = string_format("%s/postgres/postmaster.pid", directory);
    CLEANUP_FREE char *text = NULL;
    struct stat facts;
    size_t size = 0;
    Error error = {0};
    EmbeddedPostgres *postgres = start(directory);
    assert_int_equal(stat(sockets, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
    assert_ok(file_read(lock, 4096, &text, &size, &error), &error);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t count = 0;
    char **lines = text_split(arena, text, '\n', &count);
    assert_true(count > 6);
    assert_string_equal(lines[5], ""); // the sixth line: the first address it listens on
    embedded_postgres_stop(postgres);
}

// Killed: started again. Found running by another start: taken over, and supervised.
static void test_is_supervised_and_taken_over(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    EmbeddedPostgres *postgres = start(directory);
    Store *store = open_store(postgres);
    pid_t first = embedded_postgres_pid(postgres);
    assert_int_equal(kill(first, SIGKILL), 0);
    wait_other_pid(postgres, first, store);
    EmbeddedPostgres *successor = start(directory);
    pid_t adopted = embedded_postgres_pid(successor);
    assert_int_equal(adopted, embedded_postgres_pid(postgres));
    // The first one's supervisor goes, and ends it; the successor brings it back.
    embedded_postgres_stop(postgres);
    wait_other_pid(successor, adopted, store);
    store_close(store);
    embedded_postgres_stop(successor);
}

static void test_long_paths_get_a_short_socket(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    char name[101];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    CLEANUP_FREE char *deep = path_join(directory, name);
    assert_int_equal(mkdir(deep, 0700), 0);
    EmbeddedPostgres *postgres = start(deep);
    Store *store = open_store(postgres);
    wait_ping(store);
    store_close(store);
    char sockets[256];
    Error error = {0};
    assert_ok(embedded_postgres_socket_directory(deep, sockets, &error), &error);
    assert_true(strlen(sockets) < 90);
    embedded_postgres_stop(postgres);
    assert_int_equal(rmdir(sockets), 0); // nothing is left in it
}

static void test_names_what_it_cannot_use(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *cluster = path_join(directory, "postgres");
    CLEANUP_FREE char *version = path_join(cluster, "PG_VERSION");
    CLEANUP_FREE char *stranger = path_join(cluster, "something");
    Error error = {0};
    assert_int_equal(mkdir(cluster, 0700), 0);
    write_file(stranger, "else");
    assert_int_equal(try_start(directory, &error), STATUS_FAILED_PRECONDITION);
    assert_contains(error.message, "not a PostgreSQL cluster");
    write_file(version, "9\n");
    error_clear(&error);
    Status status = try_start(directory, &error);
    assert_int_equal(status, STATUS_UNAVAILABLE);
    assert_true(error.hint[0] != '\0');
}

// Killed while the cluster was made: the next start makes it.
static void test_a_half_made_cluster_is_made_anew(void **state)
{
    (void)state;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP_FREE char *half = path_join(directory, "postgres.new");
    CLEANUP_FREE char *version = path_join(half, "PG_VERSION");
    assert_int_equal(mkdir(half, 0700), 0);
    write_file(version, "15\n");
    EmbeddedPostgres *postgres = start(directory);
    embedded_postgres_stop(postgres);
    assert_int_not_equal(access(half, F_OK), 0);
}

int main(void)
{
    scratch_postgres_drop_root();
    if (!scratch_postgres_is_installed()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_its_state_and_ends_with_us),
        cmocka_unit_test(test_listens_on_a_private_socket_only),
        cmocka_unit_test(test_is_supervised_and_taken_over),
        cmocka_unit_test(test_long_paths_get_a_short_socket),
        cmocka_unit_test(test_names_what_it_cannot_use),
        cmocka_unit_test(test_a_half_made_cluster_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
