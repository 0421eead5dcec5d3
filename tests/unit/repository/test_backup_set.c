// SPDX-License-Identifier: Apache-2.0
// Sets. If this goes red, an offline restore does not find what makes a backup, or finds another
// one's parts.
#include "common/crypto.h"
#include "common/memory.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"
#define LATER_ID "0197a000-0000-7000-8000-0000000000b0"
#define OTHER_DATABASE_ID "0197a000-0000-7000-8000-00000000000e"

static SetShard shards[3];

static BackupSet make_set(const char *backup_id, int64_t created_us)
{
    for (int i = 0; i < 3; i++) {
        snprintf(shards[i].shard_id, UUID_TEXT_SIZE, "0197a000-0000-7000-8000-00000000000%d", i);
        snprintf(shards[i].manifest_id, MANIFEST_ID_SIZE,
                 "0000000%d-0197a000-0000-7000-8000-00000000000%d", i, i);
        snprintf(shards[i].manifest_digest, 65, "%064d", i);
        shards[i].shard_name = i == 0 ? "-40" : i == 1 ? "40-80" : "80-";
        shards[i].checkpoint = "0-1-7";
    }
    BackupSet set = {.database_name = "shop",
                     .engine = "mariadb",
                     .created_us = created_us,
                     .is_complete = true,
                     .shards = shards,
                     .shard_count = 3};
    snprintf(set.backup_id, UUID_TEXT_SIZE, "%s", backup_id);
    snprintf(set.database_id, UUID_TEXT_SIZE, "%s", DATABASE_ID);
    return set;
}

static void test_a_set_comes_back(void **state)
{
    Fixture *fixture = *state;
    BackupSet set = make_set(BACKUP_ID, 1000);
    BackupSet *read = NULL;
    assert_reason(fixture,
                  backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID, fixture->arena,
                                  &read, &fixture->error),
                  REASON_NOT_FOUND);
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
    assert_ok(fixture, backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID, fixture->arena,
                                       &read, &fixture->error));
    assert_string_equal(read->backup_id, BACKUP_ID);
    assert_string_equal(read->database_id, DATABASE_ID);
    assert_string_equal(read->key_id, fixture->key.id);
    assert_string_equal(read->database_name, "shop");
    assert_string_equal(read->engine, "mariadb");
    assert_int_equal(read->created_us, 1000);
    assert_true(read->is_complete);
    assert_int_equal(read->shard_count, 3);
    assert_string_equal(read->shards[1].shard_name, "40-80");
    assert_string_equal(read->shards[2].manifest_id, shards[2].manifest_id);
    assert_string_equal(read->shards[2].manifest_digest, shards[2].manifest_digest);
    assert_string_equal(read->shards[2].checkpoint, "0-1-7");
}

static void test_writing_again(void **state)
{
    Fixture *fixture = *state;
    BackupSet set = make_set(BACKUP_ID, 1000);
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
    set.is_complete = false;
    assert_reason(fixture,
                  backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error),
                  REASON_EXISTS);
}

static void test_sets_that_are_refused(void **state)
{
    Fixture *fixture = *state;
    BackupSet set = make_set("not-an-id", 1);
    assert_reason(fixture,
                  backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error),
                  REASON_INVALID);
    set = make_set(BACKUP_ID, 1);
    shards[1].manifest_digest[0] = 'x';
    assert_reason(fixture,
                  backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error),
                  REASON_INVALID);
    set = make_set(BACKUP_ID, 1);
    set.shard_count = 5000;
    assert_reason(fixture,
                  backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error),
                  REASON_EXHAUSTED);
}

static void test_the_list_is_by_age(void **state)
{
    Fixture *fixture = *state;
    BackupSet **sets = NULL;
    size_t count = 9;
    assert_ok(fixture,
              backup_set_list(fixture->repository, fixture->arena, &sets, &count, &fixture->error));
    assert_int_equal(count, 0);
    BackupSet first = make_set(BACKUP_ID, 1000);
    BackupSet later = make_set(LATER_ID, 2000);
    BackupSet other = make_set(BACKUP_ID, 1500);
    DataKey other_key = {0};
    snprintf(other.database_id, UUID_TEXT_SIZE, "%s", OTHER_DATABASE_ID);
    assert_ok(fixture, repository_data_key(fixture->repository, OTHER_DATABASE_ID, true, &other_key,
                                           &fixture->error));
    assert_ok(fixture,
              backup_set_write(fixture->repository, &fixture->key, &later, &fixture->error));
    assert_ok(fixture,
              backup_set_write(fixture->repository, &fixture->key, &first, &fixture->error));
    assert_ok(fixture, backup_set_write(fixture->repository, &other_key, &other, &fixture->error));
    assert_ok(fixture,
              backup_set_list(fixture->repository, fixture->arena, &sets, &count, &fixture->error));
    assert_int_equal(count, 3);
    assert_int_equal(sets[0]->created_us, 1000);
    assert_string_equal(sets[1]->database_id, OTHER_DATABASE_ID);
    assert_string_equal(sets[2]->backup_id, LATER_ID);
    assert_ok(fixture,
              backup_set_remove(fixture->repository, DATABASE_ID, LATER_ID, &fixture->error));
    assert_ok(fixture,
              backup_set_remove(fixture->repository, DATABASE_ID, LATER_ID, &fixture->error));
    assert_ok(fixture,
              backup_set_list(fixture->repository, fixture->arena, &sets, &count, &fixture->error));
    assert_int_equal(count, 2);
    data_key_done(&other_key);
}

static void test_a_damaged_set_is_found(void **state)
{
    Fixture *fixture = *state;
    BackupSet set = make_set(BACKUP_ID, 1000);
    BackupSet *read = NULL;
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
    const char *object = object_key(fixture, "sets/", 0);
    int64_t size = stored_bytes(fixture, "sets/");
    for (int64_t offset = 0; offset < size; offset += 3) {
        object_flip(fixture, object, offset);
        assert_int_not_equal(backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID,
                                             fixture->arena, &read, &fixture->error),
                             STATUS_OK);
        object_flip(fixture, object, offset);
    }
    // Another backup's set under this name.
    BackupSet later = make_set(LATER_ID, 2000);
    assert_ok(fixture,
              backup_set_write(fixture->repository, &fixture->key, &later, &fixture->error));
    object_copy(fixture, "sets/" DATABASE_ID "/" LATER_ID, object);
    assert_reason(fixture,
                  backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID, fixture->arena,
                                  &read, &fixture->error),
                  REASON_OBJECT_CORRUPT);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_set_comes_back),       TEST(test_writing_again),
        TEST(test_sets_that_are_refused),  TEST(test_the_list_is_by_age),
        TEST(test_a_damaged_set_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
