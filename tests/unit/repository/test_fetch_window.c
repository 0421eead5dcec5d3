// SPDX-License-Identifier: Apache-2.0
// What a restore writes after scattered changes. If this goes red, restores write every changed
// extent, and what is left between two, by itself, or write something twice, or not at all.
#include "common/file.h"
#include "common/memory.h"
#include "repository/fetch_window.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdatomic.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define TABLE "table"
#define TABLE_EXTENT_COUNT 768
#define MANY 1000000

// --- counting writes --------------------------------------------------------------------------

static atomic_int write_count;
static atomic_llong flushed_bytes;

Status __real_file_write_all_at(int fd, const void *data, size_t size, int64_t offset,
                                Error *error);
Status __wrap_file_write_all_at(int fd, const void *data, size_t size, int64_t offset,
                                Error *error);

Status __wrap_file_write_all_at(int fd, const void *data, size_t size, int64_t offset, Error *error)
{
    atomic_fetch_add(&write_count, 1);
    return __real_file_write_all_at(fd, data, size, offset, error);
}

int __real_sync_file_range(int fd, off_t offset, off_t size, unsigned int flags);
int __wrap_sync_file_range(int fd, off_t offset, off_t size, unsigned int flags);

int __wrap_sync_file_range(int fd, off_t offset, off_t size, unsigned int flags)
{
    atomic_fetch_add(&flushed_bytes, (long long)size);
    return __real_sync_file_range(fd, offset, size, flags);
}

// Restores with so much memory and compares; how many writes that took.
static int count_writes(Fixture *fixture, const Manifest *manifest, int64_t memory_bytes)
{
    MaterializeResult result;
    MaterializeOptions options = {.memory_bytes = memory_bytes};
    const char *digest = tree_digest(fixture, fixture->source);
    atomic_store(&write_count, 0);
    atomic_store(&flushed_bytes, 0);
    assert_ok(fixture,
              repository_materialize(fixture->repository, &fixture->key, manifest,
                                     fixture->restored, &options, &result, &fixture->error));
    int count = atomic_load(&write_count);
    assert_string_equal(tree_digest(fixture, fixture->restored), digest);
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
    return count;
}

// Writes an extent in `step`, from `first` on.
static void change_extents(const Fixture *fixture, int first, int step, uint32_t seed)
{
    for (int i = first; i < TABLE_EXTENT_COUNT; i += step) {
        source_patch(fixture, TABLE, (int64_t)i * EXTENT, EXTENT, seed + (uint32_t)i);
    }
}

static void test_changed_extents_take_no_writes_of_their_own(void **state)
{
    Fixture *fixture = *state;
    Manifest *first = NULL;
    Manifest *second = NULL;
    source_write(fixture, TABLE, (int64_t)TABLE_EXTENT_COUNT * EXTENT, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &first));
    int before = count_writes(fixture, first, 0);
    change_extents(fixture, 7, 20, 1000);
    assert_ok(fixture, fixture_publish(fixture, first, &second));
    assert_true(count_writes(fixture, second, 0) <= before + 2);
}

static void test_many_generations_come_back(void **state)
{
    Fixture *fixture = *state;
    Manifest *manifest = NULL;
    // The last extent is a part of one, and a file of one extent is beside it.
    source_write(fixture, TABLE, (int64_t)TABLE_EXTENT_COUNT * EXTENT - 1000, 1);
    source_write(fixture, "zoo", EXTENT, 2);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    (void)count_writes(fixture, manifest, 0);
    assert_int_equal(atomic_load(&flushed_bytes), 0);
    for (int generation = 1; generation <= 12; generation++) {
        change_extents(fixture, generation % 5, 2 + generation, 1000 * (uint32_t)generation);
        source_truncate(fixture, TABLE, (int64_t)TABLE_EXTENT_COUNT * EXTENT - 1000);
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
    }
    // Every extent is written, and all of it is flushed, whatever memory there is.
    const int64_t size = (int64_t)TABLE_EXTENT_COUNT * EXTENT - 1000 + EXTENT;
    assert_in_range(count_writes(fixture, manifest, REPOSITORY_MEMORY_BYTES_MIN),
                    TABLE_EXTENT_COUNT / 4, TABLE_EXTENT_COUNT + 1);
    assert_int_equal(atomic_load(&flushed_bytes), size);
    (void)count_writes(fixture, manifest, 0);
    assert_int_equal(atomic_load(&flushed_bytes), size);
}

// --- one window -------------------------------------------------------------------------------

static uint32_t next_index[256];

static void add(Window *window, uint8_t pack, int position)
{
    Ref ref = {.pack = {.epoch = 1, .id = {pack}},
               .index = next_index[pack],
               .offset = next_index[pack] * 100,
               .stored_size = 100,
               .plain_size = EXTENT_SIZE,
               .kind = BLOB_EXTENT};
    next_index[pack]++;
    window_add(window, &ref, (int64_t)position * EXTENT);
}

// A file of which every tenth extent is of another pack.
static Window *patched_window(void)
{
    Window *window = window_new();
    memset(next_index, 0, sizeof(next_index));
    window_add_file(window, "a", (int64_t)200 * EXTENT);
    for (int i = 0; i < 200; i++) {
        add(window, i % 10 == 5 ? 1 : 2, i);
    }
    return window;
}

static void test_patches_are_kept_before_runs_start(void **state)
{
    (void)state;
    Span patches;
    Span runs;
    Window *window = patched_window();
    window_sort(window, MANY);
    assert_int_equal(window->patch_count, 20);
    assert_true(window_take(window, SPAN_PATCHES, &patches));
    assert_int_equal(patches.count, 20);
    assert_false(window_take(window, SPAN_PATCHES, &runs));
    assert_false(window_take(window, SPAN_RUNS, &runs));
    window_end(window, &patches);
    assert_true(window_take(window, SPAN_RUNS, &runs));
    assert_int_equal(runs.first, 20);
    assert_int_equal(runs.count, 180);
    assert_false(window_take(window, SPAN_LEFT_PATCHES, &patches));
    // Of the runs' items, every ninth has a patch behind it, once.
    int found = 0;
    for (size_t i = runs.first; i < runs.first + runs.count; i++) {
        FetchItem *patch = window_patch_after(window, &window->items[i]);
        if (patch != NULL) {
            assert_true(item_follows(patch, &window->items[i]));
            patch->is_written = true;
            found++;
        }
        assert_null(window_patch_after(window, &window->items[i]));
    }
    assert_int_equal(found, 20);
    window_end(window, &runs);
    assert_false(window_is_done(window));
    assert_true(window_take(window, SPAN_LEFT_PATCHES, &patches));
    assert_false(window_take(window, SPAN_LEFT_PATCHES, &runs));
    assert_false(window_is_done(window));
    window_end(window, &patches);
    assert_true(window_is_done(window));
    window_free(window);
}

static void test_patches_are_limited(void **state)
{
    (void)state;
    Span span;
    Window *window = patched_window();
    window_sort(window, 7);
    assert_int_equal(window->patch_count, 7);
    window_free(window);
    window = patched_window();
    window_sort(window, 0);
    assert_int_equal(window->patch_count, 0);
    assert_false(window_take(window, SPAN_PATCHES, &span));
    assert_true(window_take(window, SPAN_RUNS, &span));
    window_end(window, &span);
    assert_true(window_take(window, SPAN_RUNS, &span)); // of the other pack
    window_end(window, &span);
    assert_true(window_is_done(window));
    window_free(window);
}

// Long stretches, short ones between the patches, what begins a file, files of one extent.
static void test_only_scattered_extents_are_patches(void **state)
{
    (void)state;
    Window *window = window_new();
    memset(next_index, 0, sizeof(next_index));
    window_add_file(window, "a", (int64_t)100 * EXTENT);
    for (int i = 0; i < 100; i++) {
        add(window, i == 0 || i == 50 || i == 53 ? 1 : 2, i); // 51 and 52 are short, of a long pack
    }
    window_add_file(window, "b", (int64_t)64 * EXTENT);
    for (int i = 0; i < 64; i++) {
        add(window, i / 16 % 2 == 0 ? 3 : 4, i);
    }
    for (int i = 0; i < 10; i++) {
        window_add_file(window, "c", EXTENT);
        add(window, i % 2 == 0 ? 5 : 6, 0);
    }
    window_sort(window, MANY);
    assert_int_equal(window->patch_count, 2);
    for (size_t i = 0; i < window->item_count; i++) {
        const FetchItem *item = &window->items[i];
        bool expected = item->file == 0 && (item->offset == (int64_t)50 * EXTENT ||
                                            item->offset == (int64_t)53 * EXTENT);
        assert_int_equal(item->is_patch, expected);
        assert_int_equal(i < 2, expected);
    }
    window_free(window);
}

// Every extent is of another pack than its neighbours; there is a hole.
static void test_a_scattered_window_is_flushed_in_the_files_order(void **state)
{
    (void)state;
    Span span;
    size_t flushed = 0;
    Window *window = window_new();
    memset(next_index, 0, sizeof(next_index));
    window_add_file(window, "a", (int64_t)1500 * EXTENT);
    for (int i = 0; i < 1500; i++) {
        if (i < 700 || i >= 710) {
            add(window, (uint8_t)(i % 4), i);
        }
    }
    window_add_file(window, "b", (int64_t)3 * EXTENT);
    for (int i = 0; i < 3; i++) {
        add(window, 1, i);
    }
    window_sort(window, MANY);
    assert_true(window->is_scattered);
    assert_int_equal(window->patch_count, 0);
    while (window_take(window, SPAN_RUNS, &span)) {
        assert_false(window_is_written(window));
        assert_false(window_take(window, SPAN_FLUSH, &span));
        window_end(window, &span);
    }
    assert_true(window_is_written(window));
    while (window_take(window, SPAN_FLUSH, &span)) {
        assert_false(window_is_done(window));
        assert_int_equal(span.first, flushed);
        for (size_t i = 1; i < span.count; i++) {
            assert_true(item_follows(window_item(window, span.first + i),
                                     window_item(window, span.first + i - 1)));
        }
        flushed += span.count;
        window_end(window, &span);
    }
    assert_int_equal(flushed, window->item_count);
    assert_true(window_is_done(window));
    window_free(window);
}

static void test_a_scattered_window_is_small(void **state)
{
    (void)state;
    for (int pack_count = 1; pack_count <= 2; pack_count++) {
        Window *window = window_new();
        memset(next_index, 0, sizeof(next_index));
        window_add_file(window, "a", (int64_t)WINDOW_ITEM_COUNT_MAX * EXTENT);
        for (int i = 0; !window_is_full(window); i++) {
            add(window, (uint8_t)(i % pack_count), i);
        }
        assert_int_equal(window->item_count,
                         pack_count == 1 ? WINDOW_ITEM_COUNT_MAX : WINDOW_SCATTERED_COUNT_MAX);
        window_free(window);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changed_extents_take_no_writes_of_their_own,
                                        fixture_set_up_memory, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_many_generations_come_back, fixture_set_up_memory,
                                        fixture_tear_down),
        cmocka_unit_test(test_patches_are_kept_before_runs_start),
        cmocka_unit_test(test_patches_are_limited),
        cmocka_unit_test(test_only_scattered_extents_are_patches),
        cmocka_unit_test(test_a_scattered_window_is_flushed_in_the_files_order),
        cmocka_unit_test(test_a_scattered_window_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
