// SPDX-License-Identifier: Apache-2.0
// Storage fails at call 1, 2, 3 … until an operation gets through; with lost replies too. After
// each failure everything committed before still restores, and a sweep leaves nothing that cannot
// be explained. If this goes red, a network fault costs a backup or leaves garbage for ever.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define SHARD "shards/" SHARD_ID "/"
#define MANIFESTS SHARD "manifests/"
#define PACKS SHARD "packs/"
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"
#define CALL_COUNT_MAX 2000

static Status sweep(Fixture *fixture, const Manifest *const *kept, size_t count)
{
    const char *keep[4];
    SweepResult result;
    for (size_t i = 0; i < count; i++) {
        keep[i] = kept[i]->id;
    }
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = count, .protect_epoch_min = UINT32_MAX};
    return repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                  &fixture->error);
}

static void fill_source(const Fixture *fixture)
{
    source_write(fixture, "one", 5 * EXTENT, 1);
    source_write(fixture, "dir/two", 100, 2);
    source_write(fixture, "zero", 3 * EXTENT, 0);
}

static void publish_with_faults(void **state, bool is_lost_reply)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    fill_source(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    const char *seed_digest = tree_digest(fixture, fixture->source);
    int count = object_count(fixture, "");
    source_patch(fixture, "one", EXTENT, 10, 3);
    source_write(fixture, "dir/new", 2 * EXTENT, 4);
    const char *digest = tree_digest(fixture, fixture->source);
    const Manifest *kept[] = {seed, NULL};
    int call = 1;
    for (;; call++) {
        Manifest *child = NULL;
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        Status status = fixture_publish(fixture, seed, &child);
        storage_memory_fail_at(fixture->storage, 0, false);
        if (status == STATUS_OK) {
            kept[1] = child;
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        assert_restores(fixture, seed, seed_digest);
        // At most one manifest more, and only where the reply was lost.
        assert_true(object_count(fixture, MANIFESTS) <= (is_lost_reply ? 2 : 1));
        assert_ok(fixture, sweep(fixture, kept, 1));
        assert_int_equal(object_count(fixture, ""), count);
    }
    assert_true(call > 5);
    assert_restores(fixture, seed, seed_digest);
    assert_restores(fixture, kept[1], digest);
    assert_ok(fixture, sweep(fixture, kept, 2));
    assert_restores(fixture, seed, seed_digest);
    assert_restores(fixture, kept[1], digest);
}

static void test_publish(void **state)
{
    publish_with_faults(state, false);
}

static void test_publish_with_lost_replies(void **state)
{
    publish_with_faults(state, true);
}

static void test_restore(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    fill_source(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    int call = 1;
    for (;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, false);
        Status status = fixture_restore(fixture, manifest);
        storage_memory_fail_at(fixture->storage, 0, false);
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        assert_int_not_equal(access(fixture->restored, F_OK), 0); // nothing half is left
    }
    assert_true(call > 5);
    assert_string_equal(tree_digest(fixture, fixture->restored),
                        tree_digest(fixture, fixture->source));
}

static void sweep_with_faults(void **state, bool is_lost_reply)
{
    Fixture *fixture = *state;
    Manifest *manifests[4] = {NULL};
    const char *digests[4];
    fill_source(fixture);
    for (uint32_t i = 0; i < 4; i++) {
        source_write(fixture, "one", 5 * EXTENT, 10 + i);
        digests[i] = tree_digest(fixture, fixture->source);
        assert_ok(fixture,
                  fixture_publish(fixture, i == 0 ? NULL : manifests[i - 1], &manifests[i]));
    }
    const Manifest *kept[] = {manifests[1], manifests[3]};
    int call = 1;
    for (;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        Status status = sweep(fixture, kept, 2);
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_restores(fixture, manifests[1], digests[1]);
        assert_restores(fixture, manifests[3], digests[3]);
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
    }
    assert_true(call > 5);
    assert_int_equal(object_count(fixture, MANIFESTS), 2);
    // What "dir/two" is in was brought by the seed; the third is in no kept backup.
    assert_int_equal(object_count(fixture, PACKS), 3);
}

static void test_sweep(void **state)
{
    sweep_with_faults(state, false);
}

static void test_sweep_with_lost_replies(void **state)
{
    sweep_with_faults(state, true);
}

static void write_set_with_faults(void **state, bool is_lost_reply)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    fill_source(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    SetShard shard = {.shard_name = "0", .checkpoint = "1"};
    snprintf(shard.shard_id, sizeof(shard.shard_id), "%s", SHARD_ID);
    snprintf(shard.manifest_id, sizeof(shard.manifest_id), "%s", manifest->id);
    snprintf(shard.manifest_digest, sizeof(shard.manifest_digest), "%s", manifest->digest);
    BackupSet set = {.shards = &shard, .shard_count = 1, .created_us = 5};
    snprintf(set.backup_id, sizeof(set.backup_id), "%s", BACKUP_ID);
    snprintf(set.database_id, sizeof(set.database_id), "%s", DATABASE_ID);
    for (int call = 1;; call++) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        Status status = backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error);
        storage_memory_fail_at(fixture->storage, 0, false);
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
    }
    BackupSet *read = NULL;
    assert_ok(fixture, backup_set_read(fixture->repository, DATABASE_ID, BACKUP_ID, fixture->arena,
                                       &read, &fixture->error));
    assert_int_equal(object_count(fixture, "sets/"), 1);
}

static void test_set(void **state)
{
    write_set_with_faults(state, false);
}

static void test_set_with_lost_replies(void **state)
{
    write_set_with_faults(state, true);
}

// A data key is made once, whatever is lost: a second one would split the database's backups.
static void test_data_key_with_lost_replies(void **state)
{
    Fixture *fixture = *state;
    for (int lost = 0; lost < 2; lost++) {
        char database_id[UUID_TEXT_SIZE];
        crypto_uuid(database_id);
        CLEANUP(data_key_done) DataKey key = {0};
        for (int call = 1;; call++) {
            storage_memory_fail_at(fixture->storage, call, lost == 1);
            Status status =
                repository_data_key(fixture->repository, database_id, true, &key, &fixture->error);
            storage_memory_fail_at(fixture->storage, 0, false);
            if (status == STATUS_OK) {
                break;
            }
            assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        }
        char prefix[64];
        snprintf(prefix, sizeof(prefix), "keys/%s/", database_id);
        assert_int_equal(object_count(fixture, prefix), 2); // its record, and the wrapped key
    }
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_publish),
        TEST(test_publish_with_lost_replies),
        TEST(test_restore),
        TEST(test_sweep),
        TEST(test_sweep_with_lost_replies),
        TEST(test_set),
        TEST(test_set_with_lost_replies),
        TEST(test_data_key_with_lost_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
