// SPDX-License-Identifier: Apache-2.0
// Who may call, and the resources of a fleet, on a real PostgreSQL. If this goes red, the API
// answers wrongly or takes what it must refuse.
#include "common/crypto.h"
#include "repository/repository.h"
#include "server/service/credential_seal.h"
#include "tests/integration/service_case.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// --- who may call ---

static void test_needs_a_token_with_the_role(void **state)
{
    ServiceFixture *fixture = *state;
    static const char *const BAD[] = {"", "Bearer ", "Bearer hf_wrong", "Basic YTpi", "hf_wrong"};
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        fixture->authorization = BAD[i];
        REFUSE("ListDatabases", "{}", UNAUTHENTICATED, "");
    }
    fixture->authorization = NULL;
    CALL("ListDatabases", "{}");
    uint8_t hash[SHA256_SIZE];
    char hex[2 * SHA256_SIZE + 1];
    crypto_sha256("viewer-token", 12, hash);
    hex_encode(hash, sizeof(hash), hex);
    CLEANUP_FREE char *viewer = service_fixture_sql(
        fixture, text_with(fixture,
                           "INSERT INTO tokens (id, name, token_hash, role) VALUES "
                           "(gen_random_uuid(), 'v', '\\x%s', 'viewer'); SELECT 1",
                           hex));
    fixture->authorization = "bearer viewer-token";
    CALL("ListDatabases", "{}");
    REFUSE("CreateDatabase", DATABASE, FORBIDDEN, "");
    REFUSE("StartBackup", "{\"database\":\"shop\"}", FORBIDDEN, "");
    CLEANUP_FREE char *expired = service_fixture_sql(
        fixture,
        "UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'v'; SELECT 1");
    REFUSE("ListDatabases", "{}", UNAUTHENTICATED, "");
}

static void test_keeps_the_admin_token_of_a_file(void **state)
{
    ServiceFixture *fixture = *state;
    CLEANUP_FREE char *name = string_format("token%d", fixture->database_count);
    CLEANUP_FREE char *path = path_join(fixture->directory, name);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    CLEANUP_FREE char *gone = service_fixture_sql(fixture, "DELETE FROM tokens; SELECT 1");
    REFUSE("ListDatabases", "{}", UNAUTHENTICATED, "");
    bool is_new = true;
    Error error = {0};
    assert_ok(service_ensure_admin_token(fixture->service, path, &is_new, &error), &error);
    assert_false(is_new);
    CALL("ListDatabases", "{}");
    write_file(path, "short\n");
    assert_int_equal(service_ensure_admin_token(fixture->service, path, &is_new, &error),
                     STATUS_FAILED_PRECONDITION);
}

static void test_answers_who_it_is(void **state)
{
    ServiceFixture *fixture = *state;
    const Json *info = CALL("GetServerInfo", "{}");
    assert_string_equal(json_get_text(info, "version", ""), HOLDFAST_VERSION);
    assert_string_equal(json_get_text(info, "server_id", ""),
                        "01890000-0000-7000-8000-00000000000a");
}

// --- credentials ---

static void test_credentials_are_sealed_and_never_returned(void **state)
{
    ServiceFixture *fixture = *state;
    const Json *made = CALL("CreateCredential", CREDENTIAL);
    assert_string_equal(json_get_text(made, "password", "x"), "");
    assert_string_equal(json_get_text(made, "etag", "x"), fixture->etag);
    assert_string_equal(
        json_get_text(CALL("GetCredential", "{\"credential\":\"app\"}"), "username", ""), "backup");
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM credentials WHERE "
                                  "position('hunter2' IN encode(password_sealed, 'escape')) > 0"),
                     0);
    CLEANUP_FREE char *before =
        service_fixture_sql(fixture, "SELECT encode(password_sealed, 'hex') FROM credentials");
    CALL("UpdateCredential", "{\"credential\":{\"name\":\"app\",\"username\":\"other\"},"
                             "\"update_mask\":\"username\"}");
    CLEANUP_FREE char *same =
        service_fixture_sql(fixture, "SELECT encode(password_sealed, 'hex') FROM credentials");
    assert_string_equal(before, same);
    CALL("UpdateCredential", "{\"credential\":{\"name\":\"app\",\"password\":\"new\"},"
                             "\"update_mask\":\"password\"}");
    CLEANUP_FREE char *row = service_fixture_sql(
        fixture,
        "SELECT username || ' ' || id || ' ' || encode(password_sealed, 'hex') FROM credentials");
    size_t count;
    char **parts = text_split(fixture->arena, row, ' ', &count);
    assert_string_equal(parts[0], "other");
    uint8_t sealed[200];
    size_t size = strlen(parts[2]) / 2;
    assert_true(hex_decode(parts[2], sealed, size));
    CLEANUP(secret_done) Secret password = {0};
    Error error = {0};
    assert_ok(credential_unseal(&fixture->secret_key, parts[1], sealed, size, &password, &error),
              &error);
    assert_string_equal(secret_text(&password), "new");
}

static void test_refuses_bad_credentials(void **state)
{
    ServiceFixture *fixture = *state;
    REFUSE("CreateCredential", "{}", INVALID, "credential");
    REFUSE("CreateCredential", "{\"credential\":{\"username\":\"u\",\"password\":\"p\"}}", INVALID,
           "credential.name");
    REFUSE("CreateCredential",
           "{\"credential\":{\"name\":\"No Good\",\"username\":\"u\",\"password\":\"p\"}}", INVALID,
           "credential.name");
    REFUSE("CreateCredential", "{\"credential\":{\"name\":\"a\",\"password\":\"p\"}}", INVALID,
           "credential.username");
    REFUSE("CreateCredential",
           "{\"credential\":{\"name\":\"a\",\"username\":\"u\\u0001\",\"password\":\"p\"}}",
           INVALID, "credential.username");
    REFUSE("CreateCredential", "{\"credential\":{\"name\":\"a\",\"username\":\"u\"}}", INVALID,
           "credential.password");
    CALL("CreateCredential", CREDENTIAL);
    REFUSE("CreateCredential", CREDENTIAL, EXISTS, "credential.name");
    REFUSE("GetCredential", "{\"credential\":\"none\"}", NOT_FOUND, "");
    REFUSE("UpdateCredential", "{\"credential\":{\"name\":\"app\"}}", INVALID, "update_mask");
    REFUSE("UpdateCredential", "{\"credential\":{\"name\":\"app\"},\"update_mask\":\"id\"}",
           INVALID, "id");
    REFUSE("DeleteCredential", "{\"credential\":\"none\"}", NOT_FOUND, "");
    CALL("CreateDatabase", DATABASE);
    REFUSE("DeleteCredential", "{\"credential\":\"app\"}", IN_USE, "");
    CALL("DeleteDatabase", "{\"database\":\"shop\"}");
    // Cleaning up at the source still needs it.
    REFUSE("DeleteCredential", "{\"credential\":\"app\"}", IN_USE, "");
    CLEANUP_FREE char *done = service_fixture_sql(fixture, "DELETE FROM work_items; SELECT 1");
    CALL("DeleteCredential", "{\"credential\":\"app\"}");
    REFUSE("GetCredential", "{\"credential\":\"app\"}", NOT_FOUND, "");
}

// --- databases and shards ---

static void test_databases_have_defaults_and_shards(void **state)
{
    ServiceFixture *fixture = *state;
    CALL("CreateCredential", CREDENTIAL);
    const Json *made = CALL("CreateDatabase", DATABASE);
    assert_int_equal(json_get_integer(made, "shard_count", 0), 2);
    assert_string_equal(json_get_text(made, "recovery_point_objective", ""), "86400s");
    assert_string_equal(json_get_text(made, "protection", ""), "unprotected");
    assert_string_equal(json_get_text(made, "protection_reason", ""),
                        "It has no restorable backup.");
    const Json *shard = CALL("GetShard", "{\"database\":\"shop\",\"shard\":\"-80\"}");
    assert_string_equal(json_get_text(json_get(shard, "source"), "tls_mode", ""), "prefer");
    assert_string_equal(json_get_text(json_get(shard, "placement"), "provider", ""), "local");
    assert_string_equal(json_get_text(json_get(shard, "source"), "credential", ""), "app");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"ledger\",\"engine\":\"postgresql\","
                           "\"recovery_point_objective\":\"15m\"},\"shards\":[{\"name\":\"0\","
                           "\"source\":{\"host\":\"::1\",\"credential\":\"app\"}}]}");
    shard = CALL("GetShard", "{\"database\":\"ledger\",\"shard\":\"0\"}");
    assert_int_equal(json_get_integer(json_get(shard, "source"), "port", 0), 5432);
    const Json *list = CALL("ListDatabases", "{}");
    assert_int_equal(json_count(json_get(list, "databases")), 2);
}

static void test_validate_only_changes_nothing(void **state)
{
    ServiceFixture *fixture = *state;
    fixture->idempotency_key = "validate";
    const Json *made =
        CALL("CreateDatabase",
             "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"},\"validate_only\":true}");
    assert_string_equal(json_get_text(made, "name", ""), "x");
    fixture->idempotency_key = NULL;
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM databases"), 0);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM idempotency_keys"), 0);
    REFUSE("CreateDatabase",
           "{\"database\":{\"name\":\"X\",\"engine\":\"mysql\"},\"validate_only\":true}", INVALID,
           "database.name");
}

static void test_refuses_bad_databases(void **state)
{
    ServiceFixture *fixture = *state;
    CALL("CreateCredential", CREDENTIAL);
    static const struct {
        const char *request, *field;
    } BAD[] = {
        {"{}", "database"},
        {"{\"database\":{\"engine\":\"mysql\"}}", "database.name"},
        {"{\"database\":{\"name\":\"-a\",\"engine\":\"mysql\"}}", "database.name"},
        {"{\"database\":{\"name\":\"a\"}}", "database.engine"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"oracle\"}}", "database.engine"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\",\"recovery_point_objective\":\"5s\"}}",
         "database.recovery_point_objective"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\",\"recovery_point_objective\":\"-60s\"}}",
         "database.recovery_point_objective"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{}]}", "shards[0].name"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\"}]}",
         "shards[0].source"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a b\",\"credential\":\"app\"}}]}",
         "shards[0].source.host"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"port\":70000,\"credential\":\"app\"}}]}",
         "shards[0].source.port"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"credential\":\"none\"}}]}",
         "shards[0].source.credential"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"credential\":\"app\",\"tls_mode\":\"maybe\"}}]}",
         "shards[0].source.tls_mode"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"credential\":\"app\",\"tls_ca\":\"x\"}}]}",
         "shards[0].source.tls_ca"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"credential\":\"app\",\"tls_mode\":\"verify-full\"}}]}",
         "shards[0].source.tls_ca"},
        {"{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[{\"name\":\"0\",\"source\":"
         "{\"host\":\"a\",\"credential\":\"app\"},\"placement\":{\"provider\":\"aws\"}}]}",
         "shards[0].placement.provider"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(BAD); i++) {
        REFUSE("CreateDatabase", BAD[i].request, INVALID, BAD[i].field);
    }
    REFUSE("CreateDatabase",
           "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"},\"shards\":[" SHARD("0") "," SHARD(
               "0") "]}",
           EXISTS, "shards[1].name");
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM databases"), 0);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM shards"), 0);
    CALL("CreateDatabase", DATABASE);
    REFUSE("CreateDatabase", DATABASE, EXISTS, "database.name");
    REFUSE("GetDatabase", "{\"database\":\"none\"}", NOT_FOUND, "");
    REFUSE("GetDatabase", "{\"database\":\"'; DROP\"}", INVALID, "database");
    REFUSE("GetDatabase", "{}", INVALID, "database");
    REFUSE("UpdateDatabase", "{\"database\":{\"name\":\"shop\"},\"update_mask\":\"engine\"}",
           INVALID, "engine");
    REFUSE("UpdateDatabase", "{\"database\":{\"name\":\"shop\"}}", INVALID, "update_mask");
    REFUSE("UpdateDatabase", "{\"database\":{\"name\":\"none\"},\"update_mask\":\"description\"}",
           NOT_FOUND, "");
    REFUSE("DeleteDatabase", "{\"database\":\"none\"}", NOT_FOUND, "");
    REFUSE("ProbeDatabase", "{\"database\":\"shop\"}", PRECONDITION, "");
}

static void test_etags_guard_updates(void **state)
{
    ServiceFixture *fixture = *state;
    CALL("CreateDatabase", "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"}}");
    CLEANUP_FREE char *first = string_copy(fixture->etag);
    const char *update = "{\"database\":{\"name\":\"a\",\"description\":\"new\"},"
                         "\"update_mask\":\"description\"}";
    fixture->if_match = "\"0000000000000000\"";
    REFUSE("UpdateDatabase", update, ETAG_MISMATCH, "If-Match");
    CLEANUP_FREE char *list = string_format("\"other\", W/\"%s\"", first);
    fixture->if_match = list;
    CALL("UpdateDatabase", update);
    assert_string_not_equal(fixture->etag, first);
    REFUSE("UpdateDatabase", update, ETAG_MISMATCH, "If-Match");
    REFUSE("DeleteDatabase", "{\"database\":\"a\"}", ETAG_MISMATCH, "If-Match");
    fixture->if_match = "*";
    CALL("UpdateDatabase", update);
    fixture->if_match = NULL;
    REFUSE("UpdateDatabase",
           "{\"database\":{\"name\":\"a\",\"etag\":\"old\"},\"update_mask\":\"description\"}",
           ETAG_MISMATCH, "etag");
    // What is not in the mask stays.
    const Json *database =
        CALL("UpdateDatabase", "{\"database\":{\"name\":\"a\",\"description\":\"x\","
                               "\"recovery_point_objective\":\"1h\"},"
                               "\"update_mask\":\"recovery_point_objective\"}");
    assert_string_equal(json_get_text(database, "description", ""), "new");
    assert_string_equal(json_get_text(database, "recovery_point_objective", ""), "3600s");
    assert_false(json_get_boolean(database, "reads_everything", true));
    database = CALL("UpdateDatabase", "{\"database\":{\"name\":\"a\",\"reads_everything\":true},"
                                      "\"update_mask\":\"reads_everything\"}");
    assert_true(json_get_boolean(database, "reads_everything", false));
    database = CALL("UpdateDatabase", "{\"database\":{\"name\":\"a\",\"description\":\"y\"},"
                                      "\"update_mask\":\"description\"}");
    assert_true(json_get_boolean(database, "reads_everything", false));
}

static void test_shards_come_change_and_go(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    REFUSE("CreateShard", "{\"database\":\"none\",\"shard\":" SHARD("a") "}", NOT_FOUND, "");
    REFUSE("CreateShard", "{\"database\":\"shop\",\"shard\":" SHARD("-80") "}", EXISTS,
           "shard.name");
    REFUSE("CreateShard", "{\"database\":\"shop\",\"shard\":" SHARD("-") "}", INVALID,
           "shard.name");
    REFUSE("CreateShard", "{\"database\":\"shop\",\"shard\":" SHARD("A") "}", INVALID,
           "shard.name");
    REFUSE("CreateShard", "{\"database\":\"shop\"}", INVALID, "shard");
    CALL("CreateShard", "{\"database\":\"shop\",\"shard\":" SHARD("c0-") "}");
    const Json *shard = CALL(
        "UpdateShard", "{\"shard\":{\"database\":\"shop\",\"name\":\"c0-\",\"source\":{\"host\":"
                       "\"db2\",\"port\":1}},\"update_mask\":\"source.host\"}");
    assert_string_equal(json_get_text(json_get(shard, "source"), "host", ""), "db2");
    assert_int_equal(json_get_integer(json_get(shard, "source"), "port", 0), 3306);
    assert_string_equal(json_get_text(json_get(shard, "source"), "credential", ""), "app");
    REFUSE("UpdateShard",
           "{\"shard\":{\"database\":\"shop\",\"name\":\"c0-\",\"source\":{\"tls_mode\":"
           "\"verify-full\"}},\"update_mask\":\"source.tls_mode\"}",
           INVALID, "shard.source.tls_ca");
    REFUSE("UpdateShard",
           "{\"shard\":{\"database\":\"shop\",\"name\":\"c0-\"},\"update_mask\":\"source\"}",
           INVALID, "shard.source.host");
    REFUSE("UpdateShard",
           "{\"shard\":{\"database\":\"shop\",\"name\":\"c0-\"},\"update_mask\":\"generation\"}",
           INVALID, "generation");
    const char *id = start_backup(fixture);
    REFUSE("DeleteShard", "{\"database\":\"shop\",\"shard\":\"c0-\"}", BACKUP_RUNNING, "");
    finish_backup(fixture, id, "succeeded");
    CALL("DeleteShard", "{\"database\":\"shop\",\"shard\":\"c0-\"}");
    REFUSE("GetShard", "{\"database\":\"shop\",\"shard\":\"c0-\"}", NOT_FOUND, "");
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM work_items WHERE kind = 'forget_source'"),
                     1);
    // Its backups stay, and the name is free again.
    assert_int_equal(
        json_count(json_get(CALL("ListShardBackups", text_with(fixture, "{\"backup\":\"%s\"}", id)),
                            "shards")),
        3);
    CALL("CreateShard", "{\"database\":\"shop\",\"shard\":" SHARD("c0-") "}");
    assert_string_equal(
        json_get_text(CALL("GetDatabase", "{\"database\":\"shop\"}"), "protection_reason", ""),
        "Shard 'c0-' is not in the newest backup.");
}

// --- repositories ---

static void test_repositories_are_made_and_adopted(void **state)
{
    ServiceFixture *fixture = *state;
    CLEANUP_FREE char *location =
        string_format("%s/repo%d", fixture->directory, fixture->database_count);
    CLEANUP_FREE char *key =
        string_format("%s/repo%d.key", fixture->directory, fixture->database_count);
    const char *make = arena_format(fixture->arena,
                                    "{\"repository\":{\"name\":\"r\",\"location\":\"file://%s/\","
                                    "\"key_file\":\"%s\"}%%s}",
                                    location, key);
    REFUSE("CreateRepository", text_with(fixture, make, ""), KEY_MISSING, "repository.key_file");
    const Json *made =
        CALL("CreateRepository", text_with(fixture, make, ",\"create_key_file\":true"));
    CLEANUP_FREE char *id = string_copy(json_get_text(made, "repository_id", ""));
    assert_true(uuid_is_valid(id));
    assert_int_equal(strlen(json_get_text(made, "key_fingerprint", "")), 16);
    REFUSE("CreateRepository", text_with(fixture, make, ""), EXISTS, "repository.name");
    const char *other =
        arena_format(fixture->arena,
                     "{\"repository\":{\"name\":\"other\",\"location\":\"file://%s\","
                     "\"key_file\":\"%s\"}}",
                     location, key);
    REFUSE("CreateRepository", other, EXISTS, "repository.location");
    CALL("DeleteRepository", "{\"repository\":\"r\"}");
    REFUSE("GetRepository", "{\"repository\":\"r\"}", NOT_FOUND, "");
    made = CALL("CreateRepository", other);
    assert_string_equal(json_get_text(made, "repository_id", ""), id);
    CALL("DeleteRepository", "{\"repository\":\"other\"}");
    // Another key does not open it.
    CLEANUP_FREE char *wrong = string_format("%s.wrong", key);
    Error error = {0};
    assert_ok(key_file_create(wrong, &error), &error);
    REFUSE("CreateRepository",
           arena_format(
               fixture->arena,
               "{\"repository\":{\"name\":\"r\",\"location\":\"file://%s\",\"key_file\":\"%s\"}}",
               location, wrong),
           KEY_WRONG, "repository.key_file");
}

static void test_refuses_bad_repositories(void **state)
{
    ServiceFixture *fixture = *state;
    REFUSE("CreateRepository", "{}", INVALID, "repository");
    REFUSE("CreateRepository",
           "{\"repository\":{\"name\":\"r\",\"location\":\"s3://x\",\"key_file\":\"/k\"}}", INVALID,
           "repository.location");
    REFUSE("CreateRepository",
           "{\"repository\":{\"name\":\"r\",\"location\":\"/x\",\"key_file\":\"/k\"}}", INVALID,
           "repository.location");
    REFUSE("CreateRepository",
           "{\"repository\":{\"name\":\"r\",\"location\":\"file://x/y\",\"key_file\":\"/k\"}}",
           INVALID, "repository.location");
    REFUSE("CreateRepository",
           "{\"repository\":{\"name\":\"r\",\"location\":\"file:///x/../y\",\"key_file\":\"/k\"}}",
           INVALID, "repository.location");
    REFUSE("CreateRepository",
           "{\"repository\":{\"name\":\"r\",\"location\":\"file:///x\",\"key_file\":\"k\"}}",
           INVALID, "repository.key_file");
    REFUSE("CreateRepository", "{\"repository\":{\"name\":\"r\",\"location\":\"file:///x\"}}",
           INVALID, "repository.key_file");
    CLEANUP_FREE char *locked = path_join(fixture->directory, "locked");
    (void)rmdir(locked);
    assert_int_equal(mkdir(locked, 0500), 0);
    CLEANUP_FREE char *key =
        string_format("%s/never%d.key", fixture->directory, fixture->database_count);
    REFUSE(
        "CreateRepository",
        arena_format(fixture->arena,
                     "{\"repository\":{\"name\":\"r\",\"location\":\"file://%s/sub\",\"key_file\":"
                     "\"%s\"},\"create_key_file\":true}",
                     locked, key),
        REPOSITORY_UNWRITABLE, "repository.location");
    assert_int_not_equal(access(key, F_OK), 0); // nothing was made
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM repositories"), 0);
    REFUSE("GetRepository", "{\"repository\":\"none\"}", NOT_FOUND, "");
    REFUSE("DeleteRepository", "{\"repository\":\"none\"}", NOT_FOUND, "");
}

static void test_repositories_in_use_stay(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy",
         "{\"database\":\"shop\",\"policy\":{\"name\":\"p\",\"schedule\":\"@daily\","
         "\"repository\":\"main\"}}");
    REFUSE("DeleteRepository", "{\"repository\":\"main\"}", IN_USE, "");
    CALL("DeletePolicy", "{\"database\":\"shop\",\"policy\":\"p\"}");
    const char *id = start_backup(fixture);
    CLEANUP_FREE char *committed = service_fixture_sql(
        fixture, "UPDATE shard_backups SET state = 'committed', stored_bytes = 7 WHERE id ="
                 " (SELECT id FROM shard_backups LIMIT 1); SELECT 1");
    assert_int_equal(
        json_get_integer(CALL("GetRepository", "{\"repository\":\"main\"}"), "stored_bytes", -1),
        7);
    finish_backup(fixture, id, "succeeded");
    assert_int_equal(
        json_get_integer(CALL("GetRepository", "{\"repository\":\"main\"}"), "stored_bytes", -1),
        100);
    REFUSE("DeleteRepository", "{\"repository\":\"main\"}", IN_USE, "");
}

// --- policies ---

static void test_policies_know_their_next_run(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const Json *policy =
        CALL("CreatePolicy", POLICY("\"schedule\":\"30 2 * * *\",\"time_zone\":\"Europe/Berlin\","
                                    "\"retention\":{\"keep_last\":7,\"keep_for\":\"7d\"}"));
    const char *next = json_get_text(policy, "next_run_at", NULL);
    assert_non_null(next);
    assert_string_equal(json_get_text(json_get(policy, "retention"), "keep_for", ""), "604800s");
    const Json *preview = CALL("PreviewSchedule", "{\"schedule\":\"30 2 * * *\",\"time_zone\":"
                                                  "\"Europe/Berlin\",\"count\":1}");
    assert_string_equal(json_text(json_item(json_get(preview, "runs"), 0), ""), next);
    assert_string_equal(
        json_get_text(CALL("GetDatabase", "{\"database\":\"shop\"}"), "next_run_at", ""), next);
    policy = CALL("PausePolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}");
    assert_true(json_get_boolean(policy, "is_paused", false));
    assert_null(json_get(policy, "next_run_at"));
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM policy_due"), 0);
    policy = CALL("ResumePolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}");
    assert_string_equal(json_get_text(policy, "next_run_at", ""), next);
    // A slot that is due stays due when something else is changed, and does not when the schedule
    // is.
    CLEANUP_FREE char *due = service_fixture_sql(
        fixture, "UPDATE policy_due SET next_at = '2026-01-01T00:00:00Z'; SELECT 1");
    policy = CALL("UpdatePolicy",
                  "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"retention\":"
                  "{\"keep_last\":3}},\"update_mask\":\"retention.keep_last\"}");
    assert_string_equal(json_get_text(policy, "next_run_at", ""), "2026-01-01T00:00:00Z");
    assert_int_equal(json_get_integer(json_get(policy, "retention"), "keep_last", 0), 3);
    assert_int_equal(json_get_integer(policy, "full_read_every", 0), 10);
    policy = CALL("UpdatePolicy",
                  "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"full_read_every\":3},"
                  "\"update_mask\":\"full_read_every\"}");
    assert_int_equal(json_get_integer(policy, "full_read_every", 0), 3);
    assert_string_equal(json_get_text(json_get(policy, "retention"), "keep_for", ""), "604800s");
    policy = CALL("UpdatePolicy",
                  "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"schedule\":"
                  "\"0 0 29 2 *\",\"time_zone\":\"UTC\"},\"update_mask\":\"schedule,time_zone\"}");
    assert_contains(json_get_text(policy, "next_run_at", ""), "-02-29T00:00:00Z");
    CALL("DeletePolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}");
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM policy_due"), 0);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\""));
}

// A fleet with one schedule does not start in one moment, and starts in the same ones every time.
static void test_policies_are_staggered(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    for (int i = 0; i < 30; i++) {
        CALL("CreatePolicy",
             arena_format(fixture->arena,
                          "{\"database\":\"shop\",\"policy\":{\"name\":\"p%d\",\"repository\":"
                          "\"main\",\"schedule\":\"0 0 1 1 *\",\"stagger\":\"3600s\"}}",
                          i));
    }
    assert_int_equal(
        service_fixture_number(
            fixture,
            "SELECT count(*) FROM policies p JOIN policy_due d ON d.policy_id = p.id"
            " WHERE stagger = '1 hour' AND stagger_delay >= '0'"
            " AND stagger_delay < '1 hour'"
            " AND next_at - stagger_delay = date_trunc('year', now() + interval '1 year')"),
        30);
    assert_true(
        service_fixture_number(fixture, "SELECT count(DISTINCT stagger_delay) FROM policies") > 25);
    assert_int_equal(service_fixture_number(fixture,
                                            "SELECT count(DISTINCT width_bucket(extract(epoch FROM"
                                            " stagger_delay), 0, 3600, 3)) FROM policies"),
                     3);
    const Json *policy = CALL("GetPolicy", "{\"database\":\"shop\",\"policy\":\"p7\"}");
    assert_string_equal(json_get_text(policy, "stagger", ""), "3600s");
    CLEANUP_FREE char *next = string_copy(json_get_text(policy, "next_run_at", ""));
    CLEANUP_FREE char *delay = string_copy(json_get_text(policy, "stagger_delay", ""));
    const Json *runs = json_get(
        CALL("PreviewSchedule",
             text_with(fixture, "{\"schedule\":\"0 0 1 1 *\",\"stagger_delay\":\"%s\"}", delay)),
        "runs");
    assert_string_equal(json_text(json_item(runs, 0), ""), next);
    // It is a run until it has started, not until its slot.
    runs =
        json_get(CALL("PreviewSchedule", "{\"schedule\":\"0 0 1 1 *\",\"stagger_delay\":\"600s\","
                                         "\"from\":\"2026-01-01T00:05:00Z\",\"count\":2}"),
                 "runs");
    assert_string_equal(json_text(json_item(runs, 0), ""), "2026-01-01T00:10:00Z");
    assert_string_equal(json_text(json_item(runs, 1), ""), "2027-01-01T00:10:00Z");
    // Another window moves the start and keeps the slot, also one that waits for its delay.
    CLEANUP_FREE char *due =
        service_fixture_sql(fixture, "UPDATE policy_due d SET next_at = '2026-01-01T00:00:00Z'"
                                     "::timestamptz + stagger_delay FROM policies p"
                                     " WHERE p.id = d.policy_id; SELECT 1");
    policy = CALL("UpdatePolicy", "{\"policy\":{\"database\":\"shop\",\"name\":\"p7\",\"stagger\":"
                                  "\"0s\"},\"update_mask\":\"stagger\"}");
    assert_string_equal(json_get_text(policy, "next_run_at", ""), "2026-01-01T00:00:00Z");
    assert_string_equal(json_get_text(policy, "stagger_delay", ""), "0s");
    policy = CALL("UpdatePolicy", "{\"policy\":{\"database\":\"shop\",\"name\":\"p7\",\"stagger\":"
                                  "\"3600s\"},\"update_mask\":\"stagger\"}");
    assert_string_equal(json_get_text(policy, "stagger_delay", ""), delay);
}

static void test_refuses_bad_policies(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    REFUSE("CreatePolicy", "{\"database\":\"shop\"}", INVALID, "policy");
    REFUSE("CreatePolicy", "{\"database\":\"none\",\"policy\":{\"name\":\"p\"}}", NOT_FOUND, "");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"\""), INVALID, "policy.schedule");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"61 * * * *\""), INVALID, "policy.schedule");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"0 0 30 2 *\""), SCHEDULE_NEVER_FIRES,
           "policy.schedule");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"time_zone\":\"Mars/Base\""), INVALID,
           "policy.time_zone");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"retention\":{\"keep_last\":-1}"),
           INVALID, "policy.retention.keep_last");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"full_read_every\":1001"), INVALID,
           "policy.full_read_every");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"full_read_every\":-1"), INVALID,
           "policy.full_read_every");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"stagger\":\"86401s\""), INVALID,
           "policy.stagger");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"stagger\":\"1.5s\""), INVALID,
           "policy.stagger");
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\",\"retention\":{\"keep_for\":\"-1s\"}"),
           INVALID, "policy.retention.keep_for");
    REFUSE(
        "CreatePolicy",
        "{\"database\":\"shop\",\"policy\":{\"name\":\"p\",\"schedule\":\"@daily\",\"repository\":\"none\"}}",
        INVALID, "policy.repository");
    REFUSE("CreatePolicy",
           "{\"database\":\"shop\",\"policy\":{\"name\":\"p\",\"schedule\":\"@daily\"}}", INVALID,
           "policy.repository");
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM policies"), 0);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    REFUSE("CreatePolicy", POLICY("\"schedule\":\"@daily\""), EXISTS, "policy.name");
    REFUSE("UpdatePolicy",
           "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"schedule\":\"x\"},"
           "\"update_mask\":\"schedule\"}",
           INVALID, "policy.schedule");
    REFUSE(
        "UpdatePolicy",
        "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\"},\"update_mask\":\"next_run_at\"}",
        INVALID, "next_run_at");
    REFUSE("PausePolicy", "{\"database\":\"shop\",\"policy\":\"none\"}", NOT_FOUND, "");
    REFUSE("ResumePolicy", "{\"database\":\"shop\"}", INVALID, "policy");
    REFUSE("DeletePolicy", "{\"database\":\"shop\",\"policy\":\"none\"}", NOT_FOUND, "");
    REFUSE("PreviewRetention", "{\"database\":\"shop\",\"policy\":\"none\"}", NOT_FOUND, "");
    REFUSE("PreviewSchedule", "{\"schedule\":\"@daily\",\"count\":101}", INVALID, "count");
    REFUSE("PreviewSchedule", "{\"schedule\":\"@daily\",\"from\":\"9999-01-01T00:00:00Z\"}",
           INVALID, "from");
    REFUSE("PreviewSchedule", "{\"schedule\":\"0 0 31 11 *\"}", SCHEDULE_NEVER_FIRES, "schedule");
    REFUSE("PreviewSchedule", "{}", INVALID, "schedule");
}

static void test_previews_schedules(void **state)
{
    ServiceFixture *fixture = *state;
    const Json *preview =
        CALL("PreviewSchedule", "{\"schedule\":\"30 2 * * *\",\"time_zone\":\"Europe/Berlin\","
                                "\"from\":\"2026-03-28T00:00:00Z\",\"count\":3}");
    const Json *runs = json_get(preview, "runs");
    assert_int_equal(json_count(runs), 3);
    assert_string_equal(json_text(json_item(runs, 0), ""), "2026-03-28T01:30:00Z");
    assert_string_equal(json_text(json_item(runs, 1), ""), "2026-03-29T01:00:00Z");
    assert_string_equal(json_text(json_item(runs, 2), ""), "2026-03-30T00:30:00Z");
    assert_int_equal(
        json_count(json_get(CALL("PreviewSchedule", "{\"schedule\":\"@hourly\"}"), "runs")), 5);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_needs_a_token_with_the_role),
        SERVICE_TEST(test_keeps_the_admin_token_of_a_file),
        SERVICE_TEST(test_answers_who_it_is),
        SERVICE_TEST(test_credentials_are_sealed_and_never_returned),
        SERVICE_TEST(test_refuses_bad_credentials),
        SERVICE_TEST(test_databases_have_defaults_and_shards),
        SERVICE_TEST(test_validate_only_changes_nothing),
        SERVICE_TEST(test_refuses_bad_databases),
        SERVICE_TEST(test_etags_guard_updates),
        SERVICE_TEST(test_shards_come_change_and_go),
        SERVICE_TEST(test_repositories_are_made_and_adopted),
        SERVICE_TEST(test_refuses_bad_repositories),
        SERVICE_TEST(test_repositories_in_use_stay),
        SERVICE_TEST(test_policies_know_their_next_run),
        SERVICE_TEST(test_policies_are_staggered),
        SERVICE_TEST(test_refuses_bad_policies),
        SERVICE_TEST(test_previews_schedules),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
