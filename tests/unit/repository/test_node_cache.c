// SPDX-License-Identifier: Apache-2.0
// A publish takes the parent's maps and lists from what the restore before it has read. If this
// goes red, each node that changes is fetched twice, or a bad disk makes a bad backup.
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/node_cache.h"
#include "tests/unit/repository/repository_fixture.h"

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
#define FILE_EXTENTS 1200 // three nodes of the lowest level, and one above them

// A seed, restored with a cache, and a change of it that is not published yet.
static Manifest *begin(Fixture *fixture)
{
    Manifest *seed = NULL;
    assert_ok(fixture, node_cache_new("/tmp", &fixture->node_cache, &fixture->error));
    source_write(fixture, "table", FILE_EXTENTS * (int64_t)EXTENT, 1);
    source_write(fixture, "other", 3 * (int64_t)EXTENT, 2);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    source_patch(fixture, "table", 700 * (int64_t)EXTENT, 10, 3);
    source_written(fixture, "table", 700 * (int64_t)EXTENT, 10);
    return seed;
}

static void restore(Fixture *fixture, const Manifest *manifest)
{
    assert_ok(fixture, fixture_restore(fixture, manifest));
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
}

static const char *aside(const Fixture *fixture, int index)
{
    return arena_format(fixture->arena, "aside/%d", index);
}

static void end(Fixture *fixture)
{
    node_cache_free(fixture->node_cache);
    fixture->node_cache = NULL;
}

static void test_a_publish_after_a_restore_reads_no_pack(void **state)
{
    Fixture *fixture = *state;
    Manifest *child = NULL;
    Manifest *seed = begin(fixture);
    const char *digest = tree_digest(fixture, fixture->source);
    restore(fixture, seed);
    const char *packs[8];
    const int pack_count = object_count(fixture, PACKS);
    assert_in_range(pack_count, 1, ARRAY_COUNT(packs));
    for (int i = 0; i < pack_count; i++) {
        packs[i] = object_key(fixture, PACKS, 0);
        object_copy(fixture, packs[i], aside(fixture, i));
        assert_ok(fixture, storage_remove(fixture->storage, packs[i], &fixture->error));
    }

    NodeCache *cache = TAKE_PTR(fixture->node_cache);
    assert_reason(fixture, fixture_publish(fixture, seed, &child), REASON_OBJECT_MISSING);
    fixture->node_cache = cache;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));

    for (int i = 0; i < pack_count; i++) {
        object_copy(fixture, aside(fixture, i), packs[i]);
    }
    assert_restores(fixture, child, digest);
    end(fixture);
}

static void test_what_the_disk_spoiled_is_fetched(void **state)
{
    Fixture *fixture = *state;
    Manifest *child = NULL;
    Manifest *seed = begin(fixture);
    const char *digest = tree_digest(fixture, fixture->source);
    ManifestRoot root;
    assert_ok(fixture, manifest_root(seed, &root, &fixture->error));
    CLEANUP_FREE uint8_t *garbage = mem_alloc(root.ref.stored_size);
    CLEANUP_FREE uint8_t *found = mem_alloc(root.ref.stored_size);
    node_cache_put(fixture->node_cache, &root.ref, garbage);
    assert_true(node_cache_get(fixture->node_cache, &root.ref, found));
    restore(fixture, seed);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_restores(fixture, child, digest);
    end(fixture);
}

static void test_many_nodes_keep_apart(void **state)
{
    Fixture *fixture = *state;
    enum { PACK_COUNT = 40, NODE_COUNT = 100 };
    assert_ok(fixture, node_cache_new("/tmp", &fixture->node_cache, &fixture->error));
    for (uint32_t i = 0; i < PACK_COUNT * NODE_COUNT; i++) {
        Ref ref = {.kind = BLOB_NODE, .index = i % NODE_COUNT, .stored_size = 4 + i % 7};
        uint8_t sealed[16] = {0};
        ref.pack.id[8] = (uint8_t)(i / NODE_COUNT); // the first half is the same
        memcpy(sealed, &i, sizeof(i));
        node_cache_put(fixture->node_cache, &ref, sealed);
    }
    for (uint32_t i = 0; i < PACK_COUNT * NODE_COUNT; i++) {
        Ref ref = {.kind = BLOB_NODE, .index = i % NODE_COUNT, .stored_size = 4 + i % 7};
        uint8_t sealed[16] = {0};
        ref.pack.id[8] = (uint8_t)(i / NODE_COUNT);
        assert_true(node_cache_get(fixture->node_cache, &ref, sealed));
        assert_memory_equal(sealed, &i, sizeof(i));
        ref.pack.epoch = 1;
        assert_false(node_cache_get(fixture->node_cache, &ref, sealed));
    }
    end(fixture);
}

static void test_a_place_that_cannot_be_written(void **state)
{
    Fixture *fixture = *state;
    assert_int_not_equal(
        node_cache_new("/tmp/there/is/none", &fixture->node_cache, &fixture->error), STATUS_OK);
    assert_null(fixture->node_cache);
    assert_non_null(strstr(fixture->error.message, "/tmp/there/is/none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_publish_after_a_restore_reads_no_pack,
                                        fixture_set_up_memory, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_what_the_disk_spoiled_is_fetched,
                                        fixture_set_up_memory, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_many_nodes_keep_apart, fixture_set_up_memory,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_place_that_cannot_be_written, fixture_set_up_memory,
                                        fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
