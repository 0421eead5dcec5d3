// SPDX-License-Identifier: Apache-2.0
// What only a filesystem has: leftovers of killed writers, permissions, links. If this goes red, a
// kill -9 leaves garbage, or a refusal does not tell its cure.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "storage/storage_drivers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

typedef struct Fixture {
    Storage *storage;
    Error error;
    char directory[64];
} Fixture;

static int set_up(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-storage-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    assert_int_equal(storage_filesystem_new(fixture->directory, &fixture->storage, &fixture->error),
                     STATUS_OK);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    storage_free(fixture->storage);
    assert_int_equal(dir_remove_all(fixture->directory, &fixture->error), STATUS_OK);
    mem_free(fixture);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    Error error = {0};
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, &error), STATUS_OK);
}

static void test_leftovers_of_dead_writers_go(void **state)
{
    Fixture *fixture = *state;
    StorageWriter *writer = NULL;
    assert_int_equal(storage_writer_open(fixture->storage, "live", NULL, &writer, &fixture->error),
                     STATUS_OK);
    // A dead writer's file is one that nobody holds a lock on.
    CLEANUP_FREE char *path = string_format("%s/.tmp/dead", fixture->directory);
    write_file(path, "half");
    int64_t removed_count = 0;
    assert_int_equal(storage_remove_stale(fixture->storage, &removed_count, &fixture->error),
                     STATUS_OK);
    assert_int_equal(removed_count, 1);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(storage_writer_write(writer, "x", 1, &fixture->error), STATUS_OK);
    assert_int_equal(storage_writer_commit(writer, &fixture->error), STATUS_OK);
    StorageObject object;
    assert_int_equal(storage_stat(fixture->storage, "live", &object, &fixture->error), STATUS_OK);
    assert_int_equal(object.size_bytes, 1);
}

// Large pieces go past the page cache, which has rules of its own on places and sizes: whatever
// they are, what is read is what was written.
static void test_large_pieces_at_any_place(void **state)
{
    Fixture *fixture = *state;
    static const struct {
        size_t memory_offset, size;
    } pieces[] = {{0, 2 << 20}, {0, (1 << 20) + 5}, {0, 2 << 20},      {0, 4091},
                  {0, 1 << 20}, {7, 1 << 20},       {0, (3 << 20) + 1}};
    const size_t capacity = 4 << 20;
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(DIRECT_ALIGNMENT, capacity);
    CLEANUP_FREE uint8_t *expected = mem_alloc(4 * capacity);
    CLEANUP_FREE uint8_t *found = mem_alloc(4 * capacity);
    crypto_random(data, capacity);
    StorageWriter *writer = NULL;
    size_t size = 0;
    assert_int_equal(storage_writer_open(fixture->storage, "large", NULL, &writer, &fixture->error),
                     STATUS_OK);
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        const uint8_t *piece = data + pieces[i].memory_offset;
        assert_int_equal(storage_writer_write(writer, piece, pieces[i].size, &fixture->error),
                         STATUS_OK);
        memcpy(expected + size, piece, pieces[i].size);
        size += pieces[i].size;
    }
    assert_int_equal(storage_writer_commit(writer, &fixture->error), STATUS_OK);
    StorageObject object;
    assert_int_equal(storage_stat(fixture->storage, "large", &object, &fixture->error), STATUS_OK);
    assert_int_equal(object.size_bytes, size);
    assert_int_equal(storage_get_range(fixture->storage, "large", 0, size, found, &fixture->error),
                     STATUS_OK);
    assert_memory_equal(found, expected, size);
}

static void test_what_is_not_an_object_is_not_listed(void **state)
{
    Fixture *fixture = *state;
    assert_int_equal(storage_put(fixture->storage, "a/object", "x", 1, NULL, &fixture->error),
                     STATUS_OK);
    CLEANUP_FREE char *link_path = string_format("%s/a/link", fixture->directory);
    CLEANUP_FREE char *odd_path = string_format("%s/lost+found", fixture->directory);
    CLEANUP_FREE char *secret_path = string_format("%s/a/object", fixture->directory);
    assert_int_equal(symlink(secret_path, link_path), 0);
    write_file(odd_path, "odd");
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoragePage page;
    assert_int_equal(storage_list(fixture->storage, "", NULL, 10, arena, &page, &fixture->error),
                     STATUS_OK);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.objects[0].key, "a/object");
    // A link is nobody's object: it is not followed out of the repository.
    uint8_t *data = NULL;
    size_t size = 0;
    assert_int_not_equal(
        storage_get(fixture->storage, "a/link", 10, arena, &data, &size, &fixture->error),
        STATUS_OK);
}

static void test_empty_directories_go_with_their_last_object(void **state)
{
    Fixture *fixture = *state;
    assert_int_equal(storage_put(fixture->storage, "s/1/p/x", "x", 1, NULL, &fixture->error),
                     STATUS_OK);
    assert_int_equal(storage_remove(fixture->storage, "s/1/p/x", &fixture->error), STATUS_OK);
    CLEANUP_FREE char *path = string_format("%s/s", fixture->directory);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(access(fixture->directory, F_OK), 0);
}

static void test_a_place_that_cannot_be_written_names_the_cure(void **state)
{
    Fixture *fixture = *state;
    if (geteuid() != 0) {
        skip(); // only root can become somebody who may not write here
    }
    assert_int_equal(seteuid(65534), 0);
    Status status = storage_put(fixture->storage, "k", "v", 1, NULL, &fixture->error);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_REPOSITORY_UNWRITABLE);
    assert_non_null(strstr(fixture->error.hint, "let user id 65534 write to"));
}

static void test_a_file_in_the_way(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *path = string_format("%s/file", fixture->directory);
    write_file(path, "x");
    Storage *storage = NULL;
    assert_int_equal(storage_filesystem_new(path, &storage, &fixture->error), STATUS_OK);
    assert_int_equal(storage_put(storage, "k", "v", 1, NULL, &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_REPOSITORY_UNWRITABLE);
    storage_free(storage);
}

static void test_locations(void **state)
{
    Fixture *fixture = *state;
    const char *bad[] = {"relative/path", "ftp://bucket", "file://host/x", "/", "", "file:///"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        Storage *storage = NULL;
        assert_int_equal(
            storage_open(&(StorageOptions){.location = bad[i]}, &storage, &fixture->error),
            STATUS_INVALID_ARGUMENT);
        assert_null(storage);
    }
    Storage *storage = NULL;
    assert_int_equal(
        storage_open(&(StorageOptions){.location = "/var/backups//"}, &storage, &fixture->error),
        STATUS_OK);
    assert_string_equal(storage_describe(storage), "file:///var/backups");
    storage_free(storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_leftovers_of_dead_writers_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_pieces_at_any_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_an_object_is_not_listed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_empty_directories_go_with_their_last_object, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_place_that_cannot_be_written_names_the_cure, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_in_the_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_locations, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
