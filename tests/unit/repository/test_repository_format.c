// SPDX-License-Identifier: Apache-2.0
// The codecs. If this goes red, this version writes or reads other bytes than
// docs/repository-format.md says, or believes bytes that it should not.
#include "common/memory.h"
#include "repository/repository_format.h"

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

static Ref make_ref(void)
{
    Ref ref = {.pack = {.epoch = 0x01020304},
               .index = 7,
               .offset = 1000,
               .stored_size = 116,
               .plain_size = 200,
               .kind = BLOB_EXTENT,
               .encoding = ENCODING_ZSTD};
    memset(ref.hash, 0xaa, sizeof(ref.hash));
    memset(ref.pack.id, 0xbb, sizeof(ref.pack.id));
    return ref;
}

static void test_a_ref_has_these_bytes(void **state)
{
    (void)state;
    uint8_t data[REF_SIZE];
    Ref ref = make_ref();
    Ref decoded;
    ref_encode(&ref, data);
    char text[2 * REF_SIZE + 1];
    hex_encode(data, sizeof(data), text);
    assert_string_equal(text, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                              "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                              "0403020107000000e803000074000000c800000001010000");
    assert_true(ref_decode(data, &decoded));
    assert_memory_equal(&decoded, &ref, sizeof(ref));
}

static void test_impossible_refs_are_refused(void **state)
{
    (void)state;
    const Ref good = make_ref();
    Ref refs[12];
    for (size_t i = 0; i < ARRAY_COUNT(refs); i++) {
        refs[i] = good;
    }
    refs[0].plain_size = 0;
    refs[1].plain_size = EXTENT_SIZE + 1;
    refs[2].stored_size = 16;
    refs[3].stored_size = 217;
    refs[4].encoding = ENCODING_RAW;
    refs[5].index = PACK_BLOB_COUNT_MAX;
    refs[6].offset = PACK_HEADER_SIZE - 1;
    refs[7].offset = PACK_SIZE_MAX - 100;
    refs[8].kind = BLOB_INDEX;
    refs[9].encoding = (Encoding)2;
    refs[10].kind = BLOB_ZERO; // but with other bytes
    refs[11].kind = BLOB_NODE;
    refs[11].plain_size = BLOB_SIZE_MAX + 1;
    for (size_t i = 0; i < ARRAY_COUNT(refs); i++) {
        uint8_t data[REF_SIZE];
        Ref decoded;
        ref_encode(&refs[i], data);
        assert_false(ref_decode(data, &decoded));
    }
    uint8_t zeros[REF_SIZE] = {0};
    Ref zero;
    assert_true(ref_decode(zeros, &zero));
    assert_int_equal(zero.kind, BLOB_ZERO);
}

static void test_names(void **state)
{
    (void)state;
    PackName name;
    char text[PACK_NAME_SIZE];
    assert_true(pack_name_decode("0000002a-0197a000-0000-7000-8000-0000000000ff", &name));
    assert_int_equal(name.epoch, 42);
    assert_int_equal(name.id[15], 0xff);
    pack_name_encode(&name, text);
    assert_string_equal(text, "0000002a-0197a000-0000-7000-8000-0000000000ff");
    const char *bad[] = {"",
                         "2a-0197a000-0000-7000-8000-0000000000ff",
                         "0000002A-0197a000-0000-7000-8000-0000000000ff",
                         "0000002a_0197a000-0000-7000-8000-0000000000ff",
                         "0000002a-0197A000-0000-7000-8000-0000000000ff",
                         "0000002a-0197a000-0000-7000-8000-0000000000ff0",
                         "../../../0197a000-0000-7000-8000-0000000000ff"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(pack_name_decode(bad[i], &name));
    }
}

static void test_paths(void **state)
{
    (void)state;
    char long_path[LIST_PATH_SIZE_MAX + 2];
    memset(long_path, 'x', sizeof(long_path));
    for (size_t i = 200; i < sizeof(long_path); i += 200) {
        long_path[i] = '/';
    }
    long_path[LIST_PATH_SIZE_MAX + 1] = '\0';
    assert_false(list_path_is_valid(long_path));
    long_path[LIST_PATH_SIZE_MAX] = '\0';
    assert_true(list_path_is_valid(long_path));
    const char *bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"};
    const char *good[] = {"a", "...", "a/.b", "a/..b", "base/1/2", "a b", "\xc3\xa4"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(list_path_is_valid(bad[i]));
    }
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_true(list_path_is_valid(good[i]));
    }
}

static void test_map_shapes(void **state)
{
    (void)state;
    assert_int_equal(extent_count_of(0), 0);
    assert_int_equal(extent_count_of(1), 1);
    assert_int_equal(extent_count_of(32768), 1);
    assert_int_equal(extent_count_of(32769), 2);
    const struct {
        int fan_out, depth;
        int64_t extent_count;
    } shapes[] = {
        {512, 0, 0},         {512, 0, 1},
        {512, 1, 2},         {512, 1, 512},
        {512, 2, 513},       {512, 2, 512 * 512},
        {512, 3, 262145},    {512, 4, INT64_C(1) << 36},
        {64, 0, 0},          {64, 0, 1},
        {64, 1, 2},          {64, 1, 64},
        {64, 2, 65},         {64, 2, 64 * 64},
        {64, 3, 4097},       {64, 3, 64 * 64 * 64},
        {64, 4, 262145},     {64, 4, 1 << 24},
        {64, 5, 16777217},   {64, 5, 1 << 30},
        {64, 6, 1073741825}, {64, 6, INT64_C(1) << 36},
    };
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        assert_int_equal(map_depth(shapes[i].fan_out, shapes[i].extent_count), shapes[i].depth);
    }
    assert_int_equal(extent_count_of(FILE_SIZE_MAX), INT64_C(1) << 36);
    assert_int_equal(map_width(512, 513, 1), 2);
    assert_int_equal(map_width(64, 513, 1), 9);
    assert_int_equal(map_width(64, 513, 2), 1);
    assert_int_equal(map_span(512, 2), 512 * 512);
    assert_int_equal(map_span(64, 2), 64 * 64);
}

static void test_list_entries(void **state)
{
    (void)state;
    CLEANUP(buffer_done) Buffer buffer = {0};
    buffer_init(&buffer, 10000);
    ListEntry file = {.kind = ENTRY_FILE, .mode = 0640, .size_bytes = 200, .path = "base/1"};
    file.data_bytes = 200;
    file.root = make_ref();
    ListEntry directory = {.kind = ENTRY_DIRECTORY, .mode = 0700, .path = "base"};
    list_entry_encode(&directory, &buffer);
    list_entry_encode(&file, &buffer);
    assert_int_equal(buffer.size, 24 + 4 + 24 + 56 + 6);
    ListEntry decoded;
    size_t offset = 0;
    assert_true(list_entry_decode(MAP_FAN_OUT, buffer.data, buffer.size, &offset, &decoded));
    assert_string_equal(decoded.path, "base");
    assert_int_equal(decoded.kind, ENTRY_DIRECTORY);
    assert_true(list_entry_decode(MAP_FAN_OUT, buffer.data, buffer.size, &offset, &decoded));
    assert_string_equal(decoded.path, "base/1");
    assert_int_equal(decoded.size_bytes, 200);
    assert_int_equal(decoded.data_bytes, 200);
    assert_int_equal(decoded.mode, 0640);
    assert_int_equal(offset, buffer.size);
    // Whatever is cut off or has one byte changed either fails or is a possible entry; it is never
    // read beyond.
    for (size_t size = 0; size < buffer.size; size++) {
        CLEANUP_FREE uint8_t *cut = mem_alloc(size + 1);
        memcpy(cut, buffer.data, size);
        offset = 0;
        while (offset < size && list_entry_decode(MAP_FAN_OUT, cut, size, &offset, &decoded)) {
        }
    }
    for (size_t place = 0; place < buffer.size; place++) {
        for (int bit = 0; bit < 8; bit++) {
            buffer.data[place] ^= (uint8_t)(1 << bit);
            offset = 0;
            while (offset < buffer.size &&
                   list_entry_decode(MAP_FAN_OUT, buffer.data, buffer.size, &offset, &decoded)) {
                assert_true(list_path_is_valid(decoded.path));
                assert_true(decoded.size_bytes >= 0 && decoded.size_bytes <= FILE_SIZE_MAX);
            }
            buffer.data[place] ^= (uint8_t)(1 << bit);
        }
    }
}

static void test_entries_out_of_the_target_are_refused(void **state)
{
    (void)state;
    const char *paths[] = {"../escape", "/etc/passwd", "a/../../b", ""};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        CLEANUP(buffer_done) Buffer buffer = {0};
        buffer_init(&buffer, 10000);
        ListEntry entry = {.kind = ENTRY_FILE, .mode = 0600};
        snprintf(entry.path, sizeof(entry.path), "%s", paths[i]);
        list_entry_encode(&entry, &buffer);
        ListEntry decoded;
        size_t offset = 0;
        assert_false(list_entry_decode(MAP_FAN_OUT, buffer.data, buffer.size, &offset, &decoded));
    }
}

static void test_node_headers(void **state)
{
    (void)state;
    uint8_t data[NODE_HEADER_SIZE + 2 * REF_SIZE] = {0};
    NodeHeader header;
    node_header_encode(NODE_MAP, 1, 2, data);
    assert_true(node_header_decode(data, sizeof(data), &header));
    assert_int_equal(header.count, 2);
    assert_false(node_header_decode(data, sizeof(data) - 1, &header));
    assert_false(node_header_decode(data, 7, &header));
    node_header_encode(NODE_MAP, 6, 2, data);
    assert_true(node_header_decode(data, sizeof(data), &header));
    node_header_encode(NODE_MAP, 7, 2, data);
    assert_false(node_header_decode(data, sizeof(data), &header));
    node_header_encode(NODE_LIST_INDEX, 0, 2, data);
    assert_false(node_header_decode(data, sizeof(data), &header));
    node_header_encode(NODE_LIST_LEAF, 1, 2, data);
    assert_false(node_header_decode(data, sizeof(data), &header));
    node_header_encode((NodeType)9, 1, 2, data);
    assert_false(node_header_decode(data, sizeof(data), &header));
    node_header_encode(NODE_MAP, 1, 513, data);
    assert_false(node_header_decode(data, NODE_HEADER_SIZE + 513 * REF_SIZE, &header));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ref_has_these_bytes),
        cmocka_unit_test(test_impossible_refs_are_refused),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_map_shapes),
        cmocka_unit_test(test_list_entries),
        cmocka_unit_test(test_entries_out_of_the_target_are_refused),
        cmocka_unit_test(test_node_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
