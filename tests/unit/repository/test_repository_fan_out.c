// SPDX-License-Identifier: Apache-2.0
// How many refs a node of a map has is a fact of the manifest: old repositories have 512, what is
// begun now has 64. If this goes red, an old backup cannot be restored or be a parent any more, or
// a manifest that says something else is believed.
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"
#include "repository/manifest_object.h"
#include "repository/repository_builder.h"
#include "repository/repository_document.h"
#include "tests/unit/repository/repository_fixture.h"

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

#define MANIFESTS "shards/" SHARD_ID "/manifests/"
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b4"
#define OLD_BACKUP_ID "0197a000-0000-7000-8000-0000000000b2"
#define SPARSE "shop/sparse.ibd" // of the golden repository: 600 extents

// --- a walk -----------------------------------------------------------------------------------

typedef struct Walk {
    ShardScope scope;
    BlobOpener *opener;
    ListReader *list;
    MapReader map;
} Walk;

// The map of a file.
static void walk_to(Fixture *fixture, const Manifest *manifest, const char *path, Walk *walk)
{
    ManifestRoot root;
    const ListEntry *entry = NULL;
    *walk = (Walk){0};
    assert_ok(fixture, scope_init(&walk->scope, fixture->repository, &fixture->key, DATABASE_ID,
                                  SHARD_ID, &fixture->error));
    assert_ok(fixture, manifest_root(manifest, &root, &fixture->error));
    walk->opener = blob_opener_new(&walk->scope);
    walk->list = list_reader_new(walk->opener, &root, NULL, NULL);
    map_reader_init(&walk->map, walk->opener, root.map_fan_out);
    do {
        assert_ok(fixture, list_reader_next(walk->list, &entry, &fixture->error));
        assert_non_null(entry);
    } while (strcmp(entry->path, path) != 0);
    map_reader_open(&walk->map, entry);
}

static void walk_end(Walk *walk)
{
    map_reader_done(&walk->map);
    list_reader_free(walk->list);
    blob_opener_free(walk->opener);
    scope_done(&walk->scope);
}

// A node of level 1 of a file.
static Ref node_of(Fixture *fixture, const Manifest *manifest, const char *path, int64_t position)
{
    Walk walk;
    Ref ref;
    walk_to(fixture, manifest, path, &walk);
    assert_ok(fixture, map_reader_get(&walk.map, 1, position, &ref, &fixture->error));
    walk_end(&walk);
    return ref;
}

static int64_t changed_bytes(Fixture *fixture, const Manifest *before, const Manifest *after)
{
    DiffResult result;
    assert_ok(fixture, repository_diff(fixture->repository, &fixture->key, before, after,
                                       (Progress){0}, NULL, NULL, &result, &fixture->error));
    return result.changed_bytes;
}

static void check(Fixture *fixture)
{
    CheckReport report;
    assert_ok(fixture, repository_check(fixture->repository, (Progress){0}, NULL, NULL, &report,
                                        &fixture->error));
    assert_int_equal(report.problem_count, 0);
}

static void sweep(Fixture *fixture, const Manifest *const *kept, size_t count)
{
    const char *keep[4];
    SweepResult swept;
    assert_true(count <= ARRAY_COUNT(keep));
    for (size_t i = 0; i < count; i++) {
        keep[i] = kept[i]->id;
    }
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = count, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &swept,
                                              &fixture->error));
}

// --- an old repository ------------------------------------------------------------------------

static Secret read_key(Fixture *fixture, const char *path)
{
    CLEANUP_FREE char *line = NULL;
    size_t size = 0;
    uint8_t bytes[AES256_KEY_SIZE];
    assert_ok(fixture, file_read(path, 4096, &line, &size, &fixture->error));
    char *digits = strchr(line, ':') + 1;
    digits[strcspn(digits, "\n")] = '\0';
    assert_true(hex_decode(digits, bytes, sizeof(bytes)));
    return secret_from_bytes(bytes, sizeof(bytes));
}

// A copy of a frozen repository takes the place of the fixture's own.
static void open_golden(Fixture *fixture, const char *name)
{
    Storage *storage = NULL;
    const char *from = arena_format(fixture->arena, "%s/%s", GOLDEN_DIRECTORY, name);
    const char *to = arena_format(fixture->arena, "%s/golden", fixture->directory);
    const char *const arguments[] = {"/bin/cp", "-r", from, to, NULL};
    ProcessOptions options = {.arguments = arguments};
    assert_ok(fixture, process_run(&options, 60000, REASON_INTERNAL, NULL, &fixture->error));
    repository_free(fixture->repository);
    data_key_done(&fixture->key);
    secret_done(&fixture->wrapping_key);
    fixture->wrapping_key = read_key(fixture, arena_format(fixture->arena, "%s/first.key", to));
    assert_ok(fixture, storage_filesystem_new(arena_format(fixture->arena, "%s/repository", to),
                                              &storage, &fixture->error));
    fixture->storage = storage;
    assert_ok(fixture, repository_open(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                       &fixture->repository, &fixture->error));
}

// The manifest of a backup, and its data directory as the source.
static Manifest *restore_backup(Fixture *fixture, const char *backup_id)
{
    BackupSet *set = NULL;
    Manifest *manifest = NULL;
    MaterializeResult result;
    const MaterializeOptions options = {0};
    assert_ok(fixture, backup_set_read(fixture->repository, DATABASE_ID, backup_id, fixture->arena,
                                       &set, &fixture->error));
    assert_string_equal(set->shards[0].shard_id, SHARD_ID);
    assert_ok(fixture,
              manifest_open(fixture->repository, DATABASE_ID, SHARD_ID, set->shards[0].manifest_id,
                            fixture->arena, &fixture->key, &manifest, &fixture->error));
    assert_ok(fixture, repository_materialize(fixture->repository, &fixture->key, manifest,
                                              fixture->source, &options, &result, &fixture->error));
    assert_ok(fixture, repository_shard_epoch(fixture->repository, SHARD_ID, &fixture->epoch,
                                              &fixture->error));
    fixture->epoch++;
    return manifest;
}

static void test_an_old_backup_has_children(void **state)
{
    Fixture *fixture = *state;
    Manifest *child = NULL;
    Manifest *grandchild = NULL;
    open_golden(fixture, "v1");
    Manifest *parent = restore_backup(fixture, OLD_BACKUP_ID);
    assert_int_equal(parent->map_fan_out, 512);

    source_patch(fixture, SPARSE, 590 * (int64_t)EXTENT, 100, 77);
    const char *digest = tree_digest(fixture, fixture->source);
    const uint32_t epoch = fixture->epoch;
    assert_ok(fixture, fixture_publish(fixture, parent, &child));
    assert_int_equal(child->map_fan_out, 512);
    assert_int_equal(child->new_bytes, EXTENT);
    Ref before = node_of(fixture, parent, SPARSE, 0);
    Ref after = node_of(fixture, child, SPARSE, 0);
    assert_memory_equal(&before, &after, sizeof(before)); // 512 extents without a change
    assert_int_equal(node_of(fixture, child, SPARSE, 1).pack.epoch, epoch);
    assert_restores(fixture, child, digest);
    assert_int_equal(changed_bytes(fixture, parent, child), EXTENT);

    // With a record of what was written, which leaves out nodes.
    fixture->has_record = true;
    source_patch(fixture, SPARSE, 3 * (int64_t)EXTENT, 100, 78);
    source_written(fixture, SPARSE, 3 * (int64_t)EXTENT, 100);
    digest = tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, child, &grandchild));
    assert_int_equal(grandchild->map_fan_out, 512);
    assert_int_equal(grandchild->read_bytes, EXTENT);
    write_set(fixture, BACKUP_ID, grandchild);
    const Manifest *const kept[] = {parent, grandchild};
    sweep(fixture, kept, 2);
    assert_restores(fixture, grandchild, digest);
}

// A new line of backups beside an old one, sealed with the same data key.
static void test_old_and_new_maps_side_by_side(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    open_golden(fixture, "v1");
    Manifest *old = restore_backup(fixture, OLD_BACKUP_ID);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    assert_int_equal(seed->map_fan_out, 64);
    assert_int_equal(changed_bytes(fixture, old, seed), 0);
    assert_int_equal(changed_bytes(fixture, seed, old), 0);

    source_patch(fixture, SPARSE, 590 * (int64_t)EXTENT, 100, 77);
    Manifest *child = NULL;
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(changed_bytes(fixture, old, child), EXTENT);
    const char *digest = tree_digest(fixture, fixture->source);
    const Manifest *const kept[] = {old, seed, child};
    sweep(fixture, kept, 3);
    sweep(fixture, kept, 3); // with what the first one found out
    assert_restores(fixture, child, digest);
    assert_ok(fixture, fixture_restore(fixture, old));
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
    assert_ok(fixture, fixture_restore(fixture, seed));
}

// --- what a manifest may say ------------------------------------------------------------------

// Seals the manifest again with another member; NULL: without it.
static Status read_with(Fixture *fixture, const Manifest *manifest, Json *fan_out,
                        Manifest **ret_manifest)
{
    uint8_t *data = NULL;
    size_t size = 0;
    DocumentHeader header;
    CLEANUP(json_freep) Json *json = NULL;
    CLEANUP(json_freep) Json *changed = json_new_object();
    CLEANUP(buffer_done) Buffer object = {0};
    const char *key = arena_format(fixture->arena, MANIFESTS "%s", manifest->id);
    buffer_init(&object, MANIFEST_SIZE_MAX);
    assert_ok(fixture, storage_get(fixture->storage, key, MANIFEST_SIZE_MAX, fixture->arena, &data,
                                   &size, &fixture->error));
    assert_ok(fixture,
              document_header_decode(key, DOCUMENT_MANIFEST, data, size, &header, &fixture->error));
    assert_ok(fixture, document_open(key, &header, &fixture->key.bytes, data, size,
                                     MANIFEST_SIZE_MAX, &json, &fixture->error));
    for (const Json *member = json_first(json); member != NULL; member = json_next(member)) {
        if (strcmp(json_key(member), "map_fan_out") == 0) {
            continue;
        }
        if (json_type(member) == JSON_NUMBER) {
            json_set_integer(changed, json_key(member), json_integer(member, -1));
        } else {
            json_set_text(changed, json_key(member), json_text(member, ""));
        }
    }
    if (fan_out != NULL) {
        json_set(changed, "map_fan_out", fan_out);
    }
    assert_ok(fixture, document_seal(&header, &fixture->key.bytes, changed, MANIFEST_SIZE_MAX,
                                     &object, &fixture->error));
    assert_ok(fixture,
              storage_put(fixture->storage, key, object.data, object.size, NULL, &fixture->error));
    return manifest_read(fixture->repository, &fixture->key, SHARD_ID, manifest->id, fixture->arena,
                         ret_manifest, &fixture->error);
}

static void test_what_a_manifest_may_say(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    Manifest *read = NULL;
    source_write(fixture, "table", 65 * (int64_t)EXTENT, 0);
    source_patch(fixture, "table", 0, 10, 1);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    Json *refused[] = {json_new_integer(7),    json_new_integer(0),    json_new_integer(-64),
                       json_new_integer(63),   json_new_integer(65),   json_new_integer(511),
                       json_new_integer(4096), json_new_number(64.5),  json_new_text("64"),
                       json_new_null(),        json_new_boolean(true), json_new_array()};
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
        assert_reason(fixture, read_with(fixture, seed, refused[i], &read),
                      REASON_REPOSITORY_FORMAT);
        assert_non_null(strstr(fixture->error.message, "does not read"));
    }
    assert_ok(fixture, read_with(fixture, seed, json_new_integer(64), &read));
    assert_int_equal(read->map_fan_out, 64);
    assert_ok(fixture, fixture_restore(fixture, read));
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));

    // One that lies: its list's files have maps of another depth.
    assert_ok(fixture, read_with(fixture, seed, json_new_integer(512), &read));
    assert_int_equal(read->map_fan_out, 512);
    assert_reason(fixture, fixture_restore(fixture, read), REASON_OBJECT_CORRUPT);
    assert_ok(fixture, read_with(fixture, seed, NULL, &read));
    assert_int_equal(read->map_fan_out, 512);
    assert_reason(fixture, fixture_restore(fixture, read), REASON_OBJECT_CORRUPT);
}

// --- hostile nodes ----------------------------------------------------------------------------

typedef struct Forge {
    ShardScope scope;
    Limits *limits;
    PackWriter *packs;
    NodeStore *nodes;
} Forge;

// A node of a map with so many refs of an extent, or of what `below` names.
static Ref forge_node(Fixture *fixture, Forge *forge, int level, size_t count, const Ref *below)
{
    Ref ref;
    const Ref extent = {.pack = {.epoch = 1},
                        .offset = PACK_HEADER_SIZE,
                        .stored_size = (uint32_t)EXTENT_SIZE + GCM_TAG_SIZE,
                        .plain_size = (uint32_t)EXTENT_SIZE,
                        .kind = BLOB_EXTENT};
    CLEANUP_FREE uint8_t *data = mem_alloc(map_node_size((int64_t)count));
    node_header_encode(NODE_MAP, level, count, data);
    for (size_t i = 0; i < count; i++) {
        ref_encode(below == NULL ? &extent : below, data + map_node_size((int64_t)i));
    }
    assert_ok(fixture, node_store_put(forge->nodes, data, map_node_size((int64_t)count), NULL, 0,
                                      &ref, &fixture->error));
    return ref;
}

static void assert_refused(Fixture *fixture, BlobOpener *opener, const Ref *root,
                           int64_t extent_count)
{
    Ref ref;
    MapReader map;
    MapPart part;
    CLEANUP_FREE uint8_t *data = mem_alloc(MAP_NODES_SIZE(MAP_PART_EXTENT_COUNT));
    CLEANUP_FREE Ref *refs = mem_alloc_array(MAP_PART_EXTENT_COUNT, sizeof(*refs));
    ListEntry entry = {.kind = ENTRY_FILE,
                       .size_bytes = extent_count * (int64_t)EXTENT_SIZE,
                       .depth = map_depth(MAP_FAN_OUT, extent_count),
                       .root = *root};
    map_reader_init(&map, opener, MAP_FAN_OUT);
    map_reader_open(&map, &entry);
    assert_reason(fixture, map_reader_get(&map, 0, 0, &ref, &fixture->error),
                  REASON_OBJECT_CORRUPT);
    assert_non_null(strstr(fixture->error.message, "does not fit its file"));
    Status status = map_part_find(&map, 0, MAP_PART_EXTENT_COUNT, &part, &fixture->error);
    status = status != STATUS_OK
                 ? status
                 : map_part_read(opener, MAP_FAN_OUT, &part, data, refs, &fixture->error);
    assert_reason(fixture, status, REASON_OBJECT_CORRUPT);
    map_reader_done(&map);
}

static void test_nodes_that_do_not_fit(void **state)
{
    Fixture *fixture = *state;
    Forge forge = {.limits = limits_new()};
    int64_t stored = 0;
    const PackWriterOptions options = {
        .epoch = 1, .pack_count = 2, .uploader_count = 1, .limits = forge.limits};
    assert_ok(fixture, scope_init(&forge.scope, fixture->repository, &fixture->key, DATABASE_ID,
                                  SHARD_ID, &fixture->error));
    assert_ok(fixture, pack_writer_new(&forge.scope, &options, &forge.packs, &fixture->error));
    forge.nodes = node_store_new(&forge.scope, forge.packs);
    const Ref wide = forge_node(fixture, &forge, 1, 65, NULL);
    const Ref narrow = forge_node(fixture, &forge, 1, 63, NULL);
    const Ref high = forge_node(fixture, &forge, 2, 64, NULL);
    const Ref above_wide = forge_node(fixture, &forge, 2, 2, &wide);
    const Ref above_high = forge_node(fixture, &forge, 2, 2, &high);
    assert_ok(fixture, pack_writer_finish(forge.packs, &stored, &fixture->error));

    BlobOpener *opener = blob_opener_new(&forge.scope);
    assert_refused(fixture, opener, &wide, 64);
    assert_refused(fixture, opener, &narrow, 64);
    assert_refused(fixture, opener, &high, 64);
    assert_refused(fixture, opener, &above_wide, 128);
    assert_refused(fixture, opener, &above_high, 128);
    blob_opener_free(opener);
    node_store_free(forge.nodes);
    pack_writer_free(forge.packs);
    limits_free(forge.limits);
    scope_done(&forge.scope);
}

// --- deep maps --------------------------------------------------------------------------------

// What was read for a walk that goes on is not taken for what another walk comes to.
static void assert_leaps(Fixture *fixture, const Manifest *manifest, const char *path)
{
    Walk walk;
    Ref ref;
    walk_to(fixture, manifest, path, &walk);
    assert_ok(fixture, map_reader_get(&walk.map, 1, 0, &ref, &fixture->error));
    map_reader_ask(&walk.map, 1, 0, NULL, NULL);
    assert_int_equal(walk.map.next.position, 1);
    assert_ok(fixture, map_reader_get(&walk.map, 1, 128, &ref, &fixture->error));
    Ref expected = node_of(fixture, manifest, path, 128);
    assert_memory_equal(&ref, &expected, sizeof(ref));
    walk_end(&walk);
}

// Three levels, where the walk goes from one node of level 2 to the next.
static void test_three_levels(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    Manifest *child = NULL;
    const int64_t positions[] = {0, 63, 64, 4095, 4096, 4160, 8191, 8192, 8200};
    source_write(fixture, "large", 8201 * (int64_t)EXTENT, 0);
    for (size_t i = 0; i < ARRAY_COUNT(positions); i++) {
        source_patch(fixture, "large", positions[i] * (int64_t)EXTENT, 10, (uint32_t)i + 1);
    }
    const char *first = tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    fixture->has_record = true;
    source_patch(fixture, "large", 4097 * (int64_t)EXTENT, 10, 99);
    source_written(fixture, "large", 4097 * (int64_t)EXTENT, 10);
    const char *second = tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, seed, &child));
    assert_int_equal(child->read_bytes, EXTENT);
    assert_restores(fixture, seed, first);
    assert_restores(fixture, child, second);
    Ref before = node_of(fixture, seed, "large", 65);
    Ref after = node_of(fixture, child, "large", 65);
    assert_memory_equal(&before, &after, sizeof(before)); // beside the one that changed
    assert_int_equal(changed_bytes(fixture, seed, child), EXTENT);
    assert_leaps(fixture, seed, "large");
    write_set(fixture, BACKUP_ID, child);
    check(fixture);
    const Manifest *const kept[] = {child};
    sweep(fixture, kept, 1);
    assert_restores(fixture, child, second);
}

// More extents than a restore reads ahead at once.
static void test_more_than_is_read_ahead(void **state)
{
    Fixture *fixture = *state;
    Manifest *seed = NULL;
    Manifest *again = NULL;
    const int64_t extent_count = 6 * MAP_READ_EXTENT_COUNT;
    source_write(fixture, "large", extent_count * (int64_t)EXTENT, 0);
    for (int64_t i = 1; i <= 6; i++) {
        source_patch(fixture, "large", (i * MAP_READ_EXTENT_COUNT - 1) * (int64_t)EXTENT, 10,
                     (uint32_t)i);
    }
    assert_ok(fixture, fixture_publish(fixture, NULL, &seed));
    assert_ok(fixture, fixture_restore(fixture, seed));
    // What was restored is published as what it is: nothing is new.
    assert_ok(fixture, dir_remove_all(fixture->source, &fixture->error));
    assert_int_equal(rename(fixture->restored, fixture->source), 0);
    assert_ok(fixture, fixture_publish(fixture, seed, &again));
    assert_int_equal(again->new_bytes, 0);
    assert_int_equal(again->data_bytes, 6 * EXTENT);
    assert_int_equal(changed_bytes(fixture, seed, again), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_old_backup_has_children, fixture_set_up_filesystem,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_old_and_new_maps_side_by_side,
                                        fixture_set_up_filesystem, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_manifest_may_say, fixture_set_up_memory,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_nodes_that_do_not_fit, fixture_set_up_memory,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_three_levels, fixture_set_up_memory,
                                        fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_more_than_is_read_ahead, fixture_set_up_memory,
                                        fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
