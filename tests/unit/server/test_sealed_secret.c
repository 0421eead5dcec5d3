// SPDX-License-Identifier: Apache-2.0
// Secrets at rest. If this goes red, a sealed secret opens where it must not, or not where it must.
#include "common/crypto.h"
#include "common/memory.h"
#include "server/service/sealed_secret.h"
#include "tests/harness/harness.h"

#include <string.h>

static const char PLAIN[] = "-----BEGIN PRIVATE KEY-----";

static void test_opens_with_its_key_and_label_only(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret key = secret_from_text("0123456789abcdef0123456789abcdef");
    CLEANUP(secret_done) Secret other = secret_from_text("0123456789abcdef0123456789abcdeF");
    CLEANUP(secret_done) Secret plain = {0};
    const uint8_t *sealed = NULL;
    size_t size = 0;
    Error error = {0};
    secret_seal(arena, &key, "certificate", PLAIN, sizeof(PLAIN), &sealed, &size);
    assert_null(memmem(sealed, size, PLAIN, 8));
    assert_ok(secret_unseal(&key, "certificate", sealed, size, &plain, &error), &error);
    assert_int_equal(plain.size, sizeof(PLAIN));
    assert_memory_equal(plain.data, PLAIN, sizeof(PLAIN));
    Secret unused = {0};
    assert_int_equal(secret_unseal(&other, "certificate", sealed, size, &unused, &error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_KEY_WRONG);
    assert_int_equal(secret_unseal(&key, "key-check", sealed, size, &unused, &error),
                     STATUS_FAILED_PRECONDITION);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_not_equal(secret_unseal(&key, "certificate", sealed, cut, &unused, &error),
                             STATUS_OK);
    }
    assert_null(unused.data);
}

static void test_derives_alike_everywhere(void **state)
{
    (void)state;
    CLEANUP(secret_done) Secret key = secret_from_text("0123456789abcdef0123456789abcdef");
    CLEANUP(secret_done) Secret first = secret_derive(&key, "join:1");
    CLEANUP(secret_done) Secret again = secret_derive(&key, "join:1");
    CLEANUP(secret_done) Secret other = secret_derive(&key, "join:2");
    assert_int_equal(first.size, 64);
    assert_string_equal(secret_text(&first), secret_text(&again));
    assert_string_not_equal(secret_text(&first), secret_text(&other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_with_its_key_and_label_only),
        cmocka_unit_test(test_derives_alike_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
