// SPDX-License-Identifier: Apache-2.0
// What keeps backups, on a real PostgreSQL: the preview, time zones, many backups, pins and holds;
// and what a repository holds.
// If this goes red, a backup goes that must stay, or the API says something else than what happens.
#include "server/store/store_work_retention.h"
#include "tests/integration/service_case.h"

static void test_previews_retention(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"retention\":{\"keep_last\":2}"));
    for (int i = 0; i < 5; i++) {
        const char *id = start_backup(fixture);
        finish_backup(fixture, id, "succeeded");
        if (i != 1) { // number 1 stays one by hand
            CLEANUP_FREE char *done = service_fixture_sql(
                fixture,
                arena_format(
                    fixture->arena,
                    "UPDATE backups SET policy_id = (SELECT id FROM policies), trigger = "
                    "'policy', slot_at = now() - interval '%d days' WHERE id = '%s'; SELECT 1",
                    i, id));
        }
    }
    const Json *preview =
        CALL("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"nightly\"}");
    const Json *verdicts = json_get(preview, "verdicts");
    static const bool KEPT[] = {true, true, false, true, false};
    assert_int_equal(json_count(verdicts), 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(json_get_boolean(json_item(verdicts, i), "is_kept", false), KEPT[i]);
        assert_int_equal(json_get_integer(json_item(verdicts, i), "stored_bytes", 0), 100);
    }
    assert_string_equal(json_get_text(json_item(verdicts, 0), "why", ""),
                        "newest restorable backup, within keep_last 2");
    const Json *kept_by = json_get(json_item(verdicts, 0), "kept_by");
    assert_int_equal(json_count(kept_by), 2);
    assert_string_equal(json_text(json_item(kept_by, 1), ""), "keep_last");
    assert_string_equal(json_get_text(json_item(verdicts, 4), "why", ""), "beyond keep_last 2");
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM backups WHERE state = 'succeeded'"),
        5);
}

// Backups of the policy with these checkpoints, newest last.
static void add_history(ServiceFixture *fixture, const char *rows)
{
    CLEANUP_FREE char *done = service_fixture_sql(
        fixture,
        arena_format(fixture->arena,
                     "INSERT INTO backups (id, database_id, repository_id, policy_id, trigger, "
                     "state, checkpoint_at, created_at) SELECT gen_random_uuid(), p.database_id, "
                     "p.repository_id, p.id, 'policy', 'succeeded', t, t FROM policies p, %s t; "
                     "SELECT 1",
                     rows));
}

// 23:30 and 00:30 in Berlin are two days there, and one in UTC.
static void test_periods_are_of_the_policys_time_zone(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\",\"time_zone\":\"Europe/Berlin\","
                                "\"retention\":{\"keep_daily\":2,\"keep_yearly\":1}"));
    add_history(fixture, "unnest(ARRAY['2026-10-24T21:30Z', '2026-10-24T22:30Z', "
                         "'2026-10-25T22:30Z']::timestamptz[])");
    const Json *verdicts = json_get(
        CALL("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"nightly\"}"), "verdicts");
    assert_int_equal(json_count(verdicts), 3);
    assert_string_equal(json_get_text(json_item(verdicts, 0), "why", ""),
                        "newest restorable backup, newest of day 2026-10-25 (keep_daily 2), newest "
                        "of year 2026 (keep_yearly 1)");
    assert_false(json_get_boolean(json_item(verdicts, 1), "is_kept", true));
    assert_string_equal(json_get_text(json_item(verdicts, 2), "why", ""),
                        "newest of day 2026-10-24 (keep_daily 2)");
    const Json *policy = CALL(
        "UpdatePolicy", "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"retention\":"
                        "{\"keep_hourly\":24}},\"update_mask\":\"retention.keep_hourly\"}");
    assert_int_equal(json_get_integer(json_get(policy, "retention"), "keep_hourly", 0), 24);
    assert_int_equal(json_get_integer(json_get(policy, "retention"), "keep_daily", 0), 2);
    verdicts = json_get(CALL("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"nightly\"}"),
                        "verdicts");
    assert_string_equal(json_get_text(json_item(verdicts, 1), "why", ""),
                        "newest of hour 2026-10-25 00:00 (keep_hourly 24)");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"retention\":{\"keep_weekly\":-1}"),
           INVALID, "policy.retention.keep_weekly");
}

// Pages that a statement looks at.
static int64_t pages_read(ServiceFixture *fixture, const char *statement)
{
    return service_fixture_number(
        fixture,
        arena_format(
            fixture->arena,
            "CREATE FUNCTION pg_temp.pages_read() RETURNS bigint LANGUAGE plpgsql AS "
            "$$DECLARE plan json; BEGIN EXECUTE $q$EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
            "%s$q$ INTO plan; RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + "
            "(plan->0->'Plan'->>'Shared Read Blocks')::bigint; END$$; "
            "SELECT pg_temp.pages_read()",
            statement));
}

// Ten thousand backups are decided over in one statement, and deleted ones cost nothing.
static void test_retention_of_ten_thousand_backups(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\",\"retention\":{\"keep_last\":24,"
                                "\"keep_daily\":30,\"keep_monthly\":12,\"keep_yearly\":5}"));
    add_history(fixture, "generate_series(timestamptz '2026-01-01T00:30Z' - interval '9999 hours', "
                         "timestamptz '2026-01-01T00:30Z', interval '1 hour')");
    CLEANUP_FREE char *shards = service_fixture_sql(
        fixture, "INSERT INTO shard_backups (id, backup_id, shard_id, state, stored_bytes) SELECT "
                 "gen_random_uuid(), b.id, s.id, 'committed', 100 FROM backups b, shards s; "
                 "ANALYZE; SELECT 1");
    const Json *verdicts = json_get(
        CALL("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"nightly\"}"), "verdicts");
    assert_int_equal(json_count(verdicts), 10000);
    int kept_count = 0;
    for (const Json *verdict = json_first(verdicts); verdict != NULL;
         verdict = json_next(verdict)) {
        kept_count += json_get_boolean(verdict, "is_kept", false) ? 1 : 0;
    }
    // 24 hours are of the first day or two; 30 days; 12 months, of which two are there already.
    assert_true(kept_count > 50 && kept_count < 70);
    static const char RETAINED[] =
        "SELECT count(*) FROM backups b WHERE b.database_id = (SELECT id FROM databases) AND "
        "b.state IN ('succeeded', 'failed', 'canceled')";
    CLEANUP_FREE char *deleted = service_fixture_sql(
        fixture, "UPDATE backups SET state = 'deleted' WHERE created_at < '2025-12-31'; SELECT 1");
    CLEANUP_FREE char *vacuumed = service_fixture_sql(fixture, "VACUUM ANALYZE backups");
    assert_true(pages_read(fixture, RETAINED) < 20);
    assert_int_equal(json_count(json_get(
                         CALL("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"nightly\"}"),
                         "verdicts")),
                     25);
}

static void test_pins_and_holds(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *id = start_backup(fixture);
    finish_backup(fixture, id, "succeeded");
#define BACKUP(fields) arena_format(fixture->arena, "{\"backup\":\"%s\"" fields "}", id)
    const Json *backup = CALL("PinBackup", BACKUP(",\"note\":\"before the move\""));
    assert_true(json_get_boolean(backup, "is_pinned", false));
    assert_string_equal(json_get_text(backup, "pin_note", ""), "before the move");
    assert_null(json_get(backup, "pinned_until"));
    REFUSE("DeleteBackup", BACKUP(""), BACKUP_PINNED, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", BACKUP_PINNED, "");
    backup = CALL("PinBackup", BACKUP(",\"until\":\"2100-01-01T00:00:00Z\""));
    assert_string_equal(json_get_text(backup, "pinned_until", ""), "2100-01-01T00:00:00Z");
    REFUSE("PinBackup", BACKUP(",\"until\":\"2020-01-01T00:00:00Z\""), INVALID, "until");
    // Its time comes.
    CLEANUP_FREE char *passed = service_fixture_sql(
        fixture, "UPDATE backups SET pinned_until = now() - interval '1 s'; SELECT 1");
    backup = CALL("GetBackup", BACKUP(""));
    assert_false(json_get_boolean(backup, "is_pinned", false));
    assert_null(json_get(backup, "pinned_until"));
    CALL("PinBackup", BACKUP(""));
    backup = CALL("HoldBackup", BACKUP(",\"note\":\"case 17\""));
    assert_true(json_get_boolean(backup, "is_held", false));
    assert_non_null(json_get(backup, "held_at"));
    backup = CALL("UnpinBackup", BACKUP(""));
    assert_false(json_get_boolean(backup, "is_pinned", true));
    REFUSE("DeleteBackup", BACKUP(""), BACKUP_HELD, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", BACKUP_HELD, "");
    backup = CALL("ReleaseBackup", BACKUP(",\"note\":\"case closed\""));
    assert_false(json_get_boolean(backup, "is_held", true));
    CALL("ReleaseBackup", BACKUP("")); // again: nothing changes
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM events WHERE kind IN "
                                                     "('backup.held', 'backup.released')"),
                     2);
    CALL("DeleteBackup", BACKUP(""));
    REFUSE("PinBackup", BACKUP(""), PRECONDITION, "");
    REFUSE("HoldBackup", BACKUP(""), PRECONDITION, "");
#undef BACKUP
}

// The database `number` of the repository's list.
static const Json *held(ServiceFixture *fixture, const char *request, size_t number)
{
    return json_item(json_get(CALL("ListRepositoryDatabases", request), "databases"), number);
}

static void test_tells_what_a_repository_holds(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    make_repository(fixture, "other");
    assert_null(held(fixture, "{\"repository\":\"main\"}", 0));
    const char *ids[4];
    for (size_t i = 0; i < 4; i++) {
        ids[i] = start_backup(fixture);
        finish_backup(fixture, ids[i], i == 1 ? "failed" : "succeeded");
    }
    CALL("PinBackup", text_with(fixture, "{\"backup\":\"%s\"}", ids[2]));
    CALL("HoldBackup", text_with(fixture, "{\"backup\":\"%s\"}", ids[2]));
    CLEANUP_FREE char *gone = service_fixture_sql(
        fixture, text_with(fixture,
                           "UPDATE backups SET state = 'deleted' WHERE id = '%s'; INSERT INTO "
                           "shard_sweeps SELECT s.id, r.id, '2026-01-02T03:04:05Z', now() FROM "
                           "shards s, repositories r WHERE r.name = 'main'; SELECT 1",
                           ids[0]));
    CALL("CreateDatabase", "{\"database\":{\"name\":\"ledger\",\"engine\":\"mariadb\"},"
                           "\"shards\":[" SHARD("0") "]}");
    const char *elsewhere = json_get_text(
        CALL("StartBackup", "{\"database\":\"ledger\",\"repository\":\"other\"}"), "id", NULL);
    finish_backup(fixture, elsewhere, "succeeded");

    const Json *shop = held(fixture, "{\"repository\":\"main\"}", 0);
    assert_string_equal(json_get_text(shop, "database", ""), "shop");
    assert_int_equal(json_get_integer(shop, "backup_count", 0), 2);
    assert_int_equal(json_get_integer(shop, "pinned_count", 0), 1);
    assert_int_equal(json_get_integer(shop, "held_count", 0), 1);
    assert_int_equal(json_get_integer(shop, "size_bytes", 0), 4000);
    assert_int_equal(json_get_integer(shop, "stored_bytes", 0), 200);
    assert_string_equal(json_get_text(shop, "swept_at", ""), "2026-01-02T03:04:05Z");
    assert_non_null(json_get(shop, "oldest_backup_at"));
    assert_null(held(fixture, "{\"repository\":\"main\"}", 1));

    // The same database in two places; pages of one.
    finish_backup(
        fixture,
        json_get_text(CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"other\"}"), "id",
                      NULL),
        "succeeded");
    const Json *page =
        CALL("ListRepositoryDatabases", "{\"repository\":\"other\",\"page_size\":1}");
    assert_string_equal(json_get_text(json_item(json_get(page, "databases"), 0), "database", ""),
                        "ledger");
    const char *next = json_get_text(page, "next_page_token", "");
    shop = held(fixture,
                text_with(fixture,
                          "{\"repository\":\"other\",\"page_size\":1,\"page_token\":\"%s\"}", next),
                0);
    assert_string_equal(json_get_text(shop, "database", ""), "shop");
    assert_null(json_get(shop, "swept_at"));
    const Json *backups = json_get(CALL("ListBackups", "{\"repository\":\"other\"}"), "backups");
    assert_int_equal(json_count(backups), 2);
    assert_string_equal(json_get_text(json_item(backups, 1), "id", ""), elsewhere);
    backups = json_get(CALL("ListBackups", "{\"repository\":\"other\",\"database\":\"shop\"}"),
                       "backups");
    assert_int_equal(json_count(backups), 1);
    REFUSE("ListBackups", "{\"repository\":\"none\"}", NOT_FOUND, "");
    REFUSE("ListBackups", "{\"repository\":\"No\"}", INVALID, "repository");
    REFUSE("ListRepositoryDatabases", "{\"repository\":\"none\"}", NOT_FOUND, "");
    REFUSE("ListRepositoryDatabases", "{}", INVALID, "repository");
}

// Neither deleted backups nor shard backups are looked at.
static void test_looking_into_a_repository_is_cheap(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\""));
    add_history(fixture,
                "generate_series(now() - interval '9999 hours', now(), interval '1 hour')");
    CLEANUP_FREE char *deleted = service_fixture_sql(
        fixture, "UPDATE backups SET state = 'deleted' WHERE created_at < now() - interval "
                 "'50 hours'; SELECT 1");
    CLEANUP_FREE char *vacuumed = service_fixture_sql(fixture, "VACUUM ANALYZE backups");
    const Json *shop = held(fixture, "{\"repository\":\"main\"}", 0);
    assert_int_equal(json_get_integer(shop, "backup_count", 0), 50);
    assert_true(pages_read(fixture, "SELECT sum(b.stored_bytes) FROM backups b WHERE "
                                    "b.repository_id = (SELECT id FROM repositories) AND "
                                    "b.database_id = (SELECT id FROM databases) AND "
                                    "b.state <> 'deleted'") < 20);
    assert_true(pages_read(fixture, "SELECT id FROM backups b WHERE b.repository_id = (SELECT id "
                                    "FROM repositories) ORDER BY b.created_at DESC, b.id DESC "
                                    "LIMIT 50") < 20);
}

static void execute(ServiceFixture *fixture, const char *statement)
{
    CLEANUP_FREE char *done =
        service_fixture_sql(fixture, arena_format(fixture->arena, "%s; SELECT 1", statement));
}

// Whether the only shard's sweep is due, without a grace, and how many epochs of abandoned
// attempts it may remove.
static bool is_sweep_due(ServiceFixture *fixture, size_t *ret_abandoned_count)
{
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    CLEANUP_FREE char *database = service_fixture_sql(fixture, "SELECT id FROM databases");
    CLEANUP_FREE char *repository = service_fixture_sql(fixture, "SELECT id FROM repositories");
    CLEANUP_FREE char *shard = service_fixture_sql(fixture, "SELECT id FROM shards ORDER BY id");
    const RetentionSweep sweep = {
        .database_id = database, .repository_id = repository, .gone = "{}"};
    RetentionShard *shards = NULL;
    RetentionKeep keep = {0};
    size_t count = 0;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    assert_ok(store_retention_shards(transaction, fixture->arena, &sweep, &shards, &count, &error),
              &error);
    assert_ok(store_retention_keep(transaction, fixture->arena, shard, &sweep, &keep, &error),
              &error);
    *ret_abandoned_count = keep.abandoned_count;
    return count == 1;
}

// What a lost attempt left can go when no other attempt at its shard backup goes on from it and
// its agent cannot write any more; a sweep that came before does not count.
static void test_what_an_attempt_left_is_swept_once_it_can_go(void **state)
{
    ServiceFixture *fixture = *state;
    size_t abandoned_count = 0;
    make_database(fixture);
    execute(fixture, "DELETE FROM shards WHERE id <> (SELECT min(id::text)::uuid FROM shards)");
    const char *backup = start_backup(fixture);
    execute(fixture,
            arena_format(
                fixture->arena,
                "UPDATE shard_backups SET state = 'running', attempt_count = 1; "
                "INSERT INTO instances (id, provider, state, purpose, database_id, shard_id, "
                "backup_id, subject_id) SELECT gen_random_uuid(), 'local', 'joined', 'backup', "
                "s.database_id, s.id, '%s', sb.id FROM shards s JOIN shard_backups sb ON "
                "sb.shard_id = s.id; "
                "INSERT INTO attempts (id, shard_backup_id, shard_id, epoch, instance_id, state, "
                "is_seed, finished_at) SELECT gen_random_uuid(), sb.id, sb.shard_id, 1, i.id, "
                "'lost', true, now() - interval '1 hour' FROM shard_backups sb, instances i; "
                "INSERT INTO shard_sweeps (shard_id, repository_id, swept_at, thorough_at) SELECT "
                "s.id, r.id, now() - interval '10 minutes', now() FROM shards s, repositories r",
                backup));
    assert_false(is_sweep_due(fixture, &abandoned_count));
    assert_int_equal(abandoned_count, 0);
    execute(fixture, "UPDATE shard_backups SET state = 'committed', finished_at = now()");
    assert_false(is_sweep_due(fixture, &abandoned_count));
    assert_int_equal(abandoned_count, 0);
    execute(fixture, "UPDATE instances SET state = 'destroyed', destroyed_at = now() - interval "
                     "'30 minutes'");
    assert_true(is_sweep_due(fixture, &abandoned_count));
    assert_int_equal(abandoned_count, 1);
    execute(fixture, "UPDATE shard_backups SET finished_at = now() - interval '30 minutes'");
    assert_false(is_sweep_due(fixture, &abandoned_count)); // the last sweep has seen it
    assert_int_equal(abandoned_count, 1);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_previews_retention),
        SERVICE_TEST(test_periods_are_of_the_policys_time_zone),
        SERVICE_TEST(test_retention_of_ten_thousand_backups),
        SERVICE_TEST(test_what_an_attempt_left_is_swept_once_it_can_go),
        SERVICE_TEST(test_pins_and_holds),
        SERVICE_TEST(test_tells_what_a_repository_holds),
        SERVICE_TEST(test_looking_into_a_repository_is_cheap),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
