// SPDX-License-Identifier: Apache-2.0
// Copies to another repository, with storage that fails anywhere. If this goes red, a copy is not
// what was copied, or one that was stopped stands in the way of the next.
#include "common/crypto.h"
#include "common/file.h"
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

#define CALL_COUNT_MAX 1000

static const char *const BACKUPS[] = {"0197a000-0000-7000-8000-0000000000b1",
                                      "0197a000-0000-7000-8000-0000000000b2"};

typedef struct Copy {
    Fixture *fixture;
    Storage *storage; // the target's
    Repository *target;
    BackupSet *sets[2];
    const char *digests[2];
    char scratch[128];
} Copy;

static int set_up(void **state)
{
    Copy *copy = mem_alloc(sizeof(*copy));
    void *fixture = NULL;
    uint8_t bytes[AES256_KEY_SIZE];
    Manifest *manifest = NULL;
    fixture_set_up_memory(&fixture);
    copy->fixture = fixture;
    snprintf(copy->scratch, sizeof(copy->scratch), "%s/scratch", copy->fixture->directory);
    crypto_random(bytes, sizeof(bytes));
    CLEANUP(secret_done) Secret key = secret_from_bytes(bytes, sizeof(bytes));
    copy->storage = storage_memory_new();
    assert_ok(copy->fixture, repository_create(copy->storage, key_wrapper_from_key(&key),
                                               &copy->target, &copy->fixture->error));
    source_write(copy->fixture, "dir/one", 4 * EXTENT, 1);
    source_write(copy->fixture, "hole", 3 * EXTENT, 0);
    for (int i = 0; i < 2; i++) {
        source_patch(copy->fixture, "dir/one", i * EXTENT, 10, 10 + (uint32_t)i);
        assert_ok(copy->fixture, fixture_publish(copy->fixture, manifest, &manifest));
        copy->digests[i] = tree_digest(copy->fixture, copy->fixture->source);
        write_set(copy->fixture, BACKUPS[i], manifest);
        assert_ok(copy->fixture,
                  backup_set_read(copy->fixture->repository, DATABASE_ID, BACKUPS[i],
                                  copy->fixture->arena, &copy->sets[i], &copy->fixture->error));
    }
    *state = copy;
    return 0;
}

static int tear_down(void **state)
{
    Copy *copy = *state;
    void *fixture = copy->fixture;
    repository_free(copy->target);
    fixture_tear_down(&fixture);
    mem_free(copy);
    return 0;
}

static Status copy_both(Copy *copy, CopyResult ret_results[2])
{
    BackupSet *last = NULL;
    for (int i = 0; i < 2; i++) {
        const CopyOptions options = {
            .set = copy->sets[i], .parent = last, .scratch_directory = copy->scratch};
        RETURN_IF_ERROR(repository_copy_backup(copy->fixture->repository, copy->target, &options,
                                               copy->fixture->arena, &last, &ret_results[i],
                                               &copy->fixture->error));
    }
    return STATUS_OK;
}

static void assert_copied(Copy *copy, int index)
{
    Fixture *fixture = copy->fixture;
    CLEANUP(data_key_done) DataKey key = {0};
    BackupSet *set = NULL;
    Manifest *manifest = NULL;
    MaterializeResult result;
    assert_ok(fixture, backup_set_read(copy->target, DATABASE_ID, BACKUPS[index], fixture->arena,
                                       &set, &fixture->error));
    assert_int_equal(set->created_us, copy->sets[index]->created_us);
    assert_ok(fixture,
              manifest_open(copy->target, DATABASE_ID, SHARD_ID, set->shards[0].manifest_id,
                            fixture->arena, &key, &manifest, &fixture->error));
    assert_string_equal(manifest->digest, set->shards[0].manifest_digest);
    assert_memory_not_equal(key.bytes.data, fixture->key.bytes.data, AES256_KEY_SIZE);
    assert_ok(fixture, repository_materialize(copy->target, &key, manifest, fixture->restored,
                                              &(MaterializeOptions){0}, &result, &fixture->error));
    assert_string_equal(tree_digest(fixture, fixture->restored), copy->digests[index]);
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
}

static void test_a_copy_shares_what_has_not_changed(void **state)
{
    Copy *copy = *state;
    CopyResult results[2] = {{0}};
    CheckReport report;
    assert_ok(copy->fixture, copy_both(copy, results));
    assert_copied(copy, 0);
    assert_copied(copy, 1);
    assert_true(results[1].stored_bytes < results[0].stored_bytes / 2);
    assert_ok(copy->fixture, repository_check(copy->target, (Progress){0}, NULL, NULL, &report,
                                              &copy->fixture->error));
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.orphan_count, 0);
    assert_ok(copy->fixture, copy_both(copy, results));
    assert_true(results[0].is_there_already && results[1].is_there_already);
}

// The source fails, or the target; each copy that is there is whole, and the next try goes on.
static void copy_with_faults(Copy *copy, bool is_target, bool is_lost_reply)
{
    Storage *storage = is_target ? copy->storage : copy->fixture->storage;
    CopyResult results[2] = {{0}};
    int failure_count = 0;
    for (int call = 1;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(storage, call, is_lost_reply);
        Status status = copy_both(copy, results);
        storage_memory_fail_at(storage, 0, false);
        for (int i = 0; i < 2; i++) {
            BackupSet *set = NULL;
            Error error = {0};
            if (backup_set_read(copy->target, DATABASE_ID, BACKUPS[i], copy->fixture->arena, &set,
                                &error) == STATUS_OK) {
                assert_copied(copy, i);
            }
        }
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(copy->fixture->error.reason, REASON_UNAVAILABLE);
        failure_count++;
    }
    assert_true(failure_count > 5);
    assert_copied(copy, 0);
    assert_copied(copy, 1);
}

static void test_copies_with_faults_of_the_source(void **state)
{
    copy_with_faults(*state, false, false);
}

static void test_copies_with_faults_of_the_target(void **state)
{
    copy_with_faults(*state, true, false);
}

static void test_copies_with_lost_replies(void **state)
{
    copy_with_faults(*state, true, true);
}

static void test_a_damaged_backup_is_not_copied(void **state)
{
    Copy *copy = *state;
    CopyResult results[2] = {{0}};
    object_flip(copy->fixture, object_key(copy->fixture, "shards/" SHARD_ID "/packs/", 0), 200);
    assert_reason(copy->fixture, copy_both(copy, results), REASON_OBJECT_CORRUPT);
    StoragePage page;
    assert_ok(copy->fixture, storage_list(copy->storage, "sets/", NULL, 10, copy->fixture->arena,
                                          &page, &copy->fixture->error));
    assert_int_equal(page.count, 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_copy_shares_what_has_not_changed), TEST(test_copies_with_faults_of_the_source),
        TEST(test_copies_with_faults_of_the_target),   TEST(test_copies_with_lost_replies),
        TEST(test_a_damaged_backup_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
