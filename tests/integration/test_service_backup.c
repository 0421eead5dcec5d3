// SPDX-License-Identifier: Apache-2.0
// Backups, restores and probes as callers meet them, on a real PostgreSQL. If this goes red, a
// backup starts from the wrong parent, goes while it is needed, or is shown wrongly.
#include "common/file.h"
#include "tests/integration/service_case.h"

#include <stdio.h>
#include <sys/stat.h>

// --- backups ---

static void test_backups_are_pinned_to_their_parents(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *first = start_backup(fixture);
    const Json *backup = CALL("GetBackup", text_with(fixture, "{\"backup\":\"%s\"}", first));
    assert_string_equal(json_get_text(backup, "state", ""), "pending");
    assert_string_equal(json_get_text(backup, "trigger", ""), "manual");
    assert_int_equal(json_get_integer(backup, "shard_count", 0), 2);
    assert_int_equal(service_fixture_number(
                         fixture, text_with(fixture,
                                            "SELECT count(*) FROM work_items WHERE kind = 'backup' "
                                            "AND subject_id = '%s'",
                                            first)),
                     1);
    REFUSE("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\"}", BACKUP_RUNNING, "");
    finish_backup(fixture, first, "succeeded");
    const char *second = start_backup(fixture);
    const Json *shards = json_get(
        CALL("ListShardBackups", text_with(fixture, "{\"backup\":\"%s\"}", second)), "shards");
    assert_int_equal(json_count(shards), 2);
    assert_string_equal(json_get_text(json_item(shards, 0), "shard", ""), "-80");
    assert_int_equal(json_get_integer(json_item(shards, 0), "generation", -1), 1);
    assert_int_equal(strlen(json_get_text(json_item(shards, 0), "parent_id", "")), 36);
    finish_backup(fixture, second, "succeeded");
}

static void test_parents_fit(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    make_repository(fixture, "other");
    finish_backup(fixture, start_backup(fixture), "succeeded");
    const char *second = start_backup(fixture);
    finish_backup(fixture, second, "succeeded");
    // A parent that did not restore is passed over; another repository has none; a seed wants none.
    CLEANUP_FREE char *broken = service_fixture_sql(
        fixture,
        text_with(
            fixture,
            "UPDATE shard_backups SET is_unrestorable = true WHERE backup_id = '%s'; SELECT 1",
            second));
    const char *third = start_backup(fixture);
    assert_int_equal(
        service_fixture_number(
            fixture,
            text_with(fixture,
                      "SELECT count(*) FROM shard_backups sb JOIN shard_backups p ON p.id = "
                      "sb.parent_id WHERE sb.backup_id = '%s' "
                      "AND p.generation = 0 AND sb.generation = 1",
                      third)),
        2);
    finish_backup(fixture, third, "failed");
    const char *fourth = json_get_text(
        CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"other\"}"), "id", "");
    assert_int_equal(
        service_fixture_number(
            fixture,
            text_with(fixture,
                      "SELECT count(*) FROM shard_backups WHERE backup_id = '%s' AND parent_id IS "
                      "NULL AND seed_reason = ''",
                      fourth)),
        2);
    finish_backup(fixture, fourth, "succeeded");
    const char *fifth = json_get_text(
        CALL("StartBackup",
             "{\"database\":\"shop\",\"repository\":\"main\",\"seed\":true,\"note\":\"why not\"}"),
        "id", "");
    assert_int_equal(
        service_fixture_number(
            fixture,
            text_with(fixture,
                      "SELECT count(*) FROM shard_backups WHERE backup_id = '%s' AND parent_id IS "
                      "NULL AND seed_reason <> ''",
                      fifth)),
        2);
    assert_string_equal(
        json_get_text(CALL("GetBackup", text_with(fixture, "{\"backup\":\"%s\"}", fifth)), "note",
                      ""),
        "why not");
}

static void test_computes_protection_and_proof(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\""));
    finish_backup(fixture, start_backup(fixture), "succeeded");
    const Json *database = CALL("GetDatabase", "{\"database\":\"shop\"}");
    assert_string_equal(json_get_text(database, "protection", ""), "protected");
    assert_null(json_get(database, "proven_recovery_time"));
    assert_int_equal(json_get_integer(database, "size_bytes", 0), 2000);
    const char *second = start_backup(fixture);
    assert_string_equal(
        json_get_text(CALL("GetDatabase", "{\"database\":\"shop\"}"), "running_backup_id", ""),
        second);
    finish_backup(fixture, second, "succeeded");
    database = CALL("GetDatabase", "{\"database\":\"shop\"}");
    assert_string_equal(json_get_text(database, "proven_recovery_time", ""), "5s");
    assert_string_equal(json_get_text(database, "last_backup_id", ""), second);
    const Json *shard = CALL("GetShard", "{\"database\":\"shop\",\"shard\":\"80-\"}");
    assert_string_equal(json_get_text(shard, "proven_recovery_time", ""), "5s");
    assert_int_equal(json_get_integer(shard, "generation", -1), 1);
    finish_backup(fixture, start_backup(fixture), "failed");
    database = CALL("GetDatabase", "{\"database\":\"shop\"}");
    assert_string_equal(json_get_text(database, "protection", ""), "at_risk");
    assert_string_equal(json_get_text(database, "protection_reason", ""),
                        "The last backup failed: it broke");
    CLEANUP_FREE char *aged = service_fixture_sql(
        fixture, "UPDATE backups SET checkpoint_at = now() - interval '25 hours'; SELECT 1");
    assert_string_equal(
        json_get_text(CALL("GetDatabase", "{\"database\":\"shop\"}"), "protection", ""),
        "unprotected");
    Buffer buffer;
    buffer_init(&buffer, 1024 * 1024);
    Error error = {0};
    assert_ok(service_metrics(fixture->service, &buffer, &error), &error);
    static const char *const LINES[] = {
        "holdfast_databases{protection=\"unprotected\"} 1\n",
        "holdfast_store_up 1\n",
        "holdfast_backups{state=\"failed\"} 1\n",
        "holdfast_database_rpo_target_seconds{database=\"shop\"} 86400\n",
        "# TYPE holdfast_instances gauge\n",
        "process_resident_memory_bytes ",
        "holdfast_database_proven_recovery_seconds{database=\"shop\"} 5\n",
        "holdfast_databases_omitted 0\n",
        "holdfast_backup_last_success_timestamp_seconds{database=\"shop\"} "};
    for (size_t i = 0; i < ARRAY_COUNT(LINES); i++) {
        assert_contains(buffer_text(&buffer), LINES[i]);
    }
    buffer_done(&buffer);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

// However many databases there are and however often it is asked, the store is asked seldom and the
// answer is of bounded size; those that need a look come first.
static void test_metrics_are_bounded_and_kept(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    finish_backup(fixture, start_backup(fixture), "succeeded"); // better off than the others
    CLEANUP_FREE char *added = service_fixture_sql(
        fixture,
        "INSERT INTO databases (id, name, engine, etag) SELECT gen_random_uuid(), 'd' || i,"
        " 'mysql', 'e' FROM generate_series(1, 1002) i; SELECT 1");
    Error error = {0};
    Buffer first;
    Buffer second;
    buffer_init(&first, 4 * 1024 * 1024);
    buffer_init(&second, 4 * 1024 * 1024);
    assert_ok(service_metrics(fixture->service, &first, &error), &error);
    const char *text = buffer_text(&first);
    assert_contains(text, "holdfast_databases{protection=\"unprotected\"} 1002\n");
    assert_contains(text, "holdfast_databases{protection=\"at_risk\"} 1\n");
    assert_contains(text, "holdfast_databases_omitted 3\n");
    assert_int_equal(count_of(text, "\nholdfast_database_rpo_target_seconds{"), 1000);
    assert_null(strstr(text, "{database=\"shop\"}"));
    CLEANUP_FREE char *removed =
        service_fixture_sql(fixture, "DELETE FROM databases WHERE engine = 'mysql'; SELECT 1");
    assert_ok(service_metrics(fixture->service, &second, &error), &error);
    assert_contains(buffer_text(&second), "holdfast_databases{protection=\"unprotected\"} 1002\n");
    assert_contains(buffer_text(&second), "holdfast_state_age_seconds ");
    buffer_done(&first);
    buffer_done(&second);
}

static void test_shows_progress_and_phases(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *id = start_backup(fixture);
    CLEANUP_FREE char *running = service_fixture_sql(
        fixture,
        arena_format(
            fixture->arena,
            "UPDATE backups SET state = 'running', started_at = now() WHERE id = '%s'; "
            "UPDATE shard_backups SET state = 'running' WHERE backup_id = '%s'; "
            "INSERT INTO instances (id, provider, state, purpose, database_id, shard_id, "
            "backup_id, subject_id) SELECT sb.id, 'local', "
            "'joined', 'backup', sh.database_id, sb.shard_id, sb.backup_id, sb.id FROM "
            "shard_backups sb JOIN shards sh ON sh.id = sb.shard_id; "
            "INSERT INTO attempts (id, shard_backup_id, shard_id, epoch, instance_id, state, "
            "is_seed, phase, done_bytes, total_bytes, "
            "rate_bytes_per_second, received_bytes) SELECT sb.id, sb.id, sb.shard_id, 1, "
            "sb.id, 'running', true, 'seed', 50, 100, 10, 7 "
            "FROM shard_backups sb; INSERT INTO attempt_phases (attempt_id, phase, started_at, "
            "ended_at) SELECT id, 'launch', now(), now() "
            "FROM attempts; INSERT INTO attempt_phases (attempt_id, phase, started_at) SELECT "
            "id, 'seed', now() + interval '1 s' FROM attempts; "
            "SELECT 1",
            id, id));
    const Json *shard =
        CALL("GetShardBackup",
             arena_format(fixture->arena, "{\"backup\":\"%s\",\"shard\":\"80-\"}", id));
    assert_string_equal(json_get_text(shard, "phase", ""), "seed");
    assert_string_equal(json_get_text(shard, "eta", ""), "5s");
    const Json *attempt = json_item(json_get(shard, "attempts"), 0);
    assert_string_equal(json_get_text(attempt, "state", ""), "running");
    assert_int_equal(json_count(json_get(attempt, "phases")), 2);
    assert_string_equal(json_get_text(json_item(json_get(attempt, "phases"), 1), "phase", ""),
                        "seed");
    double progress = json_number(
        json_get(CALL("GetBackup", text_with(fixture, "{\"backup\":\"%s\"}", id)), "progress"), 0);
    assert_true(progress > 0.26 && progress < 0.28);
    assert_int_equal(
        json_get_integer(CALL("GetBackup", text_with(fixture, "{\"backup\":\"%s\"}", id)),
                         "received_bytes", 0),
        14);
    const Json *instances = json_get(CALL("ListInstances", "{\"database\":\"shop\"}"), "instances");
    assert_int_equal(json_count(instances), 2);
    const char *instance = json_get_text(json_item(instances, 0), "id", "");
    assert_string_equal(
        json_get_text(CALL("GetInstance", text_with(fixture, "{\"instance\":\"%s\"}", instance)),
                      "state", ""),
        "joined");
    CLEANUP_FREE char *gone =
        service_fixture_sql(fixture, "UPDATE instances SET state = 'destroyed'; SELECT 1");
    assert_int_equal(json_count(json_get(CALL("ListInstances", "{}"), "instances")), 0);
    assert_int_equal(
        json_count(json_get(CALL("ListInstances", "{\"include_destroyed\":true}"), "instances")),
        2);
}

static void test_refuses_bad_backups(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreateDatabase", "{\"database\":{\"name\":\"empty\",\"engine\":\"mysql\"}}");
    REFUSE("StartBackup", "{\"database\":\"empty\",\"repository\":\"main\"}", NO_SHARDS, "");
    REFUSE("StartBackup", "{\"database\":\"shop\"}", INVALID, "repository");
    REFUSE("StartBackup", "{\"database\":\"shop\",\"repository\":\"none\"}", INVALID, "repository");
    REFUSE("StartBackup", "{\"database\":\"none\",\"repository\":\"main\"}", NOT_FOUND, "");
    REFUSE("ProbeDatabase", "{\"database\":\"none\"}", PRECONDITION, "");
    static const char *const BY_ID[] = {"GetBackup", "CancelBackup", "DeleteBackup",
                                        "ListShardBackups"};
    for (size_t i = 0; i < ARRAY_COUNT(BY_ID); i++) {
        REFUSE(BY_ID[i], "{\"backup\":\"" ID "\"}", NOT_FOUND, "");
        REFUSE(BY_ID[i], "{\"backup\":\"nonsense\"}", NOT_FOUND, "");
        REFUSE(BY_ID[i], "{}", INVALID, "backup");
    }
    const char *id = start_backup(fixture);
    REFUSE("GetShardBackup",
           arena_format(fixture->arena, "{\"backup\":\"%s\",\"shard\":\"none\"}", id), NOT_FOUND,
           "");
    REFUSE("GetShardBackup", arena_format(fixture->arena, "{\"backup\":\"%s\"}", id), INVALID,
           "shard");
    REFUSE("DeleteBackup", text_with(fixture, "{\"backup\":\"%s\"}", id), BACKUP_RUNNING, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", BACKUP_RUNNING, "");
    finish_backup(fixture, id, "succeeded");
    REFUSE("CancelBackup", text_with(fixture, "{\"backup\":\"%s\"}", id), PRECONDITION, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\"}", IN_USE, "");
    REFUSE("ListBackups", "{\"database\":\"none\"}", NOT_FOUND, "");
    REFUSE("ListBackups", "{\"state\":\"flying\"}", INVALID, "state");
    REFUSE("GetInstance", "{\"instance\":\"" ID "\"}", NOT_FOUND, "");
    REFUSE("GetInstance", "{}", INVALID, "instance");
    REFUSE("ListInstances", "{\"database\":\"none\"}", NOT_FOUND, "");
    REFUSE("ListEvents", "{\"backup\":\"x\"}", NOT_FOUND, "");
    REFUSE("ListEvents", "{\"database\":\"X\"}", INVALID, "database");
}

static void test_backups_are_canceled_and_deleted(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *first = start_backup(fixture);
    const char *request = text_with(fixture, "{\"backup\":\"%s\"}", first);
    CALL("CancelBackup", request);
    CALL("CancelBackup", request);
    assert_int_equal(
        service_fixture_number(
            fixture, "SELECT count(*) FROM backups WHERE cancel_requested_at IS NOT NULL"),
        1);
    finish_backup(fixture, first, "succeeded");
    const char *second = start_backup(fixture);
    REFUSE("DeleteBackup", request, IN_USE, ""); // the second starts from it
    finish_backup(fixture, second, "succeeded");
    CALL("DeleteBackup", request);
    CALL("DeleteBackup", request);
    assert_string_equal(json_get_text(CALL("GetBackup", request), "state", ""), "deleting");
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM work_items WHERE kind = 'retention'"),
        1);
    CALL("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}");
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM work_items WHERE kind = 'retention'"),
        1);
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM work_items WHERE kind = 'forget_source'"),
                     2);
    REFUSE("GetDatabase", "{\"database\":\"shop\"}", NOT_FOUND, "");
    assert_int_equal(
        json_count(json_get(CALL("ListBackups", "{\"state\":\"deleting\"}"), "backups")), 2);
    CALL("CreateDatabase", DATABASE); // the name is free
}

// --- restores ---

static void test_refuses_bad_restores(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *target =
        arena_format(fixture->arena, "%s/restored%d", fixture->directory, fixture->database_count);
#define RESTORE(fields) arena_format(fixture->arena, "{" fields ",\"directory\":\"%s\"}", target)
    REFUSE("CreateRestore", RESTORE("\"database\":\"shop\",\"mode\":\"directory\""), PRECONDITION,
           "");
    const char *id = start_backup(fixture);
    REFUSE("CreateRestore",
           arena_format(fixture->arena,
                        "{\"backup\":\"%s\",\"mode\":\"directory\",\"directory\":\"/x\"}", id),
           PRECONDITION, "");
    finish_backup(fixture, id, "succeeded");
    REFUSE("CreateRestore", RESTORE("\"mode\":\"directory\""), INVALID, "backup");
    REFUSE("CreateRestore", RESTORE("\"database\":\"shop\""), INVALID, "mode");
    REFUSE("CreateRestore", RESTORE("\"backup\":\"" ID "\",\"mode\":\"directory\""), NOT_FOUND, "");
    REFUSE("CreateRestore",
           RESTORE("\"database\":\"shop\",\"mode\":\"directory\",\"shards\":[\"none\"]"), INVALID,
           "shards");
    REFUSE("CreateRestore",
           RESTORE("\"database\":\"shop\",\"mode\":\"directory\",\"first_port\":5"), INVALID,
           "first_port");
    REFUSE("CreateRestore", RESTORE("\"database\":\"shop\",\"mode\":\"server\""), INVALID,
           "first_port");
    REFUSE("CreateRestore",
           RESTORE("\"database\":\"shop\",\"mode\":\"server\",\"first_port\":65535"), INVALID,
           "first_port");
    CLEANUP_FREE char *used = string_format("%d", fixture->postgres->port);
    REFUSE("CreateRestore",
           "{\"database\":\"shop\",\"mode\":\"directory\",\"directory\":\"relative\"}", INVALID,
           "directory");
    REFUSE("CreateRestore", "{\"database\":\"shop\",\"mode\":\"directory\"}", INVALID, "directory");
    REFUSE("CreateRestore",
           arena_format(
               fixture->arena,
               "{\"database\":\"shop\",\"mode\":\"server\",\"first_port\":%s,\"directory\":\"%s\"}",
               used, target),
           PORT_IN_USE, "first_port");
    CLEANUP_FREE char *full = string_format("%s-full/80-", target);
    Error error = {0};
    assert_ok(dir_create_all(full, 0700, &error), &error);
    CLEANUP_FREE char *file = path_join(full, "x");
    write_file(file, "x");
    REFUSE("CreateRestore",
           arena_format(fixture->arena,
                        "{\"database\":\"shop\",\"mode\":\"directory\",\"directory\":\"%s-full\"}",
                        target),
           TARGET_NOT_EMPTY, "directory");
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM restores"), 0);
}

static void test_restores(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *target =
        arena_format(fixture->arena, "%s/restored%d", fixture->directory, fixture->database_count);
    const char *id = start_backup(fixture);
    finish_backup(fixture, id, "succeeded");
    const Json *restore =
        CALL("CreateRestore",
             RESTORE("\"database\":\"shop\",\"mode\":\"directory\",\"shards\":[\"80-\"]"));
    const char *restore_id = json_get_text(restore, "id", "");
    assert_int_equal(json_count(json_get(restore, "shards")), 1);
    assert_contains(json_get_text(json_item(json_get(restore, "shards"), 0), "directory", ""),
                    "/80-");
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM work_items WHERE kind = 'restore'"),
        1);
    REFUSE("CreateRestore", RESTORE("\"database\":\"shop\",\"mode\":\"directory\""),
           TARGET_NOT_EMPTY, "directory");
    REFUSE("CreateRestore",
           arena_format(fixture->arena,
                        "{\"database\":\"shop\",\"mode\":\"directory\",\"directory\":\"%s/sub\"}",
                        target),
           TARGET_NOT_EMPTY, "directory");
    REFUSE("DeleteBackup", text_with(fixture, "{\"backup\":\"%s\"}", id), IN_USE, "");
    REFUSE("DeleteShard", "{\"database\":\"shop\",\"shard\":\"80-\"}", IN_USE, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", IN_USE, "");
    CALL("StopRestore", text_with(fixture, "{\"restore\":\"%s\"}", restore_id));
    CLEANUP_FREE char *ended = service_fixture_sql(
        fixture, "UPDATE restores SET state = 'succeeded'; UPDATE restore_shards SET state = "
                 "'succeeded', restore_time = interval '1.5 s', "
                 "start_time = interval '0.25 s'; SELECT 1");
    REFUSE("StopRestore", text_with(fixture, "{\"restore\":\"%s\"}", restore_id), PRECONDITION, "");
    restore = CALL("GetRestore", text_with(fixture, "{\"restore\":\"%s\"}", restore_id));
    assert_string_equal(
        json_get_text(json_item(json_get(restore, "shards"), 0), "restore_time", ""), "1.5s");
    assert_string_equal(json_get_text(CALL("GetShard", "{\"database\":\"shop\",\"shard\":\"80-\"}"),
                                      "proven_recovery_time", ""),
                        "1.75s");
    assert_int_equal(
        json_count(json_get(CALL("ListRestores", "{\"database\":\"shop\"}"), "restores")), 1);
    REFUSE("GetRestore", "{\"restore\":\"" ID "\"}", NOT_FOUND, "");
    REFUSE("StopRestore", "{}", INVALID, "restore");
    CALL("DeleteBackup", text_with(fixture, "{\"backup\":\"%s\"}", id));
}

// --- probes ---

static const Json *probe_with(ServiceFixture *fixture, const char *script)
{
    CLEANUP_FREE char *path = path_join(fixture->directory, "agent");
    write_file(path, script);
    assert_int_equal(chmod(path, 0755), 0);
    Service *service = service_fixture_open_service(fixture, fixture->store, path);
    Service *original = fixture->service;
    fixture->service = service;
    const Json *response = CALL("ProbeDatabase", "{\"database\":\"shop\"}");
    fixture->service = original;
    service_free(service);
    return response;
}

static void test_probes_through_the_agent(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    // The stand-in answers with what it was asked, so that the test sees what an agent gets.
    const Json *results = json_get(
        probe_with(fixture,
                   "#!/bin/sh\ninput=$(cat)\n[ \"$1\" = --probe ] || exit 3\ncase \"$input\" in\n"
                   "*'\"shard\":\"-80\"'*'\"password\":\"hunter2\"'*) echo "
                   "'{\"is_ready\":true,\"version\":\"10.11\",\"size_bytes\":5}';;\n"
                   "*) echo '{\"reason\":\"source-privileges\",\"message\":\"no\",\"hint\":\"GRANT "
                   "it\"}'; exit 5;;\nesac\n"),
        "results");
    assert_int_equal(json_count(results), 2);
    assert_string_equal(json_get_text(json_item(results, 0), "shard", ""), "-80");
    assert_true(json_get_boolean(json_item(results, 0), "is_ready", false));
    assert_false(json_get_boolean(json_item(results, 1), "is_ready", true));
    const Json *problem = json_item(json_get(json_item(results, 1), "problems"), 0);
    assert_string_equal(json_get_text(problem, "reason", ""), "source-privileges");
    assert_string_equal(json_get_text(problem, "cure", ""), "GRANT it");
    // One that crashes, and one that talks nonsense.
    results = json_get(probe_with(fixture, "#!/bin/sh\necho oops >&2\nexit 9\n"), "results");
    problem = json_item(json_get(json_item(results, 0), "problems"), 0);
    assert_contains(json_get_text(problem, "message", ""), "oops");
    results = json_get(probe_with(fixture, "#!/bin/sh\necho nonsense\n"), "results");
    problem = json_item(json_get(json_item(results, 0), "problems"), 0);
    assert_string_equal(json_get_text(problem, "reason", ""), "internal");
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_backups_are_pinned_to_their_parents),
        SERVICE_TEST(test_parents_fit),
        SERVICE_TEST(test_computes_protection_and_proof),
        SERVICE_TEST(test_metrics_are_bounded_and_kept),
        SERVICE_TEST(test_shows_progress_and_phases),
        SERVICE_TEST(test_refuses_bad_backups),
        SERVICE_TEST(test_backups_are_canceled_and_deleted),
        SERVICE_TEST(test_refuses_bad_restores),
        SERVICE_TEST(test_restores),
        SERVICE_TEST(test_probes_through_the_agent),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
