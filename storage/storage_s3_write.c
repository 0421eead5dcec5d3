// SPDX-License-Identifier: Apache-2.0
// The writer of the S3 driver: bytes gather until they are more than one part; from then on parts
// are sent by other threads while the next one gathers.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_s3_internal.h"

#include <assert.h>
#include <string.h>

// One part on its way.
typedef struct PartTask {
    StorageTask task;
    S3Multipart *multipart;
    size_t number;
    uint8_t *data; // S3_PART_BYTES, owned; NULL: not used yet
    size_t size;
    S3Part result;
} PartTask;

typedef struct S3Writer {
    StorageWriter base;
    char *key;
    char token[UUID_TEXT_SIZE];
    bool is_create_only;
    uint8_t *data; // S3_PART_BYTES; NULL: nothing was written yet
    size_t size;
    bool is_multipart;
    S3Multipart multipart;
    PartTask parts[S3_PARALLEL_COUNT];
    size_t next_part; // index of the slot whose turn it is
} S3Writer;

Status s3_open_writer(Storage *storage, const char *key, const StorageWriteOptions *options,
                      StorageWriter **ret_writer, Error *error)
{
    (void)storage;
    (void)error;
    S3Writer *writer = mem_alloc(sizeof(*writer));
    writer->key = string_copy(key);
    writer->is_create_only = options->is_create_only;
    crypto_uuid(writer->token);
    *ret_writer = &writer->base;
    return STATUS_OK;
}

static void writer_free(S3Writer *writer)
{
    for (size_t i = 0; i < ARRAY_COUNT(writer->parts); i++) {
        mem_free(writer->parts[i].data);
    }
    mem_free(writer->multipart.parts);
    mem_free(writer->data);
    mem_free(writer->key);
    mem_free(writer);
}

static const S3Storage *storage_of(const S3Writer *writer)
{
    return (const S3Storage *)writer->base.storage;
}

static Status send_part(StorageTask *task, Error *error)
{
    PartTask *part = (PartTask *)task;
    return s3_multipart_send(part->multipart, part->number, part->data, part->size, &part->result,
                             error);
}

// Waits for the part in the slot, if there is one, and keeps what the store said of it.
static Status finish_part(S3Writer *writer, PartTask *part, Error *error)
{
    bool was_started = part->task.is_started;
    RETURN_IF_ERROR(storage_task_wait(storage_of(writer)->tasks, &part->task, error));
    if (was_started) {
        assert(part->number <= writer->multipart.part_count);
        writer->multipart.parts[part->number - 1] = part->result;
    }
    return STATUS_OK;
}

static Status begin_multipart(S3Writer *writer, Error *error)
{
    writer->multipart.s3 = storage_of(writer);
    writer->multipart.key = writer->key;
    writer->multipart.token = writer->token;
    writer->multipart.is_create_only = writer->is_create_only;
    RETURN_IF_ERROR(s3_multipart_begin(&writer->multipart, error));
    writer->is_multipart = true;
    return STATUS_OK;
}

// Hands the gathered bytes to a thread.
static Status start_part(S3Writer *writer, Error *error)
{
    if (!writer->is_multipart) {
        RETURN_IF_ERROR(begin_multipart(writer, error));
    }
    S3Multipart *multipart = &writer->multipart;
    PartTask *part = &writer->parts[writer->next_part];
    writer->next_part = (writer->next_part + 1) % ARRAY_COUNT(writer->parts);
    RETURN_IF_ERROR(finish_part(writer, part, error));
    if (multipart->part_count == S3_PART_COUNT_MAX) {
        return error_set(error, REASON_EXHAUSTED, "object '%s' has more than %d parts of %zu bytes",
                         writer->key, S3_PART_COUNT_MAX, S3_PART_BYTES);
    }
    if (multipart->part_count == multipart->part_capacity) {
        multipart->part_capacity = MAX(16, 2 * multipart->part_capacity);
        multipart->parts =
            mem_realloc_array(multipart->parts, multipart->part_capacity, sizeof(S3Part));
    }
    multipart->part_count++;
    uint8_t *spare = part->data;
    part->multipart = multipart;
    part->number = multipart->part_count;
    part->data = writer->data;
    part->size = writer->size;
    part->task.run = send_part;
    writer->data = spare;
    writer->size = 0;
    storage_task_start(storage_of(writer)->tasks, &part->task);
    return STATUS_OK;
}

Status s3_writer_write(StorageWriter *storage_writer, const void *data, size_t size, Error *error)
{
    S3Writer *writer = (S3Writer *)storage_writer;
    const uint8_t *next = data;
    while (size > 0) {
        if (writer->size == S3_PART_BYTES) {
            RETURN_IF_ERROR(start_part(writer, error));
        }
        if (writer->data == NULL) {
            writer->data = mem_alloc(S3_PART_BYTES);
        }
        size_t piece = MIN(size, S3_PART_BYTES - writer->size);
        memcpy(writer->data + writer->size, next, piece);
        writer->size += piece;
        next += piece;
        size -= piece;
    }
    return STATUS_OK;
}

// Also after a failure, so that no thread works for a writer that is gone.
static void drain(S3Writer *writer)
{
    Error ignored = {0}; // the first failure was told, or nobody asks
    for (size_t i = 0; i < ARRAY_COUNT(writer->parts); i++) {
        (void)storage_task_wait(storage_of(writer)->tasks, &writer->parts[i].task, &ignored);
    }
}

static Status commit_multipart(S3Writer *writer, Error *error)
{
    RETURN_IF_ERROR(start_part(writer, error));
    for (size_t i = 0; i < ARRAY_COUNT(writer->parts); i++) {
        RETURN_IF_ERROR(finish_part(writer, &writer->parts[i], error));
    }
    return s3_multipart_complete(&writer->multipart, error);
}

Status s3_writer_commit(StorageWriter *storage_writer, Error *error)
{
    S3Writer *writer = (S3Writer *)storage_writer;
    Status status = STATUS_OK;
    if (!writer->is_multipart) {
        status = s3_put_whole(storage_of(writer), writer->key, writer->token,
                              writer->is_create_only, writer->data, writer->size, error);
    } else {
        status = commit_multipart(writer, error);
        if (status != STATUS_OK) {
            drain(writer);
            s3_multipart_abort(&writer->multipart);
        }
    }
    writer_free(writer);
    return status;
}

void s3_writer_abort(StorageWriter *storage_writer)
{
    S3Writer *writer = (S3Writer *)storage_writer;
    drain(writer);
    if (writer->is_multipart) {
        s3_multipart_abort(&writer->multipart);
    }
    writer_free(writer);
}

static Status put_large(Storage *storage, const char *key, const void *data, size_t size,
                        const StorageWriteOptions *options, Error *error)
{
    StorageWriter *writer = NULL;
    RETURN_IF_ERROR(s3_open_writer(storage, key, options, &writer, error));
    writer->storage = storage;
    Status status = s3_writer_write(writer, data, size, error);
    if (status != STATUS_OK) {
        s3_writer_abort(writer);
        return status;
    }
    return s3_writer_commit(writer, error);
}

Status s3_put(Storage *storage, const char *key, const void *data, size_t size,
              const StorageWriteOptions *options, Error *error)
{
    if (size > S3_PART_BYTES) {
        return put_large(storage, key, data, size, options, error);
    }
    char token[UUID_TEXT_SIZE];
    crypto_uuid(token);
    return s3_put_whole((const S3Storage *)storage, key, token, options->is_create_only, data, size,
                        error);
}
