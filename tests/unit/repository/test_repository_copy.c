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
} Copy;

static int set_up(void **state)
{
    Copy *copy = mem_alloc(sizeof(*copy));
    void *fixture = NULL;
    uint8_t bytes[AES256_KEY_SIZE];
    Manifest *manifest = NULL;
    fixture_set_up_memory(&fixture);
    copy->fixture = fixture;
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
        const CopyOptions options = {.set = copy->sets[i], .parent = last};
        RETURN_IF_ERROR(repository_copy_backup(copy->fixture->repository, copy->target, &options,
                                               copy->fixture->arena, &last, &ret_results[i],
                                               &copy->fixture->error));
    }
    return STATUS_OK;
}

static void assert_copied_as(Copy *copy, const BackupSet *set, const char *digest)
{
    Fixture *fixture = copy->fixture;
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    MaterializeResult result;
    assert_ok(fixture,
              manifest_open(copy->target, DATABASE_ID, SHARD_ID, set->shards[0].manifest_id,
                            fixture->arena, &key, &manifest, &fixture->error));
    assert_string_equal(manifest->digest, set->shards[0].manifest_digest);
    assert_memory_not_equal(key.bytes.data, fixture->key.bytes.data, AES256_KEY_SIZE);
    assert_ok(fixture, repository_materialize(copy->target, &key, manifest, fixture->restored,
                                              &(MaterializeOptions){0}, &result, &fixture->error));
    assert_string_equal(tree_digest(fixture, fixture->restored), digest);
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
}

static void assert_copied(Copy *copy, int index)
{
    Fixture *fixture = copy->fixture;
    BackupSet *set = NULL;
    assert_ok(fixture, backup_set_read(copy->target, DATABASE_ID, BACKUPS[index], fixture->arena,
                                       &set, &fixture->error));
    assert_int_equal(set->created_us, copy->sets[index]->created_us);
    assert_copied_as(copy, set, copy->digests[index]);
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
    // As stored, which is about half as much: four extents, and the one that changed.
    assert_in_range(results[0].read_bytes, 4 * EXTENT / 3, 4 * EXTENT);
    assert_in_range(results[1].read_bytes, EXTENT / 3, EXTENT);
    assert_ok(copy->fixture, repository_check(copy->target, (Progress){0}, NULL, NULL, &report,
                                              &copy->fixture->error));
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.orphan_count, 0);
    assert_ok(copy->fixture, copy_both(copy, results));
    assert_true(results[0].is_there_already && results[1].is_there_already);
}

static void test_without_the_sources_parent_everything_is_read(void **state)
{
    Copy *copy = *state;
    Fixture *fixture = copy->fixture;
    CopyResult results[2] = {{0}};
    BackupSet *last = NULL;
    const CopyOptions first = {.set = copy->sets[0]};
    assert_ok(fixture, repository_copy_backup(fixture->repository, copy->target, &first,
                                              fixture->arena, &last, &results[0], &fixture->error));
    assert_ok(fixture,
              backup_set_remove(fixture->repository, DATABASE_ID, BACKUPS[0], &fixture->error));
    const CopyOptions second = {.set = copy->sets[1], .parent = last};
    assert_ok(fixture, repository_copy_backup(fixture->repository, copy->target, &second,
                                              fixture->arena, &last, &results[1], &fixture->error));
    assert_in_range(results[1].read_bytes, 4 * EXTENT / 3, 4 * EXTENT);
    assert_true(results[1].stored_bytes < results[0].stored_bytes / 2);
    assert_copied(copy, 0);
    assert_copied(copy, 1);
}

// Whatever may differ between a backup and its parent: the copy is what was copied.
static void test_copies_of_files_that_grow_shrink_come_and_go(void **state)
{
    Copy *copy = *state;
    Fixture *fixture = copy->fixture;
    BackupSet *last = NULL;
    Manifest *manifest = NULL;
    CopyResult result;
    source_write(fixture, "large", 700 * EXTENT, 20);
    source_write(fixture, "shrinks", 70 * EXTENT + 100, 21);
    source_write(fixture, "goes", EXTENT + 1, 22);
    source_write(fixture, "sparse", 600 * EXTENT, 0);
    for (int round = 0; round < 4; round++) {
        char backup_id[UUID_TEXT_SIZE];
        BackupSet *set = NULL;
        snprintf(backup_id, sizeof(backup_id), "0197a000-0000-7000-8000-0000000000c%d", round);
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
        copy->digests[0] = tree_digest(fixture, fixture->source);
        write_set(fixture, backup_id, manifest);
        assert_ok(fixture, backup_set_read(fixture->repository, DATABASE_ID, backup_id,
                                           fixture->arena, &set, &fixture->error));
        const CopyOptions options = {.set = set, .parent = last};
        assert_ok(fixture, repository_copy_backup(fixture->repository, copy->target, &options,
                                                  fixture->arena, &last, &result, &fixture->error));
        assert_copied_as(copy, last, copy->digests[0]);
        source_patch(fixture, "large", 300 * EXTENT - 5, 10, 30 + (uint32_t)round);
        source_truncate(fixture, "large", (700 + 100 * round) * EXTENT + 7);
        source_truncate(fixture, "shrinks", 70 * EXTENT / (1 + 5 * round));
        source_patch(fixture, "sparse", (100 + round) * EXTENT, EXTENT, 40);
        if (round == 1) {
            source_remove(fixture, "goes");
            source_rename(fixture, "dir/one", "goes"); // to a path that another file had
        }
    }
    assert_true(result.read_bytes < 130 * EXTENT); // and not the 1,000 that there are
}

// Else each try would find one more pack that the last one has left, and have one more call.
static void sweep_target(Copy *copy)
{
    Fixture *fixture = copy->fixture;
    CLEANUP(data_key_done) DataKey key = {0};
    const char *keep[2];
    SweepOptions options = {.shard_id = SHARD_ID, .keep = keep, .protect_epoch_min = UINT32_MAX};
    SweepResult result;
    for (int i = 0; i < 2; i++) {
        BackupSet *set = NULL;
        Error error = {0};
        if (backup_set_read(copy->target, DATABASE_ID, BACKUPS[i], fixture->arena, &set, &error) ==
            STATUS_OK) {
            keep[options.keep_count++] = set->shards[0].manifest_id;
        }
    }
    assert_ok(fixture, repository_data_key(copy->target, DATABASE_ID, true, &key, &fixture->error));
    assert_ok(fixture,
              repository_sweep_shard(copy->target, &key, &options, &result, &fixture->error));
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
        sweep_target(copy);
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

static int64_t object_bytes(const Copy *copy, const char *prefix, size_t *ret_count)
{
    StoragePage page;
    int64_t bytes = 0;
    assert_ok(copy->fixture, storage_list(copy->storage, prefix, NULL, 1000, copy->fixture->arena,
                                          &page, &copy->fixture->error));
    assert_null(page.next_page_token);
    for (size_t i = 0; i < page.count; i++) {
        bytes += page.objects[i].size_bytes;
    }
    *ret_count = page.count;
    return bytes;
}

// Two shards, of which each takes more than one pack.
static BackupSet *write_two_shards(Copy *copy)
{
    Fixture *fixture = copy->fixture;
    Manifest *manifests[2] = {NULL};
    static const char *const shard_ids[] = {SHARD_ID, OTHER_SHARD_ID};
    SetShard shards[2] = {{.shard_name = "-80"}, {.shard_name = "80-"}};
    BackupSet *set = arena_alloc(fixture->arena, sizeof(*set));
    source_write(fixture, "large", 1200 * EXTENT, 50);
    for (int i = 0; i < 2; i++) {
        assert_ok(fixture, fixture_publish_shard(fixture, shard_ids[i], NULL, &manifests[i]));
        memcpy(shards[i].shard_id, shard_ids[i], UUID_TEXT_SIZE);
        memcpy(shards[i].manifest_id, manifests[i]->id, MANIFEST_ID_SIZE);
        memcpy(shards[i].manifest_digest, manifests[i]->digest, sizeof(manifests[i]->digest));
        shards[i].checkpoint = manifests[i]->checkpoint;
    }
    *set = *copy->sets[0];
    memcpy(set->backup_id, "0197a000-0000-7000-8000-0000000000d1", UUID_TEXT_SIZE);
    set->shards = arena_copy(fixture->arena, shards, sizeof(shards));
    set->shard_count = 2;
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, set, &fixture->error));
    return set;
}

// Stopped at one call after the other, it does not begin anew: of a shard there is one manifest,
// and nothing much is stored twice. Each try has a call more, for a pack that the last one has
// left.
static void test_a_stopped_copy_is_gone_on_with(void **state)
{
    Copy *copy = *state;
    Fixture *fixture = copy->fixture;
    const BackupSet *set = write_two_shards(copy);
    const CopyOptions options = {.set = set};
    Status status = STATUS_UNAVAILABLE;
    CopyResult result;
    BackupSet *copied = NULL;
    int call = 0;
    size_t count = 0;
    while (status != STATUS_OK) {
        call += 3;
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(copy->storage, call, false);
        status = repository_copy_backup(fixture->repository, copy->target, &options, fixture->arena,
                                        &copied, &result, &fixture->error);
        storage_memory_fail_at(copy->storage, 0, false);
    }
    assert_true(call > 20);
    assert_copied_as(copy, copied, tree_digest(fixture, fixture->source));
    (void)object_bytes(copy, "shards/" SHARD_ID "/manifests/", &count);
    assert_int_equal(count, 1);
    (void)object_bytes(copy, "shards/" OTHER_SHARD_ID "/manifests/", &count);
    assert_int_equal(count, 1);
    int64_t source_bytes = stored_bytes(fixture, "shards/");
    assert_in_range(object_bytes(copy, "shards/", &count), source_bytes / 2,
                    source_bytes / 10 * 11);
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
        TEST(test_a_copy_shares_what_has_not_changed),
        TEST(test_copies_with_faults_of_the_source),
        TEST(test_without_the_sources_parent_everything_is_read),
        TEST(test_copies_of_files_that_grow_shrink_come_and_go),
        TEST(test_a_stopped_copy_is_gone_on_with),
        TEST(test_copies_with_faults_of_the_target),
        TEST(test_copies_with_lost_replies),
        TEST(test_a_damaged_backup_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
