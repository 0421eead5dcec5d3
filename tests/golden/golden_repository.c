// SPDX-License-Identifier: Apache-2.0
// Writes a small repository with everything that the format has, to be frozen:
// golden_repository DIRECTORY makes repository/, first.key, second.key (both open it) and, for
// make_golden.py to digest, trees/<backup id>/<shard id>. The directory must not exist.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "tests/unit/repository/repository_fixture.h"

#include <stdio.h>
#include <string.h>

#define DESTROYED_DATABASE_ID "0197a000-0000-7000-8000-00000000000e"
#define SHARD_COUNT 2
#define BACKUP_COUNT 3

static const char *const BACKUPS[BACKUP_COUNT] = {"0197a000-0000-7000-8000-0000000000b1",
                                                  "0197a000-0000-7000-8000-0000000000b2",
                                                  "0197a000-0000-7000-8000-0000000000b3"};
static const char *const SHARDS[SHARD_COUNT] = {SHARD_ID, OTHER_SHARD_ID};

static void run(Fixture *fixture, const char *const *arguments)
{
    ProcessOptions options = {.arguments = arguments};
    assert_ok(fixture, process_run(&options, 60000, REASON_INTERNAL, NULL, &fixture->error));
}

static void keep_tree(Fixture *fixture, const char *output, const char *backup_id,
                      const char *shard_id)
{
    CLEANUP_FREE char *tree = string_format("%s/trees/%s", output, backup_id);
    CLEANUP_FREE char *target = string_format("%s/%s", tree, shard_id);
    assert_ok(fixture, dir_create_all(tree, 0755, &fixture->error));
    run(fixture, (const char *const[]){"/bin/cp", "-a", fixture->source, target, NULL});
}

static void write_backup(Fixture *fixture, int index, Manifest *const *manifests)
{
    SetShard shards[SHARD_COUNT] = {{.shard_name = "-80"}, {.shard_name = "80-"}};
    BackupSet set = {.database_name = "shop",
                     .engine = "mariadb",
                     .created_us = 1790000000000000 + index * 3600000000LL,
                     .is_complete = true,
                     .shards = shards,
                     .shard_count = SHARD_COUNT};
    for (int i = 0; i < SHARD_COUNT; i++) {
        shards[i].checkpoint = manifests[i]->checkpoint;
        memcpy(shards[i].shard_id, manifests[i]->shard_id, 37);
        memcpy(shards[i].manifest_id, manifests[i]->id, MANIFEST_ID_SIZE);
        memcpy(shards[i].manifest_digest, manifests[i]->digest, 65);
    }
    memcpy(set.backup_id, BACKUPS[index], 37);
    memcpy(set.database_id, DATABASE_ID, 37);
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
}

static void write_key(Fixture *fixture, const char *output, const char *name, const Secret *key)
{
    char digits[2 * AES256_KEY_SIZE + 1];
    CLEANUP_FREE char *path = string_format("%s/%s", output, name);
    hex_encode(key->data, key->size, digits);
    CLEANUP_FREE char *line = string_format("holdfast-key-1:%s\n", digits);
    assert_ok(fixture, file_write_atomic(path, line, strlen(line), 0600, &fixture->error));
}

// The seed, which is not kept, so that its pack is replaced; and what is in a directory.
static void fill(Fixture *fixture)
{
    source_write(fixture, "ibdata1", 6 * EXTENT + 17, 1);
    source_write(fixture, "shop/orders.ibd", 2 * EXTENT, 2);
    source_write(fixture, "shop/sparse.ibd", 600 * EXTENT, 0); // a map of two levels
    source_patch(fixture, "shop/sparse.ibd", 550 * EXTENT, 100, 3);
    source_write(fixture, "empty", 0, 0);
    source_write(fixture, "name with spaces \xc3\xa4", 100, 4);
    for (uint32_t i = 0; i < 20; i++) {
        CLEANUP_FREE char *path = string_format("many/%02u", i);
        source_write(fixture, path, i, i + 1);
    }
}

static void change(Fixture *fixture, uint32_t round)
{
    source_patch(fixture, "ibdata1", 0, (5 - round) * EXTENT, 100 + round);
    source_patch(fixture, "shop/sparse.ibd", (int64_t)round * 10 * EXTENT, 100, 200 + round);
    CLEANUP_FREE char *path = string_format("new-%u", round);
    source_write(fixture, path, 3000, 300 + round);
}

static Manifest *publish(Fixture *fixture, int shard, const Manifest *parent)
{
    Manifest *manifest = NULL;
    assert_ok(fixture, fixture_publish_shard(fixture, SHARDS[shard], parent, &manifest));
    return manifest;
}

static void sweep(Fixture *fixture, Manifest *const *kept, size_t count)
{
    const char *keep[BACKUP_COUNT];
    SweepResult swept;
    for (size_t i = 0; i < count; i++) {
        keep[i] = kept[i]->id;
    }
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = count, .protect_epoch_min = UINT32_MAX};
    assert_ok(fixture, repository_sweep_shard(fixture->repository, &fixture->key, &options, &swept,
                                              &fixture->error));
    if (swept.compacted_count == 0) {
        mem_exhausted(); // nothing was replaced: the program is wrong
    }
}

static void write_backups(Fixture *fixture, const char *output)
{
    Manifest *manifests[BACKUP_COUNT][SHARD_COUNT];
    DataKey second = {0};
    fill(fixture);
    Manifest *parents[SHARD_COUNT] = {publish(fixture, 0, NULL), NULL};
    for (int i = 0; i < BACKUP_COUNT; i++) {
        change(fixture, (uint32_t)i);
        if (i == BACKUP_COUNT - 1) { // seeds with another data key
            assert_ok(fixture, repository_data_key_renew(fixture->repository, DATABASE_ID, &second,
                                                         &fixture->error));
            data_key_done(&fixture->key);
            fixture->key = second;
            parents[0] = NULL;
            parents[1] = NULL;
        }
        for (int shard = 0; shard < SHARD_COUNT; shard++) {
            manifests[i][shard] = publish(fixture, shard, parents[shard]);
            parents[shard] = manifests[i][shard];
            keep_tree(fixture, output, BACKUPS[i], SHARDS[shard]);
        }
        write_backup(fixture, i, manifests[i]);
    }
    Manifest *kept[] = {manifests[0][0], manifests[1][0], manifests[2][0]};
    sweep(fixture, kept, 3);
}

static void add_keys(Fixture *fixture, const char *output)
{
    DestroyResult destroyed;
    RotateResult rotated;
    uint8_t bytes[AES256_KEY_SIZE];
    CLEANUP(data_key_done) DataKey doomed = {0};
    crypto_random(bytes, sizeof(bytes));
    CLEANUP(secret_done) Secret second = secret_from_bytes(bytes, sizeof(bytes));
    assert_ok(fixture, repository_data_key(fixture->repository, DESTROYED_DATABASE_ID, true,
                                           &doomed, &fixture->error));
    assert_ok(fixture, repository_destroy_data_keys(fixture->repository, DESTROYED_DATABASE_ID,
                                                    NULL, &destroyed, &fixture->error));
    KeyWrapper *from = key_wrapper_from_key(&fixture->wrapping_key);
    KeyWrapper *to = key_wrapper_from_key(&second);
    assert_ok(fixture,
              repository_add_wrapping_key(fixture->storage, from, to, &rotated, &fixture->error));
    key_wrapper_free(from);
    key_wrapper_free(to);
    write_key(fixture, output, "first.key", &fixture->wrapping_key);
    write_key(fixture, output, "second.key", &second);
}

int main(int count, char **arguments)
{
    void *state = NULL;
    if (count != 2) {
        (void)fprintf(stderr, "usage: golden_repository DIRECTORY\n");
        return 2;
    }
    const char *output = arguments[1];
    fixture_set_up_filesystem(&state);
    Fixture *fixture = state;
    assert_ok(fixture, dir_create_all(output, 0755, &fixture->error));
    write_backups(fixture, output);
    add_keys(fixture, output);
    CLEANUP_FREE char *source = string_format("%s/repository", fixture->directory);
    CLEANUP_FREE char *target = string_format("%s/repository", output);
    run(fixture, (const char *const[]){"/bin/cp", "-r", source, target, NULL});
    fixture_tear_down(&state);
    return 0;
}
