// SPDX-License-Identifier: Apache-2.0
// Keys of repositories and rebuilding the catalogue, as callers meet them, on a real PostgreSQL and
// a real repository. If this goes red, a rotation loses a key, or nobody finds the backups again
// when the server's database is gone.
#include "common/file.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"
#include "tests/integration/service_case.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOST_DATABASE "0197a000-0000-7000-8000-00000000000d"
#define LOST_BACKUP "0197a000-0000-7000-8000-0000000000b1"
#define LOST_CHILD "0197a000-0000-7000-8000-0000000000b2"

static const char *const LOST_SHARDS[] = {"0197a000-0000-7000-8000-0000000000a1",
                                          "0197a000-0000-7000-8000-0000000000a2"};

static const char *place_of(ServiceFixture *fixture, const char *what)
{
    return arena_format(fixture->arena, "%s/%d-main%s", fixture->directory, fixture->database_count,
                        what);
}

static Status open_with(ServiceFixture *fixture, const char *key_file, Repository **ret_repository,
                        Error *error)
{
    KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(key_file, &wrapper, error));
    RETURN_IF_ERROR(
        storage_open(&(StorageOptions){.location = place_of(fixture, "")}, &storage, error));
    return repository_open(storage, wrapper, ret_repository, error);
}

static Repository *open_main(ServiceFixture *fixture)
{
    Error error = {0};
    Repository *repository = NULL;
    assert_int_equal(open_with(fixture, place_of(fixture, ".key"), &repository, &error), STATUS_OK);
    return repository;
}

// --- a backup by a server that is gone ---

static Manifest *publish(ServiceFixture *fixture, Repository *repository, const DataKey *key,
                         int shard, uint32_t epoch, const Manifest *parent)
{
    Error error = {0};
    Manifest *manifest = NULL;
    const char *directory = place_of(fixture, ".source");
    const char *file = arena_format(fixture->arena, "%s/file", directory);
    assert_int_equal(dir_create_all(directory, 0700, &error), STATUS_OK);
    const char *text = arena_format(fixture->arena, "shard %d in epoch %u", shard, epoch);
    assert_int_equal(file_write_atomic(file, text, strlen(text), 0600, &error), STATUS_OK);
    const SourceFile source = {.path = "file", .size_bytes = (int64_t)strlen(text), .mode = 0600};
    PublishOptions options = {.directory = directory,
                              .files = &source,
                              .file_count = 1,
                              .epoch = epoch,
                              .parent = parent,
                              .compression_level = 1,
                              .manifest = {.database_name = "lost",
                                           .shard_name = shard == 0 ? "-80" : "80-",
                                           .engine = "mariadb",
                                           .engine_version = "10.11.9",
                                           .checkpoint = "0-1-42",
                                           .engine_state = "{}",
                                           .generation = parent == NULL ? 0 : 1}};
    memcpy(options.manifest.database_id, LOST_DATABASE, 37);
    memcpy(options.manifest.shard_id, LOST_SHARDS[shard], 37);
    assert_int_equal(
        repository_publish(repository, key, &options, fixture->arena, &manifest, &error),
        STATUS_OK);
    return manifest;
}

static void write_set(Repository *repository, const DataKey *key, const char *backup_id,
                      Manifest *const *manifests)
{
    Error error = {0};
    SetShard shards[2] = {{.shard_name = "-80"}, {.shard_name = "80-"}};
    BackupSet set = {.database_name = "lost",
                     .engine = "mariadb",
                     .created_us = backup_id[35] == '1' ? 1790000000000000 : 1790000100000000,
                     .is_complete = true,
                     .shards = shards,
                     .shard_count = 2};
    memcpy(set.backup_id, backup_id, 37);
    memcpy(set.database_id, LOST_DATABASE, 37);
    for (int i = 0; i < 2; i++) {
        shards[i].checkpoint = manifests[i]->checkpoint;
        memcpy(shards[i].shard_id, manifests[i]->shard_id, 37);
        memcpy(shards[i].manifest_id, manifests[i]->id, MANIFEST_ID_SIZE);
        memcpy(shards[i].manifest_digest, manifests[i]->digest, 65);
    }
    assert_int_equal(backup_set_write(repository, key, &set, &error), STATUS_OK);
}

static void write_lost_backups(ServiceFixture *fixture)
{
    Error error = {0};
    CLEANUP(data_key_done) DataKey key = {0};
    Repository *repository = open_main(fixture);
    Manifest *seeds[2];
    Manifest *children[2];
    assert_int_equal(repository_data_key(repository, LOST_DATABASE, true, &key, &error), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        seeds[i] = publish(fixture, repository, &key, i, 6, NULL);
        children[i] = publish(fixture, repository, &key, i, 7, seeds[i]);
    }
    write_set(repository, &key, LOST_BACKUP, seeds);
    write_set(repository, &key, LOST_CHILD, children);
    repository_free(repository);
}

// --- the catalogue ---

static void test_a_catalogue_is_rebuilt_from_a_repository(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture); // and another one that is there already
    write_lost_backups(fixture);
    const Json *made = CALL("ImportCatalogue", "{\"repository\":\"main\"}");
    assert_int_equal(json_get_integer(made, "database_count", -1), 1);
    assert_int_equal(json_get_integer(made, "shard_count", -1), 2);
    assert_int_equal(json_get_integer(made, "backup_count", -1), 2);
    assert_int_equal(json_get_integer(made, "skipped_count", -1), 0);
    assert_true(json_get_boolean(made, "is_complete", false));
    const Json *again = CALL("ImportCatalogue", "{\"repository\":\"main\"}");
    assert_int_equal(service_fixture_number(
                         fixture, "SELECT (added_bytes = (SELECT sum(stored_bytes) FROM"
                                  " shard_backups) AND added_bytes > 0)::int FROM repositories"),
                     1);
    assert_int_equal(json_get_integer(again, "database_count", -1), 0);
    assert_int_equal(json_get_integer(again, "backup_count", -1), 0);
    assert_true(json_get_boolean(again, "is_complete", false));

    const Json *backup = CALL("GetBackup", "{\"backup\":\"" LOST_CHILD "\"}");
    assert_string_equal(json_get_text(backup, "database", ""), "lost");
    assert_string_equal(json_get_text(backup, "state", ""), "succeeded");
    const Json *shards =
        json_get(CALL("ListShardBackups", "{\"backup\":\"" LOST_CHILD "\"}"), "shards");
    assert_int_equal(json_count(shards), 2);
    assert_int_equal(json_get_integer(json_item(shards, 0), "generation", -1), 1);
    assert_int_equal(strlen(json_get_text(json_item(shards, 0), "parent_id", "")), 36);
    // No attempt may have an epoch that is in the repository.
    assert_int_equal(service_fixture_number(fixture,
                                            "SELECT min(epoch) FROM shards sh JOIN databases d ON "
                                            "d.id = sh.database_id WHERE d.name = 'lost'"),
                     7);
}

static void test_imported_backups_are_parents_once_there_is_a_source(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    write_lost_backups(fixture);
    CALL("ImportCatalogue", "{\"repository\":\"main\"}");
    REFUSE("StartBackup", "{\"database\":\"lost\",\"repository\":\"main\"}", PRECONDITION, "");
    for (int i = 0; i < 2; i++) {
        CALL("UpdateShard",
             text_with(fixture,
                       "{\"shard\":{\"database\":\"lost\",\"name\":\"%s\",\"source\":{\"host\":"
                       "\"db.example\",\"port\":3306,\"credential\":\"app\"}},\"update_mask\":"
                       "\"source.host,source.port,source.credential\"}",
                       i == 0 ? "-80" : "80-"));
    }
    const Json *backup = CALL("StartBackup", "{\"database\":\"lost\",\"repository\":\"main\"}");
    assert_int_equal(
        service_fixture_number(
            fixture,
            text_with(fixture,
                      "SELECT count(*) FROM shard_backups sb JOIN shard_backups p ON "
                      "p.id = sb.parent_id JOIN backups b ON b.id = p.backup_id WHERE "
                      "sb.backup_id = '%s' AND sb.generation = 2 AND b.id = '" LOST_CHILD "'",
                      json_get_text(backup, "id", ""))),
        2);
}

static void test_what_cannot_be_imported_is_told(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    make_database(fixture);
    write_lost_backups(fixture);
    const char *set = place_of(fixture, "/sets/" LOST_DATABASE "/" LOST_BACKUP);
    assert_int_equal(file_write_atomic(set, "damaged", 7, 0600, &error), STATUS_OK);
    const Json *made = CALL("ImportCatalogue", "{\"repository\":\"main\"}");
    assert_int_equal(json_get_integer(made, "backup_count", -1), 1);
    assert_int_equal(json_get_integer(made, "skipped_count", -1), 1);
    assert_non_null(strstr(json_text(json_item(json_get(made, "skipped"), 0), ""), LOST_BACKUP));
    REFUSE("ImportCatalogue", "{\"repository\":\"other\"}", NOT_FOUND, "");
}

// --- wrapping keys ---

static void test_a_wrapping_key_is_rotated(void **state)
{
    ServiceFixture *fixture = *state;
    Error error = {0};
    Repository *repository = NULL;
    make_database(fixture);
    write_lost_backups(fixture);
    const char *new_key = place_of(fixture, ".new-key");
    const char *request =
        arena_format(fixture->arena, "{\"repository\":\"main\",\"key_file\":\"%s\"%%s}", new_key);
    REFUSE("RotateRepositoryKey", text_with(fixture, request, ""), KEY_MISSING, "key_file");
    REFUSE("RotateRepositoryKey", "{\"repository\":\"main\",\"key_file\":\"k\"}", INVALID,
           "key_file");
    const char *before =
        json_get_text(CALL("GetRepository", "{\"repository\":\"main\"}"), "key_fingerprint", "");
    const Json *rotated =
        CALL("RotateRepositoryKey", text_with(fixture, request, ",\"create_key_file\":true"));
    assert_string_equal(json_get_text(rotated, "key_file", ""), new_key);
    assert_string_not_equal(json_get_text(rotated, "key_fingerprint", ""), before);
    assert_int_equal(open_with(fixture, place_of(fixture, ".key"), &repository, &error),
                     reason_status(REASON_KEY_WRONG));
    assert_int_equal(open_with(fixture, new_key, &repository, &error), STATUS_OK);
    repository_free(repository);
    // The rest of one that was interrupted after the row had the new key.
    CLEANUP_FREE char *interrupted = service_fixture_sql(
        fixture, text_with(fixture, "UPDATE repositories SET previous_key_file = '%s'; SELECT 1",
                           place_of(fixture, ".key")));
    CALL("RotateRepositoryKey", text_with(fixture, request, ""));
    assert_int_equal(
        service_fixture_number(fixture,
                               "SELECT count(*) FROM repositories WHERE previous_key_file <> ''"),
        0);
    // What is sealed is found with the new key.
    assert_int_equal(
        json_get_integer(CALL("ImportCatalogue", "{\"repository\":\"main\"}"), "backup_count", -1),
        2);
}

// --- data keys ---

static void test_data_keys_are_renewed_and_destroyed(void **state)
{
    ServiceFixture *fixture = *state;
    make_database(fixture);
    write_lost_backups(fixture);
    CALL("ImportCatalogue", "{\"repository\":\"main\"}");
    const char *who = "{\"database\":\"lost\",\"repository\":\"main\"%s}";
    const char *first =
        json_get_text(CALL("RotateDataKey", text_with(fixture, who, "")), "key_id", "");
    const char *second =
        json_get_text(CALL("RotateDataKey", text_with(fixture, who, "")), "key_id", "");
    assert_string_not_equal(first, second);
    REFUSE("DestroyDataKeys", text_with(fixture, who, ""), INVALID, "confirm");
    REFUSE("DestroyDataKeys", text_with(fixture, who, ",\"confirm\":\"shop\""), INVALID, "confirm");
    CLEANUP_FREE char *held = service_fixture_sql(
        fixture, "UPDATE backups SET held_at = now() WHERE id = '" LOST_BACKUP "'; SELECT 1");
    REFUSE("DestroyDataKeys", text_with(fixture, who, ",\"confirm\":\"lost\""), BACKUP_HELD, "");
    CLEANUP_FREE char *pinned = service_fixture_sql(
        fixture, "UPDATE backups SET held_at = NULL, pinned_at = now() WHERE id = '" LOST_BACKUP
                 "'; SELECT 1");
    REFUSE("DestroyDataKeys", text_with(fixture, who, ",\"confirm\":\"lost\""), BACKUP_PINNED, "");
    CLEANUP_FREE char *unpinned =
        service_fixture_sql(fixture, "UPDATE backups SET pinned_at = NULL; SELECT 1");
    const Json *destroyed =
        CALL("DestroyDataKeys", text_with(fixture, who, ",\"confirm\":\"lost\""));
    assert_int_equal(json_get_integer(destroyed, "key_count", -1), 3);
    assert_int_equal(json_get_integer(destroyed, "backup_count", -1), 2);
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM shard_backups WHERE is_unrestorable"),
        4);
    assert_int_equal(
        service_fixture_number(fixture, "SELECT count(*) FROM backups WHERE state = 'deleting'"),
        2);
    Error error = {0};
    CLEANUP(data_key_done) DataKey key = {0};
    Repository *repository = open_main(fixture);
    assert_int_equal(repository_data_key(repository, LOST_DATABASE, false, &key, &error),
                     reason_status(REASON_KEY_MISSING));
    repository_free(repository);
}

int main(void)
{
    scratch_postgres_drop_root();
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(test_a_catalogue_is_rebuilt_from_a_repository),
        SERVICE_TEST(test_imported_backups_are_parents_once_there_is_a_source),
        SERVICE_TEST(test_what_cannot_be_imported_is_told),
        SERVICE_TEST(test_a_wrapping_key_is_rotated),
        SERVICE_TEST(test_data_keys_are_renewed_and_destroyed),
    };
    return cmocka_run_group_tests(tests, service_fixture_group_setup,
                                  service_fixture_group_teardown);
}
