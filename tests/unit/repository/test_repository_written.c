// SPDX-License-Identifier: Apache-2.0
// Publishing with a record of what was written must give the backup that reading everything gives.
// If this goes red, a backup misses what was written, or costs what exists instead of what changed.
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_reader.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define ROUND_COUNT 8

typedef struct Walk {
    ShardScope scope;
    BlobOpener *opener;
    ListReader *list;
    MapReader map;
    const ListEntry *entry;
} Walk;

static void walk_begin(Fixture *fixture, Walk *walk, const Manifest *manifest)
{
    ManifestRoot root;
    *walk = (Walk){0};
    assert_ok(fixture, scope_init(&walk->scope, fixture->repository, &fixture->key, DATABASE_ID,
                                  SHARD_ID, &fixture->error));
    assert_ok(fixture, manifest_root(manifest, &root, &fixture->error));
    walk->opener = blob_opener_new(&walk->scope);
    walk->list = list_reader_new(walk->opener, &root, NULL, NULL);
    map_reader_init(&walk->map, walk->opener, root.map_fan_out);
}

static void walk_end(Walk *walk)
{
    map_reader_done(&walk->map);
    list_reader_free(walk->list);
    blob_opener_free(walk->opener);
    scope_done(&walk->scope);
}

static void walk_next(Fixture *fixture, Walk *walk)
{
    assert_ok(fixture, list_reader_next(walk->list, &walk->entry, &fixture->error));
    if (walk->entry != NULL && walk->entry->kind == ENTRY_FILE) {
        map_reader_open(&walk->map, walk->entry);
    }
}

static Ref walk_extent(Fixture *fixture, Walk *walk, int64_t position)
{
    Ref ref;
    assert_ok(fixture, map_reader_get(&walk->map, 0, position, &ref, &fixture->error));
    return ref;
}

// The same files, the same contents extent by extent, and the same blobs of the parent.
static void assert_same_backup(Fixture *fixture, const Manifest *full, const Manifest *recorded)
{
    Walk one;
    Walk other;
    uint32_t own_epoch = (uint32_t)strtoul(full->id, NULL, 16); // of both
    walk_begin(fixture, &one, full);
    walk_begin(fixture, &other, recorded);
    for (;;) {
        walk_next(fixture, &one);
        walk_next(fixture, &other);
        if (one.entry == NULL || other.entry == NULL) {
            break;
        }
        assert_string_equal(one.entry->path, other.entry->path);
        assert_int_equal(one.entry->kind, other.entry->kind);
        assert_int_equal(one.entry->size_bytes, other.entry->size_bytes);
        assert_int_equal(one.entry->depth, other.entry->depth);
        int64_t count = one.entry->kind == ENTRY_FILE ? one.map.extent_count : 0;
        for (int64_t position = 0; position < count; position++) {
            Ref a = walk_extent(fixture, &one, position);
            Ref b = walk_extent(fixture, &other, position);
            assert_int_equal(a.kind, b.kind);
            assert_int_equal(a.plain_size, b.plain_size);
            assert_memory_equal(a.hash, b.hash, sizeof(a.hash));
            if (a.pack.epoch != own_epoch) {
                assert_memory_equal(&a, &b, sizeof(a));
            }
        }
    }
    assert_null(one.entry);
    assert_null(other.entry);
    walk_end(&one);
    walk_end(&other);
    assert_int_equal(full->size_bytes, recorded->size_bytes);
    assert_int_equal(full->data_bytes, recorded->data_bytes);
    assert_int_equal(full->new_bytes, recorded->new_bytes);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void write_some(Fixture *fixture, const char *path, int64_t size, uint32_t *random)
{
    int64_t at = next_random(random) % size;
    int64_t length = 1 + next_random(random) % (2 * EXTENT);
    length = MIN(length, size - at);
    source_patch(fixture, path, at, length, 1 + next_random(random) % 1000);
    source_written(fixture, path, at, length);
}

static void change(Fixture *fixture, int round, uint32_t *random)
{
    static int64_t long_size = 500 * (int64_t)EXTENT + 1;
    int count = (int)(next_random(random) % 8);
    for (int i = 0; i < count; i++) {
        write_some(fixture, "long", long_size, random);
    }
    switch (round % 6) {
    case 1: // grows over the end of a node; the new part needs no mark
        source_patch(fixture, "long", long_size, 30 * EXTENT, 7);
        long_size += 30 * EXTENT;
        break;
    case 2: // cut in the middle of an extent
        long_size -= 40 * EXTENT - 11;
        source_truncate(fixture, "long", long_size);
        break;
    case 3: // cut and grown again
        source_truncate(fixture, "long", long_size - 3 * EXTENT);
        source_patch(fixture, "long", long_size - 1, 1, 9);
        source_written(fixture, "long", long_size - 3 * EXTENT, 3 * EXTENT);
        break;
    case 4: // removed, new and renamed: what is at a path now is not what was there
        source_rename(fixture, "odd", "one");
        source_written(fixture, "one", 0, 4 * EXTENT);
        source_write(fixture, "new", 3 * EXTENT, 30 + (uint32_t)round);
        source_written(fixture, "new", 0, 3 * EXTENT);
        break;
    case 5: // zeros over data, data over a hole
        source_write(fixture, "odd", 3 * EXTENT + 777, 0);
        source_written(fixture, "odd", 0, 3 * EXTENT + 777);
        source_patch(fixture, "sparse", 3 * EXTENT, 5, (uint32_t)round);
        source_written(fixture, "sparse", 3 * EXTENT, 5);
        break;
    default:
        break;
    }
}

static void test_a_record_gives_what_a_full_read_gives(void **state)
{
    Fixture *fixture = *state;
    uint32_t random = 4711;
    source_fill(fixture);
    source_write(fixture, "long", 500 * EXTENT + 1, 5);
    Manifest *parent = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &parent));
    for (int round = 1; round < ROUND_COUNT; round++) {
        fixture->written_count = 0;
        change(fixture, round, &random);
        Manifest *full = NULL;
        Manifest *recorded = NULL;
        uint32_t epoch = fixture->epoch;
        assert_ok(fixture, fixture_publish(fixture, parent, &full));
        fixture->has_record = true;
        fixture->epoch = epoch;
        assert_ok(fixture, fixture_publish(fixture, parent, &recorded));
        fixture->has_record = false;
        assert_true(full->read_bytes >= full->data_bytes); // holes are not read
        assert_true(recorded->read_bytes < full->read_bytes);
        assert_same_backup(fixture, full, recorded);
        assert_restores(fixture, recorded, tree_digest(fixture, fixture->source));
        parent = recorded;
    }
}

static void test_nothing_written_reads_nothing(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->read_bytes, 0);
    assert_int_equal(child->stored_bytes, 0);
    assert_int_equal(child->data_bytes, seed->data_bytes);
    assert_restores(fixture, child, tree_digest(fixture, fixture->source));
}

// A seed has no parent, so a record says nothing about it.
static void test_a_seed_reads_everything(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    fixture->has_record = true;
    Manifest *seed = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    assert_true(seed->read_bytes >= seed->data_bytes);
    assert_restores(fixture, seed, tree_digest(fixture, fixture->source));
}

static bool refuse(void *context, const uint8_t *data, size_t size, int64_t offset,
                   int64_t *bad_page)
{
    (void)context;
    (void)data;
    (void)size;
    *bad_page = offset / 16384;
    return false;
}

// What is written is checked; what is not written is not even read.
static void test_what_is_written_is_checked(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    fixture->check = refuse;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    source_patch(fixture, "long", 9 * 16384, 1, 77);
    source_written(fixture, "long", 9 * 16384, 1);
    assert_reason(fixture, fixture_publish(fixture, seed, &child), REASON_PAGE_CORRUPT);
}

// A record that misses a write is found out by a full read, and the backup is right even so.
static void test_a_wrong_record_is_found_out(void **state)
{
    Fixture *fixture = *state;
    source_fill(fixture);
    Manifest *seed = NULL;
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    fixture->reads_everything = true;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->unrecorded_bytes, 0);
    assert_true(child->read_bytes >= child->data_bytes);
    source_patch(fixture, "long", 200 * EXTENT, 1, 77);
    source_patch(fixture, "long", 300 * EXTENT, 1, 78);
    source_written(fixture, "long", 300 * EXTENT, 1);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->unrecorded_bytes, EXTENT);
    assert_restores(fixture, child, tree_digest(fixture, fixture->source));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_record_gives_what_a_full_read_gives),
        TEST(test_nothing_written_reads_nothing),
        TEST(test_a_seed_reads_everything),
        TEST(test_what_is_written_is_checked),
        TEST(test_a_wrong_record_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
