// SPDX-License-Identifier: Apache-2.0
// Sweeps of long histories, one after another. If this goes red, a sweep deletes what a kept backup
// needs, leaves what none needs, or costs what the whole history is long.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_reach_kept.h"
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

#define PACKS "shards/" SHARD_ID "/packs/"
#define MANIFESTS "shards/" SHARD_ID "/manifests/"
#define RECORDS "reach/" SHARD_ID "/"
#define HISTORY_COUNT_MAX 320
#define GRACE_US (INT64_C(3600) * 1000000)

typedef struct History {
    Manifest *manifests[HISTORY_COUNT_MAX]; // NULL: not kept any more
    const char *digests[HISTORY_COUNT_MAX];
    size_t count;
    bool has_no_digests; // which take their time
} History;

// A child of `parent` with changes that follow from the count: a page of a large file, small files
// that come and go, a file that grows.
static void publish(Fixture *fixture, History *history, const Manifest *parent)
{
    char path[32];
    uint32_t number = (uint32_t)history->count;
    source_patch(fixture, "large", (int64_t)(number * 7 % 40) * EXTENT, 64, 1000 + number);
    source_patch(fixture, "grows", (int64_t)number * 1000, 1000, number + 1);
    snprintf(path, sizeof(path), "small/%u", number % 5);
    source_write(fixture, path, 3000, 2000 + number);
    history->digests[history->count] =
        history->has_no_digests ? NULL : tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, parent, &history->manifests[history->count]));
    history->count++;
}

static void begin_history(Fixture *fixture, History *history, size_t count)
{
    source_write(fixture, "large", 40 * EXTENT, 1);
    source_write(fixture, "still", 9 * EXTENT, 2);
    source_write(fixture, "grows", 1000, 3);
    while (history->count < count) {
        publish(fixture, history,
                history->count == 0 ? NULL : history->manifests[history->count - 1]);
    }
}

static SweepOptions options_of(const History *history, const char **keep)
{
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .protect_epoch_min = UINT32_MAX, .small_bytes = 1};
    for (size_t i = 0; i < history->count; i++) {
        if (history->manifests[i] != NULL) {
            keep[options.keep_count++] = history->manifests[i]->id;
        }
    }
    return options;
}

static SweepResult sweep(Fixture *fixture, const History *history, bool is_thorough)
{
    const char *keep[HISTORY_COUNT_MAX];
    SweepOptions options = options_of(history, keep);
    SweepResult result;
    options.is_thorough = is_thorough;
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    return result;
}

// Every kept one restores, and there is no pack that a walk of all of them does not reach.
static void assert_exact(Fixture *fixture, const History *history, size_t step)
{
    char set_id[] = "0197a000-0000-7000-8000-0000000000b0";
    int kept_count = 0;
    for (size_t i = 0; i < history->count; i++) {
        if (history->manifests[i] == NULL) {
            continue;
        }
        kept_count++;
        if (i % step == 0) {
            assert_restores(fixture, history->manifests[i], history->digests[i]);
        }
        snprintf(set_id + 28, 9, "%08x", (unsigned)i + 1);
        write_set(fixture, set_id, history->manifests[i]);
    }
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, NULL, NULL, &report,
                                        &fixture->error));
    assert_int_equal(report.problem_count, 0);
    assert_int_equal(report.manifest_count, kept_count);
    assert_int_equal(report.orphan_count, 0);
    for (size_t i = 0; i < history->count; i++) {
        snprintf(set_id + 28, 9, "%08x", (unsigned)i + 1);
        assert_ok(fixture,
                  backup_set_remove(fixture->repository, DATABASE_ID, set_id, &fixture->error));
    }
}

static void test_a_sweep_walks_what_came_and_went(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    begin_history(fixture, history, 60);
    assert_int_equal(sweep(fixture, history, false).walked_count, 60);
    assert_int_equal(object_count(fixture, RECORDS), 1);
    assert_int_equal(sweep(fixture, history, false).walked_count, 0);
    // One more at the end.
    publish(fixture, history, history->manifests[59]);
    assert_int_equal(sweep(fixture, history, false).walked_count, 1);
    // Two go in the middle, and one elsewhere: their successors have other neighbours.
    history->manifests[20] = history->manifests[21] = history->manifests[40] = NULL;
    assert_int_equal(sweep(fixture, history, false).walked_count, 2);
    // The oldest goes.
    history->manifests[0] = NULL;
    assert_int_equal(sweep(fixture, history, false).walked_count, 1);
    assert_int_equal(object_count(fixture, RECORDS), 1);
    sweep(fixture, history, true);
    assert_exact(fixture, history, 7);
}

// Sweep after sweep as time goes by, with seeds anew, backups that fork and records that get lost.
static void test_what_is_kept_stays_and_the_rest_goes(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    begin_history(fixture, history, 12);
    srand48(20261125);
    for (int round = 0; round < 40; round++) {
        size_t parent = history->count - 1 - (size_t)(lrand48() % 10 == 0 ? 1 : 0);
        bool is_seed = lrand48() % 12 == 0 || history->manifests[parent] == NULL;
        publish(fixture, history, is_seed ? NULL : history->manifests[parent]);
        for (size_t i = 0; i + 1 < history->count; i++) {
            if (lrand48() % 16 == 0) {
                history->manifests[i] = NULL;
            }
        }
        if (round % 9 == 8) {
            assert_ok(fixture, storage_remove(fixture->storage, object_key(fixture, RECORDS, 0),
                                              &fixture->error));
        }
        if (round % 13 == 12) {
            object_flip(fixture, object_key(fixture, RECORDS, 0), -1);
        }
        sweep(fixture, history, round % 8 == 7);
        if (round % 8 == 7) {
            assert_exact(fixture, history, 3);
        }
    }
}

static void test_orphans_wait_until_they_are_old(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    begin_history(fixture, history, 3);
    const uint32_t abandoned[] = {2, 7};
    const char *keep[HISTORY_COUNT_MAX];
    history->manifests[1] = NULL; // of epoch 2, left by an attempt
    SweepOptions options = options_of(history, keep);
    options.abandoned = abandoned;
    options.abandoned_count = 2;
    options.now_us = clock_now_us();
    options.grace_us = GRACE_US;
    SweepResult result;
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    assert_int_equal(object_count(fixture, MANIFESTS), 3);
    assert_int_equal(result.waiting_count, 1); // its pack is needed by the third
    assert_int_equal(result.removed_count, 0);
    options.now_us += 2 * GRACE_US;
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &result,
                                              &fixture->error));
    assert_int_equal(object_count(fixture, MANIFESTS), 2);
    assert_int_equal(result.waiting_count, 0);
    assert_exact(fixture, history, 1);
}

static void test_locked_objects_stay_and_go_later(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    begin_history(fixture, history, 4);
    int64_t until_us = clock_now_us() + GRACE_US;
    storage_memory_lock(fixture->storage, "shards/", until_us);
    int count = object_count(fixture, "shards/");
    history->manifests[0] = history->manifests[1] = history->manifests[2] = NULL;
    SweepResult result = sweep(fixture, history, false);
    assert_true(object_count(fixture, "shards/") >= count); // a replacement may be there
    assert_true(result.locked_count >= 3);
    assert_true(result.locked_bytes > 0);
    assert_int_equal(result.locked_until_us, until_us);
    assert_int_equal(result.removed_count, 0);
    assert_restores(fixture, history->manifests[3], history->digests[3]);
    storage_memory_lock(fixture->storage, "", 0);
    result = sweep(fixture, history, false);
    assert_int_equal(result.locked_count, 0);
    assert_true(result.removed_count >= 3);
    assert_exact(fixture, history, 1);
}

// Each storage call of a retention fails once; then the same sweep is made again, with others
// before it or not.
static void sweep_with_faults(void **state, bool is_lost_reply)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    begin_history(fixture, history, 12);
    sweep(fixture, history, false);
    int call = 1;
    for (bool is_done = false; !is_done; call++) {
        const char *keep[HISTORY_COUNT_MAX];
        SweepResult result;
        publish(fixture, history, history->manifests[history->count - 1]);
        history->manifests[history->count - 12] = NULL;
        history->manifests[history->count - 6] = NULL;
        SweepOptions options = options_of(history, keep);
        storage_memory_fail_at(fixture->storage, call, is_lost_reply);
        Status status = repository_sweep_shard(fixture->repository, &fixture->key, &options,
                                               &result, &fixture->error);
        is_done = storage_memory_call_count(fixture->storage) < call;
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_true(is_done == (status == STATUS_OK) || status == STATUS_OK);
        assert_restores(fixture, history->manifests[history->count - 1],
                        history->digests[history->count - 1]);
        if (call % 5 == 0 || is_done) {
            sweep(fixture, history, true);
            assert_exact(fixture, history, 4);
        }
        assert_true(history->count < HISTORY_COUNT_MAX);
    }
    assert_true(call > 10);
}

static void test_faults(void **state)
{
    sweep_with_faults(state, false);
}

static void test_lost_replies(void **state)
{
    sweep_with_faults(state, true);
}

// Calls per sweep do not grow with the history.
static void test_three_hundred_backups(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE History *history = mem_alloc(sizeof(*history));
    history->has_no_digests = true;
    begin_history(fixture, history, 100);
    sweep(fixture, history, false);
    int calls[2];
    for (int i = 0; i < 2; i++) {
        while (history->count < (i == 0 ? 101U : 300U)) {
            publish(fixture, history, history->manifests[history->count - 1]);
        }
        if (i == 1) {
            sweep(fixture, history, false);
            publish(fixture, history, history->manifests[history->count - 1]);
        }
        history->manifests[history->count / 2] = NULL;
        storage_memory_fail_at(fixture->storage, 0, false);
        assert_int_equal(sweep(fixture, history, false).walked_count, 2);
        calls[i] = storage_memory_call_count(fixture->storage);
    }
    // What a sweep reads of a manifest grows with the depth of its list alone.
    assert_true(calls[1] < 2 * calls[0]);
    assert_true(calls[1] < 150);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_set_up_memory, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_sweep_walks_what_came_and_went),
        TEST(test_what_is_kept_stays_and_the_rest_goes),
        TEST(test_orphans_wait_until_they_are_old),
        TEST(test_locked_objects_stay_and_go_later),
        TEST(test_faults),
        TEST(test_lost_replies),
        TEST(test_three_hundred_backups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
