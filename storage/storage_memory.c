// SPDX-License-Identifier: Apache-2.0
// Storage in memory, for tests: it behaves as the others do and can fail at any call, before or
// after the effect.
#include "common/buffer.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_driver.h"
#include "storage/storage_drivers.h"

#include <assert.h>
#include <string.h>

#define MEMORY_OBJECT_SIZE_MAX ((size_t)1 << 30)

// Immutable; readers keep it alive after its removal.
typedef struct MemoryObject {
    char *key;
    uint8_t *data;
    size_t size;
    int64_t modified_us;
    int reference_count; // guarded by lock
} MemoryObject;

typedef struct MemoryStorage {
    Storage base;
    pthread_mutex_t lock;
    MemoryObject **objects; // in byte order of key
    size_t count, capacity;
    int fail_at; // 0: never
    int call_count;
    bool is_lost_reply;
    char *locked_prefix; // NULL: nothing is locked
    int64_t locked_until_us;
} MemoryStorage;

typedef struct MemoryWriter {
    StorageWriter base;
    char *key;
    bool is_create_only;
    Buffer data;
} MemoryWriter;

typedef struct MemoryReader {
    StorageReader base;
    MemoryObject *object;
    size_t offset, end;
} MemoryReader;

typedef enum Fault { FAULT_NONE, FAULT_BEFORE, FAULT_AFTER } Fault;

// Counts a call and says whether it fails. With the lock held.
static Fault next_fault(MemoryStorage *memory)
{
    memory->call_count++;
    if (memory->fail_at == 0 || memory->call_count != memory->fail_at) {
        return FAULT_NONE;
    }
    return memory->is_lost_reply ? FAULT_AFTER : FAULT_BEFORE;
}

static Fault begin_call(MemoryStorage *memory)
{
    pthread_mutex_lock(&memory->lock);
    return next_fault(memory);
}

static Status end_call(MemoryStorage *memory, Fault fault, const char *what, const char *key,
                       Error *error)
{
    pthread_mutex_unlock(&memory->lock);
    if (fault == FAULT_NONE) {
        return STATUS_OK;
    }
    return error_set(error, REASON_UNAVAILABLE, "%s object '%s': the connection was lost", what,
                     key);
}

static void object_unref(MemoryObject *object)
{
    assert(object->reference_count > 0);
    if (--object->reference_count == 0) {
        mem_free(object->key);
        mem_free(object->data);
        mem_free(object);
    }
}

// The index of the first object whose key is not less.
static size_t find_index(const MemoryStorage *memory, const char *key)
{
    size_t low = 0;
    size_t high = memory->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(memory->objects[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static MemoryObject *find_object(const MemoryStorage *memory, const char *key)
{
    size_t index = find_index(memory, key);
    if (index < memory->count && strcmp(memory->objects[index]->key, key) == 0) {
        return memory->objects[index];
    }
    return NULL;
}

static void memory_free(Storage *storage)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    for (size_t i = 0; i < memory->count; i++) {
        object_unref(memory->objects[i]);
    }
    mem_free(memory->objects);
    mem_free(memory->locked_prefix);
    pthread_mutex_destroy(&memory->lock);
    storage_base_done(storage);
    mem_free(memory);
}

static const char *memory_describe(const Storage *storage)
{
    (void)storage;
    return "memory:";
}

static void writer_free(MemoryWriter *writer)
{
    mem_free(writer->key);
    buffer_done(&writer->data);
    mem_free(writer);
}

static Status memory_open_writer(Storage *storage, const char *key,
                                 const StorageWriteOptions *options, StorageWriter **ret_writer,
                                 Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    RETURN_IF_ERROR(end_call(memory, begin_call(memory), "opening", key, error));
    MemoryWriter *writer = mem_alloc(sizeof(*writer));
    writer->key = string_copy(key);
    writer->is_create_only = options->is_create_only;
    buffer_init(&writer->data, MEMORY_OBJECT_SIZE_MAX);
    *ret_writer = &writer->base;
    return STATUS_OK;
}

static Status memory_writer_write(StorageWriter *storage_writer, const void *data, size_t size,
                                  Error *error)
{
    MemoryWriter *writer = (MemoryWriter *)storage_writer;
    MemoryStorage *memory = (MemoryStorage *)storage_writer->storage;
    RETURN_IF_ERROR(end_call(memory, begin_call(memory), "writing", writer->key, error));
    if (!buffer_append(&writer->data, data, size)) {
        return error_set(error, REASON_DISK_FULL, "object '%s' is too large for memory",
                         writer->key);
    }
    return STATUS_OK;
}

static void memory_writer_abort(StorageWriter *storage_writer)
{
    writer_free((MemoryWriter *)storage_writer);
}

// With the lock held. Moves the writer's bytes into the store.
static void insert_object(MemoryStorage *memory, MemoryWriter *writer)
{
    size_t index = find_index(memory, writer->key);
    MemoryObject *object = mem_alloc(sizeof(*object));
    object->key = TAKE_PTR(writer->key);
    object->size = writer->data.size;
    object->data = (uint8_t *)buffer_take_text(&writer->data);
    object->modified_us = clock_now_us();
    object->reference_count = 1;
    if (index < memory->count && strcmp(memory->objects[index]->key, object->key) == 0) {
        object_unref(memory->objects[index]);
        memory->objects[index] = object;
        return;
    }
    if (memory->count == memory->capacity) {
        memory->capacity = memory->capacity == 0 ? 64 : 2 * memory->capacity;
        memory->objects =
            mem_realloc_array(memory->objects, memory->capacity, sizeof(memory->objects[0]));
    }
    memmove(memory->objects + index + 1, memory->objects + index,
            (memory->count - index) * sizeof(memory->objects[0]));
    memory->objects[index] = object;
    memory->count++;
}

static Status memory_writer_commit(StorageWriter *storage_writer, Error *error)
{
    MemoryWriter *writer = (MemoryWriter *)storage_writer;
    MemoryStorage *memory = (MemoryStorage *)storage_writer->storage;
    char key[STORAGE_KEY_SIZE_MAX + 1];
    size_t key_size = strlen(writer->key);
    assert(key_size < sizeof(key));
    memcpy(key, writer->key, key_size + 1);
    Fault fault = begin_call(memory);
    bool exists = writer->is_create_only && find_object(memory, key) != NULL;
    if (!exists && fault != FAULT_BEFORE) {
        insert_object(memory, writer);
    }
    Status status = end_call(memory, fault, "committing", key, error);
    writer_free(writer);
    if (status == STATUS_OK && exists) {
        return error_set(error, REASON_EXISTS, "object '%s' is there already", key);
    }
    return status;
}

static Status memory_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                                 StorageReader **ret_reader, Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    Fault fault = begin_call(memory);
    MemoryObject *object = fault == FAULT_NONE ? find_object(memory, key) : NULL;
    if (object != NULL) {
        object->reference_count++;
    }
    RETURN_IF_ERROR(end_call(memory, fault, "opening", key, error));
    if (object == NULL) {
        return error_set(error, REASON_NOT_FOUND, "there is no object '%s'", key);
    }
    MemoryReader *reader = mem_alloc(sizeof(*reader));
    reader->object = object;
    reader->offset = MIN((uint64_t)offset, object->size);
    reader->end = length < 0 || (uint64_t)length > object->size - reader->offset
                      ? object->size
                      : reader->offset + (size_t)length;
    *ret_reader = &reader->base;
    return STATUS_OK;
}

static Status memory_reader_read(StorageReader *storage_reader, void *data, size_t size,
                                 size_t *ret_size, Error *error)
{
    MemoryReader *reader = (MemoryReader *)storage_reader;
    MemoryStorage *memory = (MemoryStorage *)storage_reader->storage;
    RETURN_IF_ERROR(end_call(memory, begin_call(memory), "reading", reader->object->key, error));
    size = MIN(size, reader->end - reader->offset);
    if (size > 0) {
        memcpy(data, reader->object->data + reader->offset, size);
    }
    reader->offset += size;
    *ret_size = size;
    return STATUS_OK;
}

static void memory_reader_close(StorageReader *storage_reader)
{
    MemoryReader *reader = (MemoryReader *)storage_reader;
    MemoryStorage *memory = (MemoryStorage *)storage_reader->storage;
    pthread_mutex_lock(&memory->lock);
    object_unref(reader->object);
    pthread_mutex_unlock(&memory->lock);
    mem_free(reader);
}

// With the lock held. 0: it is not locked.
static int64_t locked_until(const MemoryStorage *memory, const MemoryObject *object)
{
    bool is_locked = memory->locked_prefix != NULL &&
                     text_has_prefix(object->key, memory->locked_prefix) &&
                     clock_now_us() < memory->locked_until_us;
    return is_locked ? memory->locked_until_us : 0;
}

static Status memory_stat(Storage *storage, const char *key, StorageObject *ret_object,
                          Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    Fault fault = begin_call(memory);
    const MemoryObject *object = find_object(memory, key);
    if (object != NULL) {
        ret_object->size_bytes = (int64_t)object->size;
        ret_object->modified_us = object->modified_us;
        ret_object->locked_until_us = locked_until(memory, object);
    }
    RETURN_IF_ERROR(end_call(memory, fault, "asking for", key, error));
    if (object == NULL) {
        return error_set(error, REASON_NOT_FOUND, "there is no object '%s'", key);
    }
    return STATUS_OK;
}

static Status memory_list(Storage *storage, const char *prefix, const char *after, size_t limit,
                          Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    StorageObject *objects = arena_alloc_array(arena, limit, sizeof(*objects));
    size_t count = 0;
    bool has_more = false;
    Fault fault = begin_call(memory);
    for (size_t i = find_index(memory, prefix); i < memory->count; i++) {
        const MemoryObject *object = memory->objects[i];
        if (!text_has_prefix(object->key, prefix)) {
            break;
        }
        if (strcmp(object->key, after) <= 0) {
            continue;
        }
        if (count == limit) {
            has_more = true;
            break;
        }
        objects[count++] = (StorageObject){.key = arena_string(arena, object->key),
                                           .size_bytes = (int64_t)object->size,
                                           .modified_us = object->modified_us};
    }
    RETURN_IF_ERROR(end_call(memory, fault, "listing", prefix, error));
    ret_page->objects = objects;
    ret_page->count = count;
    *ret_has_more = has_more;
    return STATUS_OK;
}

// With the lock held. False: it is locked.
static bool remove_object(MemoryStorage *memory, const char *key)
{
    size_t index = find_index(memory, key);
    if (index == memory->count || strcmp(memory->objects[index]->key, key) != 0) {
        return true;
    }
    if (locked_until(memory, memory->objects[index]) != 0) {
        return false;
    }
    object_unref(memory->objects[index]);
    memory->count--;
    memmove(memory->objects + index, memory->objects + index + 1,
            (memory->count - index) * sizeof(memory->objects[0]));
    return true;
}

static Status memory_remove(Storage *storage, const char *key, Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    Fault fault = begin_call(memory);
    bool is_done = fault == FAULT_BEFORE || remove_object(memory, key);
    RETURN_IF_ERROR(end_call(memory, fault, "removing", key, error));
    if (!is_done) {
        error_set(error, REASON_OBJECT_LOCKED, "object '%s' is locked", key);
        return error_hint(error, "wait until its lock has ended");
    }
    return STATUS_OK;
}

// A fault before the effect comes after half of it: stores do not remove many at once.
static Status memory_remove_many(Storage *storage, StorageRemoval *removals, size_t count,
                                 Error *error)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    Fault fault = begin_call(memory);
    size_t done_count = fault == FAULT_BEFORE ? count / 2 : count;
    for (size_t i = 0; i < done_count; i++) {
        removals[i].is_locked = !remove_object(memory, removals[i].key);
    }
    return end_call(memory, fault, "removing", removals[0].key, error);
}

static const StorageOperations MEMORY_OPERATIONS = {
    .name = "memory",
    .free = memory_free,
    .describe = memory_describe,
    .open_writer = memory_open_writer,
    .writer_write = memory_writer_write,
    .writer_commit = memory_writer_commit,
    .writer_abort = memory_writer_abort,
    .open_reader = memory_open_reader,
    .reader_read = memory_reader_read,
    .reader_close = memory_reader_close,
    .stat = memory_stat,
    .list = memory_list,
    .remove = memory_remove,
    .remove_many = memory_remove_many,
};

Storage *storage_memory_new(void)
{
    MemoryStorage *memory = mem_alloc(sizeof(*memory));
    storage_base_init(&memory->base, &MEMORY_OPERATIONS);
    pthread_mutex_init(&memory->lock, NULL);
    return (Storage *)memory;
}

void storage_memory_fail_at(Storage *storage, int call_number, bool is_lost_reply)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    assert(storage->operations == &MEMORY_OPERATIONS);
    pthread_mutex_lock(&memory->lock);
    memory->call_count = 0;
    memory->fail_at = call_number;
    memory->is_lost_reply = is_lost_reply;
    pthread_mutex_unlock(&memory->lock);
}

int storage_memory_call_count(const Storage *storage)
{
    assert(storage->operations == &MEMORY_OPERATIONS);
    MemoryStorage *memory = (MemoryStorage *)(uintptr_t)storage;
    pthread_mutex_lock(&memory->lock);
    int count = memory->call_count;
    pthread_mutex_unlock(&memory->lock);
    return count;
}

void storage_memory_lock(Storage *storage, const char *prefix, int64_t until_us)
{
    MemoryStorage *memory = (MemoryStorage *)storage;
    assert(storage->operations == &MEMORY_OPERATIONS);
    pthread_mutex_lock(&memory->lock);
    mem_free(memory->locked_prefix);
    memory->locked_prefix = prefix[0] == '\0' ? NULL : string_copy(prefix);
    memory->locked_until_us = until_us;
    pthread_mutex_unlock(&memory->lock);
}
