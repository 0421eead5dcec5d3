// SPDX-License-Identifier: Apache-2.0
// An attempt that dies leaves packs; the next one goes on from them. If this goes red, a large
// shard whose machine dies near the end is uploaded again from the start, or a backup names what a
// sweep has removed.
#include "common/file.h"
#include "common/memory.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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
#define FILE_EXTENTS 1500 // two or three packs
#define CALL_COUNT_MAX 2000

static void fill_source(const Fixture *fixture)
{
    source_write(fixture, "large", (int64_t)FILE_EXTENTS * EXTENT + 5, 1);
    source_write(fixture, "dir/small", 100, 2);
}

// Fails the storage at later and later calls; each attempt also reads what those before it left, so
// the steps grow. Whatever an attempt has stored is not stored again.
static void test_killed_at_each_pack(void **state)
{
    Fixture *fixture = *state;
    fill_source(fixture);
    const char *digest = tree_digest(fixture, fixture->source);
    fixture->resume_epoch_min = fixture->epoch;
    Manifest *manifest = NULL;
    int64_t size = (int64_t)FILE_EXTENTS * EXTENT + 5 + 100;
    int failed_count = 0;
    for (int call = 2;; call += 1 + call / 4) {
        assert_true(call < CALL_COUNT_MAX);
        int64_t before = stored_bytes(fixture, PACKS);
        storage_memory_fail_at(fixture->storage, call, false);
        Status status = fixture_publish(fixture, NULL, &manifest);
        storage_memory_fail_at(fixture->storage, 0, false);
        if (status == STATUS_OK) {
            // Of the extents, what was there before is named; maps and lists are stored again.
            assert_true(before > 0);
            assert_true(manifest->resumed_bytes > 0);
            assert_true(stored_bytes(fixture, PACKS) - before < 2 * before);
            break;
        }
        assert_int_equal(fixture->error.reason, REASON_UNAVAILABLE);
        failed_count++;
    }
    assert_true(failed_count >= 3);
    assert_int_equal(manifest->new_bytes, size);
    assert_restores(fixture, manifest, digest);
    // All is there by now, so another attempt stores no extent.
    int64_t before = stored_bytes(fixture, PACKS);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->resumed_bytes, size);
    assert_true(stored_bytes(fixture, PACKS) - before < 256 * 1024);
    assert_restores(fixture, manifest, digest);
}

// A sweep that is told of the epochs leaves what may be gone on from; the backup it became of needs
// it from then on.
static void test_a_sweep_keeps_what_may_be_named(void **state)
{
    Fixture *fixture = *state;
    fill_source(fixture);
    fixture->resume_epoch_min = fixture->epoch;
    Manifest *dead = NULL;
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &dead));
    assert_ok(fixture,
              storage_remove(fixture->storage, object_key(fixture, MANIFESTS, 0), &fixture->error));
    SweepResult result;
    SweepOptions options = {.shard_id = SHARD_ID, .protect_epoch_min = fixture->resume_epoch_min};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->resumed_bytes, manifest->new_bytes);
    const char *keep[] = {manifest->id};
    options = (SweepOptions){
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 1, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
    // And a child of it shares everything.
    Manifest *child = NULL;
    fixture->resume_epoch_min = 0;
    assert_ok(fixture, fixture_publish(fixture, manifest, &child));
    assert_int_equal(child->stored_bytes, 0);
}

static bool remove_packs(void *context, int64_t done_bytes, int64_t total_bytes)
{
    (void)total_bytes;
    Fixture *fixture = context;
    if (done_bytes == 0 && object_count(fixture, PACKS) > 0) { // what there is has been looked at
        assert_ok(fixture,
                  storage_remove(fixture->storage, object_key(fixture, PACKS, 0), &fixture->error));
    }
    return true;
}

// Should one be removed all the same, no manifest is written that names it.
static void test_a_pack_that_went_is_not_named(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "one", 20 * (int64_t)EXTENT, 1);
    fixture->resume_epoch_min = fixture->epoch;
    Manifest *dead = NULL;
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &dead));
    fixture->progress = (Progress){.on_progress = remove_packs, .context = fixture};
    assert_reason(fixture, fixture_publish(fixture, NULL, &manifest), REASON_CONFLICT);
    assert_int_equal(object_count(fixture, MANIFESTS), 1); // the dead one's
}

// Damaged packs and packs of another key are passed over.
static void test_what_does_not_open_is_stored_again(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "one", 20 * (int64_t)EXTENT, 1);
    fixture->resume_epoch_min = fixture->epoch;
    Manifest *dead = NULL;
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish(fixture, NULL, &dead));
    object_flip(fixture, object_key(fixture, PACKS, 0), -40);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    assert_int_equal(manifest->resumed_bytes, 0);
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
}

typedef struct Throttle {
    Limits *limits;
    int calls;
} Throttle;

static bool lift(void *context, int64_t done_bytes, int64_t total_bytes)
{
    (void)done_bytes;
    (void)total_bytes;
    Throttle *throttle = context;
    if (++throttle->calls == 3) {
        limits_set_bandwidth(throttle->limits, 0, 0);
        limits_set_cpus(throttle->limits, 0);
    }
    return true;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// A cap holds; then the limits are lifted under way, and it ends at once.
static void test_limits_hold_and_change_under_way(void **state)
{
    Fixture *fixture = *state;
    source_write(fixture, "large", 2 * FILE_EXTENTS * (int64_t)EXTENT, 1);
    CLEANUP(limits_freep) Limits *limits = limits_new();
    fixture->limits = limits;
    limits_set_cpus(limits, 1);
    limits_set_bandwidth(limits, INT64_C(40) * 1024 * 1024, 0);
    Manifest *manifest = NULL;
    int64_t start_ms = now_ms();
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    // Each pack waits for those before it, so all but the bytes of the last do.
    int64_t waiting_mib = (manifest->stored_bytes >> 20) - 16;
    assert_true(waiting_mib >= 8);
    assert_true(now_ms() - start_ms >= waiting_mib * 1000 / 40 - 100);
    Throttle throttle = {.limits = limits};
    limits_set_bandwidth(limits, 1, 1); // a pack in half a year
    fixture->progress = (Progress){.on_progress = lift, .context = &throttle};
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    limits_set_bandwidth(limits, 1, 1);
    throttle.calls = 0;
    assert_restores(fixture, manifest, tree_digest(fixture, fixture->source));
    fixture->limits = NULL;
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_killed_at_each_pack),
        TEST(test_a_sweep_keeps_what_may_be_named),
        TEST(test_a_pack_that_went_is_not_named),
        TEST(test_what_does_not_open_is_stored_again),
        TEST(test_limits_hold_and_change_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
