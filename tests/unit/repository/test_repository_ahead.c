// SPDX-License-Identifier: Apache-2.0
// Nodes of lists and maps are read several at once. The storage holds reads back until as many of
// them are under way; a walk that reads one after another never gets so far. If this goes red, a
// store's latency is paid for every leaf and every file.
#include "common/memory.h"
#include "repository/repository_reach.h"
#include "tests/harness/distant_storage.h"
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

#define NODE_BYTES (INT64_C(64) * EXTENT) // that a map node of level 1 stands for
#define PART_NODE_COUNT 8                 // that are written side by side
#define TOGETHER 10
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"

static int set_up(void **state)
{
    return fixture_set_up_storage(state, distant_storage_new(storage_memory_new(), 0));
}

static int set_up_distant(void **state)
{
    return fixture_set_up_storage(state, distant_storage_new(storage_memory_new(), 5));
}

// A hole but for one extent of each node of level 1.
static void write_sparse(const Fixture *fixture, const char *path, int64_t node_count,
                         uint32_t seed)
{
    source_write(fixture, path, node_count * NODE_BYTES, 0);
    for (int64_t node = 0; node < node_count; node++) {
        source_patch(fixture, path, node * NODE_BYTES, EXTENT, seed + (uint32_t)node);
    }
}

// A dozen files with a map of two levels; the list is one leaf.
static void fill_deep(const Fixture *fixture)
{
    for (uint32_t i = 0; i < 12; i++) {
        char path[16];
        snprintf(path, sizeof(path), "table%02u", i);
        write_sparse(fixture, path, 2, 100 * (i + 1));
    }
}

// Reads of packs wait from the one on that comes after `alone` which must be read before.
static void gate(const Fixture *fixture, int alone)
{
    distant_storage_gate(fixture->storage, "/packs/", alone, TOGETHER);
}

static void assert_came_together(const Fixture *fixture)
{
    assert_true(distant_storage_was_opened(fixture->storage));
    distant_storage_gate(fixture->storage, "", 0, 0);
}

static void count_file(void *context, const char *path, int64_t size_bytes, uint32_t mode)
{
    (void)path;
    (void)size_bytes;
    (void)mode;
    (*(int *)context)++;
}

static void test_list_leaves(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    int count = 0;
    for (int i = 0; i < 4000; i++) { // some thirty leaves
        char path[16];
        snprintf(path, sizeof(path), "f%04d", i);
        source_write(fixture, path, 0, 0);
    }
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    gate(fixture, 1);
    assert_ok(fixture, repository_list_files(fixture->repository, &fixture->key, manifest,
                                             count_file, &count, &fixture->error));
    assert_came_together(fixture);
    assert_int_equal(count, 4000);
}

static void test_restore(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    fill_deep(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    const char *digest = tree_digest(fixture, fixture->source);
    gate(fixture, 1);
    assert_restores(fixture, manifest, digest);
    assert_came_together(fixture);
}

static void test_publish_against_a_parent(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    Manifest *child = NULL;
    fill_deep(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    for (uint32_t i = 0; i < 12; i++) {
        char path[16];
        snprintf(path, sizeof(path), "table%02u", i);
        source_patch(fixture, path, 3 * EXTENT, 10, 7 + i);
        source_written(fixture, path, 3 * EXTENT, 10);
    }
    const char *digest = tree_digest(fixture, fixture->source);
    gate(fixture, 1);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_came_together(fixture);
    assert_restores(fixture, child, digest);
}

static void check(Fixture *fixture)
{
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, NULL, NULL, &report,
                                        &fixture->error));
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.manifest_count, 1);
}

// Nodes of a part are in one place, and come with one read.
static Manifest *publish_parts(Fixture *fixture, int part_count)
{
    Manifest *manifest = NULL;
    write_sparse(fixture, "large", (int64_t)part_count * PART_NODE_COUNT, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    distant_storage_gate(fixture->storage, "/packs/", 0, 0); // only counts
    return manifest;
}

static void test_a_restore_reads_parts(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_parts(fixture, 8);
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
    // The leaf, the root, the parts, of which some lie close together, and the 64 extents, which
    // are in one stretch.
    assert_in_range(distant_storage_read_count(fixture->storage), 4, 1 + 1 + 8 + 1);
}

static void test_a_publish_reads_parts(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_parts(fixture, 8);
    assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
    assert_int_equal(distant_storage_read_count(fixture->storage), 1 + 1 + 8);
}

// The walk itself reads what no thread has begun to read yet, so that the count varies.
static void test_a_walk_reads_parts(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = publish_parts(fixture, 8);
    CLEANUP(scope_done) ShardScope scope = {0};
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    assert_ok(fixture, scope_init(&scope, fixture->repository, &fixture->key, DATABASE_ID, SHARD_ID,
                                  &fixture->error));
    assert_ok(fixture, reach_add(reach, &scope, manifest, &fixture->error));
    assert_in_range(distant_storage_read_count(fixture->storage), 3, 1 + 1 + 3 * 8);
}

static void test_check_of_roots(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    fill_deep(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    write_set(fixture, BACKUP_ID, manifest);
    gate(fixture, 1);
    check(fixture);
    assert_came_together(fixture);
}

// Each node of a map is in another pack.
static void test_check_below_a_root(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    source_write(fixture, "large", 20 * NODE_BYTES, 0);
    for (int64_t node = 0; node < 20; node++) {
        source_patch(fixture, "large", node * NODE_BYTES, EXTENT, 1 + (uint32_t)node);
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
    }
    write_set(fixture, BACKUP_ID, manifest);
    gate(fixture, 2); // the leaf and the root
    check(fixture);
    assert_came_together(fixture);
}

static void test_sets(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    enum { COUNT = 40 };
    BackupSet **sets = NULL;
    size_t count = 0;
    source_write(fixture, "one", 100, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    for (int i = 0; i < COUNT; i++) {
        write_set(fixture,
                  arena_format(fixture->arena, "0197a000-0000-7000-8000-0000000001%02d", i),
                  manifest);
    }
    distant_storage_gate(fixture->storage, "sets/", 1, TOGETHER);
    assert_ok(fixture,
              backup_set_list(fixture->repository, fixture->arena, &sets, &count, &fixture->error));
    assert_came_together(fixture);
    assert_int_equal(count, COUNT);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(sets[i]->shards[0].manifest_id, manifest->id);
        assert_true(i == 0 || strcmp(sets[i - 1]->backup_id, sets[i]->backup_id) < 0);
    }
}

// Twenty nodes, each in a pack of its own; then each of them is made anew.
static void test_a_difference(void **state)
{
    Fixture *fixture = *state;
    Manifest *base = NULL;
    Manifest *manifest = NULL;
    source_write(fixture, "large", 20 * NODE_BYTES, 0);
    for (int64_t i = 0; i < 40; i++) {
        source_patch(fixture, "large", i % 20 * NODE_BYTES, EXTENT, 1 + (uint32_t)i);
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
        base = i == 19 ? manifest : base;
    }
    CLEANUP(scope_done) ShardScope scope = {0};
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    assert_ok(fixture, scope_init(&scope, fixture->repository, &fixture->key, DATABASE_ID, SHARD_ID,
                                  &fixture->error));
    // Of both: the leaf, the root, and then twenty nodes. More come together than one side asks
    // for.
    distant_storage_gate(fixture->storage, "/packs/", 4, 20);
    assert_ok(fixture,
              reach_add_difference(reach, &scope, manifest, &scope, base, &fixture->error));
    assert_came_together(fixture);
    size_t pack_count = 0;
    while (reach_at(reach, pack_count) != NULL) {
        pack_count++;
    }
    assert_int_equal(pack_count, 20);
}

// A line of backups of one small file: for each a set, a manifest, a leaf and a pack.
enum { LINE_COUNT = 12, CHECK_TOGETHER = 8 };

static void publish_line(Fixture *fixture)
{
    Manifest *manifest = NULL;
    for (int i = 0; i < LINE_COUNT; i++) {
        source_write(fixture, "one", 1000, 1 + (uint32_t)i);
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
        write_set(fixture,
                  arena_format(fixture->arena, "0197a000-0000-7000-8000-0000000001%02d", i),
                  manifest);
    }
    assert_int_equal(object_count(fixture, "shards/" SHARD_ID "/packs/"), LINE_COUNT);
}

static void check_line(Fixture *fixture, const char *part, int alone)
{
    CheckReport report;
    distant_storage_gate(fixture->storage, part, alone, CHECK_TOGETHER);
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, NULL, NULL, &report,
                                        &fixture->error));
    assert_came_together(fixture);
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.set_count, LINE_COUNT);
    assert_int_equal(report.manifest_count, LINE_COUNT);
    assert_int_equal(report.extent_count, LINE_COUNT);
    assert_int_equal(report.orphan_count, 0);
}

static void test_check_of_a_line(void **state)
{
    Fixture *fixture = *state;
    publish_line(fixture);
    check_line(fixture, "sets/", 1);
    check_line(fixture, "/manifests/", 0);
    check_line(fixture, "/packs/", LINE_COUNT); // the leaves
}

typedef struct Problems {
    char objects[LINE_COUNT][STORAGE_KEY_SIZE_MAX + 1];
    int count;
} Problems;

static void on_problem(void *context, const char *object, const Error *problem)
{
    Problems *problems = context;
    assert_int_equal(problem->reason, REASON_OBJECT_CORRUPT);
    assert_true(problems->count < LINE_COUNT);
    snprintf(problems->objects[problems->count++], STORAGE_KEY_SIZE_MAX + 1, "%s", object);
}

// What is found is told in the order of the listing, whatever came first.
static void test_problems_come_in_order(void **state)
{
    Fixture *fixture = *state;
    publish_line(fixture);
    for (size_t i = 0; i < LINE_COUNT; i += 2) {
        object_flip(fixture, object_key(fixture, "shards/" SHARD_ID "/packs/", i), 110);
    }
    for (int round = 0; round < 5; round++) {
        CheckReport report;
        Problems problems = {0};
        assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, on_problem,
                                            &problems, &report, &fixture->error));
        assert_int_equal(problems.count, LINE_COUNT / 2);
        for (int i = 0; i < problems.count; i++) {
            assert_string_equal(problems.objects[i],
                                object_key(fixture, "shards/" SHARD_ID "/packs/", 2 * (size_t)i));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_list_leaves, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_sets, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_restore, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_publish_against_a_parent, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_check_of_roots, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_check_below_a_root, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_difference, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_check_of_a_line, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_problems_come_in_order, set_up_distant,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_restore_reads_parts, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_publish_reads_parts, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_walk_reads_parts, set_up_distant, fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
