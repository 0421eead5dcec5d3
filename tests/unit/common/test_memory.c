// SPDX-License-Identifier: Apache-2.0
// Red when heap, arena or buffer give memory that overlaps, is not zeroed, or passes its limit.
#include "common/arena.h"
#include "common/buffer.h"
#include "common/memory.h"
#include "common/secret.h"
#include "tests/harness/harness.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

static void test_heap(void **state)
{
    (void)state;
    CLEANUP_FREE char *zeroed = mem_alloc(100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    CLEANUP_FREE int *numbers = mem_alloc_array(4, sizeof(int));
    numbers[3] = 7;
    numbers = mem_realloc_array(numbers, 4000, sizeof(int));
    assert_int_equal(numbers[3], 7);
    CLEANUP_FREE char *text = string_format("%s-%d", "a", 12);
    assert_string_equal(text, "a-12");
    CLEANUP_FREE char *part = string_copy_n("abcdef", 3);
    assert_string_equal(part, "abc");
    assert_null(string_copy(NULL));
    char *moved = TAKE_PTR(text);
    assert_null(text);
    mem_freep(&moved);
    assert_null(moved);
    mem_free(mem_alloc(0)); // never NULL
}

static void test_arena_pieces(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (int round = 0; round < 3; round++) {
        uint8_t *pieces[200];
        for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
            size_t size = i * 37 % 9000;
            pieces[i] = arena_alloc(arena, size);
            assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
            for (size_t j = 0; j < size; j++) {
                assert_int_equal(pieces[i][j], 0);
            }
            memset(pieces[i], (int)i, size);
        }
        for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
            for (size_t j = 0; j < i * 37 % 9000; j++) {
                assert_int_equal(pieces[i][j], (uint8_t)i);
            }
        }
        uint8_t *large = arena_alloc(arena, 3 * 1024 * 1024);
        memset(large, 1, 3 * 1024 * 1024);
        arena_reset(arena);
    }
    assert_string_equal(arena_format(arena, "%d/%s", 5, "x"), "5/x");
    assert_string_equal(arena_string_n(arena, "abcdef", 2), "ab");
    assert_null(arena_string(arena, NULL));
    assert_memory_equal(arena_copy(arena, "\0\1\2", 3), "\0\1\2", 3);
    int *numbers = arena_alloc_array(arena, 10, sizeof(int));
    assert_int_equal(numbers[9], 0);
    arena_free(NULL);
}

static void test_buffer_limit(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer buffer = {0};
    assert_string_equal(buffer_text(&buffer), "");
    buffer_init(&buffer, 10);
    assert_true(buffer_append(&buffer, "12345", 5));
    assert_true(buffer_append_format(&buffer, "%d", 6789));
    assert_false(buffer.is_overflowed);
    assert_false(buffer_append(&buffer, "ab", 2));
    assert_true(buffer.is_overflowed);
    assert_string_equal(buffer_text(&buffer), "123456789");
    assert_false(buffer_append(&buffer, "a", 1)); // would fit, but would follow a hole
    buffer_clear(&buffer);
    assert_string_equal(buffer_text(&buffer), "");
    assert_true(buffer_append_text(&buffer, "0123456789"));
    assert_false(buffer_append_format(&buffer, "%s", "x"));
    CLEANUP_FREE char *taken = buffer_take_text(&buffer);
    assert_string_equal(taken, "0123456789");
    assert_int_equal(buffer.size, 0);
    assert_true(buffer_append_text(&buffer, "again"));
    assert_false(buffer_reserve(&buffer, 6));
    assert_true(buffer_reserve(&buffer, 5));
}

static void test_buffer_growth_and_numbers(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer buffer = {0};
    buffer_init(&buffer, 1024 * 1024);
    for (int i = 0; i < 100000; i++) {
        assert_true(buffer_append(&buffer, "abcdefgh", 8));
    }
    assert_int_equal(buffer.size, 800000);
    assert_int_equal(strlen(buffer_text(&buffer)), 800000);
    buffer_clear(&buffer);
    buffer_append_u32(&buffer, 0x01020304u);
    buffer_append_u64(&buffer, 0x1112131415161718u);
    assert_memory_equal(buffer.data, "\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11", 12);
    CLEANUP(buffer_done) Buffer empty = {0};
    buffer_init(&empty, 0);
    assert_true(buffer_append(&empty, "", 0));
    assert_false(buffer_append(&empty, "a", 1));
    CLEANUP_FREE char *text = buffer_take_text(&empty);
    assert_string_equal(text, "");
}

static void test_secret(void **state)
{
    (void)state;
    Secret secret = secret_from_text("hunter2");
    Secret copy = secret_copy(&secret);
    assert_string_equal(secret_text(&copy), "hunter2");
    assert_int_equal(copy.size, 7);
    assert_ptr_not_equal(copy.data, secret.data);
    secret_done(&secret);
    assert_null(secret.data);
    assert_string_equal(secret_text(&secret), "");
    secret_done(&secret); // twice is fine
    secret_done(&copy);
    Secret none = secret_from_text(NULL);
    assert_int_equal(none.size, 0);
    Secret nothing = secret_copy(&none);
    assert_null(nothing.data);
    char text[] = "password";
    secret_wipe_text(text);
    assert_memory_equal(text, "\0\0\0\0\0\0\0\0", 9);
    secret_wipe_text(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap),         cmocka_unit_test(test_arena_pieces),
        cmocka_unit_test(test_buffer_limit), cmocka_unit_test(test_buffer_growth_and_numbers),
        cmocka_unit_test(test_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
