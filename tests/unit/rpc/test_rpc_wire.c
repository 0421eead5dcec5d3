// SPDX-License-Identifier: Apache-2.0
// When this is red, errors lose or garble their reason, field or hint between the two ends of gRPC.
#include "common/rpc/rpc_internal.h"

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

static void test_values_survive_the_encoding(void **state)
{
    (void)state;
    const char *texts[] = {
        "", "plain", "100%", "%41", "a\nb\tc", "gr\xc3\xbc\xc3\x9f", "\x01\x7f\xff"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        grpc_slice slice = rpc_encode_value(texts[i]);
        char *encoded = rpc_slice_text(arena, slice);
        for (const char *at = encoded; *at != '\0'; at++) {
            assert_in_range(*at, ' ', '~');
        }
        assert_true(grpc_header_nonbin_value_is_legal(slice));
        rpc_decode_value(encoded);
        assert_string_equal(encoded, texts[i]);
        grpc_slice_unref(slice);
    }
}

static void test_broken_encodings_are_left_alone(void **state)
{
    (void)state;
    const char *texts[] = {"%", "%4", "%zz", "%00", "x%"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        char text[8] = "";
        (void)snprintf(text, sizeof(text), "%s", texts[i]);
        rpc_decode_value(text);
        assert_string_equal(text, texts[i]);
    }
}

static Status error_from(Error *error, grpc_status_code code, const char *message,
                         const char *reason)
{
    grpc_metadata entries[] = {
        {.key = grpc_slice_from_static_string(RPC_METADATA_REASON),
         .value = grpc_slice_from_static_string(reason)},
        {.key = grpc_slice_from_static_string(RPC_METADATA_HINT),
         .value = grpc_slice_from_static_string("100%25")},
    };
    grpc_metadata_array trailing = {
        .count = reason[0] == '\0' ? 0 : ARRAY_COUNT(entries), .capacity = 2, .metadata = entries};
    return rpc_error_from_status(error, "host:1", code, grpc_slice_from_static_string(message),
                                 &trailing);
}

static void test_statuses_become_errors(void **state)
{
    (void)state;
    Error error = {0};
    assert_int_equal(error_from(&error, GRPC_STATUS_FAILED_PRECONDITION, "m", "key-wrong"),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(error.reason, REASON_KEY_WRONG);
    assert_string_equal(error.message, "m");
    assert_string_equal(error.hint, "100%");
    // A reason that a newer server made up: the status still says enough.
    assert_int_equal(error_from(&error, GRPC_STATUS_NOT_FOUND, "m", "a-new-one"), STATUS_NOT_FOUND);
    assert_int_equal(error.reason, REASON_NOT_FOUND);
    assert_int_equal(error_from(&error, GRPC_STATUS_DATA_LOSS, "m", ""), STATUS_DATA_LOSS);
    assert_int_equal(error_from(&error, GRPC_STATUS_UNKNOWN, "m", ""), STATUS_UNKNOWN);
    assert_int_equal(error_from(&error, (grpc_status_code)99, "m", ""), STATUS_INTERNAL);
    assert_int_equal(error_from(&error, GRPC_STATUS_OK, "", ""), STATUS_UNAVAILABLE);
    assert_int_equal(error.reason, REASON_UNAVAILABLE);
    assert_int_equal(error_from(&error, GRPC_STATUS_UNAVAILABLE, "refused", ""),
                     STATUS_UNAVAILABLE);
    assert_string_equal(error.message, "'host:1' cannot be reached: refused");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_survive_the_encoding),
        cmocka_unit_test(test_broken_encodings_are_left_alone),
        cmocka_unit_test(test_statuses_become_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
