// SPDX-License-Identifier: Apache-2.0
// What lies beside what in packs: the map nodes of a large shard side by side, so that a restore
// over a store with latency fetches many with one request; a small backup in one object.
#include "common/memory.h"
#include "repository/repository_pack.h"
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
#define FILE_COUNT 3
#define FILE_SIZE (INT64_C(20) * 1024 * 1024)

typedef struct Kinds {
    int extents, nodes;
} Kinds;

static Kinds kinds_of_pack(Fixture *fixture, const ShardScope *scope, const char *key)
{
    Kinds kinds = {0};
    PackName name;
    uint8_t *data = NULL;
    size_t size = 0;
    size_t count = 0;
    Ref *refs = mem_alloc_array(PACK_BLOB_COUNT_MAX, sizeof(*refs));
    assert_true(pack_name_decode(key + strlen(PACKS), &name));
    assert_ok(fixture, storage_get(fixture->storage, key, PACK_SIZE_MAX, fixture->arena, &data,
                                   &size, &fixture->error));
    assert_ok(fixture, pack_index_open(scope, &name, data, size, refs, &count, &fixture->error));
    for (size_t i = 0; i < count; i++) {
        kinds.extents += refs[i].kind == BLOB_EXTENT;
        kinds.nodes += refs[i].kind == BLOB_NODE;
    }
    mem_free(refs);
    return kinds;
}

static void test_nodes_of_a_large_shard_lie_side_by_side(void **state)
{
    Fixture *fixture = *state;
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        char path[16];
        snprintf(path, sizeof(path), "table-%u", i);
        source_write(fixture, path, FILE_SIZE, i + 1); // nothing of it can be compressed
    }
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    ShardScope scope;
    assert_ok(fixture, scope_init(&scope, fixture->repository, &fixture->key, DATABASE_ID, SHARD_ID,
                                  &fixture->error));
    int mixed_count = 0;
    int node_pack_count = 0;
    int pack_count = object_count(fixture, PACKS);
    for (int i = 0; i < pack_count; i++) {
        Kinds kinds = kinds_of_pack(fixture, &scope, object_key(fixture, PACKS, (size_t)i));
        mixed_count += kinds.extents > 0 && kinds.nodes > 0;
        node_pack_count += kinds.extents == 0 && kinds.nodes > 0;
    }
    scope_done(&scope);
    assert_true(mixed_count <= 1); // the first, until it is full
    assert_int_equal(node_pack_count, 1);
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
}

static void test_a_small_backup_is_one_pack(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    source_write(fixture, "table", 3 * EXTENT, 1);
    source_write(fixture, "other", 5 * EXTENT, 2);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(object_count(fixture, PACKS), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nodes_of_a_large_shard_lie_side_by_side,
                                        fixture_set_up_memory, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_a_small_backup_is_one_pack, fixture_set_up_memory,
                                        fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
