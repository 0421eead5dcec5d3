// SPDX-License-Identifier: Apache-2.0
// What all drivers share: checks of keys and limits, whole-object helpers, and unfinished writers.
#include "storage/storage.h"

#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_driver.h"
#include "storage/storage_drivers.h"
#include "storage/storage_gcs.h"

#include <assert.h>
#include <string.h>

#define LIST_LIMIT_MAX 1000
#define GET_FIRST_SIZE ((size_t)64 * 1024)

static const StorageWriteOptions write_defaults = {.is_create_only = false};

static bool is_key_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

bool storage_key_is_valid(const char *key)
{
    size_t size = strlen(key);
    if (size == 0 || size > STORAGE_KEY_SIZE_MAX || strcmp(key, ".tmp") == 0 ||
        text_has_prefix(key, ".tmp/")) {
        return false;
    }
    size_t start = 0;
    for (size_t i = 0; i <= size; i++) {
        if (key[i] != '/' && key[i] != '\0') {
            if (!is_key_byte(key[i])) {
                return false;
            }
            continue;
        }
        size_t length = i - start;
        if (length == 0 || (length == 1 && key[start] == '.') ||
            (length == 2 && key[start] == '.' && key[start + 1] == '.')) {
            return false;
        }
        start = i + 1;
    }
    return true;
}

static Status check_key(const char *key, Error *error)
{
    if (!storage_key_is_valid(key)) {
        return error_set(error, REASON_INVALID, "'%.100s' is not a storage key", key);
    }
    return STATUS_OK;
}

void storage_base_init(Storage *storage, const StorageOperations *operations)
{
    storage->operations = operations;
    pthread_mutex_init(&storage->mutex, NULL);
}

void storage_base_done(Storage *storage)
{
    pthread_mutex_destroy(&storage->mutex);
}

void storage_free(Storage *storage)
{
    if (storage == NULL) {
        return;
    }
    while (storage->writers != NULL) {
        storage_writer_abort(storage->writers);
    }
    storage->operations->free(storage);
}

void storage_freep(Storage **storage)
{
    storage_free(*storage);
    *storage = NULL;
}

const char *storage_describe(const Storage *storage)
{
    return storage->operations->describe(storage);
}

static void writer_unlink(StorageWriter *writer)
{
    Storage *storage = writer->storage;
    pthread_mutex_lock(&storage->mutex);
    if (writer->previous != NULL) {
        writer->previous->next = writer->next;
    } else {
        assert(storage->writers == writer);
        storage->writers = writer->next;
    }
    if (writer->next != NULL) {
        writer->next->previous = writer->previous;
    }
    pthread_mutex_unlock(&storage->mutex);
}

Status storage_writer_open(Storage *storage, const char *key, const StorageWriteOptions *options,
                           StorageWriter **ret_writer, Error *error)
{
    RETURN_IF_ERROR(check_key(key, error));
    StorageWriter *writer = NULL;
    RETURN_IF_ERROR(storage->operations->open_writer(
        storage, key, options != NULL ? options : &write_defaults, &writer, error));
    assert(writer != NULL);
    writer->storage = storage;
    pthread_mutex_lock(&storage->mutex);
    writer->previous = NULL;
    writer->next = storage->writers;
    if (storage->writers != NULL) {
        storage->writers->previous = writer;
    }
    storage->writers = writer;
    pthread_mutex_unlock(&storage->mutex);
    *ret_writer = writer;
    return STATUS_OK;
}

Status storage_writer_write(StorageWriter *writer, const void *data, size_t size, Error *error)
{
    assert(writer != NULL);
    if (size == 0) {
        return STATUS_OK;
    }
    return writer->storage->operations->writer_write(writer, data, size, error);
}

Status storage_writer_commit(StorageWriter *writer, Error *error)
{
    assert(writer != NULL);
    writer_unlink(writer);
    return writer->storage->operations->writer_commit(writer, error);
}

void storage_writer_abort(StorageWriter *writer)
{
    if (writer == NULL) {
        return;
    }
    writer_unlink(writer);
    writer->storage->operations->writer_abort(writer);
}

Status storage_reader_open(Storage *storage, const char *key, int64_t offset, int64_t length,
                           StorageReader **ret_reader, Error *error)
{
    assert(offset >= 0);
    assert(length >= -1);
    RETURN_IF_ERROR(check_key(key, error));
    RETURN_IF_ERROR(
        storage->operations->open_reader(storage, key, offset, length, ret_reader, error));
    (*ret_reader)->storage = storage;
    return STATUS_OK;
}

Status storage_reader_read(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                           Error *error)
{
    return reader->storage->operations->reader_read(reader, data, size, ret_size, error);
}

void storage_reader_close(StorageReader *reader)
{
    if (reader != NULL) {
        reader->storage->operations->reader_close(reader);
    }
}

Status storage_put(Storage *storage, const char *key, const void *data, size_t size,
                   const StorageWriteOptions *options, Error *error)
{
    if (storage->operations->put != NULL) {
        RETURN_IF_ERROR(check_key(key, error));
        return storage->operations->put(storage, key, data, size,
                                        options != NULL ? options : &write_defaults, error);
    }
    StorageWriter *writer = NULL;
    RETURN_IF_ERROR(storage_writer_open(storage, key, options, &writer, error));
    Status status = storage_writer_write(writer, data, size, error);
    if (status != STATUS_OK) {
        storage_writer_abort(writer);
        return status;
    }
    return storage_writer_commit(writer, error);
}

// Reads until `size` bytes are there or the object ends.
static Status read_fully(StorageReader *reader, uint8_t *data, size_t size, size_t *ret_size,
                         Error *error)
{
    size_t done = 0;
    while (done < size) {
        size_t piece = 0;
        RETURN_IF_ERROR(storage_reader_read(reader, data + done, size - done, &piece, error));
        if (piece == 0) {
            break;
        }
        done += piece;
    }
    *ret_size = done;
    return STATUS_OK;
}

// At most `size` bytes at `offset`, fewer only at the object's end.
static Status read_range(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                         size_t *ret_size, Error *error)
{
    if (storage->operations->read_range != NULL && size > 0) {
        RETURN_IF_ERROR(check_key(key, error));
        return storage->operations->read_range(storage, key, offset, data, size, ret_size, error);
    }
    StorageReader *reader = NULL;
    RETURN_IF_ERROR(storage_reader_open(storage, key, offset, (int64_t)size, &reader, error));
    Status status = read_fully(reader, data, size, ret_size, error);
    storage_reader_close(reader);
    return status;
}

// A NUL follows, so that text can be used as text.
static uint8_t *data_alloc(Arena *arena, size_t size)
{
    return arena_alloc(arena, size + 1);
}

static Status get_large(Storage *storage, const char *key, size_t size_max, Arena *arena,
                        uint8_t **ret_data, size_t *ret_size, Error *error)
{
    StorageObject object;
    RETURN_IF_ERROR(storage_stat(storage, key, &object, error));
    if (object.size_bytes < 0 || (uint64_t)object.size_bytes > size_max) {
        return error_set(error, REASON_EXHAUSTED, "object '%s' has %lld bytes, more than %zu", key,
                         (long long)object.size_bytes, size_max);
    }
    size_t size = (size_t)object.size_bytes;
    *ret_data = data_alloc(arena, size);
    *ret_size = 0;
    return size == 0 ? STATUS_OK : read_range(storage, key, 0, *ret_data, size, ret_size, error);
}

Status storage_get(Storage *storage, const char *key, size_t size_max, Arena *arena,
                   uint8_t **ret_data, size_t *ret_size, Error *error)
{
    // Most objects that are read whole are small: then one request tells size and content.
    size_t first_size = MIN(size_max, GET_FIRST_SIZE - 1) + 1;
    CLEANUP_FREE uint8_t *first = mem_alloc(first_size);
    size_t size = 0;
    RETURN_IF_ERROR(read_range(storage, key, 0, first, first_size, &size, error));
    if (size == first_size) {
        return get_large(storage, key, size_max, arena, ret_data, ret_size, error);
    }
    *ret_data = data_alloc(arena, size);
    *ret_size = size;
    memcpy(*ret_data, first, size);
    return STATUS_OK;
}

Status storage_get_range(Storage *storage, const char *key, int64_t offset, size_t length,
                         void *data, Error *error)
{
    size_t done = 0;
    RETURN_IF_ERROR(read_range(storage, key, offset, data, length, &done, error));
    if (done != length) {
        return error_set(
            error, REASON_OBJECT_CORRUPT, "object '%s' ends at byte %lld where %lld were expected",
            key, (long long)offset + (long long)done, (long long)offset + (long long)length);
    }
    return STATUS_OK;
}

Status storage_stat(Storage *storage, const char *key, StorageObject *ret_object, Error *error)
{
    RETURN_IF_ERROR(check_key(key, error));
    ret_object->locked_until_us = 0;
    RETURN_IF_ERROR(storage->operations->stat(storage, key, ret_object, error));
    ret_object->key = key;
    return STATUS_OK;
}

static bool is_prefix_valid(const char *prefix)
{
    size_t size = strlen(prefix);
    for (size_t i = 0; i < size; i++) {
        if (prefix[i] != '/' && !is_key_byte(prefix[i])) {
            return false;
        }
    }
    return size <= STORAGE_KEY_SIZE_MAX && prefix[0] != '/' && strstr(prefix, "//") == NULL &&
           strstr(prefix, "..") == NULL;
}

Status storage_list(Storage *storage, const char *prefix, const char *page_token, int limit,
                    Arena *arena, StoragePage *ret_page, Error *error)
{
    assert(limit > 0);
    assert(limit <= LIST_LIMIT_MAX);
    if (!is_prefix_valid(prefix)) {
        return error_set(error, REASON_INVALID, "'%.100s' is not a prefix of storage keys", prefix);
    }
    if (page_token != NULL && !storage_key_is_valid(page_token)) {
        return error_set(error, REASON_INVALID, "the page token is not one of ours");
    }
    StoragePage page = {0};
    bool has_more = false;
    RETURN_IF_ERROR(storage->operations->list(storage, prefix, page_token == NULL ? "" : page_token,
                                              (size_t)limit, arena, &page, &has_more, error));
    assert(page.count <= (size_t)limit);
    assert(!has_more || page.count > 0);
    page.next_page_token = has_more ? page.objects[page.count - 1].key : NULL;
    *ret_page = page;
    return STATUS_OK;
}

Status storage_remove(Storage *storage, const char *key, Error *error)
{
    RETURN_IF_ERROR(check_key(key, error));
    return storage->operations->remove(storage, key, error);
}

Status storage_remove_many(Storage *storage, StorageRemoval *removals, size_t count, Error *error)
{
    assert(count <= STORAGE_REMOVE_COUNT_MAX);
    for (size_t i = 0; i < count; i++) {
        removals[i].is_locked = false;
        RETURN_IF_ERROR(check_key(removals[i].key, error));
    }
    if (count > 0 && storage->operations->remove_many != NULL) {
        return storage->operations->remove_many(storage, removals, count, error);
    }
    for (size_t i = 0; i < count; i++) {
        Status status = storage->operations->remove(storage, removals[i].key, error);
        removals[i].is_locked = status != STATUS_OK && error->reason == REASON_OBJECT_LOCKED;
        if (removals[i].is_locked) {
            error_clear(error);
        } else {
            RETURN_IF_ERROR(status);
        }
    }
    return STATUS_OK;
}

Status storage_remove_stale(Storage *storage, int64_t *ret_removed_count, Error *error)
{
    if (storage->operations->remove_stale == NULL) {
        *ret_removed_count = 0;
        return STATUS_OK;
    }
    return storage->operations->remove_stale(storage, ret_removed_count, error);
}

Status storage_open(const StorageOptions *options, Storage **ret_storage, Error *error)
{
    StorageLocation location;
    RETURN_IF_ERROR(storage_options_check(options, error));
    RETURN_IF_ERROR(storage_location_parse(options->location, &location, error));
    const char *path = options->location;
    switch (location.scheme) {
    case STORAGE_SCHEME_FILE:
        path += text_has_prefix(path, "file://") ? strlen("file://") : 0;
        return storage_filesystem_new(path, ret_storage, error);
    case STORAGE_SCHEME_S3:
        return storage_s3_new(options, ret_storage, error);
    case STORAGE_SCHEME_GS:
        return storage_gcs_new(options, NULL, ret_storage, error);
    }
    return error_set(error, REASON_INTERNAL, "'%.200s' is of no known kind", path);
}
