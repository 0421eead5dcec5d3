// SPDX-License-Identifier: Apache-2.0
// Every use case on a real PostgreSQL, as callers meet it. If this goes red, the API answers
// wrongly, takes what it must refuse, or does something twice.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository.h"
#include "server/service/credential_seal.h"
#include "server/service/event_stream.h"
#include "server/store/store_backup.h"
#include "server/store/store_event.h"
#include "storage/storage_drivers.h"
#include "tests/harness/harness.h"
#include "tests/harness/service_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL(method, request) service_fixture_call(fixture, method, request)
#define REFUSE(method, request, reason, field)                                                     \
    service_fixture_refuse(fixture, method, request, REASON_##reason, field)
#define ID "01890000-0000-7000-8000-00000000ffff" // of nothing

#define CREDENTIAL                                                                                 \
    "{\"credential\":{\"name\":\"app\",\"username\":\"backup\",\"password\":\"hunter2\"}}"
#define SHARD(name)                                                                                \
    "{\"name\":\"" name                                                                            \
    "\",\"source\":{\"host\":\"127.0.0.1\",\"port\":3306,\"credential\":\"app\"}}"
#define DATABASE                                                                                   \
    "{\"database\":{\"name\":\"shop\",\"engine\":\"mariadb\"},\"shards\":[" SHARD(                 \
        "-80") "," SHARD("80-") "]}"

static void make_repository(ServiceFixture *fixture, const char *name)
{
    const char *request = arena_format(
        fixture->arena,
        "{\"repository\":{\"name\":\"%s\",\"location\":\"file://%s/%d-%s\",\"key_file\":"
        "\"%s/%d-%s.key\"},\"create_key_file\":true}",
        name, fixture->directory, fixture->database_count, name, fixture->directory,
        fixture->database_count, name);
    CALL("CreateRepository", request);
}

static void make_database(ServiceFixture *fixture)
{
    CALL("CreateCredential", CREDENTIAL);
    CALL("CreateDatabase", DATABASE);
    make_repository(fixture, "main");
}

// What the worker and the agents do to a backup.
static void finish_backup(ServiceFixture *fixture, const char *id, const char *state)
{
    bool is_good = text_equal(state, "succeeded");
    const char *sql = arena_format(
        fixture->arena,
        "UPDATE shard_backups SET state = '%s', size_bytes = 1000, new_bytes = 100, "
        "stored_bytes = 50, received_bytes = 10, finished_at = now(), "
        "parent_restore_time = CASE WHEN parent_id IS NOT NULL THEN interval '3 s' END, "
        "parent_start_time = CASE WHEN parent_id IS NOT NULL THEN interval '2 s' END "
        "WHERE backup_id = '%s'; UPDATE backups SET state = '%s', started_at = now(), "
        "finished_at = now(), checkpoint_at = now(), message = '%s' WHERE id = '%s'; "
        "DELETE FROM work_items; SELECT 1",
        is_good ? "committed" : "failed", id, state, is_good ? "" : "it broke", id);
    CLEANUP_FREE char *result = service_fixture_sql(fixture, sql);
}

static const char *start_backup(ServiceFixture *fixture)
{
    return json_get_text(CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\"}"),
                         "id", NULL);
}

// The text with its one "%s" replaced.
static const char *format(ServiceFixture *fixture, const char *text, const char *value)
{
    const char *place = strstr(text, "%s");
    assert_non_null(place);
    return arena_format(fixture->arena, "%.*s%s%s", (int)(place - text), text, value, place + 2);
}

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
        fixture, format(fixture,
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
        json_count(json_get(CALL("ListShardBackups", format(fixture, "{\"backup\":\"%s\"}", id)),
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
    REFUSE("CreateRepository", format(fixture, make, ""), KEY_MISSING, "repository.key_file");
    const Json *made = CALL("CreateRepository", format(fixture, make, ",\"create_key_file\":true"));
    CLEANUP_FREE char *id = string_copy(json_get_text(made, "repository_id", ""));
    assert_true(uuid_is_valid(id));
    assert_int_equal(strlen(json_get_text(made, "key_fingerprint", "")), 16);
    REFUSE("CreateRepository", format(fixture, make, ""), EXISTS, "repository.name");
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
    finish_backup(fixture, id, "succeeded");
    assert_int_equal(
        json_get_integer(CALL("GetRepository", "{\"repository\":\"main\"}"), "stored_bytes", -1),
        100);
    REFUSE("DeleteRepository", "{\"repository\":\"main\"}", IN_USE, "");
}

// --- policies ---

#define POLICY(fields)                                                                             \
    "{\"database\":\"shop\",\"policy\":{\"name\":\"nightly\",\"repository\":\"main\"," fields "}}"

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
    assert_string_equal(json_get_text(json_get(policy, "retention"), "keep_for", ""), "604800s");
    policy = CALL("UpdatePolicy",
                  "{\"policy\":{\"database\":\"shop\",\"name\":\"nightly\",\"schedule\":"
                  "\"0 0 29 2 *\",\"time_zone\":\"UTC\"},\"update_mask\":\"schedule,time_zone\"}");
    assert_contains(json_get_text(policy, "next_run_at", ""), "-02-29T00:00:00Z");
    CALL("DeletePolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}");
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM policy_due"), 0);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@hourly\""));
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
                        "newest restorable backup");
    assert_string_equal(json_get_text(json_item(verdicts, 4), "why", ""), "beyond keep_last 2");
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM backups WHERE state = 'succeeded'"),
        5);
}

// --- backups ---

static void test_backups_are_pinned_to_their_parents(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    make_repository(fixture, "other");
    const char *first = start_backup(fixture);
    const Json *backup = CALL("GetBackup", format(fixture, "{\"backup\":\"%s\"}", first));
    assert_string_equal(json_get_text(backup, "state", ""), "pending");
    assert_string_equal(json_get_text(backup, "trigger", ""), "manual");
    assert_int_equal(json_get_integer(backup, "shard_count", 0), 2);
    assert_int_equal(service_fixture_number(
                         fixture, format(fixture,
                                         "SELECT count(*) FROM work_items WHERE kind = 'backup' "
                                         "AND subject_id = '%s'",
                                         first)),
                     1);
    REFUSE("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\"}", BACKUP_RUNNING, "");
    finish_backup(fixture, first, "succeeded");
    const char *second = start_backup(fixture);
    const Json *shards = json_get(
        CALL("ListShardBackups", format(fixture, "{\"backup\":\"%s\"}", second)), "shards");
    assert_int_equal(json_count(shards), 2);
    assert_string_equal(json_get_text(json_item(shards, 0), "shard", ""), "-80");
    assert_int_equal(json_get_integer(json_item(shards, 0), "generation", -1), 1);
    assert_int_equal(strlen(json_get_text(json_item(shards, 0), "parent_id", "")), 36);
    finish_backup(fixture, second, "succeeded");
    // A parent that did not restore is passed over; another repository has none; a seed wants none.
    CLEANUP_FREE char *broken = service_fixture_sql(
        fixture,
        format(fixture,
               "UPDATE shard_backups SET is_unrestorable = true WHERE backup_id = '%s'; SELECT 1",
               second));
    const char *third = start_backup(fixture);
    assert_int_equal(
        service_fixture_number(
            fixture,
            format(
                fixture,
                "SELECT count(*) FROM shard_backups sb JOIN shard_backups p ON p.id = sb.parent_id WHERE sb.backup_id = '%s' "
                "AND p.generation = 0 AND sb.generation = 1",
                third)),
        2);
    finish_backup(fixture, third, "failed");
    const char *fourth = json_get_text(
        CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"other\"}"), "id", "");
    assert_int_equal(
        service_fixture_number(
            fixture,
            format(
                fixture,
                "SELECT count(*) FROM shard_backups WHERE backup_id = '%s' AND parent_id IS NULL AND seed_reason = ''",
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
            format(
                fixture,
                "SELECT count(*) FROM shard_backups WHERE backup_id = '%s' AND parent_id IS NULL AND seed_reason <> ''",
                fifth)),
        2);
    assert_string_equal(
        json_get_text(CALL("GetBackup", format(fixture, "{\"backup\":\"%s\"}", fifth)), "note", ""),
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
        "holdfast_shard_proven_recovery_seconds{database=\"shop\",shard=\"80-\"} 5.000000\n",
        "# TYPE holdfast_instances gauge\n",
        "process_resident_memory_bytes ",
        "holdfast_backup_last_success_timestamp_seconds{database=\"shop\"} "};
    for (size_t i = 0; i < ARRAY_COUNT(LINES); i++) {
        assert_contains(buffer_text(&buffer), LINES[i]);
    }
    buffer_done(&buffer);
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
            "INSERT INTO instances (id, provider, state, purpose, database_id, shard_id, backup_id, subject_id) SELECT sb.id, 'local', "
            "'joined', 'backup', sh.database_id, sb.shard_id, sb.backup_id, sb.id FROM shard_backups sb JOIN shards sh ON sh.id = sb.shard_id; "
            "INSERT INTO attempts (id, shard_backup_id, shard_id, epoch, instance_id, state, is_seed, phase, done_bytes, total_bytes, "
            "rate_bytes_per_second, received_bytes) SELECT sb.id, sb.id, sb.shard_id, 1, sb.id, 'running', true, 'seed', 50, 100, 10, 7 "
            "FROM shard_backups sb; INSERT INTO attempt_phases (attempt_id, phase, started_at, ended_at) SELECT id, 'launch', now(), now() "
            "FROM attempts; INSERT INTO attempt_phases (attempt_id, phase, started_at) SELECT id, 'seed', now() + interval '1 s' FROM attempts; "
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
        json_get(CALL("GetBackup", format(fixture, "{\"backup\":\"%s\"}", id)), "progress"), 0);
    assert_true(progress > 0.26 && progress < 0.28);
    assert_int_equal(json_get_integer(CALL("GetBackup", format(fixture, "{\"backup\":\"%s\"}", id)),
                                      "received_bytes", 0),
                     14);
    const Json *instances = json_get(CALL("ListInstances", "{\"database\":\"shop\"}"), "instances");
    assert_int_equal(json_count(instances), 2);
    const char *instance = json_get_text(json_item(instances, 0), "id", "");
    assert_string_equal(
        json_get_text(CALL("GetInstance", format(fixture, "{\"instance\":\"%s\"}", instance)),
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
    REFUSE("DeleteBackup", format(fixture, "{\"backup\":\"%s\"}", id), BACKUP_RUNNING, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", BACKUP_RUNNING, "");
    finish_backup(fixture, id, "succeeded");
    REFUSE("CancelBackup", format(fixture, "{\"backup\":\"%s\"}", id), PRECONDITION, "");
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
    const char *request = format(fixture, "{\"backup\":\"%s\"}", first);
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
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM work_items WHERE kind = 'backup_delete'"),
                     1);
    CALL("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}");
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM work_items WHERE kind = 'backup_delete'"),
                     2);
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT count(*) FROM work_items WHERE kind = 'forget_source'"),
                     2);
    REFUSE("GetDatabase", "{\"database\":\"shop\"}", NOT_FOUND, "");
    assert_int_equal(
        json_count(json_get(CALL("ListBackups", "{\"state\":\"deleting\"}"), "backups")), 2);
    CALL("CreateDatabase", DATABASE); // the name is free
}

// --- restores ---

static void test_restores(void **state)
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
    REFUSE("DeleteBackup", format(fixture, "{\"backup\":\"%s\"}", id), IN_USE, "");
    REFUSE("DeleteShard", "{\"database\":\"shop\",\"shard\":\"80-\"}", IN_USE, "");
    REFUSE("DeleteDatabase", "{\"database\":\"shop\",\"force\":true}", IN_USE, "");
    CALL("StopRestore", format(fixture, "{\"restore\":\"%s\"}", restore_id));
    CLEANUP_FREE char *ended = service_fixture_sql(
        fixture,
        "UPDATE restores SET state = 'succeeded'; UPDATE restore_shards SET state = 'succeeded', restore_time = interval '1.5 s', "
        "start_time = interval '0.25 s'; SELECT 1");
    REFUSE("StopRestore", format(fixture, "{\"restore\":\"%s\"}", restore_id), PRECONDITION, "");
    restore = CALL("GetRestore", format(fixture, "{\"restore\":\"%s\"}", restore_id));
    assert_string_equal(
        json_get_text(json_item(json_get(restore, "shards"), 0), "restore_time", ""), "1.5s");
    assert_string_equal(json_get_text(CALL("GetShard", "{\"database\":\"shop\",\"shard\":\"80-\"}"),
                                      "proven_recovery_time", ""),
                        "1.75s");
    assert_int_equal(
        json_count(json_get(CALL("ListRestores", "{\"database\":\"shop\"}"), "restores")), 1);
    REFUSE("GetRestore", "{\"restore\":\"" ID "\"}", NOT_FOUND, "");
    REFUSE("StopRestore", "{}", INVALID, "restore");
    CALL("DeleteBackup", format(fixture, "{\"backup\":\"%s\"}", id));
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
        probe_with(
            fixture,
            "#!/bin/sh\ninput=$(cat)\n[ \"$1\" = --probe ] || exit 3\ncase \"$input\" in\n"
            "*'\"shard\":\"-80\"'*'\"password\":\"hunter2\"'*) echo '{\"is_ready\":true,\"version\":\"10.11\",\"size_bytes\":5}';;\n"
            "*) echo '{\"reason\":\"source-privileges\",\"message\":\"no\",\"hint\":\"GRANT it\"}'; exit 5;;\nesac\n"),
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

// --- lists ---

static void test_pages_are_stable_under_inserts(void **state)
{
    ServiceFixture *fixture = *state;
    for (int i = 10; i < 30; i++) {
        CALL("CreateDatabase",
             arena_format(fixture->arena, "{\"database\":{\"name\":\"db%d\",\"engine\":\"mysql\"}}",
                          i));
    }
    char seen[64] = {0};
    const char *token = "";
    int page_count = 0;
    int total = 0;
    do {
        const Json *page =
            CALL("ListDatabases",
                 arena_format(fixture->arena, "{\"page_size\":3,\"page_token\":\"%s\"}", token));
        const Json *databases = json_get(page, "databases");
        for (const Json *item = json_first(databases); item != NULL; item = json_next(item)) {
            int64_t number = 0;
            assert_true(text_to_int64(json_get_text(item, "name", "") + 2, &number));
            assert_int_equal(seen[number], 0);
            seen[number] = 1;
            total++;
        }
        token = json_get_text(page, "next_page_token", "");
        // Before the place that was reached: must neither shift nor repeat anything.
        CALL("CreateDatabase",
             arena_format(fixture->arena, "{\"database\":{\"name\":\"a%d\",\"engine\":\"mysql\"}}",
                          page_count++));
    } while (token[0] != '\0');
    assert_int_equal(total, 20);
    assert_int_equal(page_count, 7);
}

static void test_refuses_bad_pages(void **state)
{
    ServiceFixture *fixture = *state;
    static const char *const LISTS[] = {"ListDatabases", "ListCredentials", "ListRepositories",
                                        "ListPolicies",  "ListBackups",     "ListRestores",
                                        "ListInstances", "ListEvents"};
    for (size_t i = 0; i < ARRAY_COUNT(LISTS); i++) {
        REFUSE(LISTS[i], "{\"page_size\":1001}", INVALID, "page_size");
        REFUSE(LISTS[i], "{\"page_size\":-1}", INVALID, "page_size");
        REFUSE(LISTS[i], "{\"page_token\":\"nonsense\"}", INVALID, "page_token");
        REFUSE(LISTS[i], "{\"page_token\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", INVALID,
               "page_token");
        CALL(LISTS[i], "{\"page_size\":1000}");
    }
    CALL("CreateDatabase", "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"}}");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"b\",\"engine\":\"mysql\"}}");
    const char *token =
        json_get_text(CALL("ListEvents", "{\"page_size\":1}"), "next_page_token", "");
    assert_true(token[0] != '\0');
    CALL("ListEvents", format(fixture, "{\"page_token\":\"%s\"}", token));
    REFUSE("ListEvents", format(fixture, "{\"page_token\":\"%s\",\"database\":\"a\"}", token),
           INVALID, "page_token");
    REFUSE("ListDatabases", format(fixture, "{\"page_token\":\"%s\"}", token), INVALID,
           "page_token");
    REFUSE("ListShards", "{\"database\":\"a\",\"page_size\":5000}", INVALID, "page_size");
    REFUSE("ListShards", "{\"database\":\"none\"}", NOT_FOUND, "");
}

static void test_lists_backups_and_policies_newest_first(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    const char *ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = start_backup(fixture);
        finish_backup(fixture, ids[i], i == 2 ? "failed" : "succeeded");
    }
    const char *token = "";
    for (int i = 4; i >= 0; i--) {
        const Json *page = CALL(
            "ListBackups",
            arena_format(fixture->arena,
                         "{\"database\":\"shop\",\"page_size\":1,\"page_token\":\"%s\"}", token));
        assert_string_equal(json_get_text(json_item(json_get(page, "backups"), 0), "id", ""),
                            ids[i]);
        token = json_get_text(page, "next_page_token", "");
    }
    assert_string_equal(token, "");
    assert_int_equal(json_count(json_get(CALL("ListBackups", "{\"state\":\"failed\"}"), "backups")),
                     1);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    CALL("CreateDatabase", "{\"database\":{\"name\":\"a\",\"engine\":\"mysql\"}}");
    CALL(
        "CreatePolicy",
        "{\"database\":\"a\",\"policy\":{\"name\":\"p\",\"schedule\":\"@daily\",\"repository\":\"main\"}}");
    const Json *page = CALL("ListPolicies", "{\"page_size\":1}");
    assert_string_equal(json_get_text(json_item(json_get(page, "policies"), 0), "database", ""),
                        "a");
    page = CALL("ListPolicies", format(fixture, "{\"page_size\":1,\"page_token\":\"%s\"}",
                                       json_get_text(page, "next_page_token", "")));
    assert_string_equal(json_get_text(json_item(json_get(page, "policies"), 0), "database", ""),
                        "shop");
    assert_int_equal(
        json_count(json_get(CALL("ListPolicies", "{\"database\":\"shop\"}"), "policies")), 1);
}

// --- idempotency ---

static void test_the_same_key_gives_the_same_answer(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    fixture->idempotency_key = "key-1";
    CLEANUP_FREE char *id = string_copy(start_backup(fixture));
    assert_false(fixture->is_replayed);
    finish_backup(fixture, id, "succeeded");
    assert_string_equal(start_backup(fixture), id);
    assert_true(fixture->is_replayed);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 1);
    REFUSE("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\",\"note\":\"other\"}",
           IDEMPOTENCY_MISMATCH, "");
    REFUSE("CancelBackup", format(fixture, "{\"backup\":\"%s\"}", id), IDEMPOTENCY_MISMATCH, "");
    CALL("ListBackups", "{}"); // reading takes no key
    // What failed may be tried again with the same key.
    fixture->idempotency_key = "key-2";
    REFUSE("CreateDatabase", "{\"database\":{\"name\":\"X\",\"engine\":\"mysql\"}}", INVALID,
           "database.name");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}");
    CALL("CreateDatabase", "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}");
    assert_true(fixture->is_replayed);
    assert_true(fixture->etag[0] != '\0');
    fixture->idempotency_key = "with\nnewline";
    REFUSE("DeleteDatabase", "{\"database\":\"x\"}", INVALID, "Idempotency-Key");
    // A key that has expired is a new one.
    fixture->idempotency_key = "key-1";
    CLEANUP_FREE char *old = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'; SELECT 1");
    assert_string_not_equal(start_backup(fixture), id);
}

static void test_abandoned_claims_are_taken_over(void **state)
{
    ServiceFixture *fixture = *state;
    const char *request = "{\"database\":{\"name\":\"x\",\"engine\":\"mysql\"}}";
    fixture->idempotency_key = "key";
    CALL("CreateDatabase", request);
    fixture->idempotency_key = NULL;
    CALL("DeleteDatabase", "{\"database\":\"x\"}");
    // A server died between its claim and the effect.
    CLEANUP_FREE char *fresh = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET response = NULL, created_at = now(); SELECT 1");
    fixture->idempotency_key = "key";
    REFUSE("CreateDatabase", request, CONFLICT, "");
    CLEANUP_FREE char *stale = service_fixture_sql(
        fixture, "UPDATE idempotency_keys SET created_at = now() - interval '3 min'; SELECT 1");
    CALL("CreateDatabase", request);
    assert_false(fixture->is_replayed);
}

typedef struct Race {
    ServiceFixture *fixture;
    Service *service;
    const char *request;
    atomic_int *success_count, *busy_count, *other_count;
    char id[40];
} Race;

static void *race_main(void *argument)
{
    Race *race = argument;
    int64_t deadline_ms = clock_monotonic_ms() + 30000;
    for (;;) {
        Error error = {0};
        CLEANUP(json_freep) Json *response = NULL;
        Status status = service_fixture_try_at(race->fixture, race->service, "StartBackup",
                                               race->request, &response, &error);
        if (status == STATUS_OK) {
            (void)snprintf(race->id, sizeof(race->id), "%s", json_get_text(response, "id", ""));
            atomic_fetch_add(race->success_count, 1);
            return NULL;
        }
        if (error.reason != REASON_CONFLICT || clock_monotonic_ms() > deadline_ms) {
            atomic_fetch_add(race->other_count, 1);
            return NULL;
        }
        atomic_fetch_add(race->busy_count, 1);
        clock_sleep_ms(2);
    }
}

static void test_concurrent_duplicates_do_it_once(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    Store *stores[2] = {service_fixture_open_store(fixture, 4),
                        service_fixture_open_store(fixture, 4)};
    Service *services[2] = {service_fixture_open_service(fixture, stores[0], NULL),
                            service_fixture_open_service(fixture, stores[1], NULL)};
    fixture->idempotency_key = "race";
    atomic_int success_count = 0, busy_count = 0, other_count = 0;
    Race races[8];
    pthread_t threads[ARRAY_COUNT(races)];
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        races[i] = (Race){.fixture = fixture,
                          .service = services[i % 2],
                          .request = "{\"database\":\"shop\",\"repository\":\"main\"}",
                          .success_count = &success_count,
                          .busy_count = &busy_count,
                          .other_count = &other_count};
        assert_int_equal(pthread_create(&threads[i], NULL, race_main, &races[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&success_count), ARRAY_COUNT(races));
    for (size_t i = 1; i < ARRAY_COUNT(races); i++) {
        assert_string_equal(races[i].id, races[0].id);
    }
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 1);
    // Without a key the rest is told that one runs.
    fixture->idempotency_key = NULL;
    finish_backup(fixture, races[0].id, "succeeded");
    atomic_store(&success_count, 0);
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race_main, &races[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(races); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&success_count), 1);
    assert_int_equal(atomic_load(&other_count), ARRAY_COUNT(races) - 1);
    assert_int_equal(service_fixture_number(fixture, "SELECT count(*) FROM backups"), 2);
    for (size_t i = 0; i < 2; i++) {
        service_free(services[i]);
        store_close(stores[i]);
    }
}

// Both replicas fire the same slot: one backup.
static void test_a_slot_fires_once(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    CALL("CreatePolicy", POLICY("\"schedule\":\"@daily\""));
    CLEANUP_FREE char *ids = service_fixture_sql(
        fixture, "SELECT database_id || ' ' || repository_id || ' ' || id FROM policies");
    char **parts = text_split(fixture->arena, ids, ' ', NULL);
    StoreBackupRequest request = {.database_id = parts[0],
                                  .repository_id = parts[1],
                                  .policy_id = parts[2],
                                  .slot_at = "2026-11-21T00:00:00Z"};
    static const StoreBackupOutcome EXPECTED[] = {STORE_BACKUP_CREATED, STORE_BACKUP_SLOT_TAKEN,
                                                  STORE_BACKUP_OVERLAP};
    const char *first = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(EXPECTED); i++) {
        request.slot_at = i == 2 ? "2026-11-22T00:00:00Z" : request.slot_at;
        Error error = {0};
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        StoreBackupOutcome outcome;
        const char *id = NULL;
        assert_ok(store_begin(fixture->store, &transaction, &error), &error);
        assert_ok(store_backup_create(transaction, fixture->arena, &request, &outcome, &id, &error),
                  &error);
        assert_int_equal(outcome, EXPECTED[i]);
        first = i == 0 ? id : first;
        assert_string_equal(id, first);
        assert_ok(store_commit(&transaction, &error), &error);
    }
    const Json *backup = CALL("GetBackup", format(fixture, "{\"backup\":\"%s\"}", first));
    assert_string_equal(json_get_text(backup, "policy", ""), "nightly");
    assert_string_equal(json_get_text(backup, "trigger", ""), "policy");
    assert_string_equal(json_get_text(backup, "slot_at", ""), "2026-11-21T00:00:00Z");
    assert_string_equal(
        json_get_text(CALL("GetPolicy", "{\"database\":\"shop\",\"policy\":\"nightly\"}"),
                      "last_backup_id", ""),
        first);
}

// --- events ---

static void on_wake(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static void add_events(ServiceFixture *fixture, int count, const char *database)
{
    Error error = {0};
    StoreTransaction *transaction = NULL;
    assert_ok(store_begin(fixture->store, &transaction, &error), &error);
    for (int i = 0; i < count; i++) {
        store_event_add(transaction, &(StoreEventFields){.severity = "warning",
                                                         .kind = "test",
                                                         .database = database,
                                                         .message = "m"});
    }
    assert_ok(store_commit(&transaction, &error), &error);
}

static size_t read_all(EventSubscription *subscription, int64_t *last_id, size_t expected)
{
    size_t total = 0;
    int64_t deadline_ms = clock_monotonic_ms() + 20000;
    while (total < expected && clock_monotonic_ms() < deadline_ms) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Holdfast__V1__Event **events = NULL;
        size_t count = 0;
        Error error = {0};
        assert_ok(event_subscription_next(subscription, arena, &events, &count, &error), &error);
        for (size_t i = 0; i < count; i++) {
            assert_true(events[i]->id > *last_id);
            *last_id = events[i]->id;
        }
        total += count;
        if (count == 0) {
            clock_sleep_ms(5);
        }
    }
    return total;
}

static EventSubscription *subscribe(ServiceFixture *fixture, int64_t after_id, const char *database,
                                    atomic_int *wakes)
{
    Holdfast__V1__StreamEventsRequest request = HOLDFAST__V1__STREAM_EVENTS_REQUEST__INIT;
    CLEANUP_FREE char *copy = string_copy(database);
    request.after_id = after_id;
    request.database = copy;
    ServiceCall call = {.arena = fixture->arena,
                        .authorization = format(fixture, "Bearer %s", fixture->token)};
    EventSubscription *subscription = NULL;
    Error error = {0};
    assert_ok(event_subscription_open(fixture->service, &call, &request, on_wake, wakes,
                                      &subscription, &error),
              &error);
    return subscription;
}

static void test_streams_events_from_anywhere(void **state)
{
    ServiceFixture *fixture = *state;
    add_events(fixture, 1500, "a"); // more than stay in memory
    atomic_int wakes = 0;
    EventSubscription *all = subscribe(fixture, 0, "", &wakes);
    EventSubscription *live = subscribe(fixture, -1, "", &wakes);
    EventSubscription *filtered = subscribe(fixture, 0, "b", &wakes);
    int64_t last_all = 0, last_live = 0, last_filtered = 0;
    assert_int_equal(read_all(all, &last_all, 1500), 1500);
    add_events(fixture, 5, "b");
    add_events(fixture, 1300, "a");
    add_events(fixture, 5, "b");
    assert_int_equal(read_all(all, &last_all, 1310), 1310);
    assert_int_equal(read_all(live, &last_live, 1310), 1310);
    assert_int_equal(read_all(filtered, &last_filtered, 10), 10);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    int before = atomic_load(&wakes);
    add_events(fixture, 1, "b");
    while (atomic_load(&wakes) < before + 3 && clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(2);
    }
    assert_true(atomic_load(&wakes) >= before + 3);
    assert_int_equal(read_all(filtered, &last_filtered, 1), 1);
    event_subscription_close(all);
    event_subscription_close(live);
    event_subscription_close(filtered);
    const Json *events = json_get(CALL("ListEvents", "{\"minimum_severity\":\"error\"}"), "events");
    assert_int_equal(json_count(events), 0);
    events = json_get(CALL("ListEvents", "{\"database\":\"b\",\"minimum_severity\":\"warning\"}"),
                      "events");
    assert_int_equal(json_count(events), 11);
    assert_true(json_get_integer(json_item(events, 0), "id", 0) >
                json_get_integer(json_item(events, 1), "id", 0));
}

static void test_streaming_needs_a_token(void **state)
{
    ServiceFixture *fixture = *state;
    Holdfast__V1__StreamEventsRequest request = HOLDFAST__V1__STREAM_EVENTS_REQUEST__INIT;
    ServiceCall call = {.arena = fixture->arena, .authorization = "Bearer no"};
    EventSubscription *subscription = NULL;
    Error error = {0};
    atomic_int wakes = 0;
    assert_int_equal(event_subscription_open(fixture->service, &call, &request, on_wake, &wakes,
                                             &subscription, &error),
                     STATUS_UNAUTHENTICATED);
}

// Every method: named, with descriptors, and refusing an empty request or answering it, never
// crashing.
static void test_every_method_takes_an_empty_request(void **state)
{
    ServiceFixture *fixture = *state;
    size_t count = 0;
    const ServiceMethod *methods = service_methods(&count);
    assert_int_equal(count, 44);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(service_method_find(methods[i].name), &methods[i]);
        Error error = {0};
        CLEANUP(json_freep) Json *response = NULL;
        Status status = service_fixture_try(fixture, methods[i].name, "{}", &response, &error);
        if (status != STATUS_OK && error.reason != REASON_INVALID &&
            error.reason != REASON_PRECONDITION) {
            fail_msg("%s: %s", methods[i].name, error.message);
        }
    }
    assert_null(service_method_find("NoSuchMethod"));
}

static void test_metrics_outlive_the_database(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    scratch_postgres_kill(fixture->postgres);
    Buffer buffer;
    buffer_init(&buffer, 65536);
    assert_ok(service_metrics(fixture->service, &buffer, &error), &error);
    assert_contains(buffer_text(&buffer), "holdfast_store_up 0\n");
    buffer_done(&buffer);
    assert_int_equal(service_ready(fixture->service, &error), STATUS_UNAVAILABLE);
    REFUSE("ListDatabases", "{}", DATABASE_UNREACHABLE, "");
    scratch_postgres_start(fixture->postgres);
    assert_ok(service_ready(fixture->service, &error), &error);
    CALL("ListDatabases", "{}");
}

#define SERVICE_TEST(name)                                                                         \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_needs_a_token_with_the_role),
        SERVICE_TEST(test_keeps_the_admin_token_of_a_file),
        SERVICE_TEST(test_answers_who_it_is),
        SERVICE_TEST(test_every_method_takes_an_empty_request),
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
        SERVICE_TEST(test_refuses_bad_policies),
        SERVICE_TEST(test_previews_schedules),
        SERVICE_TEST(test_previews_retention),
        SERVICE_TEST(test_backups_are_pinned_to_their_parents),
        SERVICE_TEST(test_computes_protection_and_proof),
        SERVICE_TEST(test_shows_progress_and_phases),
        SERVICE_TEST(test_refuses_bad_backups),
        SERVICE_TEST(test_backups_are_canceled_and_deleted),
        SERVICE_TEST(test_restores),
        SERVICE_TEST(test_probes_through_the_agent),
        SERVICE_TEST(test_pages_are_stable_under_inserts),
        SERVICE_TEST(test_refuses_bad_pages),
        SERVICE_TEST(test_lists_backups_and_policies_newest_first),
        SERVICE_TEST(test_the_same_key_gives_the_same_answer),
        SERVICE_TEST(test_abandoned_claims_are_taken_over),
        SERVICE_TEST(test_concurrent_duplicates_do_it_once),
        SERVICE_TEST(test_a_slot_fires_once),
        SERVICE_TEST(test_streams_events_from_anywhere),
        SERVICE_TEST(test_streaming_needs_a_token),
        SERVICE_TEST(test_metrics_outlive_the_database),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
