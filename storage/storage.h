// SPDX-License-Identifier: Apache-2.0
// Object storage, as callers see it: keys are relative paths like "shards/ab/packs/01", segments of
// [A-Za-z0-9._-] joined by '/', at most 512 bytes, no segment "." or "..". Objects are whole and
// immutable: nothing is visible before a writer commits. A Storage is thread-safe; a reader or
// writer belongs to one thread at a time.
#pragma once

#include "common/arena.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Storage Storage;
typedef struct StorageWriter StorageWriter;
typedef struct StorageReader StorageReader;

#define STORAGE_KEY_SIZE_MAX 512

typedef struct StorageObject {
    const char *key;
    int64_t size_bytes;
    int64_t modified_us;
    int64_t locked_until_us; // set by storage_stat: the store keeps it until then; 0: not known to
} StorageObject;

typedef struct StoragePage {
    StorageObject *objects;
    size_t count;
    const char *next_page_token; // NULL: the end
} StoragePage;

typedef struct StorageWriteOptions {
    bool is_create_only; // commit fails with REASON_EXISTS when the key is there (If-None-Match: *)
} StorageWriteOptions;

void storage_free(Storage *storage); // NULL is fine; aborts unfinished writers
void storage_freep(Storage **storage);
bool storage_key_is_valid(const char *key);           // ".tmp" is reserved as a first segment
const char *storage_describe(const Storage *storage); // "file:///backups", safe to show

Status storage_writer_open(Storage *storage, const char *key, const StorageWriteOptions *options,
                           StorageWriter **ret_writer, Error *error);
Status storage_writer_write(StorageWriter *writer, const void *data, size_t size, Error *error);
// Durable and visible on OK; on failure the object does not exist (or the old one does). Frees the
// writer either way.
Status storage_writer_commit(StorageWriter *writer, Error *error);
void storage_writer_abort(StorageWriter *writer); // NULL is fine

// Missing key: REASON_NOT_FOUND at open. length -1: to the end.
Status storage_reader_open(Storage *storage, const char *key, int64_t offset, int64_t length,
                           StorageReader **ret_reader, Error *error);
Status storage_reader_read(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                           Error *error);         // 0: the end
void storage_reader_close(StorageReader *reader); // NULL is fine

// One step for small objects. storage_get refuses objects over size_max (REASON_EXHAUSTED).
Status storage_put(Storage *storage, const char *key, const void *data, size_t size,
                   const StorageWriteOptions *options, Error *error);
Status storage_get(Storage *storage, const char *key, size_t size_max, Arena *arena,
                   uint8_t **ret_data, size_t *ret_size, Error *error);
// Exactly `length` bytes at `offset` into `data`, or REASON_OBJECT_CORRUPT when the object is
// shorter.
Status storage_get_range(Storage *storage, const char *key, int64_t offset, size_t length,
                         void *data, Error *error);
Status storage_stat(Storage *storage, const char *key, StorageObject *ret_object,
                    Error *error); // REASON_NOT_FOUND
// Objects whose key starts with prefix, in byte order, at most `limit` (<= 1000). page_token: NULL
// at first.
Status storage_list(Storage *storage, const char *prefix, const char *page_token, int limit,
                    Arena *arena, StoragePage *ret_page, Error *error);
// Removing a missing object succeeds. REASON_OBJECT_LOCKED when the store keeps it for now: object
// lock, a retention period, a legal hold.
Status storage_remove(Storage *storage, const char *key, Error *error);
#define STORAGE_REMOVE_COUNT_MAX 1000
typedef struct StorageRemoval {
    const char *key;
    bool is_locked; // out: the store keeps it for now; storage_stat may know until when
} StorageRemoval;
// Removes up to STORAGE_REMOVE_COUNT_MAX objects, in no order, with as few calls as the store
// allows. Missing and locked ones are no failure. After a failure some of them may be gone.
Status storage_remove_many(Storage *storage, StorageRemoval *removals, size_t count, Error *error);
// Removes what writers that were killed have left behind; never touches a living writer, of any
// process. The sweep calls it.
Status storage_remove_stale(Storage *storage, int64_t *ret_removed_count, Error *error);
