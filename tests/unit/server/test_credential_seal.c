// SPDX-License-Identifier: Apache-2.0
// If this goes red, passwords at rest are lost, or open with what should not open them.
#include "server/service/credential_seal.h"
#include "tests/harness/harness.h"

#include <string.h>

#define ID "01890000-0000-7000-8000-000000000001"
#define OTHER_ID "01890000-0000-7000-8000-000000000002"

static void test_opens_only_with_its_key_and_id(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret key = secret_from_text("0123456789abcdef0123456789abcdef");
    CLEANUP(secret_done) Secret other = secret_from_text("0123456789abcdef0123456789abcdeX");
    size_t size = 0;
    const uint8_t *made = credential_seal(&key, ID, "hunter2", arena, &size);
    uint8_t *sealed = arena_copy(arena, made, size); // to be changed
    assert_null(memmem(sealed, size, "hunter2", 7));
    Error error = {0};
    CLEANUP(secret_done) Secret password = {0};
    assert_ok(credential_unseal(&key, ID, sealed, size, &password, &error), &error);
    assert_string_equal(secret_text(&password), "hunter2");
    Secret none = {0};
    const char *message = "a credential cannot be opened with this server's secret key";
    assert_error(credential_unseal(&other, ID, sealed, size, &none, &error), &error,
                 REASON_KEY_WRONG, message);
    assert_error(credential_unseal(&key, OTHER_ID, sealed, size, &none, &error), &error,
                 REASON_KEY_WRONG, message);
    for (size_t i = 0; i < size; i++) {
        sealed[i] ^= 1;
        assert_int_not_equal(credential_unseal(&key, ID, sealed, size, &none, &error), STATUS_OK);
        sealed[i] ^= 1;
        assert_int_not_equal(credential_unseal(&key, ID, sealed, i, &none, &error), STATUS_OK);
    }
}

static void test_seals_differently_each_time(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret key = secret_from_text("0123456789abcdef0123456789abcdef");
    size_t size = 0;
    const uint8_t *first = credential_seal(&key, ID, "same", arena, &size);
    const uint8_t *second = credential_seal(&key, ID, "same", arena, &size);
    assert_memory_not_equal(first, second, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_only_with_its_key_and_id),
        cmocka_unit_test(test_seals_differently_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
