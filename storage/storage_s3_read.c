// SPDX-License-Identifier: Apache-2.0
// Reading objects of S3. The first piece is fetched when a reader opens, since only that tells
// whether there is an object; of a longer range the next pieces are fetched by other threads while
// the first ones are read.
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_s3_internal.h"

#include <assert.h>
#include <string.h>

typedef struct PieceTask {
    StorageTask task;
    const S3Storage *s3;
    const char *key;
    int64_t offset;
    uint8_t *data;
    size_t size; // asked for
    // What came.
    size_t done;
    int64_t total_size; // of the object; -1: not told
    char etag[128];
} PieceTask;

typedef struct S3Reader {
    StorageReader base;
    char *key;
    int64_t next_offset; // of the next piece to ask for
    int64_t end;         // where the range ends in the object
    char etag[128];      // all pieces must be of one object
    PieceTask pieces[S3_PARALLEL_COUNT];
    size_t first;    // the slot that is read now
    size_t used;     // slots from `first` on that hold or fetch a piece
    size_t position; // in the first one
} S3Reader;

// Fetches data[0 .. size) from the object; less when it ends before.
static Status fetch(PieceTask *piece, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "GET",
                         .action = "s3:GetObject",
                         .key = piece->key,
                         .sink = piece->data,
                         .sink_size = piece->size,
                         .range_offset = piece->offset};
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(piece->s3, &request, &response, error));
    piece->done = 0;
    piece->total_size = -1;
    if (response.status == 416) {
        return STATUS_OK; // it begins at or behind the end
    }
    RETURN_IF_ERROR(s3_check_answer(piece->s3, &request, &response, error));
    piece->done = request.sink_done;
    piece->total_size = request.total_size;
    if (!http_response_header(&response, "ETag", piece->etag, sizeof(piece->etag))) {
        piece->etag[0] = '\0';
    }
    return STATUS_OK;
}

static Status fetch_task(StorageTask *task, Error *error)
{
    return fetch((PieceTask *)task, error);
}

static const S3Storage *storage_of(const S3Reader *reader)
{
    return (const S3Storage *)reader->base.storage;
}

static void reader_free(S3Reader *reader)
{
    for (size_t i = 0; i < ARRAY_COUNT(reader->pieces); i++) {
        mem_free(reader->pieces[i].data);
    }
    mem_free(reader->key);
    mem_free(reader);
}

// Asks for pieces as long as there are free slots and bytes left.
static void prefetch(S3Reader *reader)
{
    while (reader->used < ARRAY_COUNT(reader->pieces) && reader->next_offset < reader->end) {
        PieceTask *piece =
            &reader->pieces[(reader->first + reader->used) % ARRAY_COUNT(reader->pieces)];
        if (piece->data == NULL) {
            piece->data = mem_alloc(S3_PIECE_BYTES);
        }
        piece->task.run = fetch_task;
        piece->s3 = storage_of(reader);
        piece->key = reader->key;
        piece->offset = reader->next_offset;
        piece->size = (size_t)MIN((int64_t)S3_PIECE_BYTES, reader->end - reader->next_offset);
        reader->next_offset += (int64_t)piece->size;
        reader->used++;
        storage_task_start(storage_of(reader)->tasks, &piece->task);
    }
}

// The first piece, on the caller's thread; knows afterwards where the range ends.
static Status open_first(S3Reader *reader, int64_t offset, int64_t length, Error *error)
{
    PieceTask *piece = &reader->pieces[0];
    piece->s3 = storage_of(reader);
    piece->key = reader->key;
    piece->offset = offset;
    piece->size = length < 0 ? S3_PIECE_BYTES : (size_t)MIN(length, (int64_t)S3_PIECE_BYTES);
    piece->data = mem_alloc(S3_PIECE_BYTES);
    RETURN_IF_ERROR(fetch(piece, error));
    reader->used = 1;
    reader->next_offset = offset + (int64_t)piece->done;
    memcpy(reader->etag, piece->etag, sizeof(reader->etag));
    int64_t total_size = piece->total_size >= 0 ? piece->total_size : reader->next_offset;
    reader->end = length < 0 || length > total_size - offset ? total_size : offset + length;
    return STATUS_OK;
}

Status s3_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                      StorageReader **ret_reader, Error *error)
{
    S3Reader *reader = mem_alloc(sizeof(*reader));
    reader->base.storage = storage;
    reader->key = string_copy(key);
    StorageObject object;
    Status status = length == 0 ? s3_stat(storage_of(reader), key, &object, NULL, error)
                                : open_first(reader, offset, length, error);
    if (status != STATUS_OK) {
        reader_free(reader);
        return status;
    }
    prefetch(reader);
    *ret_reader = &reader->base;
    return STATUS_OK;
}

// Makes the first slot one with bytes to read; used 0 afterwards: the end.
static Status next_piece(S3Reader *reader, Error *error)
{
    while (reader->used > 0) {
        PieceTask *piece = &reader->pieces[reader->first];
        bool was_fetching = piece->task.is_started;
        RETURN_IF_ERROR(storage_task_wait(storage_of(reader)->tasks, &piece->task, error));
        if (was_fetching &&
            (piece->done != piece->size || !text_equal(piece->etag, reader->etag))) {
            return error_set(error, REASON_OBJECT_CORRUPT,
                             "object '%s' in '%s' was replaced while it was read", reader->key,
                             storage_of(reader)->location);
        }
        if (reader->position < piece->done) {
            return STATUS_OK;
        }
        reader->first = (reader->first + 1) % ARRAY_COUNT(reader->pieces);
        reader->used--;
        reader->position = 0;
        prefetch(reader);
    }
    return STATUS_OK;
}

Status s3_reader_read(StorageReader *storage_reader, void *data, size_t size, size_t *ret_size,
                      Error *error)
{
    S3Reader *reader = (S3Reader *)storage_reader;
    RETURN_IF_ERROR(next_piece(reader, error));
    if (reader->used == 0) {
        *ret_size = 0;
        return STATUS_OK;
    }
    const PieceTask *piece = &reader->pieces[reader->first];
    size = MIN(size, piece->done - reader->position);
    memcpy(data, piece->data + reader->position, size);
    reader->position += size;
    *ret_size = size;
    return STATUS_OK;
}

void s3_reader_close(StorageReader *storage_reader)
{
    S3Reader *reader = (S3Reader *)storage_reader;
    Error ignored = {0}; // nobody reads on
    for (size_t i = 0; i < ARRAY_COUNT(reader->pieces); i++) {
        (void)storage_task_wait(storage_of(reader)->tasks, &reader->pieces[i].task, &ignored);
    }
    reader_free(reader);
}

// Straight into the caller's memory, in pieces side by side when it is long.
Status s3_read_range(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                     size_t *ret_size, Error *error)
{
    const S3Storage *s3 = (const S3Storage *)storage;
    size_t count = (size + S3_PIECE_BYTES - 1) / S3_PIECE_BYTES;
    PieceTask *pieces = mem_alloc_array(count, sizeof(*pieces));
    for (size_t i = 0; i < count; i++) {
        size_t at = i * S3_PIECE_BYTES;
        pieces[i] = (PieceTask){.task = {.run = fetch_task},
                                .s3 = s3,
                                .key = key,
                                .offset = offset + (int64_t)at,
                                .data = (uint8_t *)data + at,
                                .size = MIN(S3_PIECE_BYTES, size - at)};
        if (i > 0) {
            storage_task_start(s3->tasks, &pieces[i].task);
        }
    }
    Status status = count > 0 ? fetch(&pieces[0], error) : STATUS_OK;
    size_t done = count > 0 ? pieces[0].done : 0;
    for (size_t i = 1; i < count; i++) {
        Error later = {0};
        Status piece_status = storage_task_wait(s3->tasks, &pieces[i].task, &later);
        if (status == STATUS_OK && piece_status != STATUS_OK) {
            status = piece_status;
            *error = later;
        }
        if (status == STATUS_OK && !text_equal(pieces[i].etag, pieces[0].etag) &&
            pieces[i].done > 0) {
            status =
                error_set(error, REASON_OBJECT_CORRUPT,
                          "object '%s' in '%s' was replaced while it was read", key, s3->location);
        }
        done += pieces[i].done;
    }
    mem_free(pieces);
    *ret_size = done;
    return status;
}
