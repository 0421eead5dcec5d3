// SPDX-License-Identifier: Apache-2.0
// Deleting what nobody keeps. If this goes red, the sweep deletes what a backup needs, or frees
// nothing.
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

#define PACKS "shards/" SHARD_ID "/packs/"
#define MANIFESTS "shards/" SHARD_ID "/manifests/"

static SweepResult sweep(Fixture *fixture, const char *const *keep, size_t keep_count,
                         uint32_t protect_epoch_min, bool is_dry_run)
{
    SweepOptions options = {.shard_id = SHARD_ID,
                            .keep = keep,
                            .keep_count = keep_count,
                            .protect_epoch_min = protect_epoch_min,
                            .is_dry_run = is_dry_run};
    SweepResult result = {0};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    return result;
}

typedef struct History {
    Manifest *manifests[4];
    const char *digests[4];
} History;

static History publish_history(Fixture *fixture)
{
    History history = {0};
    source_write(fixture, "stable", 40 * EXTENT, 1);
    for (uint32_t i = 0; i < 4; i++) {
        source_write(fixture, "changing", 10 * EXTENT, 100 + i);
        source_patch(fixture, "stable", (int64_t)i * EXTENT, 10, 200 + i);
        history.digests[i] = tree_digest(fixture, fixture->source);
        assert_ok(fixture, fixture_publish(fixture, i == 0 ? NULL : history.manifests[i - 1],
                                           &history.manifests[i]));
    }
    return history;
}

static void test_what_is_kept_restores_and_the_rest_goes(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture);
    int64_t before = stored_bytes(fixture, "shards/");
    int count_before = object_count(fixture, "shards/");
    const char *keep[] = {history.manifests[0]->id, history.manifests[3]->id};

    SweepResult dry = sweep(fixture, keep, 2, UINT32_MAX, true);
    assert_int_equal(object_count(fixture, "shards/"), count_before);
    assert_int_equal(dry.removed_count + dry.kept_count, count_before);
    assert_int_equal(dry.removed_bytes + dry.kept_bytes, before);
    // Manifests 1 and 2; and their packs, unless the last still needs a page that they brought: it
    // does.
    assert_int_equal(dry.removed_count, 2);

    SweepResult real = sweep(fixture, keep, 2, UINT32_MAX, false);
    assert_memory_equal(&real, &dry, sizeof(real));
    assert_int_equal(stored_bytes(fixture, "shards/"), dry.kept_bytes);
    assert_restores(fixture, history.manifests[0], history.digests[0]);
    assert_restores(fixture, history.manifests[3], history.digests[3]);

    keep[0] = history.manifests[0]->id;
    SweepResult seed_only = sweep(fixture, keep, 1, UINT32_MAX, false);
    assert_int_equal(seed_only.kept_count, 2); // the manifest and its pack
    assert_restores(fixture, history.manifests[0], history.digests[0]);
    assert_int_equal(sweep(fixture, keep, 1, UINT32_MAX, false).removed_count, 0);

    SweepResult nothing = sweep(fixture, NULL, 0, UINT32_MAX, false);
    assert_int_equal(nothing.kept_count, 0);
    assert_int_equal(object_count(fixture, "shards/"), 0);
}

static void test_running_attempts_are_not_touched(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture); // epochs 1 to 4
    const char *keep[] = {history.manifests[0]->id};
    sweep(fixture, keep, 1, 3, false);
    assert_restores(fixture, history.manifests[0], history.digests[0]);
    // 3 and 4 are there with all that they brought themselves; 2 is gone.
    assert_int_equal(object_count(fixture, MANIFESTS), 3);
    assert_int_equal(object_count(fixture, PACKS), 3);
}

static void test_a_kept_manifest_that_is_damaged_stops_everything(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture);
    int count = object_count(fixture, "shards/");
    object_flip(fixture, object_key(fixture, MANIFESTS, 3), -1);
    const char *keep[] = {history.manifests[0]->id, history.manifests[3]->id};
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 2, .protect_epoch_min = UINT32_MAX};
    SweepResult result;
    assert_reason(fixture,
                  repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                         &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_non_null(strstr(fixture->error.message, "nothing was deleted"));
    assert_int_equal(object_count(fixture, "shards/"), count);
    keep[1] = "00000009-0197a000-0000-7000-8000-0000000000ff"; // there is no such manifest
    assert_reason(fixture,
                  repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                         &fixture->error),
                  REASON_OBJECT_MISSING);
    assert_int_equal(object_count(fixture, "shards/"), count);
}

static void test_other_shards_and_other_objects_stay(void **state)
{
    Fixture *fixture = *state;
    Manifest *other = NULL;
    source_write(fixture, "a", 100, 1);
    assert_ok(fixture, fixture_publish_shard(fixture, OTHER_SHARD_ID, NULL, &other));
    assert_ok(fixture,
              storage_put(fixture->storage, PACKS "README", "x", 1, NULL, &fixture->error));
    sweep(fixture, NULL, 0, UINT32_MAX, false);
    assert_int_equal(object_count(fixture, "shards/"), 3);
}

static void test_the_check_counts_orphans(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture);
    write_set(fixture, "0197a000-0000-7000-8000-0000000000b1", history.manifests[0]);
    write_set(fixture, "0197a000-0000-7000-8000-0000000000b2", history.manifests[2]);
    Manifest *lost = NULL;
    assert_ok(fixture, fixture_publish_shard(fixture, OTHER_SHARD_ID, NULL, &lost));
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, NULL, NULL, &report,
                                        &fixture->error));
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.set_count, 2);
    assert_int_equal(report.manifest_count, 2);
    // Manifests 1 and 3, the pack of 3, and the other shard's two. The pack of 1 brought a page
    // that 2 has.
    assert_int_equal(report.orphan_count, 5);
    assert_true(report.orphan_bytes > 0);
    // 40 + 10 of the seed, one of the second, 10 + 1 of the third.
    assert_int_equal(report.extent_count, 62);
    assert_true(report.read_bytes > 0);
}

static bool cancel(void *context, int64_t done_bytes, int64_t total_bytes)
{
    (void)context;
    (void)done_bytes;
    (void)total_bytes;
    return false;
}

static void test_the_check_can_be_canceled(void **state)
{
    Fixture *fixture = *state;
    History history = publish_history(fixture);
    write_set(fixture, "0197a000-0000-7000-8000-0000000000b1", history.manifests[0]);
    CheckReport report;
    assert_reason(fixture,
                  repository_check(fixture->repository, (Progress){.on_progress = cancel}, NULL,
                                   NULL, &report, &fixture->error),
                  REASON_CANCELED);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_kept_restores_and_the_rest_goes),
        TEST(test_running_attempts_are_not_touched),
        TEST(test_a_kept_manifest_that_is_damaged_stops_everything),
        TEST(test_other_shards_and_other_objects_stay),
        TEST(test_the_check_counts_orphans),
        TEST(test_the_check_can_be_canceled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
