// SPDX-License-Identifier: Apache-2.0
// Publish, restore, compare; generation after generation. If this goes red, backups do not come
// back as they were, or what has not changed is stored again.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
#define SHARDS "shards/"

static void test_everything_comes_back(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->file_count, 11);
    assert_true(manifest->size_bytes > manifest->data_bytes);
    assert_int_equal(manifest->new_bytes, manifest->data_bytes);
    assert_string_equal(manifest->checkpoint, "0-1-42");
    assert_int_equal(manifest->stored_bytes, stored_bytes(fixture, PACKS));
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
}

static void test_a_manifest_reads_as_it_was_published(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "x", 100000, 1);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    Manifest *read = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_ok(fixture, manifest_read(fixture->repository, &fixture->key, SHARD_ID, child->id,
                                     fixture->arena, &read, &fixture->error));
    assert_string_equal(read->id, child->id);
    assert_string_equal(read->parent_id, seed->id);
    assert_string_equal(read->parent_digest, seed->digest);
    assert_string_equal(read->digest, child->digest);
    assert_string_equal(read->database_name, "shop");
    assert_string_equal(read->engine_state, "{\"restore_hint\":\"start it\"}");
    assert_string_equal(read->repository_id, repository_id(fixture->repository));
    assert_int_equal(read->generation, 1);
    assert_int_equal(read->created_us, child->created_us);
    assert_int_equal(read->size_bytes, 100000);
    assert_int_equal(read->new_bytes, 0);
    assert_true(strncmp(read->id, "00000002-", 9) == 0);
}

static void test_holes_stay_holes(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "sparse", 2000 * (int64_t)EXTENT, 0);
    source_patch(fixture, "sparse", 1000 * (int64_t)EXTENT, 10, 1);
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->data_bytes, EXTENT);
    assert_true(stored_bytes(fixture, SHARDS) < 2 * EXTENT);
    assert_ok(fixture, fixture_restore(fixture, manifest));
    int64_t disk_bytes = 0;
    assert_ok(fixture, dir_size(fixture->restored, NULL, &disk_bytes, &fixture->error));
    assert_true(disk_bytes < 16 * EXTENT);
}

static void test_nothing_changed_costs_nothing(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    int64_t before = stored_bytes(fixture, SHARDS);
    int packs = object_count(fixture, PACKS);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->new_bytes, 0);
    assert_int_equal(child->stored_bytes, 0);
    assert_int_equal(object_count(fixture, PACKS), packs);
    assert_true(stored_bytes(fixture, SHARDS) - before < 2048); // the manifest
    assert_restores(fixture, child, tree_digest(fixture, fixture->source));
}

static void test_one_page_costs_one_extent_and_its_path(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    const char *old_digest = tree_digest(fixture, fixture->source);
    source_patch(fixture, "long", 515 * EXTENT + 16384, 16384, 99);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->new_bytes, EXTENT);
    // The extent, a leaf with 9 of the file's 521 extents, the node above, a leaf of the list and
    // its index.
    assert_true(child->stored_bytes > 0);
    assert_true(child->stored_bytes < EXTENT + 16384);
    assert_restores(fixture, seed, old_digest);
    assert_restores(fixture, child, tree_digest(fixture, fixture->source));
}

static void test_generations_of_every_change(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifests[8] = {NULL};
    const char *digests[8] = {NULL};
    source_fill(fixture);
    for (int generation = 0; generation < 8; generation++) {
        switch (generation) {
        case 1: // grows over a node's end, and from an extent to a node
            source_patch(fixture, "long", 520 * EXTENT + 1, 40 * EXTENT, 21);
            source_patch(fixture, "exact", EXTENT, 1, 22);
            break;
        case 2: // shrinks
            source_truncate(fixture, "long", 511 * EXTENT + 3);
            source_truncate(fixture, "odd", 0);
            source_truncate(fixture, "exact", 100);
            break;
        case 3: // renamed, removed, new in between
            source_rename(fixture, "one", "zz-last");
            source_remove(fixture, "a-b");
            source_write(fixture, "a/b/new", 70000, 31);
            break;
        case 4: // holes filled and made
            source_patch(fixture, "hole", 0, EXTENT, 41);
            source_write(fixture, "sparse", 900 * EXTENT, 0);
            break;
        case 5: // a file becomes a directory's name
            source_remove(fixture, "empty");
            source_write(fixture, "empty/now/a/directory", 5, 51);
            break;
        case 6: // many small files
            for (int i = 0; i < 700; i++) {
                char path[32];
                snprintf(path, sizeof(path), "many/%04d", i);
                source_write(fixture, path, i % 13 * 100, (uint32_t)i);
            }
            break;
        default:
            break;
        }
        digests[generation] = tree_digest(fixture, fixture->source);
        assert_ok(fixture,
                  fixture_publish(fixture, generation == 0 ? NULL : manifests[generation - 1],
                                  &manifests[generation]));
        assert_int_equal(manifests[generation]->generation, generation);
    }
    assert_int_equal(manifests[7]->stored_bytes, 0);
    for (int generation = 0; generation < 8; generation++) {
        assert_restores(fixture, manifests[generation], digests[generation]);
    }
}

// A file more or less among many changes its own leaf of the list, not those after it.
static void test_a_new_file_does_not_shift_the_list(void **state)
{
    Fixture *fixture = *state;
    for (int i = 0; i < 1500; i++) {
        char path[32];
        snprintf(path, sizeof(path), "base/%05d", 10000 + i);
        source_write(fixture, path, 500, (uint32_t)i + 1);
    }
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    source_write(fixture, "base/00000", 500, 7);
    source_remove(fixture, "base/10001");
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->new_bytes, 500);
    assert_true(child->stored_bytes < 48 * 1024); // the whole list has more than 100 KiB
    assert_restores(fixture, child, tree_digest(fixture, fixture->source));
}

static void test_an_empty_directory(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->file_count, 0);
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
}

static void test_shards_do_not_share(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *one = NULL;
    Manifest *other = NULL;
    Manifest *wrong = NULL;
    assert_ok(fixture, fixture_publish_shard(fixture, SHARD_ID, NULL, &one));
    assert_ok(fixture, fixture_publish_shard(fixture, OTHER_SHARD_ID, NULL, &other));
    assert_int_equal(other->new_bytes, one->new_bytes);
    assert_reason(fixture, fixture_publish_shard(fixture, OTHER_SHARD_ID, one, &wrong),
                  REASON_INVALID);
}

static bool fail_page_9(void *context, const uint8_t *data, size_t size, int64_t offset,
                        int64_t *bad_page)
{
    (void)context;
    (void)data;
    const int64_t bad_offset = 9 * 16384;
    *bad_page = 9;
    return bad_offset < offset || bad_offset >= offset + (int64_t)size;
}

static void test_a_bad_page_names_file_and_page(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "good.ibd", 16384, 1);
    source_write(fixture, "the/table.ibd", 5 * EXTENT, 2);
    fixture->check = fail_page_9;
    Manifest *manifest = NULL;
    assert_reason(fixture, fixture_publish(fixture, NULL, &manifest), REASON_PAGE_CORRUPT);
    assert_non_null(strstr(fixture->error.message, "page 9 of file 'the/table.ibd'"));
    assert_int_equal(object_count(fixture, "shards/" SHARD_ID "/manifests/"), 0);
}

static void test_a_file_that_changes_is_refused(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "x", 1000, 1);
    SourceFile file = {.path = "x", .size_bytes = 2000, .mode = 0600};
    PublishOptions options = {.directory = fixture->source, .files = &file, .file_count = 1};
    snprintf(options.manifest.database_id, UUID_TEXT_SIZE, "%s", DATABASE_ID);
    snprintf(options.manifest.shard_id, UUID_TEXT_SIZE, "%s", SHARD_ID);
    Manifest *manifest = NULL;
    assert_reason(fixture,
                  repository_publish(fixture->repository, &fixture->key, &options, fixture->arena,
                                     &manifest, &fixture->error),
                  REASON_CONFLICT);
}

static void test_bad_paths_are_refused(void **state)
{
    Fixture *fixture = *state;
    const char *paths[] = {"", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        SourceFile file = {.path = paths[i], .mode = 0600};
        PublishOptions options = {.directory = fixture->source, .files = &file, .file_count = 1};
        snprintf(options.manifest.database_id, UUID_TEXT_SIZE, "%s", DATABASE_ID);
        snprintf(options.manifest.shard_id, UUID_TEXT_SIZE, "%s", SHARD_ID);
        Manifest *manifest = NULL;
        assert_reason(fixture,
                      repository_publish(fixture->repository, &fixture->key, &options,
                                         fixture->arena, &manifest, &fixture->error),
                      REASON_INVALID);
    }
}

typedef struct Watch {
    int64_t last_done, total;
    int calls, cancel_at;
} Watch;

static bool watch(void *context, int64_t done_bytes, int64_t total_bytes)
{
    Watch *seen = context;
    seen->last_done = done_bytes;
    seen->total = total_bytes;
    seen->calls++;
    return seen->calls != seen->cancel_at;
}

static void test_progress_and_cancel(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "x", 640 * EXTENT, 1);
    Watch seen = {0};
    fixture->progress = (Progress){.on_progress = watch, .context = &seen};
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(seen.last_done, 640 * EXTENT);
    assert_int_equal(seen.total, 640 * EXTENT);
    assert_true(seen.calls >= 5);
    seen = (Watch){0};
    assert_ok(fixture, fixture_restore(fixture, manifest));
    assert_int_equal(seen.last_done, 640 * EXTENT);
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
    Manifest *canceled = NULL;
    for (int call = 1; call <= 3; call++) {
        seen = (Watch){.cancel_at = call};
        assert_reason(fixture, fixture_publish(fixture, NULL, &canceled), REASON_CANCELED);
        seen = (Watch){.cancel_at = call};
        assert_reason(fixture, fixture_restore(fixture, manifest), REASON_CANCELED);
        assert_int_not_equal(access(fixture->restored, F_OK), 0);
    }
    assert_int_equal(object_count(fixture, "shards/" SHARD_ID "/manifests/"), 1);
}

static void test_the_target_must_be_empty(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "x", 10, 1);
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(mkdir(fixture->restored, 0700), 0);
    assert_ok(fixture, fixture_restore(fixture, manifest)); // there, but empty
    assert_reason(fixture, fixture_restore(fixture, manifest), REASON_TARGET_NOT_EMPTY);
    assert_string_equal(tree_digest(fixture, fixture->restored),
                        tree_digest(fixture, fixture->source));
}

static void test_too_little_disk_is_told_before_the_first_byte(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "x", 10, 1);
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    manifest->data_bytes = INT64_C(1) << 50;
    assert_reason(fixture, fixture_restore(fixture, manifest), REASON_DISK_FULL);
    assert_int_not_equal(access(fixture->restored, F_OK), 0);
}

// Memory does not grow with the shard.
static void test_memory_is_bounded(void **state)
{
    Fixture *fixture = *state;
    struct rusage usage;
    source_write(fixture, "big", 1024 * INT64_C(1048576), 0);
    source_patch(fixture, "big", 128 * INT64_C(1048576), 96 * INT64_C(1048576), 3);
    getrusage(RUSAGE_SELF, &usage);
    long before_kib = usage.ru_maxrss;
    Manifest *manifest = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_ok(fixture, fixture_publish(fixture, manifest, &child));
    assert_ok(fixture, fixture_restore(fixture, child));
    getrusage(RUSAGE_SELF, &usage);
    print_message("memory grew by %ld KiB\n", usage.ru_maxrss - before_kib);
#ifndef __SANITIZE_ADDRESS__
    assert_true(usage.ru_maxrss - before_kib <
                160 * 1024); // of 1 GiB, and of the 256 MiB that it may have
#endif
}

int main(void)
{
#define IN_MEMORY(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
#define ON_DISK(test)                                                                              \
    cmocka_unit_test_setup_teardown(test, fixture_set_up_filesystem, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        ON_DISK(test_memory_is_bounded), // first, while the peak is low
        ON_DISK(test_everything_comes_back),
        IN_MEMORY(test_a_manifest_reads_as_it_was_published),
        ON_DISK(test_holes_stay_holes),
        IN_MEMORY(test_nothing_changed_costs_nothing),
        IN_MEMORY(test_one_page_costs_one_extent_and_its_path),
        ON_DISK(test_generations_of_every_change),
        IN_MEMORY(test_a_new_file_does_not_shift_the_list),
        IN_MEMORY(test_an_empty_directory),
        IN_MEMORY(test_shards_do_not_share),
        IN_MEMORY(test_a_bad_page_names_file_and_page),
        IN_MEMORY(test_a_file_that_changes_is_refused),
        IN_MEMORY(test_bad_paths_are_refused),
        IN_MEMORY(test_progress_and_cancel),
        IN_MEMORY(test_the_target_must_be_empty),
        IN_MEMORY(test_too_little_disk_is_told_before_the_first_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
