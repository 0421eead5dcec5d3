// SPDX-License-Identifier: Apache-2.0
// The sweep makes packs smaller of which little is needed. If this goes red, deleting backups frees
// nothing, or a sweep costs a backup that is kept.
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

#define SHARD "shards/" SHARD_ID "/"
#define PACKS SHARD "packs/"
#define MANIFESTS SHARD "manifests/"
#define CALL_COUNT_MAX 2000
#define GENERATION_COUNT 3

typedef struct History {
    Manifest *manifests[GENERATION_COUNT];
    const char *digests[GENERATION_COUNT];
    const char *seed_pack;
    int64_t seed_bytes;
} History;

// Generation i changes all but the last extents: of the seed, a quarter is needed after it, and a
// sixteenth after the next.
static History publish_history(Fixture *fixture, int64_t extent_count)
{
    History history = {0};
    source_write(fixture, "small/file", 1000, 7);
    source_write(fixture, "data", extent_count * EXTENT, 1);
    for (uint32_t i = 0; i < GENERATION_COUNT; i++) {
        if (i > 0) {
            int64_t kept = extent_count / (i == 1 ? 4 : 16);
            source_patch(fixture, "data", 0, (extent_count - kept) * EXTENT, 100 + i);
        }
        history.digests[i] = tree_digest(fixture, fixture->source);
        assert_ok(fixture, fixture_publish(fixture, i == 0 ? NULL : history.manifests[i - 1],
                                           &history.manifests[i]));
        if (i == 0) {
            assert_int_equal(object_count(fixture, PACKS), 1);
            history.seed_pack = object_key(fixture, PACKS, 0);
            history.seed_bytes = stored_bytes(fixture, PACKS);
        }
    }
    return history;
}

// Keeps the generations from `first` on.
static Status try_sweep(Fixture *fixture, const History *history, size_t first,
                        SweepOptions options, SweepResult *ret_result)
{
    const char *keep[GENERATION_COUNT];
    options.shard_id = SHARD_ID;
    options.keep = keep;
    for (size_t i = first; i < GENERATION_COUNT; i++) {
        keep[options.keep_count++] = history->manifests[i]->id;
    }
    return repository_sweep_shard(fixture->repository, &fixture->key, &options, ret_result,
                                  &fixture->error);
}

static SweepResult sweep(Fixture *fixture, const History *history, size_t first)
{
    SweepResult result = {0};
    SweepOptions options = {.protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, try_sweep(fixture, history, first, options, &result));
    return result;
}

static void assert_all_restore(Fixture *fixture, const History *history, size_t first)
{
    for (size_t i = first; i < GENERATION_COUNT; i++) {
        assert_restores(fixture, history->manifests[i], history->digests[i]);
    }
}

static void write_sets(Fixture *fixture, const History *history, size_t first)
{
    for (size_t i = first; i < GENERATION_COUNT; i++) {
        char id[37];
        snprintf(id, sizeof(id), "0197a000-0000-7000-8000-0000000000b%u", (unsigned)(i % 10));
        write_set(fixture, id, history->manifests[i]);
    }
}

static CheckReport check(Fixture *fixture, Progress progress)
{
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, progress, NULL, NULL, &report,
                                        &fixture->error));
    return report;
}

static void assert_clean(Fixture *fixture)
{
    CheckReport report = check(fixture, (Progress){0});
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.orphan_count, 0);
    assert_int_equal(report.orphan_bytes, 0);
}

static const char *replacement_key(Fixture *fixture, const History *history, int number)
{
    char key[256];
    snprintf(key, sizeof(key), "%s.%02x", history->seed_pack, (unsigned)number);
    return arena_string(fixture->arena, key);
}

static void test_deleting_the_seed_frees_what_only_it_needed(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    int64_t before = stored_bytes(fixture, SHARD);
    SweepResult dry = {0};
    SweepOptions options = {.protect_epoch_min = UINT32_MAX, .is_dry_run = true};
    assert_ok(fixture, try_sweep(fixture, &history, 1, options, &dry));
    assert_int_equal(stored_bytes(fixture, SHARD), before);

    SweepResult result = sweep(fixture, &history, 1);
    assert_memory_equal(&result, &dry, sizeof(dry));
    assert_int_equal(result.compacted_count, 1);
    assert_int_equal(result.removed_count, 1); // the manifest
    assert_int_equal(before - stored_bytes(fixture, SHARD), result.removed_bytes);
    assert_int_equal(stored_bytes(fixture, SHARD), result.kept_bytes);
    assert_int_equal(object_count(fixture, history.seed_pack), 1);
    assert_true(stored_bytes(fixture, replacement_key(fixture, &history, 1)) > 0);
    // A quarter and some nodes stay.
    assert_true(stored_bytes(fixture, history.seed_pack) < history.seed_bytes / 3);
    assert_all_restore(fixture, &history, 1);
    write_sets(fixture, &history, 1);
    assert_clean(fixture);

    SweepResult again = sweep(fixture, &history, 1);
    assert_int_equal(again.removed_count + again.compacted_count, 0);
    assert_int_equal(again.removed_bytes, 0);
}

static void test_a_replacement_is_replaced_again(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 80);
    (void)sweep(fixture, &history, 1);
    int64_t before = stored_bytes(fixture, SHARD);
    SweepResult result = sweep(fixture, &history, 2);
    assert_int_equal(result.compacted_count, 1);
    assert_int_equal(result.removed_count, 2); // the second's manifest, and its pack
    assert_int_equal(before - stored_bytes(fixture, SHARD), result.removed_bytes);
    assert_int_equal(object_count(fixture, history.seed_pack), 1);
    assert_true(stored_bytes(fixture, replacement_key(fixture, &history, 2)) > 0);
    assert_all_restore(fixture, &history, 2);
    write_sets(fixture, &history, 2);
    assert_clean(fixture);

    // A child names what the replaced packs have, and stays whole.
    Manifest *child = NULL;
    source_patch(fixture, "data", 0, 10, 500);
    const char *digest = tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, history.manifests[2], &child));
    assert_true(child->new_bytes <= 2 * EXTENT);
    assert_restores(fixture, child, digest);
    history.manifests[2] = child;
    (void)sweep(fixture, &history, 2);
    assert_restores(fixture, child, digest);

    const SweepOptions none = {.shard_id = SHARD_ID, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &none, &result,
                                              &fixture->error));
    assert_int_equal(object_count(fixture, SHARD), 0);
}

static void test_packs_of_running_attempts_are_not_touched(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40); // epochs 1 to 3
    SweepResult result = {0};
    SweepOptions options = {.protect_epoch_min = 1};
    int64_t before = stored_bytes(fixture, SHARD);
    assert_ok(fixture, try_sweep(fixture, &history, 1, options, &result));
    assert_int_equal(result.compacted_count, 0);
    assert_int_equal(stored_bytes(fixture, SHARD), before);
    options.protect_epoch_min = 2;
    assert_ok(fixture, try_sweep(fixture, &history, 1, options, &result));
    assert_int_equal(result.compacted_count, 1);
    assert_all_restore(fixture, &history, 1);
}

static void sweep_with_faults(void **state, bool is_lost_reply)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    write_sets(fixture, &history, 2);
    size_t first = 1;
    for (int call = 1;; call++) {
        SweepResult result;
        assert_true(call < CALL_COUNT_MAX);
        SweepOptions options = {.protect_epoch_min = UINT32_MAX};
        // First the seed goes, then the second: a replacement is replaced under faults too.
        first = call % 7 == 0 ? 2 : first;
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        Status status = try_sweep(fixture, &history, first, options, &result);
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_restores(fixture, history.manifests[2], history.digests[2]);
        assert_int_equal(check(fixture, (Progress){0}).problem_count, 0);
        if (status == STATUS_OK && first == 2) {
            break;
        }
        if (status != STATUS_OK) {
            assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        }
    }
    (void)sweep(fixture, &history, 2);
    assert_clean(fixture);
    assert_int_equal(object_count(fixture, PACKS), 2); // of the seed and of the last
    assert_all_restore(fixture, &history, 2);
}

static void test_faults(void **state)
{
    sweep_with_faults(state, false);
}

static void test_lost_replies(void **state)
{
    sweep_with_faults(state, true);
}

// The same state for each fault: every call of one compacting sweep fails once.
static void each_call_fails(bool is_lost_reply)
{
    bool is_through = false;
    for (int call = 1; !is_through; call++) {
        void *state = NULL;
        assert_true(call < CALL_COUNT_MAX);
        fixture_set_up_memory(&state);
        Fixture *fixture = state;
        History history = publish_history(fixture, 16);
        SweepResult result;
        SweepOptions options = {.protect_epoch_min = UINT32_MAX};
        write_sets(fixture, &history, 1);
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        is_through = try_sweep(fixture, &history, 1, options, &result) == STATUS_OK;
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_int_equal(check(fixture, (Progress){0}).problem_count, 0);
        assert_all_restore(fixture, &history, 1);
        (void)sweep(fixture, &history, 1);
        assert_clean(fixture);
        assert_int_equal(object_count(fixture, history.seed_pack), 1);
        assert_true(stored_bytes(fixture, history.seed_pack) < history.seed_bytes / 2);
        assert_restores(fixture, history.manifests[1], history.digests[1]);
        fixture_tear_down(&state);
        assert_true(!is_through || call > 10);
    }
}

static void test_each_call_fails(void **state)
{
    (void)state;
    each_call_fails(false);
}

static void test_each_reply_is_lost(void **state)
{
    (void)state;
    each_call_fails(true);
}

static void test_an_older_object_beside_its_replacement_is_left_over(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    write_sets(fixture, &history, 1);
    const char *copy = SHARD "copy";
    object_copy(fixture, history.seed_pack, copy);
    (void)sweep(fixture, &history, 1);
    object_copy(fixture, copy, history.seed_pack);
    assert_ok(fixture, storage_remove(fixture->storage, copy, &fixture->error));
    CheckReport report = check(fixture, (Progress){0});
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.orphan_count, 1);
    assert_int_equal(report.orphan_bytes, history.seed_bytes);
    assert_all_restore(fixture, &history, 1);

    // A replacement that is damaged does not cost the pack.
    const char *replacement = replacement_key(fixture, &history, 1);
    object_flip(fixture, replacement, -1);
    assert_int_equal(check(fixture, (Progress){0}).problem_count, 1);
    assert_int_equal(sweep(fixture, &history, 1).compacted_count, 0);
    assert_all_restore(fixture, &history, 1);
    object_flip(fixture, replacement, -1);

    SweepResult result = sweep(fixture, &history, 1);
    assert_int_equal(result.compacted_count, 1);
    assert_int_equal(result.removed_bytes, history.seed_bytes - stored_bytes(fixture, replacement));
    assert_clean(fixture);
}

static void test_damage_is_not_copied(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    size_t index_and_trailer = 2000;
    // The last blobs are needed: nodes, and extents that never changed.
    object_flip(fixture, history.seed_pack,
                history.seed_bytes - (int64_t)index_and_trailer - 60000);
    SweepResult result = sweep(fixture, &history, 1);
    assert_int_equal(result.compacted_count, 0);
    assert_int_equal(stored_bytes(fixture, history.seed_pack), history.seed_bytes);
}

static void test_damage_of_a_replacement_is_found(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    write_sets(fixture, &history, 2);
    (void)sweep(fixture, &history, 2);
    const char *key = replacement_key(fixture, &history, 1);
    const int64_t offsets[] = {0, 20, 100, 104, 115, 126, 130, -1};
    for (size_t i = 0; i < ARRAY_COUNT(offsets); i++) {
        object_flip(fixture, key, offsets[i]);
        assert_true(check(fixture, (Progress){0}).problem_count > 0);
        assert_reason(fixture, fixture_restore(fixture, history.manifests[2]),
                      REASON_OBJECT_CORRUPT);
        object_flip(fixture, key, offsets[i]);
    }
    assert_restores(fixture, history.manifests[2], history.digests[2]);
    object_cut(fixture, key, 100);
    assert_true(check(fixture, (Progress){0}).problem_count > 0);
    assert_ok(fixture, storage_remove(fixture->storage, key, &fixture->error));
    assert_true(check(fixture, (Progress){0}).problem_count > 0);
    assert_reason(fixture, fixture_restore(fixture, history.manifests[2]), REASON_OBJECT_MISSING);
    assert_non_null(strstr(fixture->error.message, history.seed_pack));
}

// --- races ------------------------------------------------------------------------------------

typedef struct Race {
    Fixture *fixture;
    const History *history;
    int call_count;
    int64_t compacted_count;
} Race;

// Sweeps from within another operation: with the seed gone at first, then with the second gone.
static bool sweep_beside(void *context, int64_t done_bytes, int64_t total_bytes)
{
    (void)done_bytes;
    (void)total_bytes;
    Race *race = context;
    race->call_count++;
    if (race->call_count == 1 || race->call_count == 2) {
        const char *keep[] = {race->history->manifests[2]->id, race->history->manifests[1]->id};
        SweepResult result = {0};
        Error error = {0};
        SweepOptions options = {.shard_id = SHARD_ID,
                                .keep = keep,
                                .keep_count = race->call_count == 1 ? 2 : 1,
                                .protect_epoch_min = UINT32_MAX};
        assert_int_equal(repository_sweep_shard(race->fixture->repository, &race->fixture->key,
                                                &options, &result, &error),
                         STATUS_OK);
        race->compacted_count += result.compacted_count;
    }
    return true;
}

static void test_a_restore_goes_on_beside_a_sweep(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 480);
    Race race = {.fixture = fixture, .history = &history};
    fixture->progress = (Progress){.on_progress = sweep_beside, .context = &race};
    assert_restores(fixture, history.manifests[2], history.digests[2]);
    assert_true(race.call_count >= 2);
    assert_int_equal(race.compacted_count, 2); // the seed's twice
    fixture->progress = (Progress){0};
    assert_restores(fixture, history.manifests[2], history.digests[2]);
}

static void test_a_check_goes_on_beside_a_sweep(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture, 40);
    write_sets(fixture, &history, 2);
    Race race = {.fixture = fixture, .history = &history};
    CheckReport report = check(fixture, (Progress){.on_progress = sweep_beside, .context = &race});
    assert_int_equal(report.problem_count, 0);
    assert_true(race.compacted_count > 0);
    assert_true(race.call_count > 3);
    assert_clean(fixture);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
#define TEST_FILES(test)                                                                           \
    cmocka_unit_test_setup_teardown(test, fixture_set_up_filesystem, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_deleting_the_seed_frees_what_only_it_needed),
        TEST_FILES(test_deleting_the_seed_frees_what_only_it_needed),
        TEST(test_a_replacement_is_replaced_again),
        TEST(test_packs_of_running_attempts_are_not_touched),
        TEST(test_faults),
        TEST(test_lost_replies),
        cmocka_unit_test(test_each_call_fails),
        cmocka_unit_test(test_each_reply_is_lost),
        TEST(test_an_older_object_beside_its_replacement_is_left_over),
        TEST(test_damage_is_not_copied),
        TEST(test_damage_of_a_replacement_is_found),
        TEST_FILES(test_a_restore_goes_on_beside_a_sweep),
        TEST(test_a_check_goes_on_beside_a_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
