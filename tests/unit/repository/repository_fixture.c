// SPDX-License-Identifier: Apache-2.0
// What the repository's tests share.
#include "tests/unit/repository/repository_fixture.h"

#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

void assert_ok_at(const Fixture *fixture, Status status, const char *file, int line)
{
    if (status != STATUS_OK) {
        print_error("%s: %s (%s:%d)\n", reason_slug(fixture->error.reason), fixture->error.message,
                    fixture->error.file, fixture->error.line);
    }
    _assert_int_equal((unsigned)status, STATUS_OK, file, line);
}

void assert_reason_at(const Fixture *fixture, Status status, Reason reason, const char *file,
                      int line)
{
    if (status == STATUS_OK || fixture->error.reason != reason) {
        print_error("status %s, reason %s, message %s\n", status_name(status),
                    reason_slug(fixture->error.reason), fixture->error.message);
    }
    _assert_int_not_equal((unsigned)status, STATUS_OK, file, line);
    _assert_int_equal((unsigned)fixture->error.reason, (unsigned)reason, file, line);
}

static Fixture *fixture_new(void)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-repository-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->source, sizeof(fixture->source), "%s/source", fixture->directory);
    snprintf(fixture->restored, sizeof(fixture->restored), "%s/restored", fixture->directory);
    assert_int_equal(mkdir(fixture->source, 0700), 0);
    uint8_t key[AES256_KEY_SIZE];
    crypto_random(key, sizeof(key));
    fixture->wrapping_key = secret_from_bytes(key, sizeof(key));
    fixture->arena = arena_new();
    fixture->epoch = 1;
    return fixture;
}

static void fixture_open(Fixture *fixture, Storage *storage)
{
    fixture->storage = storage;
    assert_ok(fixture, repository_create(storage, key_wrapper_from_key(&fixture->wrapping_key),
                                         &fixture->repository, &fixture->error));
    assert_ok(fixture, repository_data_key(fixture->repository, DATABASE_ID, true, &fixture->key,
                                           &fixture->error));
}

int fixture_set_up_storage(void **state, Storage *storage)
{
    Fixture *fixture = fixture_new();
    fixture_open(fixture, storage);
    *state = fixture;
    return 0;
}

int fixture_set_up_memory(void **state)
{
    return fixture_set_up_storage(state, storage_memory_new());
}

int fixture_set_up_filesystem(void **state)
{
    Fixture *fixture = fixture_new();
    CLEANUP_FREE char *path = string_format("%s/repository", fixture->directory);
    Storage *storage = NULL;
    assert_ok(fixture, storage_filesystem_new(path, &storage, &fixture->error));
    fixture_open(fixture, storage);
    *state = fixture;
    return 0;
}

int fixture_tear_down(void **state)
{
    Fixture *fixture = *state;
    data_key_done(&fixture->key);
    secret_done(&fixture->wrapping_key);
    repository_free(fixture->repository);
    arena_free(fixture->arena);
    assert_ok(fixture, dir_remove_all(fixture->directory, &fixture->error));
    mem_free(fixture);
    return 0;
}

// --- source -----------------------------------------------------------------------------------

// Half of every 16 bytes is noise, so that it compresses somewhat, as pages do.
static void fill(uint8_t *data, size_t size, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        uint64_t value = i % 16 < 8 ? state >> (8 * (i % 8)) : seed;
        data[i] = (uint8_t)(value & 0xff);
    }
}

static int open_source(const Fixture *fixture, const char *path, int flags)
{
    Error error = {0};
    CLEANUP_FREE char *full = string_format("%s/%s", fixture->source, path);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    assert_int_equal(dir_create_all(full, 0700, &error), STATUS_OK);
    *slash = '/';
    int fd = open(full, flags | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    return fd;
}

void source_patch(const Fixture *fixture, const char *path, int64_t offset, int64_t size,
                  uint32_t seed)
{
    Error error = {0};
    CLEANUP(fd_closep) int fd = open_source(fixture, path, O_WRONLY | O_CREAT);
    enum { PIECE = 1 << 20 };
    CLEANUP_FREE uint8_t *data = mem_alloc(PIECE);
    for (int64_t done = 0; done < size; done += PIECE) {
        size_t piece = (size_t)MIN((int64_t)PIECE, size - done);
        fill(data, piece, (uint64_t)seed * 1000003 + (uint64_t)(done / PIECE));
        assert_int_equal(file_write_all_at(fd, data, piece, offset + done, &error), STATUS_OK);
    }
}

void source_write(const Fixture *fixture, const char *path, int64_t size, uint32_t seed)
{
    {
        CLEANUP(fd_closep) int fd = open_source(fixture, path, O_WRONLY | O_CREAT | O_TRUNC);
        assert_int_equal(ftruncate(fd, size), 0);
    }
    if (seed != 0) {
        source_patch(fixture, path, 0, size, seed);
    }
}

void source_truncate(const Fixture *fixture, const char *path, int64_t size)
{
    CLEANUP(fd_closep) int fd = open_source(fixture, path, O_WRONLY);
    assert_int_equal(ftruncate(fd, size), 0);
}

void source_remove(const Fixture *fixture, const char *path)
{
    CLEANUP_FREE char *full = string_format("%s/%s", fixture->source, path);
    assert_int_equal(unlink(full), 0);
}

void source_rename(const Fixture *fixture, const char *path, const char *to)
{
    CLEANUP_FREE char *from_full = string_format("%s/%s", fixture->source, path);
    CLEANUP_FREE char *to_full = string_format("%s/%s", fixture->source, to);
    assert_int_equal(rename(from_full, to_full), 0);
}

void source_fill(const Fixture *fixture)
{
    source_write(fixture, "empty", 0, 0);
    source_write(fixture, "one", 1, 1);
    source_write(fixture, "exact", EXTENT, 2);
    source_write(fixture, "odd", 3 * EXTENT + 777, 3);
    source_write(fixture, "hole", 5 * EXTENT + 5, 0);
    source_write(fixture, "sparse", 900 * EXTENT, 0);
    source_patch(fixture, "sparse", 700 * EXTENT + 100, 3 * EXTENT, 4);
    source_write(fixture, "long", 520 * EXTENT + 1, 5);
    source_write(fixture, "a/b/c/d/e/f/g/h/deep", 12345, 6);
    source_write(fixture, "a-b", 10, 7);
    source_write(fixture, "a.b", 10, 8);
    source_write(fixture, "name with spaces \xc3\xa4", 100, 9);
    CLEANUP_FREE char *empty = string_format("%s/a/nothing", fixture->source);
    assert_true(mkdir(empty, 0700) == 0 || access(empty, F_OK) == 0);
}

// --- publish and restore ----------------------------------------------------------------------

typedef struct Scan {
    Fixture *fixture;
    SourceFile *files;
    size_t file_count, file_capacity;
} Scan;

void source_written(Fixture *fixture, const char *path, int64_t offset, int64_t size)
{
    assert_true(fixture->written_count < ARRAY_COUNT(fixture->written));
    fixture->written[fixture->written_count++] =
        (WrittenRange){.path = arena_string(fixture->arena, path), .offset = offset, .size = size};
}

typedef struct WrittenFile {
    const Fixture *fixture;
    const char *path;
} WrittenFile;

static bool is_written(void *context, int64_t offset, int64_t size)
{
    const WrittenFile *file = context;
    for (size_t i = 0; i < file->fixture->written_count; i++) {
        const WrittenRange *range = &file->fixture->written[i];
        if (strcmp(range->path, file->path) == 0 && range->offset < offset + size &&
            offset < range->offset + range->size) {
            return true;
        }
    }
    return false;
}

static Status scan_file(void *context, const char *path, int64_t size_bytes, Error *error)
{
    (void)error;
    Scan *scan = context;
    if (scan->file_count == scan->file_capacity) {
        scan->file_capacity = scan->file_capacity == 0 ? 64 : 2 * scan->file_capacity;
        scan->files = mem_realloc_array(scan->files, scan->file_capacity, sizeof(*scan->files));
    }
    scan->files[scan->file_count++] = (SourceFile){.path = arena_string(scan->fixture->arena, path),
                                                   .size_bytes = size_bytes,
                                                   .mode = 0640,
                                                   .check = scan->fixture->check};
    if (scan->fixture->has_record) {
        SourceFile *file = &scan->files[scan->file_count - 1];
        const WrittenFile written = {.fixture = scan->fixture, .path = file->path};
        file->is_written = is_written;
        file->written_context = arena_copy(scan->fixture->arena, &written, sizeof(written));
    }
    return STATUS_OK;
}

static size_t scan_directories(Fixture *fixture, const char **directories, size_t capacity)
{
    char *paths[] = {fixture->source, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    assert_non_null(tree);
    size_t count = 0;
    for (FTSENT *entry = fts_read(tree); entry != NULL; entry = fts_read(tree)) {
        if (entry->fts_info == FTS_D && entry->fts_level > 0) {
            assert_true(count < capacity);
            directories[count++] =
                arena_string(fixture->arena, entry->fts_path + strlen(fixture->source) + 1);
        }
    }
    fts_close(tree);
    return count;
}

Status fixture_publish_shard(Fixture *fixture, const char *shard_id, const Manifest *parent,
                             Manifest **ret_manifest)
{
    const char *directories[256];
    Scan scan = {.fixture = fixture};
    const uint32_t epoch = fixture->epoch++;
    assert_ok(fixture, dir_walk(fixture->source, scan_file, &scan, &fixture->error));
    PublishOptions options = {
        .directory = fixture->source,
        .files = scan.files,
        .file_count = scan.file_count,
        .directories = directories,
        .directory_count = scan_directories(fixture, directories, ARRAY_COUNT(directories)),
        .epoch = epoch,
        .parent = parent,
        .compression_level = 1,
        .reads_everything = fixture->reads_everything,
        .resume_epoch_min = fixture->resume_epoch_min,
        .resume_epoch_max = epoch - 1,
        .limits = fixture->limits,
        .node_cache = fixture->node_cache,
        .progress = fixture->progress,
        .manifest = {.database_name = "shop",
                     .shard_name = "-80",
                     .engine = "mariadb",
                     .engine_version = "10.11.19",
                     .checkpoint = "0-1-42",
                     .engine_state = "{\"restore_hint\":\"start it\"}",
                     .generation = parent == NULL ? 0 : parent->generation + 1},
    };
    snprintf(options.manifest.database_id, sizeof(options.manifest.database_id), "%s", DATABASE_ID);
    snprintf(options.manifest.shard_id, sizeof(options.manifest.shard_id), "%s", shard_id);
    Status status = repository_publish(fixture->repository, &fixture->key, &options, fixture->arena,
                                       ret_manifest, &fixture->error);
    mem_free(scan.files);
    return status;
}

Status fixture_publish(Fixture *fixture, const Manifest *parent, Manifest **ret_manifest)
{
    return fixture_publish_shard(fixture, SHARD_ID, parent, ret_manifest);
}

Status fixture_restore(Fixture *fixture, const Manifest *manifest)
{
    MaterializeResult result;
    const MaterializeOptions options = {.limits = fixture->limits,
                                        .node_cache = fixture->node_cache,
                                        .progress = fixture->progress};
    return repository_materialize(fixture->repository, &fixture->key, manifest, fixture->restored,
                                  &options, &result, &fixture->error);
}

void assert_restores(Fixture *fixture, const Manifest *manifest, const char *digest)
{
    Manifest *again = NULL;
    assert_ok(fixture, manifest_read(fixture->repository, &fixture->key, manifest->shard_id,
                                     manifest->id, fixture->arena, &again, &fixture->error));
    assert_string_equal(again->digest, manifest->digest);
    assert_ok(fixture, fixture_restore(fixture, again));
    assert_string_equal(tree_digest(fixture, fixture->restored), digest);
    assert_ok(fixture, dir_remove_all(fixture->restored, &fixture->error));
}

// Zeros count by their place only, which makes sparse files quick.
static void hash_content(Sha256 *hash, const uint8_t *data, size_t size)
{
    static const uint8_t zeros[4096] = {0};
    for (size_t offset = 0; offset < size; offset += sizeof(zeros)) {
        size_t piece = MIN(sizeof(zeros), size - offset);
        if (memcmp(data + offset, zeros, piece) != 0) {
            sha256_update(hash, &offset, sizeof(offset));
            sha256_update(hash, data + offset, piece);
        }
    }
}

static int compare_tree_entries(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

const char *tree_digest(Fixture *fixture, const char *directory)
{
    char *root = arena_string(fixture->arena, directory);
    char *paths[] = {root, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, compare_tree_entries);
    assert_non_null(tree);
    Sha256 *hash = sha256_new();
    for (FTSENT *entry = fts_read(tree); entry != NULL; entry = fts_read(tree)) {
        const char *path = entry->fts_path + strlen(directory);
        if (entry->fts_info == FTS_F) {
            sha256_update(hash, path, strlen(path) + 1);
            sha256_update(hash, &entry->fts_statp->st_mode, sizeof(entry->fts_statp->st_mode));
            sha256_update(hash, &entry->fts_statp->st_size, sizeof(entry->fts_statp->st_size));
            char *data = NULL;
            size_t size = 0;
            assert_ok(fixture,
                      file_read(entry->fts_path, (size_t)1 << 30, &data, &size, &fixture->error));
            hash_content(hash, (const uint8_t *)data, size);
            mem_free(data);
        } else if (entry->fts_info == FTS_D) {
            sha256_update(hash, path, strlen(path) + 1);
        }
    }
    fts_close(tree);
    uint8_t digest[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];
    sha256_finish(hash, digest);
    sha256_free(hash);
    hex_encode(digest, sizeof(digest), text);
    return arena_string(fixture->arena, text);
}

// --- objects ----------------------------------------------------------------------------------

static StoragePage list(Fixture *fixture, const char *prefix)
{
    StoragePage page;
    assert_ok(fixture, storage_list(fixture->storage, prefix, NULL, 1000, fixture->arena, &page,
                                    &fixture->error));
    assert_null(page.next_page_token);
    return page;
}

int64_t stored_bytes(Fixture *fixture, const char *prefix)
{
    StoragePage page = list(fixture, prefix);
    int64_t bytes = 0;
    for (size_t i = 0; i < page.count; i++) {
        bytes += page.objects[i].size_bytes;
    }
    return bytes;
}

int object_count(Fixture *fixture, const char *prefix)
{
    return (int)list(fixture, prefix).count;
}

const char *object_key(Fixture *fixture, const char *prefix, size_t index)
{
    StoragePage page = list(fixture, prefix);
    assert_true(index < page.count);
    return page.objects[index].key;
}

static uint8_t *get(Fixture *fixture, const char *key, size_t *ret_size)
{
    uint8_t *data = NULL;
    assert_ok(fixture, storage_get(fixture->storage, key, (size_t)1 << 26, fixture->arena, &data,
                                   ret_size, &fixture->error));
    return data;
}

static void put(Fixture *fixture, const char *key, const uint8_t *data, size_t size)
{
    assert_ok(fixture, storage_put(fixture->storage, key, data, size, NULL, &fixture->error));
}

void object_flip(Fixture *fixture, const char *key, int64_t offset)
{
    size_t size = 0;
    uint8_t *data = get(fixture, key, &size);
    size_t place = offset >= 0 ? (size_t)offset : size - (size_t)-offset;
    assert_true(place < size);
    data[place] ^= 1;
    put(fixture, key, data, size);
}

void object_cut(Fixture *fixture, const char *key, size_t size)
{
    size_t whole = 0;
    uint8_t *data = get(fixture, key, &whole);
    assert_true(size < whole);
    put(fixture, key, data, size);
}

void object_copy(Fixture *fixture, const char *from, const char *to)
{
    size_t size = 0;
    uint8_t *data = get(fixture, from, &size);
    put(fixture, to, data, size);
}

void write_set(Fixture *fixture, const char *backup_id, const Manifest *manifest)
{
    SetShard shard = {.shard_name = manifest->shard_name, .checkpoint = manifest->checkpoint};
    snprintf(shard.shard_id, sizeof(shard.shard_id), "%s", manifest->shard_id);
    snprintf(shard.manifest_id, sizeof(shard.manifest_id), "%s", manifest->id);
    snprintf(shard.manifest_digest, sizeof(shard.manifest_digest), "%s", manifest->digest);
    BackupSet set = {.database_name = "shop",
                     .engine = "mariadb",
                     .created_us = manifest->created_us,
                     .is_complete = true,
                     .shards = &shard,
                     .shard_count = 1};
    snprintf(set.backup_id, sizeof(set.backup_id), "%s", backup_id);
    snprintf(set.database_id, sizeof(set.database_id), "%s", DATABASE_ID);
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
}
