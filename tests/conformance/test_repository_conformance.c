// SPDX-License-Identifier: Apache-2.0
// A repository is restored by a second reader, which was written from docs/repository-format.md
// alone. If this goes red, the document and the program have parted, or old repositories cannot be
// read any more.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
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

static void test_a_second_reader_restores(void **state)
{
    Fixture *fixture = *state;
    const char *python = getenv("HOLDFAST_PYTHON");
    const char *reader = getenv("HOLDFAST_READER");
    assert_non_null(python);
    assert_non_null(reader);
    Manifest *manifest = NULL;
    SweepResult swept = {0};
    source_fill(fixture);
    assert_ok(fixture, fixture_publish(fixture, NULL, &manifest));
    for (uint32_t generation = 1; generation < 3; generation++) {
        source_patch(fixture, "long", 100 * EXTENT * (int64_t)generation, 5, 90 + generation);
        for (uint32_t i = 0; i < 300; i++) {
            char path[32];
            snprintf(path, sizeof(path), "many/%u-%u", generation, i);
            source_write(fixture, path, 100 * (int64_t)(i % 5), i + 1);
        }
        assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
    }
    // Most of the seed is not needed any more: its packs are made smaller.
    source_patch(fixture, "long", 20 * EXTENT, 490 * EXTENT, 95);
    assert_ok(fixture, fixture_publish(fixture, manifest, &manifest));
    const char *keep[] = {manifest->id};
    SweepOptions sweep = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 1, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &sweep, &swept,
                                              &fixture->error));
    assert_true(swept.compacted_count > 0);
    write_set(fixture, "0197a000-0000-7000-8000-0000000000b1", manifest);

    char digits[65];
    char line[100];
    CLEANUP_FREE char *repository = string_format("%s/repository", fixture->directory);
    CLEANUP_FREE char *key_file = string_format("%s/key", fixture->directory);
    hex_encode(fixture->wrapping_key.data, fixture->wrapping_key.size, digits);
    int size = snprintf(line, sizeof(line), "holdfast-key-1:%s\n", digits);
    assert_ok(fixture, file_write_atomic(key_file, line, (size_t)size, 0600, &fixture->error));
    const char *arguments[] = {python, "-B", reader, repository, key_file, fixture->restored, NULL};
    ProcessOptions options = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 65536);
    assert_ok(fixture, process_run(&options, 60000, REASON_INTERNAL, &output, &fixture->error));
    CLEANUP_FREE char *restored = string_format("%s/%s", fixture->restored, SHARD_ID);
    assert_string_equal(tree_digest(fixture, restored), tree_digest(fixture, fixture->source));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_second_reader_restores, fixture_set_up_filesystem,
                                        fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
