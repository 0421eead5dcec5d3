// SPDX-License-Identifier: Apache-2.0
// Limits of policies, runs and repositories as callers set them, on a real PostgreSQL. If this goes
// red, a limit is lost by a change of something else, or nonsense is taken.
#include "tests/integration/service_case.h"

#define MIB (INT64_C(1024) * 1024)

static int64_t limit_of(const Json *resource, const char *name)
{
    return json_get_integer(json_get(resource, "limits"), name, 0);
}

static void test_a_policy_has_limits(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const Json *policy =
        CALL("CreatePolicy",
             POLICY("\"schedule\":\"@daily\",\"limits\":{\"upload_bytes_per_second\":20971520,"
                    "\"cpu_count\":2}"));
    assert_int_equal(limit_of(policy, "upload_bytes_per_second"), 20 * MIB);
    assert_int_equal(limit_of(policy, "download_bytes_per_second"), 0);
    assert_int_equal(limit_of(policy, "cpu_count"), 2);
    // Each can be changed alone, and nothing else changes them.
    policy = CALL("UpdatePolicy",
                  "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"limits\":"
                  "{\"memory_bytes\":134217728}},\"update_mask\":\"limits.memory_bytes\"}");
    assert_int_equal(limit_of(policy, "upload_bytes_per_second"), 20 * MIB);
    assert_int_equal(limit_of(policy, "memory_bytes"), 128 * MIB);
    policy = CALL("UpdatePolicy", "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\","
                                  "\"full_read_every\":3},\"update_mask\":\"full_read_every\"}");
    assert_int_equal(limit_of(policy, "cpu_count"), 2);
    policy = CALL(
        "UpdatePolicy",
        "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"limits\":"
        "{\"upload_bytes_per_second\":0}},\"update_mask\":\"limits.upload_bytes_per_second\"}");
    assert_int_equal(limit_of(policy, "upload_bytes_per_second"), 0);
    assert_int_equal(limit_of(policy, "memory_bytes"), 128 * MIB);
    policy = CALL("UpdatePolicy", "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\"},"
                                  "\"update_mask\":\"limits\"}");
    assert_null(json_get(policy, "limits"));
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM policies WHERE limits IS NOT NULL"),
        0);
}

static void test_a_policy_refuses_nonsense(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    REFUSE("CreatePolicy",
           POLICY("\"schedule\":\"@daily\",\"limits\":{\"upload_bytes_per_second\":1000}"), INVALID,
           "policy.limits.upload_bytes_per_second");
    REFUSE("CreatePolicy",
           POLICY("\"schedule\":\"@daily\",\"limits\":{\"download_bytes_per_second\":-1}"), INVALID,
           "policy.limits.download_bytes_per_second");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"limits\":{\"cpu_count\":-1}"), INVALID,
           "policy.limits.cpu_count");
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    REFUSE("UpdatePolicy",
           "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"limits\":"
           "{\"memory_bytes\":1048576}},\"update_mask\":\"limits.memory_bytes\"}",
           INVALID, "policy.limits.memory_bytes");
    REFUSE("UpdatePolicy",
           "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\"},"
           "\"update_mask\":\"limits.speed\"}",
           INVALID, "limits.speed");
}

static void test_a_repository_has_limits(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *before =
        json_get_text(CALL("GetRepository", "{\"repository\":\"main\"}"), "etag", "");
    const Json *repository =
        CALL("UpdateRepository", "{\"repository\":{\"name\":\"main\",\"limits\":"
                                 "{\"upload_bytes_per_second\":1048576}},"
                                 "\"update_mask\":\"limits.upload_bytes_per_second\"}");
    assert_int_equal(limit_of(repository, "upload_bytes_per_second"), MIB);
    assert_string_not_equal(json_get_text(repository, "etag", ""), before);
    repository = CALL("UpdateRepository", "{\"repository\":{\"name\":\"main\",\"limits\":"
                                          "{\"download_bytes_per_second\":2097152}},"
                                          "\"update_mask\":\"limits.download_bytes_per_second\"}");
    assert_int_equal(limit_of(repository, "upload_bytes_per_second"), MIB);
    assert_int_equal(limit_of(repository, "download_bytes_per_second"), 2 * MIB);
    fixture->if_match = before;
    REFUSE("UpdateRepository", "{\"repository\":{\"name\":\"main\"},\"update_mask\":\"limits\"}",
           ETAG_MISMATCH, "If-Match");
    fixture->if_match = NULL;
    REFUSE("UpdateRepository",
           "{\"repository\":{\"name\":\"main\",\"limits\":{\"upload_bytes_per_second\":1}},"
           "\"update_mask\":\"limits\"}",
           INVALID, "repository.limits.upload_bytes_per_second");
    REFUSE("UpdateRepository",
           "{\"repository\":{\"name\":\"main\",\"location\":\"file:///other\"},"
           "\"update_mask\":\"location\"}",
           INVALID, "location");
    repository =
        CALL("UpdateRepository", "{\"repository\":{\"name\":\"main\"},\"update_mask\":\"limits\"}");
    assert_null(json_get(repository, "limits"));
}

static void test_the_fleet_has_limits(void **state)
{
    ServiceFixture *fixture = *state;
    const Json *limits = CALL("GetFleetLimits", "{}");
    assert_int_equal(json_get_integer(limits, "upload_bytes_per_second", -1), 0);
    assert_int_equal(json_get_integer(limits, "download_bytes_per_second", -1), 0);
    const char *before = json_get_text(limits, "etag", "");
    limits = CALL("UpdateFleetLimits", "{\"limits\":{\"upload_bytes_per_second\":1048576},"
                                       "\"update_mask\":\"upload_bytes_per_second\"}");
    const char *etag = json_get_text(limits, "etag", "");
    assert_string_not_equal(etag, before);
    // Each can be changed alone.
    limits = CALL("UpdateFleetLimits",
                  text_with(fixture,
                            "{\"limits\":{\"download_bytes_per_second\":2097152,\"etag\":\"%s\"},"
                            "\"update_mask\":\"download_bytes_per_second\"}",
                            etag));
    assert_int_equal(json_get_integer(limits, "upload_bytes_per_second", 0), MIB);
    assert_int_equal(json_get_integer(limits, "download_bytes_per_second", 0), 2 * MIB);
    etag = json_get_text(limits, "etag", "");
    // What is refused changes nothing.
    fixture->if_match = before;
    REFUSE("UpdateFleetLimits", "{\"limits\":{},\"update_mask\":\"upload_bytes_per_second\"}",
           ETAG_MISMATCH, "If-Match");
    fixture->if_match = NULL;
    REFUSE("UpdateFleetLimits",
           "{\"limits\":{\"upload_bytes_per_second\":1,\"download_bytes_per_second\":0},"
           "\"update_mask\":\"download_bytes_per_second,upload_bytes_per_second\"}",
           INVALID, "limits.upload_bytes_per_second");
    REFUSE("UpdateFleetLimits",
           "{\"limits\":{\"download_bytes_per_second\":-65536},"
           "\"update_mask\":\"download_bytes_per_second\"}",
           INVALID, "limits.download_bytes_per_second");
    REFUSE("UpdateFleetLimits", "{\"limits\":{},\"update_mask\":\"cpu_count\"}", INVALID,
           "cpu_count");
    REFUSE("UpdateFleetLimits", "{\"update_mask\":\"upload_bytes_per_second\"}", INVALID, "limits");
    limits = CALL("GetFleetLimits", "{}");
    assert_int_equal(json_get_integer(limits, "upload_bytes_per_second", 0), MIB);
    assert_int_equal(json_get_integer(limits, "download_bytes_per_second", 0), 2 * MIB);
    assert_string_equal(json_get_text(limits, "etag", ""), etag);
    // 0 clears.
    limits =
        CALL("UpdateFleetLimits", "{\"limits\":{},\"update_mask\":\"upload_bytes_per_second\"}");
    assert_int_equal(json_get_integer(limits, "upload_bytes_per_second", -1), 0);
    assert_int_equal(json_get_integer(limits, "download_bytes_per_second", 0), 2 * MIB);
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM events WHERE kind = 'fleet.limited'"),
        3);
}

static void test_a_backup_has_limits_of_its_own(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    REFUSE("StartBackup",
           "{\"database\":\"shop\",\"repository\":\"main\",\"limits\":{\"cpu_count\":2000}}",
           INVALID, "limits.cpu_count");
    const Json *backup = CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\","
                                             "\"limits\":{\"upload_bytes_per_second\":1048576}}");
    const char *id = json_get_text(backup, "id", "");
    assert_int_equal(limit_of(backup, "upload_bytes_per_second"), MIB);
    // Replaced, not merged.
    backup = CALL("LimitBackup",
                  text_with(fixture, "{\"backup\":\"%s\",\"limits\":{\"cpu_count\":1}}", id));
    assert_int_equal(limit_of(backup, "upload_bytes_per_second"), 0);
    assert_int_equal(limit_of(backup, "cpu_count"), 1);
    REFUSE("LimitBackup",
           text_with(fixture, "{\"backup\":\"%s\",\"limits\":{\"memory_bytes\":1}}", id), INVALID,
           "limits.memory_bytes");
    backup = CALL("LimitBackup", text_with(fixture, "{\"backup\":\"%s\"}", id));
    assert_null(json_get(backup, "limits"));
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM events WHERE kind = 'backup.limited'"),
                     2);
    finish_backup(fixture, id, "succeeded");
    REFUSE("LimitBackup", text_with(fixture, "{\"backup\":\"%s\"}", id), PRECONDITION, "");
    REFUSE("LimitBackup", "{\"backup\":\"" ID "\"}", NOT_FOUND, "");
}

static void test_a_restore_has_limits(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *backup_id = start_backup(fixture);
    finish_backup(fixture, backup_id, "succeeded");
    const char *request =
        arena_format(fixture->arena,
                     "{\"backup\":\"%s\",\"mode\":\"directory\",\"directory\":\"%s/restored\","
                     "\"limits\":{\"download_bytes_per_second\":1048576}}",
                     backup_id, fixture->directory);
    const Json *restore = CALL("CreateRestore", request);
    const char *id = json_get_text(restore, "id", "");
    assert_int_equal(limit_of(restore, "download_bytes_per_second"), MIB);
    restore = CALL("LimitRestore", text_with(fixture,
                                             "{\"restore\":\"%s\",\"limits\":"
                                             "{\"download_bytes_per_second\":4194304}}",
                                             id));
    assert_int_equal(limit_of(restore, "download_bytes_per_second"), 4 * MIB);
    CALL("StopRestore", text_with(fixture, "{\"restore\":\"%s\"}", id));
    CLEANUP_FREE char *ended =
        service_fixture_sql(fixture, "UPDATE restores SET state = 'canceled'; SELECT 1");
    REFUSE("LimitRestore", text_with(fixture, "{\"restore\":\"%s\"}", id), PRECONDITION, "");
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_a_policy_has_limits),
        SERVICE_TEST(test_a_policy_refuses_nonsense),
        SERVICE_TEST(test_a_repository_has_limits),
        SERVICE_TEST(test_the_fleet_has_limits),
        SERVICE_TEST(test_a_backup_has_limits_of_its_own),
        SERVICE_TEST(test_a_restore_has_limits),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
