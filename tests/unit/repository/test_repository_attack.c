// SPDX-License-Identifier: Apache-2.0
// What somebody may do who can write to the storage but has no key: put genuine objects where they
// do not belong, put old ones back, claim another version. If this goes red, such a person chooses
// what is restored.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_keys.h"
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

#define PACKS "shards/" SHARD_ID "/packs/"
#define MANIFESTS "shards/" SHARD_ID "/manifests/"
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"
#define NEWER_BACKUP_ID "0197a000-0000-7000-8000-0000000000b2"
#define OTHER_DATABASE_ID "0197a000-0000-7000-8000-00000000000e"

typedef struct Problems {
    int count;
    Reason reasons[8];
} Problems;

static void hear_problem(void *context, const char *object, const Error *problem)
{
    (void)object;
    Problems *problems = context;
    if (problems->count < 8) {
        problems->reasons[problems->count] = problem->reason;
    }
    problems->count++;
}

// Of a reader that remembers nothing.
static Problems check(Fixture *fixture)
{
    Problems problems = {0};
    CheckReport report;
    Repository *repository = NULL;
    KeyWrapper *wrapper = key_wrapper_from_key(&fixture->wrapping_key);
    assert_ok(fixture, repository_borrow(fixture->storage, wrapper, &repository, &fixture->error));
    assert_ok(fixture, repository_check(repository, (Progress){0}, hear_problem, &problems, &report,
                                        &fixture->error));
    repository_return(repository);
    key_wrapper_free(wrapper);
    return problems;
}

static void assert_check_finds(Fixture *fixture, Reason reason)
{
    Problems problems = check(fixture);
    assert_true(problems.count > 0);
    assert_int_equal(problems.reasons[0], reason);
}

static Status read_manifest(Fixture *fixture, const char *manifest_id)
{
    Manifest *manifest = NULL;
    return manifest_read(fixture->repository, &fixture->key, SHARD_ID, manifest_id, fixture->arena,
                         &manifest, &fixture->error);
}

static Manifest *publish(Fixture *fixture, const Manifest *parent, uint32_t seed)
{
    Manifest *manifest = NULL;
    source_write(fixture, "a", 2 * EXTENT, seed);
    assert_ok(fixture, fixture_publish(fixture, parent, &manifest));
    return manifest;
}

static const char *join(Fixture *fixture, const char *prefix, const char *name)
{
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *text = arena_alloc(fixture->arena, size);
    snprintf(text, size, "%s%s", prefix, name);
    return text;
}

// --- moved in place and time ------------------------------------------------------------------

static void test_attack_a_manifest_under_another_epoch(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish(fixture, NULL, 1);
    char id[MANIFEST_ID_SIZE];
    snprintf(id, sizeof(id), "0000ffff%s", manifest->id + 8);
    object_copy(fixture, join(fixture, MANIFESTS, manifest->id), join(fixture, MANIFESTS, id));
    assert_reason(fixture, read_manifest(fixture, id), REASON_OBJECT_CORRUPT);
}

static void test_attack_a_pack_of_another_epoch(void **state)
{
    Fixture *fixture = *state;
    Manifest *first = publish(fixture, NULL, 1);
    const char *first_pack = object_key(fixture, PACKS, 0);
    Manifest *second = publish(fixture, NULL, 1); // the same content, a later attempt
    const char *second_pack = object_key(fixture, PACKS, 1);
    write_set(fixture, BACKUP_ID, second);
    assert_ok(fixture, fixture_restore(fixture, first));
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
    object_copy(fixture, first_pack, second_pack);
    assert_reason(fixture, fixture_restore(fixture, second), REASON_OBJECT_CORRUPT);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

static void test_attack_an_old_manifest_under_a_newer_name(void **state)
{
    Fixture *fixture = *state;
    Manifest *old = publish(fixture, NULL, 1);
    Manifest *newer = publish(fixture, old, 2);
    write_set(fixture, BACKUP_ID, newer);
    object_copy(fixture, join(fixture, MANIFESTS, old->id), join(fixture, MANIFESTS, newer->id));
    assert_reason(fixture, read_manifest(fixture, newer->id), REASON_OBJECT_CORRUPT);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

static void test_attack_an_old_set_under_a_newer_name(void **state)
{
    Fixture *fixture = *state;
    Manifest *old = publish(fixture, NULL, 1);
    Manifest *newer = publish(fixture, old, 2);
    BackupSet *set = NULL;
    write_set(fixture, BACKUP_ID, old);
    write_set(fixture, NEWER_BACKUP_ID, newer);
    object_copy(fixture, "sets/" DATABASE_ID "/" BACKUP_ID,
                "sets/" DATABASE_ID "/" NEWER_BACKUP_ID);
    assert_reason(fixture,
                  backup_set_read(fixture->repository, DATABASE_ID, NEWER_BACKUP_ID, fixture->arena,
                                  &set, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

// A set that was deleted comes back after the sweep: what it names is not there, or is not enough.
static void test_attack_a_deleted_set_put_back(void **state)
{
    Fixture *fixture = *state;
    Manifest *old = publish(fixture, NULL, 1);
    const char *old_pack = object_key(fixture, PACKS, 0);
    const char *old_manifest = join(fixture, MANIFESTS, old->id);
    write_set(fixture, BACKUP_ID, old);
    object_copy(fixture, "sets/" DATABASE_ID "/" BACKUP_ID, "kept/set");
    object_copy(fixture, old_manifest, "kept/manifest");
    assert_ok(fixture,
              backup_set_remove(fixture->repository, DATABASE_ID, BACKUP_ID, &fixture->error));
    Manifest *newer = publish(fixture, NULL, 2);
    const char *keep[] = {newer->id};
    SweepResult swept;
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 1, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &swept,
                                              &fixture->error));
    assert_int_equal(check(fixture).count, 0);
    object_copy(fixture, "kept/set", "sets/" DATABASE_ID "/" BACKUP_ID);
    assert_check_finds(fixture, REASON_OBJECT_MISSING);
    object_copy(fixture, "kept/manifest", old_manifest);
    assert_check_finds(fixture, REASON_OBJECT_MISSING);
    assert_reason(fixture, fixture_restore(fixture, old), REASON_OBJECT_MISSING);
    assert_non_null(strstr(fixture->error.message, old_pack));
}

// A manifest that its children do not know: the chain of digests back to the seed is broken.
static void test_attack_another_parent(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = publish(fixture, NULL, 1);
    Manifest forged = *seed;
    forged.digest[0] = forged.digest[0] == '0' ? '1' : '0';
    Manifest *child = publish(fixture, &forged, 2);
    write_set(fixture, BACKUP_ID, seed);
    assert_int_equal(check(fixture).count, 0);
    write_set(fixture, NEWER_BACKUP_ID, child);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

// --- of another database ----------------------------------------------------------------------

static void test_attack_objects_of_another_database(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish(fixture, NULL, 1);
    BackupSet *set = NULL;
    CLEANUP(data_key_done) DataKey other = {0};
    assert_ok(fixture, repository_data_key(fixture->repository, OTHER_DATABASE_ID, true, &other,
                                           &fixture->error));
    write_set(fixture, BACKUP_ID, manifest);
    object_copy(fixture, "sets/" DATABASE_ID "/" BACKUP_ID,
                "sets/" OTHER_DATABASE_ID "/" BACKUP_ID);
    assert_reason(fixture,
                  backup_set_read(fixture->repository, OTHER_DATABASE_ID, BACKUP_ID, fixture->arena,
                                  &set, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    DataKey key = {0};
    Manifest *read = NULL;
    assert_reason(fixture,
                  manifest_open(fixture->repository, OTHER_DATABASE_ID, SHARD_ID, manifest->id,
                                fixture->arena, &key, &read, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

// Key objects of one database under the names of another one's, each alone and both together.
static void test_attack_a_wrapped_key_of_another_database(void **state)
{
    Fixture *fixture = *state;
    KeyWrapper *wrapper = key_wrapper_from_key(&fixture->wrapping_key);
    CLEANUP(data_key_done) DataKey other = {0};
    char own_record[OBJECT_KEY_SIZE];
    char own_wrapping[OBJECT_KEY_SIZE];
    char record[OBJECT_KEY_SIZE];
    char wrapping[OBJECT_KEY_SIZE];
    assert_ok(fixture, repository_data_key(fixture->repository, OTHER_DATABASE_ID, true, &other,
                                           &fixture->error));
    key_record_object_key(OTHER_DATABASE_ID, other.id, record);
    key_wrapping_object_key(OTHER_DATABASE_ID, other.id, key_wrapper_id(wrapper), wrapping);
    for (int attack = 1; attack <= 3; attack++) {
        Repository *repository = NULL;
        DataKey key = {0};
        key_record_object_key(DATABASE_ID, fixture->key.id, own_record);
        key_wrapping_object_key(DATABASE_ID, fixture->key.id, key_wrapper_id(wrapper),
                                own_wrapping);
        object_copy(fixture, own_record, "kept/record");
        object_copy(fixture, own_wrapping, "kept/wrapping");
        if (attack != 2) {
            object_copy(fixture, record, own_record);
        }
        if (attack != 1) {
            object_copy(fixture, wrapping, own_wrapping);
        }
        assert_ok(fixture,
                  repository_borrow(fixture->storage, wrapper, &repository, &fixture->error));
        assert_reason(fixture,
                      repository_data_key(repository, DATABASE_ID, false, &key, &fixture->error),
                      REASON_OBJECT_CORRUPT);
        object_copy(fixture, "kept/record", own_record);
        object_copy(fixture, "kept/wrapping", own_wrapping);
        assert_ok(fixture,
                  repository_data_key(repository, DATABASE_ID, false, &key, &fixture->error));
        data_key_done(&key);
        repository_return(repository);
    }
    key_wrapper_free(wrapper);
}

// The older of two data keys under the newer one's name: seeds must not fall back to it unseen.
static void test_attack_an_old_data_key_under_a_newer_name(void **state)
{
    Fixture *fixture = *state;
    KeyWrapper *wrapper = key_wrapper_from_key(&fixture->wrapping_key);
    Repository *repository = NULL;
    CLEANUP(data_key_done) DataKey newer = {0};
    DataKey key = {0};
    char from[OBJECT_KEY_SIZE];
    char to[OBJECT_KEY_SIZE];
    assert_ok(fixture,
              repository_data_key_renew(fixture->repository, DATABASE_ID, &newer, &fixture->error));
    key_record_object_key(DATABASE_ID, fixture->key.id, from);
    key_record_object_key(DATABASE_ID, newer.id, to);
    object_copy(fixture, from, to);
    key_wrapping_object_key(DATABASE_ID, fixture->key.id, key_wrapper_id(wrapper), from);
    key_wrapping_object_key(DATABASE_ID, newer.id, key_wrapper_id(wrapper), to);
    object_copy(fixture, from, to);
    assert_ok(fixture, repository_borrow(fixture->storage, wrapper, &repository, &fixture->error));
    assert_reason(
        fixture,
        repository_data_key_by_id(repository, DATABASE_ID, newer.id, &key, &fixture->error),
        REASON_OBJECT_CORRUPT);
    repository_return(repository);
    key_wrapper_free(wrapper);
}

// --- another repository -----------------------------------------------------------------------

// The objects under 'repository' and 'wrapping-keys/' of another repository with the same key.
static void test_attack_the_name_of_another_repository(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish(fixture, NULL, 1);
    write_set(fixture, BACKUP_ID, manifest);
    Repository *other = NULL;
    Storage *storage = storage_memory_new();
    uint8_t *data = NULL;
    size_t size = 0;
    assert_ok(fixture, repository_create(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                         &other, &fixture->error));
    assert_ok(fixture, storage_get(storage, "repository", 65536, fixture->arena, &data, &size,
                                   &fixture->error));
    assert_ok(fixture,
              storage_put(fixture->storage, "repository", data, size, NULL, &fixture->error));
    repository_free(other);
    assert_check_finds(fixture, REASON_OBJECT_CORRUPT);
}

// --- another version --------------------------------------------------------------------------

// The version field of each kind of object with a header, lowered and raised.
static void test_attack_another_version(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = publish(fixture, NULL, 1);
    source_write(fixture, "b", 40 * EXTENT, 2);
    Manifest *parent = NULL;
    assert_ok(fixture, fixture_publish(fixture, seed, &parent));
    source_patch(fixture, "b", 0, 36 * EXTENT, 3);
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, parent, &child));
    write_set(fixture, BACKUP_ID, child);
    const char *keep[] = {child->id};
    SweepResult swept;
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 1, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &swept,
                                              &fixture->error));
    assert_true(swept.compacted_count > 0); // so that there is a replacement
    assert_int_equal(check(fixture).count, 0);
    const char *folders[] = {"keys/", "sets/", "shards/"};
    int object_total = 0;
    for (size_t folder = 0; folder < ARRAY_COUNT(folders); folder++) {
        int count = object_count(fixture, folders[folder]);
        object_total += count;
        for (int i = 0; i < count; i++) {
            const char *object = object_key(fixture, folders[folder], (size_t)i);
            object_flip(fixture, object, 8); // version 1 becomes 0
            Problems problems = check(fixture);
            if (problems.count == 0) {
                print_error("nothing was found in %s\n", object);
            }
            assert_true(problems.count > 0);
            assert_true(problems.reasons[0] == REASON_REPOSITORY_FORMAT ||
                        problems.reasons[0] == REASON_OBJECT_CORRUPT);
            object_flip(fixture, object, 8);
        }
    }
    assert_true(object_total >= 7);
    assert_int_equal(check(fixture).count, 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_attack_a_manifest_under_another_epoch),
        TEST(test_attack_a_pack_of_another_epoch),
        TEST(test_attack_an_old_manifest_under_a_newer_name),
        TEST(test_attack_an_old_set_under_a_newer_name),
        TEST(test_attack_a_deleted_set_put_back),
        TEST(test_attack_another_parent),
        TEST(test_attack_objects_of_another_database),
        TEST(test_attack_a_wrapped_key_of_another_database),
        TEST(test_attack_an_old_data_key_under_a_newer_name),
        TEST(test_attack_the_name_of_another_repository),
        TEST(test_attack_another_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
