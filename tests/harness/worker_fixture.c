// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/worker_fixture.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "tests/harness/fake_driver.h"
#include "tests/harness/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WAIT_MS 20000

static void add_database(WorkerFixture *fixture, int shard_count)
{
    CLEANUP_FREE char *keys = path_join(fixture->base->directory, "keys");
    Error error = {0};
    assert_ok(dir_create_all(keys, 0700, &error), &error);
    (void)service_fixture_call(
        fixture->base, "CreateCredential",
        "{\"credential\": {\"name\": \"source\", \"username\": \"u\", \"password\": \"pass-word\"}}");
    CLEANUP_FREE char *repository = string_format(
        "{\"repository\": {\"name\": \"main\", \"location\": \"file://%s\", \"key_file\": \"%s/%d.key\"}, "
        "\"create_key_file\": true}",
        fixture->repository_directory, keys, fixture->base->database_count);
    (void)service_fixture_call(fixture->base, "CreateRepository", repository);
    Buffer text;
    buffer_init(&text, 65536);
    buffer_append_text(
        &text, "{\"database\": {\"name\": \"shop\", \"engine\": \"postgresql\"}, \"shards\": [");
    for (int i = 0; i < shard_count; i++) {
        buffer_append_format(
            &text,
            "%s{\"name\": \"%d\", \"source\": {\"host\": \"127.0.0.1\", \"port\": 1, "
            "\"credential\": \"source\"}}",
            i == 0 ? "" : ", ", i);
    }
    buffer_append_text(&text, "]}");
    (void)service_fixture_call(fixture->base, "CreateDatabase", buffer_text(&text));
    buffer_done(&text);
}

WorkerOptions worker_fixture_options(const Secret *secret_key)
{
    return (WorkerOptions){.server_id = WORKER_FIXTURE_SERVER_ID,
                           .secret_key = secret_key,
                           .certificate_pem = "pem",
                           .certificate_name = "holdfast",
                           .agent_address = "127.0.0.1:1",
                           .agent_program = "/bin/false",
                           .thread_count = 3,
                           .instance_count_max = 8,
                           .deadman_ms = 5000,
                           .lifetime_ms = 60000,
                           .attempt_lease_ms = 60000,
                           .barrier_timeout_ms = 60000,
                           .sweep_interval_ms = 1000,
                           .idempotency_keep_ms = 86400000,
                           .event_keep_ms = 86400000};
}

WorkerFixture *worker_fixture_new(ServiceFixture *base, int shard_count)
{
    WorkerFixture *fixture = mem_alloc(sizeof(*fixture));
    Error error = {0};
    fixture->base = base;
    fixture->repository_directory =
        string_format("%s/repository%d", base->directory, base->database_count);
    assert_ok(dir_create_all(fixture->repository_directory, 0700, &error), &error);
    add_database(fixture, shard_count);
    fixture->repositories = repository_cache_new(storage_open, &base->secret_key);
    AgentSessionsOptions sessions = {.store = base->store,
                                     .server_id = WORKER_FIXTURE_SERVER_ID,
                                     .secret_key = &base->secret_key,
                                     .repositories = fixture->repositories,
                                     .deadman_ms = 5000,
                                     .memory_bytes = 1 << 20};
    assert_ok(agent_sessions_new(&sessions, &fixture->sessions, &error), &error);
    fixture->provisioner = provisioner_new();
    fixture->driver_path = string_format("%s/machines%d", base->directory, base->database_count);
    fixture->driver = fake_driver_new(fixture->driver_path);
    provisioner_add(fixture->provisioner, fake_driver_base(fixture->driver));
    fixture->options = worker_fixture_options(&base->secret_key);
    fixture->options.store = base->store;
    fixture->options.provisioner = fixture->provisioner;
    fixture->options.repositories = fixture->repositories;
    return fixture;
}

void worker_fixture_start(WorkerFixture *fixture)
{
    Error error = {0};
    assert_null(fixture->worker);
    assert_ok(worker_start(&fixture->options, &fixture->worker, &error), &error);
}

void worker_fixture_stop(WorkerFixture *fixture)
{
    worker_stop(fixture->worker);
    fixture->worker = NULL;
}

void worker_fixture_free(WorkerFixture *fixture)
{
    worker_fixture_stop(fixture);
    agent_sessions_free(fixture->sessions);
    provisioner_free(fixture->provisioner);
    repository_cache_free(fixture->repositories);
    mem_free(fixture->repository_directory);
    mem_free(fixture->driver_path);
    mem_free(fixture);
}

// What stands in the tables, for the person who looks at a failed test.
static void print_state(WorkerFixture *fixture)
{
    static const char *const tables[] = {"work_items", "backups", "shard_backups", "attempts",
                                         "instances"};
    for (size_t i = 0; i < ARRAY_COUNT(tables); i++) {
        CLEANUP_FREE char *sql =
            string_format("SELECT replace(json_agg(t)::text, chr(10), '') FROM %s t", tables[i]);
        CLEANUP_FREE char *text = service_fixture_sql(fixture->base, sql);
        print_error("%s: %s\n", tables[i], text);
    }
}

void worker_fixture_wait(WorkerFixture *fixture, const char *sql, int64_t wanted)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    int64_t number = 0;
    while ((number = service_fixture_number(fixture->base, sql)) != wanted) {
        if (clock_monotonic_ms() > deadline_ms) {
            print_state(fixture);
            fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
        }
        clock_sleep_ms(20);
    }
}

char *worker_fixture_start_backup(WorkerFixture *fixture)
{
    const Json *backup = service_fixture_call(fixture->base, "StartBackup",
                                              "{\"database\": \"shop\", \"repository\": \"main\"}");
    return string_copy(json_get_text(backup, "id", ""));
}

char *worker_fixture_backup_state(WorkerFixture *fixture, const char *backup_id)
{
    CLEANUP_FREE char *over = string_format(
        "SELECT count(*) FROM backups WHERE id = '%s' AND state NOT IN ('pending', 'running')",
        backup_id);
    worker_fixture_wait(fixture, over, 1);
    CLEANUP_FREE char *sql = string_format("SELECT state FROM backups WHERE id = '%s'", backup_id);
    return service_fixture_sql(fixture->base, sql);
}
