// SPDX-License-Identifier: Apache-2.0
// What is in storage may be cut, changed, moved, swapped or replayed; each must be found, by
// restore and by check. If this goes red, damage or tampering goes unnoticed.
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

#define PACKS "shards/" SHARD_ID "/packs/"
#define MANIFESTS "shards/" SHARD_ID "/manifests/"
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"

typedef struct Problems {
    int count;
    Reason reason;
    char object[160];
} Problems;

static void hear_problem(void *context, const char *object, const Error *problem)
{
    Problems *problems = context;
    if (problems->count++ == 0) {
        problems->reason = problem->reason;
        snprintf(problems->object, sizeof(problems->object), "%s", object);
    }
}

static Problems check(Fixture *fixture)
{
    Problems problems = {0};
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, hear_problem, &problems,
                                        &report, &fixture->error));
    assert_int_equal(report.problem_count, problems.count);
    return problems;
}

static Manifest *publish_small(Fixture *fixture)
{
    source_write(fixture, "a", 3 * EXTENT, 1);
    source_write(fixture, "b", 100, 2);
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    return manifest;
}

static Manifest *read_back(Fixture *fixture, const char *manifest_id, Status *ret_status)
{
    Manifest *manifest = NULL;
    *ret_status = manifest_read(fixture->repository, &fixture->key, SHARD_ID, manifest_id,
                                fixture->arena, &manifest, &fixture->error);
    return manifest;
}

static void assert_check_finds(Fixture *fixture, Reason reason, const char *object)
{
    Problems problems = check(fixture);
    assert_true(problems.count > 0);
    assert_int_equal(problems.reason, reason);
    assert_string_equal(problems.object, object);
}

static void assert_restore_fails(Fixture *fixture, const Manifest *manifest, Reason reason)
{
    assert_reason(fixture, fixture_restore(fixture, manifest), reason);
    assert_int_not_equal(access(fixture->restored, F_OK), 0);
}

static void test_a_sound_repository_has_no_problems(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    write_set(fixture, BACKUP_ID, manifest);
    assert_int_equal(check(fixture).count, 0);
}

// Every byte of a pack matters: flip each in turn (in steps), and every byte of the rest.
static void test_a_flipped_bit_is_found(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    write_set(fixture, BACKUP_ID, manifest);
    const char *pack = object_key(fixture, PACKS, 0);
    int64_t size = stored_bytes(fixture, PACKS);
    int restore_failures = 0;
    for (int64_t offset = 0; offset < size;
         offset += offset < 200 || offset > size - 200 ? 7 : 9973) {
        object_flip(fixture, pack, offset);
        assert_check_finds(fixture, REASON_OBJECT_CORRUPT, pack);
        Status status = fixture_restore(fixture, manifest);
        if (status != STATUS_OK) {
            assert_int_equal(fixture->error.reason, REASON_OBJECT_CORRUPT);
            assert_non_null(strstr(fixture->error.message, "pack"));
            restore_failures++;
        } else {
            // The pack's own index and header are not needed for a restore.
            assert_true(offset < 96 || offset > size - 400);
            assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
        }
        object_flip(fixture, pack, offset);
    }
    assert_true(restore_failures > 10);
    assert_int_equal(check(fixture).count, 0);
}

static void test_a_damaged_extent_names_its_file(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    object_flip(fixture, object_key(fixture, PACKS, 0), 100);
    assert_restore_fails(fixture, manifest, REASON_OBJECT_CORRUPT);
    assert_non_null(strstr(fixture->error.message, "file '"));
}

static void test_a_cut_object_is_found(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    write_set(fixture, BACKUP_ID, manifest);
    const char *pack = object_key(fixture, PACKS, 0);
    const size_t sizes[] = {40000, 1000, 96, 10, 0};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        object_cut(fixture, pack, sizes[i]);
        assert_restore_fails(fixture, manifest, REASON_OBJECT_CORRUPT);
        assert_int_equal(check(fixture).reason, REASON_OBJECT_CORRUPT);
    }
    object_cut(fixture, object_key(fixture, MANIFESTS, 0), 120);
    Status status = STATUS_OK;
    (void)read_back(fixture, manifest->id, &status);
    assert_reason(fixture, status, REASON_OBJECT_CORRUPT);
}

static void test_a_missing_object_is_found(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    write_set(fixture, BACKUP_ID, manifest);
    const char *pack = object_key(fixture, PACKS, 0);
    assert_ok(fixture, storage_remove(fixture->storage, pack, &fixture->error));
    assert_restore_fails(fixture, manifest, REASON_OBJECT_MISSING);
    assert_non_null(strstr(fixture->error.message, pack));
    assert_check_finds(fixture, REASON_OBJECT_MISSING, pack);
    const char *object = object_key(fixture, MANIFESTS, 0);
    assert_ok(fixture, storage_remove(fixture->storage, object, &fixture->error));
    Status status = STATUS_OK;
    (void)read_back(fixture, manifest->id, &status);
    assert_reason(fixture, status, REASON_OBJECT_MISSING);
    assert_check_finds(fixture, REASON_OBJECT_MISSING, object);
}

static void test_a_flipped_manifest_is_found(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    write_set(fixture, BACKUP_ID, manifest);
    const char *object = object_key(fixture, MANIFESTS, 0);
    int64_t size = stored_bytes(fixture, MANIFESTS);
    for (int64_t offset = 0; offset < size; offset++) {
        object_flip(fixture, object, offset);
        Status status = STATUS_OK;
        (void)read_back(fixture, manifest->id, &status);
        assert_int_not_equal(status, STATUS_OK);
        // The version and the key's id are believed before anything can be authenticated.
        bool is_version = offset >= 8 && offset < 12;
        bool is_key_id = offset >= 80 && offset < 96;
        assert_int_equal(fixture->error.reason, is_version  ? REASON_REPOSITORY_FORMAT
                                                : is_key_id ? REASON_KEY_WRONG
                                                            : REASON_OBJECT_CORRUPT);
        if (offset % 50 == 0) {
            assert_int_equal(check(fixture).count > 0, true);
        }
        object_flip(fixture, object, offset);
    }
}

static void test_a_replayed_manifest_is_found(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = publish_small(fixture);
    source_patch(fixture, "a", 0, 10, 9);
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    write_set(fixture, BACKUP_ID, child);
    // The old manifest under the new one's name.
    const char *old_object = object_key(fixture, MANIFESTS, 0);
    const char *new_object = object_key(fixture, MANIFESTS, 1);
    object_copy(fixture, old_object, new_object);
    Status status = STATUS_OK;
    (void)read_back(fixture, child->id, &status);
    assert_reason(fixture, status, REASON_OBJECT_CORRUPT);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT, new_object);
}

static void test_objects_of_another_shard_are_refused(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "a", 3 * EXTENT, 1);
    Manifest *one = NULL;
    Manifest *other = NULL;
    assert_ok(fixture, fixture_publish_shard(fixture, SHARD_ID, NULL, &one));
    assert_ok(fixture, fixture_publish_shard(fixture, OTHER_SHARD_ID, NULL, &other));
    // Same size, same place, same plain content, same data key: the seal still knows the
    // difference.
    object_copy(fixture, object_key(fixture, "shards/" OTHER_SHARD_ID "/packs/", 0),
                object_key(fixture, PACKS, 0));
    assert_restore_fails(fixture, one, REASON_OBJECT_CORRUPT);
    char moved[160];
    snprintf(moved, sizeof(moved), MANIFESTS "%s", other->id);
    object_copy(fixture, object_key(fixture, "shards/" OTHER_SHARD_ID "/manifests/", 0), moved);
    Status status = STATUS_OK;
    (void)read_back(fixture, other->id, &status);
    assert_reason(fixture, status, REASON_OBJECT_CORRUPT);
}

// Two blobs of one size in one pack, exchanged.
static void test_exchanged_blobs_are_found(void **state)
{
    Fixture *fixture = *state;
    uint8_t *data = NULL;
    size_t size = 0;
    source_write(fixture, "a", 2 * EXTENT, 0);
    {
        // Noise that does not compress: both blobs have an extent and 16 bytes.
        CLEANUP_FREE char *path = string_format("%s/a", fixture->source);
        CLEANUP_FREE uint8_t *noise = mem_alloc(2 * EXTENT);
        crypto_random(noise, 2 * EXTENT);
        assert_ok(fixture, file_write_atomic(path, noise, 2 * EXTENT, 0640, &fixture->error));
    }
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    const char *pack = object_key(fixture, PACKS, 0);
    assert_ok(fixture, storage_get(fixture->storage, pack, (size_t)1 << 24, fixture->arena, &data,
                                   &size, &fixture->error));
    const size_t blob_size = EXTENT + 16;
    CLEANUP_FREE uint8_t *swapped = mem_alloc(size);
    memcpy(swapped, data, size);
    memcpy(swapped + 96, data + 96 + blob_size, blob_size);
    memcpy(swapped + 96 + blob_size, data + 96, blob_size);
    assert_ok(fixture, fixture_restore(fixture, manifest));
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
    assert_ok(fixture, storage_put(fixture->storage, pack, swapped, size, NULL, &fixture->error));
    assert_restore_fails(fixture, manifest, REASON_OBJECT_CORRUPT);
}

// A whole shard of one repository put into another with the same keys, as a thief of both might.
static void test_objects_of_another_repository_are_refused(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    Repository *other = NULL;
    Storage *storage = storage_memory_new();
    assert_ok(fixture, repository_create(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                         &other, &fixture->error));
    StoragePage page;
    assert_ok(fixture, storage_list(fixture->storage, "", NULL, 100, fixture->arena, &page,
                                    &fixture->error));
    for (size_t i = 0; i < page.count; i++) {
        uint8_t *data = NULL;
        size_t size = 0;
        if (strcmp(page.objects[i].key, "repository") == 0) {
            continue;
        }
        assert_ok(fixture, storage_get(fixture->storage, page.objects[i].key, (size_t)1 << 24,
                                       fixture->arena, &data, &size, &fixture->error));
        assert_ok(fixture,
                  storage_put(storage, page.objects[i].key, data, size, NULL, &fixture->error));
    }
    Manifest *read = NULL;
    MaterializeResult result;
    assert_reason(fixture,
                  manifest_read(other, &fixture->key, SHARD_ID, manifest->id, fixture->arena, &read,
                                &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_reason(fixture,
                  repository_materialize(other, &fixture->key, manifest, fixture->restored,
                                         &(MaterializeOptions){0}, &result, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    DataKey key = {0};
    assert_reason(
        fixture,
        repository_data_key_by_id(other, DATABASE_ID, fixture->key.id, &key, &fixture->error),
        REASON_OBJECT_CORRUPT);
    repository_free(other);
}

static void test_another_data_key_opens_nothing(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_small(fixture);
    DataKey wrong = data_key_copy(&fixture->key);
    wrong.bytes.data[0] ^= 1;
    Manifest *read = NULL;
    MaterializeResult result;
    assert_reason(fixture,
                  manifest_read(fixture->repository, &wrong, SHARD_ID, manifest->id, fixture->arena,
                                &read, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_reason(fixture,
                  repository_materialize(fixture->repository, &wrong, manifest, fixture->restored,
                                         &(MaterializeOptions){0}, &result, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    crypto_uuid(wrong.id);
    assert_reason(fixture,
                  manifest_read(fixture->repository, &wrong, SHARD_ID, manifest->id, fixture->arena,
                                &read, &fixture->error),
                  REASON_KEY_WRONG);
    data_key_done(&wrong);
}

static void test_a_manifest_made_up_is_refused(void **state)
{
    Fixture *fixture = *state;
    Manifest made_up = {.file_count = 1};
    snprintf(made_up.key_id, sizeof(made_up.key_id), "%s", fixture->key.id);
    snprintf(made_up.database_id, sizeof(made_up.database_id), "%s", DATABASE_ID);
    snprintf(made_up.shard_id, sizeof(made_up.shard_id), "%s", SHARD_ID);
    assert_restore_fails(fixture, &made_up, REASON_INVALID);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_sound_repository_has_no_problems),
        TEST(test_a_flipped_bit_is_found),
        TEST(test_a_damaged_extent_names_its_file),
        TEST(test_a_cut_object_is_found),
        TEST(test_a_missing_object_is_found),
        TEST(test_a_flipped_manifest_is_found),
        TEST(test_a_replayed_manifest_is_found),
        TEST(test_objects_of_another_shard_are_refused),
        TEST(test_exchanged_blobs_are_found),
        TEST(test_objects_of_another_repository_are_refused),
        TEST(test_another_data_key_opens_nothing),
        TEST(test_a_manifest_made_up_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
