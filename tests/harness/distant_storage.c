// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/distant_storage.h"

#include "common/memory.h"
#include "storage/storage_driver.h"

#include <string.h>
#include <time.h>

#define GIVE_UP_SECONDS 30

typedef struct DistantStorage {
    Storage base;
    Storage *inner;
    int latency_ms;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t opened;
    const char *part;
    int first, count; // count 0: no gate
    int read_count, waiting_count;
    bool is_open, has_given_up;
} DistantStorage;

typedef struct DistantWriter {
    StorageWriter base;
    StorageWriter *inner;
} DistantWriter;

typedef struct DistantReader {
    StorageReader base;
    StorageReader *inner;
} DistantReader;

static Storage *travel(const Storage *storage)
{
    const DistantStorage *distant = (const DistantStorage *)storage;
    const struct timespec latency = {.tv_sec = distant->latency_ms / 1000,
                                     .tv_nsec = distant->latency_ms % 1000 * 1000000L};
    if (distant->latency_ms > 0) {
        (void)nanosleep(&latency, NULL);
    }
    return distant->inner;
}

static void wait_at_gate(DistantStorage *distant, const char *key)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GIVE_UP_SECONDS;
    pthread_mutex_lock(&distant->mutex);
    if (strstr(key, distant->part) != NULL && distant->read_count++ >= distant->first &&
        distant->count > 0) {
        distant->waiting_count++;
        if (distant->waiting_count == distant->count && !distant->has_given_up) {
            distant->is_open = true;
            pthread_cond_broadcast(&distant->opened);
        }
        while (!distant->is_open && !distant->has_given_up) {
            distant->has_given_up =
                pthread_cond_timedwait(&distant->opened, &distant->mutex, &until) != 0 &&
                !distant->is_open;
        }
        distant->waiting_count--;
        pthread_cond_broadcast(&distant->opened);
    }
    pthread_mutex_unlock(&distant->mutex);
}

static void distant_free(Storage *storage)
{
    DistantStorage *distant = (DistantStorage *)storage;
    storage_free(distant->inner);
    pthread_mutex_destroy(&distant->mutex);
    pthread_cond_destroy(&distant->opened);
    storage_base_done(storage);
    mem_free(distant);
}

static const char *distant_describe(const Storage *storage)
{
    return storage_describe(((const DistantStorage *)storage)->inner);
}

static Status distant_open_writer(Storage *storage, const char *key,
                                  const StorageWriteOptions *options, StorageWriter **ret_writer,
                                  Error *error)
{
    StorageWriter *inner = NULL;
    RETURN_IF_ERROR(storage_writer_open(travel(storage), key, options, &inner, error));
    DistantWriter *writer = mem_alloc(sizeof(*writer));
    writer->inner = inner;
    *ret_writer = &writer->base;
    return STATUS_OK;
}

static Status distant_write(StorageWriter *writer, const void *data, size_t size, Error *error)
{
    return storage_writer_write(((DistantWriter *)writer)->inner, data, size, error);
}

static Status distant_commit(StorageWriter *writer, Error *error)
{
    (void)travel(writer->storage);
    Status status = storage_writer_commit(((DistantWriter *)writer)->inner, error);
    mem_free(writer);
    return status;
}

static void distant_abort(StorageWriter *writer)
{
    storage_writer_abort(((DistantWriter *)writer)->inner);
    mem_free(writer);
}

static Status distant_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                                  StorageReader **ret_reader, Error *error)
{
    StorageReader *inner = NULL;
    wait_at_gate((DistantStorage *)storage, key);
    RETURN_IF_ERROR(storage_reader_open(travel(storage), key, offset, length, &inner, error));
    DistantReader *reader = mem_alloc(sizeof(*reader));
    reader->inner = inner;
    *ret_reader = &reader->base;
    return STATUS_OK;
}

static Status distant_read(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                           Error *error)
{
    return storage_reader_read(((DistantReader *)reader)->inner, data, size, ret_size, error);
}

static void distant_close(StorageReader *reader)
{
    storage_reader_close(((DistantReader *)reader)->inner);
    mem_free(reader);
}

static Status distant_stat(Storage *storage, const char *key, StorageObject *ret_object,
                           Error *error)
{
    return storage_stat(travel(storage), key, ret_object, error);
}

static Status distant_list(Storage *storage, const char *prefix, const char *after, size_t limit,
                           Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error)
{
    RETURN_IF_ERROR(storage_list(travel(storage), prefix, after[0] == '\0' ? NULL : after,
                                 (int)limit, arena, ret_page, error));
    *ret_has_more = ret_page->next_page_token != NULL;
    return STATUS_OK;
}

static Status distant_remove(Storage *storage, const char *key, Error *error)
{
    return storage_remove(travel(storage), key, error);
}

static const StorageOperations DISTANT_OPERATIONS = {
    .name = "distant",
    .free = distant_free,
    .describe = distant_describe,
    .open_writer = distant_open_writer,
    .writer_write = distant_write,
    .writer_commit = distant_commit,
    .writer_abort = distant_abort,
    .open_reader = distant_open_reader,
    .reader_read = distant_read,
    .reader_close = distant_close,
    .stat = distant_stat,
    .list = distant_list,
    .remove = distant_remove,
};

Storage *distant_storage_new(Storage *inner, int latency_ms)
{
    DistantStorage *distant = mem_alloc(sizeof(*distant));
    storage_base_init(&distant->base, &DISTANT_OPERATIONS);
    distant->inner = inner;
    distant->latency_ms = latency_ms;
    distant->part = "";
    pthread_mutex_init(&distant->mutex, NULL);
    pthread_cond_init(&distant->opened, NULL);
    return &distant->base;
}

void distant_storage_gate(Storage *storage, const char *part, int first, int count)
{
    DistantStorage *distant = (DistantStorage *)storage;
    pthread_mutex_lock(&distant->mutex);
    distant->part = part;
    distant->first = first;
    distant->count = count;
    distant->read_count = distant->waiting_count = 0;
    distant->is_open = distant->has_given_up = false;
    pthread_mutex_unlock(&distant->mutex);
}

int distant_storage_read_count(Storage *storage)
{
    DistantStorage *distant = (DistantStorage *)storage;
    pthread_mutex_lock(&distant->mutex);
    int count = distant->read_count;
    pthread_mutex_unlock(&distant->mutex);
    return count;
}

bool distant_storage_was_opened(Storage *storage)
{
    DistantStorage *distant = (DistantStorage *)storage;
    pthread_mutex_lock(&distant->mutex);
    bool was_opened = distant->is_open;
    pthread_mutex_unlock(&distant->mutex);
    return was_opened;
}
