// SPDX-License-Identifier: Apache-2.0
// A repository over a storage, and a synthetic data directory to publish and restore.
#pragma once

#include "common/arena.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"

#define DATABASE_ID "0197a000-0000-7000-8000-00000000000d"
#define SHARD_ID "0197a000-0000-7000-8000-0000000000a1"
#define OTHER_SHARD_ID "0197a000-0000-7000-8000-0000000000a2"
#define EXTENT REPOSITORY_EXTENT_SIZE

// A range of a file that a recorder of writes would name.
typedef struct WrittenRange {
    const char *path;
    int64_t offset, size;
} WrittenRange;

typedef struct Fixture {
    char directory[64];
    char source[96];   // the data directory
    char restored[96]; // does not exist between restores
    Storage *storage;  // the repository's
    Repository *repository;
    Secret wrapping_key;
    DataKey key;
    Arena *arena;
    Error error;
    uint32_t epoch; // of the next publish
    // For the next publish.
    bool (*check)(void *context, const uint8_t *data, size_t size, int64_t offset,
                  int64_t *bad_page);
    Progress progress;
    bool has_record, reads_everything;
    uint32_t resume_epoch_min;
    Limits *limits;        // borrowed, also by restores
    NodeCache *node_cache; // borrowed, also by restores
    WrittenRange written[4096];
    size_t written_count;
} Fixture;

// cmocka set-up and tear-down; the state is a Fixture.
int fixture_set_up_storage(void **state, Storage *storage); // takes ownership of storage
int fixture_set_up_memory(void **state);
int fixture_set_up_filesystem(void **state);
int fixture_tear_down(void **state);

#define assert_ok(fixture, expression) assert_ok_at((fixture), (expression), __FILE__, __LINE__)
void assert_ok_at(const Fixture *fixture, Status status, const char *file, int line);
#define assert_reason(fixture, expression, expected)                                               \
    assert_reason_at((fixture), (expression), (expected), __FILE__, __LINE__)
void assert_reason_at(const Fixture *fixture, Status status, Reason reason, const char *file,
                      int line);

// Writes size bytes that follow from the seed; seed 0 is zeros (a hole).
void source_write(const Fixture *fixture, const char *path, int64_t size, uint32_t seed);
void source_patch(const Fixture *fixture, const char *path, int64_t offset, int64_t size,
                  uint32_t seed);
void source_truncate(const Fixture *fixture, const char *path, int64_t size);
void source_remove(const Fixture *fixture, const char *path);
void source_rename(const Fixture *fixture, const char *path, const char *to);
// A small tree with everything: deep directories, empty, sparse, odd sizes, an empty directory.
void source_fill(const Fixture *fixture);

// Says that a range was written; with has_record, the next publish is told what was not.
void source_written(Fixture *fixture, const char *path, int64_t offset, int64_t size);

Status fixture_publish_shard(Fixture *fixture, const char *shard_id, const Manifest *parent,
                             Manifest **ret_manifest);
Status fixture_publish(Fixture *fixture, const Manifest *parent, Manifest **ret_manifest);
// Restores to fixture->restored; the caller's to remove.
Status fixture_restore(Fixture *fixture, const Manifest *manifest);
// Restores, compares with the digest, removes.
void assert_restores(Fixture *fixture, const Manifest *manifest, const char *tree_digest);
// Of paths, modes, sizes and contents; lives in the arena.
const char *tree_digest(Fixture *fixture, const char *directory);
int64_t stored_bytes(Fixture *fixture, const char *prefix);
int object_count(Fixture *fixture, const char *prefix);
// The n-th key with the prefix, in order.
const char *object_key(Fixture *fixture, const char *prefix, size_t index);
void object_flip(Fixture *fixture, const char *key,
                 int64_t offset); // one bit; negative: from the end
void object_cut(Fixture *fixture, const char *key, size_t size);
void object_copy(Fixture *fixture, const char *from, const char *to);
// A set of one shard backup.
void write_set(Fixture *fixture, const char *backup_id, const Manifest *manifest);
