// SPDX-License-Identifier: Apache-2.0
// Red when REST and gRPC would see different objects, or a request gets past the checks.
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common_test.pb-c.h"
#include "common_test_proto2.pb-c.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

#define EVERYTHING &holdfast__test__everything__descriptor

static Status from_text(Arena *arena, const char *text, Holdfast__Test__Everything **ret_message,
                        Error *error)
{
    Json *json = NULL;
    assert_ok(json_parse(text, strlen(text), &json, error), error);
    ProtobufCMessage *message = NULL;
    Status status = message_from_json(arena, EVERYTHING, json, &message, error);
    json_free(json);
    *ret_message = (Holdfast__Test__Everything *)message;
    return status;
}

static void assert_json(const void *message, const char *expected)
{
    CLEANUP(json_freep) Json *json = message_to_json(message);
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, 65536);
    assert_true(json_write(json, false, &text));
    assert_string_equal(buffer_text(&text), expected);
}

static const char full[] =
    "{\"text\":\"ä\",\"small\":-5,\"natural\":4294967295,\"large\":-9007199254740992,"
    "\"huge\":9007199254740992,\"ratio\":0.1,\"rough\":0.5,\"flag\":true,\"data\":\"_wA\","
    "\"state\":\"data_lost\",\"inner\":{\"name\":\"n\",\"size_bytes\":12,\"children\":[]},"
    "\"at\":\"2026-11-21T08:00:00.250000Z\",\"took\":\"-1.5s\",\"mask\":\"name,policy.schedule\","
    "\"names\":[\"a\",\"\"],\"numbers\":[1,-2],\"inners\":[{\"name\":\"x\",\"size_bytes\":0,"
    "\"children\":[{\"name\":\"y\",\"size_bytes\":1,\"children\":[]}]}],"
    "\"states\":[\"running\",\"other_prefix\"],\"spans\":[\"90s\",\"0.000000001s\"],"
    "\"pieces\":[\"Zg\",\"\"],\"by_number\":0,\"wiggly\":-3,\"fixed\":7,\"flags\":[true,false]}";

static void test_round_trip(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    assert_ok(from_text(arena, full, &message, &error), &error);
    assert_string_equal(message->text, "ä");
    assert_int_equal(message->state, HOLDFAST__TEST__BACKUP_STATE__BACKUP_STATE_DATA_LOST);
    assert_int_equal(message->choice_case, HOLDFAST__TEST__EVERYTHING__CHOICE_BY_NUMBER);
    assert_int_equal(message->at->seconds, 1795248000);
    assert_int_equal(message->at->nanos, 250000000);
    assert_int_equal(message->took->seconds, -1);
    assert_int_equal(message->took->nanos, -500000000);
    assert_int_equal(message->mask->n_paths, 2);
    assert_string_equal(message->mask->paths[1], "policy.schedule");
    assert_int_equal(message->data.len, 2);
    assert_memory_equal(message->data.data, "\xff\0", 2);
    assert_json(message, full);
    // Over the wire and back.
    size_t size = protobuf_c_message_get_packed_size(&message->base);
    CLEANUP_FREE uint8_t *packed = mem_alloc(size);
    assert_int_equal(protobuf_c_message_pack(&message->base, packed), size);
    ProtobufCMessage *again = NULL;
    assert_ok(message_unpack(arena, EVERYTHING, packed, size, &again, &error), &error);
    assert_json(again, full);
}

static void test_defaults(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char defaults[] =
        "{\"text\":\"\",\"small\":0,\"natural\":0,\"large\":0,\"huge\":0,\"ratio\":0,\"rough\":0,"
        "\"flag\":false,\"data\":\"\",\"names\":[],\"numbers\":[],\"inners\":[],\"states\":[],"
        "\"spans\":[],\"pieces\":[],\"wiggly\":0,\"fixed\":0,\"flags\":[]}";
    assert_json(message_new(arena, EVERYTHING), defaults);
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    assert_ok(from_text(arena, "{}", &message, &error), &error);
    assert_json(message, defaults);
    assert_ok(from_text(arena, "{\"text\":null,\"inner\":null,\"names\":null,\"by_name\":null}",
                        &message, &error),
              &error);
    assert_json(message, defaults);
    assert_int_equal(message->choice_case, 0);
    message->text = NULL; // a service that left it out
    assert_json(message, defaults);
    ProtobufCMessage *unpacked = NULL;
    assert_ok(message_unpack(arena, EVERYTHING, NULL, 0, &unpacked, &error), &error);
    assert_json(unpacked, defaults);
}

static void test_presence(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    const char *text = "{\"number\":0,\"flag\":false}";
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(json_parse(text, strlen(text), &json, &error), &error);
    ProtobufCMessage *message = NULL;
    assert_ok(
        message_from_json(arena, &holdfast__test__optional__descriptor, json, &message, &error),
        &error);
    assert_json(message, text);
    assert_json(message_new(arena, &holdfast__test__optional__descriptor), "{}");
}

static void test_duration_units(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    static const struct {
        const char *text;
        int64_t seconds;
        int32_t nanos;
    } cases[] = {{"{\"took\":\"15m\"}", 900, 0},
                 {"{\"took\":\"7d\"}", 604800, 0},
                 {"{\"took\":\"250ms\"}", 0, 250000000},
                 {"{\"took\":\"0s\"}", 0, 0},
                 {"{\"took\":\"-0.25s\"}", 0, -250000000}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_ok(from_text(arena, cases[i].text, &message, &error), &error);
        assert_int_equal(message->took->seconds, cases[i].seconds);
        assert_int_equal(message->took->nanos, cases[i].nanos);
    }
    assert_ok(
        from_text(arena, "{\"at\":\"1969-12-31T23:59:59.5Z\",\"mask\":\"\"}", &message, &error),
        &error);
    assert_int_equal(message->at->seconds, -1);
    assert_int_equal(message->at->nanos, 500000000);
    assert_int_equal(message->mask->n_paths, 0);
}

typedef struct Refusal {
    const char *text;
    const char *field;
    const char *message;
} Refusal;

static const Refusal refusals[] = {
    {"[]", "", "expected an object, not a list"},
    {"{\"txet\":1}", "txet", "field 'txet': there is no such field"},
    {"{\"text\":1}", "text", "field 'text': expected a text, not a number"},
    {"{\"small\":\"1\"}", "small", "field 'small': expected a whole number, not a text"},
    {"{\"small\":1.5}", "small", "field 'small': expected a whole number, not 1.5"},
    {"{\"small\":2147483648}", "small", "field 'small': the number is out of range"},
    {"{\"small\":-2147483649}", "small", "field 'small': the number is out of range"},
    {"{\"natural\":-1}", "natural", "field 'natural': the number is out of range"},
    {"{\"natural\":4294967296}", "natural", "field 'natural': the number is out of range"},
    {"{\"large\":1e30}", "large", "field 'large': the number is out of range"},
    {"{\"large\":9007199254740994}", "large", "field 'large': the number is out of range"},
    {"{\"huge\":-1}", "huge", "field 'huge': the number is out of range"},
    {"{\"ratio\":true}", "ratio", "field 'ratio': expected a number, not a boolean"},
    {"{\"rough\":1e300}", "rough", "field 'rough': the number is out of range"},
    {"{\"flag\":1}", "flag", "field 'flag': expected true or false, not a number"},
    {"{\"data\":\"*\"}", "data", "field 'data': the text is not base64url without padding"},
    {"{\"state\":\"RUNNING\"}", "state", "field 'state': 'RUNNING' is not a value of this field"},
    {"{\"state\":\"unspecified\"}", "state",
     "field 'state': 'unspecified' is not a value of this field"},
    {"{\"state\":1}", "state", "field 'state': expected a word, not a number"},
    {"{\"inner\":\"x\"}", "inner", "field 'inner': expected an object, not a text"},
    {"{\"inner\":{\"size_bytes\":{}}}", "inner.size_bytes",
     "field 'inner.size_bytes': expected a whole number, not an object"},
    {"{\"inners\":[{},{\"children\":[{\"name\":[]}]}]}", "inners[1].children[0].name",
     "field 'inners[1].children[0].name': expected a text, not a list"},
    {"{\"names\":\"a\"}", "names", "field 'names': expected a list, not a text"},
    {"{\"names\":[\"a\",null]}", "names[1]", "field 'names[1]': expected a text, not null"},
    {"{\"at\":\"yesterday\"}", "at",
     "field 'at': expected a time such as \"2026-01-31T08:00:00Z\", not 'yesterday'"},
    {"{\"at\":0}", "at",
     "field 'at': expected a time such as \"2026-01-31T08:00:00Z\", not a number"},
    {"{\"took\":\"90\"}", "took", "field 'took': expected a duration such as \"90s\", not '90'"},
    {"{\"took\":\"315576000001s\"}", "took",
     "field 'took': expected a duration such as \"90s\", not '315576000001s'"},
    {"{\"took\":\"1.s\"}", "took", "field 'took': expected a duration such as \"90s\", not '1.s'"},
    {"{\"mask\":\"a,,b\"}", "mask",
     "field 'mask': expected field names separated by commas, not 'a,,b'"},
    {"{\"by_name\":\"a\",\"by_number\":1}", "by_number",
     "field 'by_number': another field that excludes this one is given too"},
};

static void test_refusals(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        Error error = {0};
        Holdfast__Test__Everything *message = NULL;
        Status status = from_text(arena, refusals[i].text, &message, &error);
        assert_error(status, &error, REASON_INVALID, refusals[i].message);
        assert_string_equal(error.field, refusals[i].field);
    }
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    assert_int_not_equal(from_text(arena, "{\"txet\":1}", &message, &error), STATUS_OK);
    assert_string_equal(error.hint, "did you mean 'text'?");
    assert_int_not_equal(from_text(arena, "{\"state\":\"x\"}", &message, &error), STATUS_OK);
    assert_string_equal(error.hint, "use one of 'running', 'data_lost', 'other_prefix'");
}

static void test_limits(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, 1024 * 1024);
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    for (int extra = 0; extra < 2; extra++) {
        buffer_clear(&text);
        buffer_append_text(&text, "{\"text\":\"");
        for (int i = 0; i < LIMIT_TEXT_BYTES + extra; i++) {
            buffer_append_text(&text, "x");
        }
        buffer_append_text(&text, "\"}");
        Status status = from_text(arena, buffer_text(&text), &message, &error);
        assert_int_equal(status, extra == 0 ? STATUS_OK : STATUS_INVALID_ARGUMENT);
        buffer_clear(&text);
        buffer_append_text(&text, "{\"numbers\":[0");
        for (int i = 1; i < LIMIT_LIST_COUNT + extra; i++) {
            buffer_append_text(&text, ",0");
        }
        buffer_append_text(&text, "]}");
        status = from_text(arena, buffer_text(&text), &message, &error);
        assert_int_equal(status, extra == 0 ? STATUS_OK : STATUS_INVALID_ARGUMENT);
    }
    assert_string_equal(error.message, "field 'numbers': the list has more than 4096 items");
}

static void refuse_bytes(const void *data, size_t size, const char *message, const char *field)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    ProtobufCMessage *result = NULL;
    Status status = message_unpack(arena, EVERYTHING, data, size, &result, &error);
    assert_error(status, &error, REASON_INVALID, message);
    assert_string_equal(error.field, field);
    assert_null(result);
}

static void test_unpack_refusals(void **state)
{
    (void)state;
    refuse_bytes("\x0a\x02\xff\xfe", 4, "the bytes are not a Everything: a text is not UTF-8",
                 "text");
    refuse_bytes("\x0a\x02\x61\x00", 4, "the bytes are not a Everything: a text contains NUL",
                 "text");
    refuse_bytes("\x5a\x03\x0a\x01\x80", 5, "the bytes are not a Everything: a text is not UTF-8",
                 "name");
    refuse_bytes("\x7a\x01\x80", 3, "the bytes are not a Everything: a text is not UTF-8", "names");
    refuse_bytes("\x0a\x05\x61", 3, "the bytes are not a Everything: a field is cut off", "");
    refuse_bytes("\x0a", 1, "the bytes are not a Everything: a field is cut off", "");
    refuse_bytes("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12,
                 "the bytes are not a Everything: a field is cut off", "");
    refuse_bytes("\x00\x01", 2, "the bytes are not a Everything: a field's tag is wrong", "");
    refuse_bytes("\x0b\x0c", 2, "the bytes are not a Everything: an unknown wire type", "");
    refuse_bytes("\x08\x01", 2, "the bytes are not a Everything", ""); // a text as a number
    refuse_bytes("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11,
                 "the bytes are not a Everything: a field is cut off", "");
}

// A depth bomb: each level is a length-prefixed child of the one before.
static void test_unpack_depth(void **state)
{
    (void)state;
    for (int depth = 10; depth <= 200000; depth *= 20) {
        size_t capacity = (size_t)depth * 5 + 8;
        CLEANUP_FREE uint8_t *bomb = mem_alloc(capacity);
        size_t start = capacity;
        for (int i = 0; i < depth; i++) {
            size_t size = capacity - start;
            uint8_t head[8];
            size_t head_size = 0;
            head[head_size++] = i == depth - 1 ? 0x5a : 0x1a; // Everything.inner, Inner.children
            do {
                head[head_size++] = (uint8_t)((size & 0x7f) | (size > 0x7f ? 0x80 : 0));
                size >>= 7;
            } while (size > 0);
            start -= head_size;
            memcpy(bomb + start, head, head_size);
        }
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Error error = {0};
        ProtobufCMessage *message = NULL;
        Status status =
            message_unpack(arena, EVERYTHING, bomb + start, capacity - start, &message, &error);
        if (depth <= LIMIT_JSON_DEPTH) {
            assert_ok(status, &error);
        } else {
            assert_error(status, &error, REASON_INVALID,
                         "the bytes are not a Everything: nested too deeply");
        }
    }
}

static void test_unpack_count(void **state)
{
    (void)state;
    size_t size = 2 * (LIMIT_MESSAGE_FIELD_COUNT + 1);
    CLEANUP_FREE uint8_t *many = mem_alloc(size);
    for (size_t i = 0; i < size; i += 2) {
        memcpy(many + i, "\x5a\x00", 2); // an empty `inner`
    }
    refuse_bytes(many, size, "the bytes are not a Everything: too many fields", "");
}

// Whatever bytes come, unpacking ends well, and what it accepts can be written.
static void test_unpack_random_bytes(void **state)
{
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error error = {0};
    Holdfast__Test__Everything *message = NULL;
    assert_ok(from_text(arena, full, &message, &error), &error);
    uint8_t packed[1024];
    size_t size = protobuf_c_message_get_packed_size(&message->base);
    assert_true(size <= sizeof(packed));
    protobuf_c_message_pack(&message->base, packed);
    unsigned seed = 1;
    int accepted_count = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t changed[1024];
        memcpy(changed, packed, size);
        for (int i = rand_r(&seed) % 3; i >= 0; i--) {
            changed[(size_t)rand_r(&seed) % size] = (uint8_t)rand_r(&seed);
        }
        arena_reset(arena);
        ProtobufCMessage *result = NULL;
        size_t cut = rand_r(&seed) % 4 == 0 ? (size_t)rand_r(&seed) % size : size;
        if (message_unpack(arena, EVERYTHING, changed, cut, &result, &error) == STATUS_OK) {
            accepted_count++;
            json_free(message_to_json(result));
        }
    }
    assert_true(accepted_count > 100);
}

static void test_enum_words(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *descriptor = &holdfast__test__backup_state__descriptor;
    char storage[64];
    assert_string_equal(enum_word(descriptor, 5, storage, sizeof(storage)), "data_lost");
    assert_string_equal(enum_word(descriptor, 7, storage, sizeof(storage)), "other_prefix");
    assert_null(enum_word(descriptor, 0, storage, sizeof(storage)));
    assert_null(enum_word(descriptor, 99, storage, sizeof(storage)));
    assert_null(enum_word(descriptor, 5, storage, 9));
    int value = 0;
    assert_true(enum_from_word(descriptor, "running", &value));
    assert_int_equal(value, 1);
    assert_false(enum_from_word(descriptor, "backup_state_running", &value));
    assert_false(enum_from_word(descriptor, NULL, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_presence),        cmocka_unit_test(test_duration_units),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_unpack_refusals), cmocka_unit_test(test_unpack_depth),
        cmocka_unit_test(test_unpack_count),    cmocka_unit_test(test_unpack_random_bytes),
        cmocka_unit_test(test_enum_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
