// SPDX-License-Identifier: Apache-2.0
// For the drivers only (storage_<name>.c): the table a driver fills, and the base each of its
// structs starts with. storage.c checks keys, ranges and limits before it calls a driver, and keeps
// the list of unfinished writers.
#pragma once

#include "storage/storage.h"

#include <pthread.h>

typedef struct StorageOperations {
    const char *name; // "filesystem"
    // Required. Called when no writer is left.
    void (*free)(Storage *storage);
    const char *(*describe)(const Storage *storage);

    // Required. Nothing is visible before commit; commit and abort free the writer, also on
    // failure.
    Status (*open_writer)(Storage *storage, const char *key, const StorageWriteOptions *options,
                          StorageWriter **ret_writer, Error *error);
    Status (*writer_write)(StorageWriter *writer, const void *data, size_t size, Error *error);
    Status (*writer_commit)(StorageWriter *writer, Error *error); // REASON_EXISTS for create-only
    void (*writer_abort)(StorageWriter *writer);

    // Required. A missing key is REASON_NOT_FOUND at open; an offset at or beyond the end reads
    // nothing.
    Status (*open_reader)(Storage *storage, const char *key, int64_t offset, int64_t length,
                          StorageReader **ret_reader, Error *error);
    Status (*reader_read)(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                          Error *error);
    void (*reader_close)(StorageReader *reader);

    // Required. stat sets size, time and, if the store can tell, the end of a lock only; list gives
    // keys greater than `after` ("" at first), in byte order of the whole key, at most `limit`, and
    // says whether there are more.
    Status (*stat)(Storage *storage, const char *key, StorageObject *ret_object, Error *error);
    Status (*list)(Storage *storage, const char *prefix, const char *after, size_t limit,
                   Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error);
    // A missing object is fine. REASON_OBJECT_LOCKED when the store does not allow it yet: never
    // for a lack of rights, which is REASON_FORBIDDEN and does not go away by waiting.
    Status (*remove)(Storage *storage, const char *key, Error *error);

    // Optional (NULL: through a writer, a reader). put takes a whole object from memory; read_range
    // reads at most `size` > 0 bytes into `data`, fewer only at the object's end. Missing key:
    // REASON_NOT_FOUND.
    Status (*put)(Storage *storage, const char *key, const void *data, size_t size,
                  const StorageWriteOptions *options, Error *error);
    Status (*read_range)(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                         size_t *ret_size, Error *error);
    // Optional (NULL: one call of remove for each). At most STORAGE_REMOVE_COUNT_MAX; is_locked is
    // false at first.
    Status (*remove_many)(Storage *storage, StorageRemoval *removals, size_t count, Error *error);
    // Optional (NULL: a killed writer leaves nothing behind).
    Status (*remove_stale)(Storage *storage, int64_t *ret_removed_count, Error *error);
} StorageOperations;

struct Storage {
    const StorageOperations *operations;
    pthread_mutex_t mutex; // guards `writers`
    StorageWriter *writers;
};

struct StorageWriter {
    Storage *storage;
    StorageWriter *previous, *next;
};

struct StorageReader {
    Storage *storage;
};

// Every driver's constructor and free call these.
void storage_base_init(Storage *storage, const StorageOperations *operations);
void storage_base_done(Storage *storage);
