// SPDX-License-Identifier: Apache-2.0
// Reading from Google Cloud Storage: ranges of one generation of an object. The first piece is
// fetched when a reader opens, since only that tells whether there is an object; of a longer range
// the next pieces are fetched side by side. Whoever reads a whole object gets the bytes that its
// checksum belongs to.
#include "common/checksum.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_gcs_internal.h"

#include <string.h>
#include <strings.h>

typedef struct GcsReader GcsReader;

typedef struct PieceTask {
    StorageTask task;
    GcsReader *reader;
    int64_t offset;
    uint8_t *data; // GCS_PIECE_SIZE bytes, or NULL as long as it was not used
    size_t size;
} PieceTask;

struct GcsReader {
    StorageReader base;
    StorageGcs *gcs;
    char *key;
    int64_t generation;  // -1: not told
    int64_t next_offset; // of the next piece to ask for
    int64_t end;         // where the range ends in the object
    PieceTask pieces[GCS_PARALLEL_COUNT];
    size_t first;    // the slot that is read now
    size_t used;     // slots from `first` on that hold or fetch a piece
    size_t position; // in the first one
    atomic_bool is_abandoned;
    bool is_whole;   // the object is read from its first byte to its last
    bool is_checked; // nothing is left to be compared
    bool has_crc;
    uint32_t crc;                          // of what was read
    char expected_crc[sizeof("AAAAAA==")]; // of the whole object, in base64
    Error error;                           // of a piece that could not be fetched
};

void gcs_reader_close(StorageReader *base)
{
    GcsReader *reader = (GcsReader *)base;
    Error ignored = {0};
    atomic_store(&reader->is_abandoned, true);
    for (size_t i = 0; i < GCS_PARALLEL_COUNT; i++) {
        (void)storage_task_wait(reader->gcs->tasks, &reader->pieces[i].task, &ignored);
        mem_free(reader->pieces[i].data);
    }
    mem_free(reader->key);
    mem_free(reader);
}

static Status is_short(const GcsReader *reader, Error *error)
{
    return error_set(error, REASON_UNAVAILABLE, "%s: '%s' came with fewer bytes than it has",
                     reader->gcs->description, reader->key);
}

// "x-goog-hash: crc32c=AAAAAA==,md5=..." or a header for each of them.
static bool find_crc(const HttpResponse *response, char *ret_crc, size_t size)
{
    static const char name[] = "x-goog-hash:";
    const char *line = buffer_text(&response->headers);
    while (*line != '\0') {
        size_t line_size = strcspn(line, "\r\n");
        if (strncasecmp(line, name, strlen(name)) == 0) {
            const char *value = memmem(line, line_size, "crc32c=", strlen("crc32c="));
            if (value != NULL) {
                value += strlen("crc32c=");
                size_t value_size = strcspn(value, ", \r\n");
                memcpy(ret_crc, value, MIN(value_size, size - 1));
                return value_size < size;
            }
        }
        line += line_size;
        line += strspn(line, "\r\n");
    }
    return false;
}

// One request; fewer bytes than asked for only at the object's end. generation -1: the newest.
static Status fetch(GcsReader *reader, GcsCall *call, HttpResponse *ret_response, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = gcs_object_path(reader->gcs, arena, reader->key);
    call->gcs = reader->gcs;
    call->http.method = "GET";
    call->http.is_range = true;
    call->http.is_abandoned = &reader->is_abandoned;
    call->path = reader->generation < 0 ? arena_format(arena, "%s?alt=media", path)
                                        : arena_format(arena, "%s?alt=media&generation=%lld", path,
                                                       (long long)reader->generation);
    return gcs_send(call, ret_response, error);
}

static Status fetch_piece(StorageTask *task, Error *error)
{
    PieceTask *piece = (PieceTask *)task;
    GcsReader *reader = piece->reader;
    CLEANUP(http_response_done) HttpResponse response = {0};
    GcsCall call = {
        .http = {.sink = piece->data, .sink_size = piece->size, .range_offset = piece->offset}};
    RETURN_IF_ERROR(fetch(reader, &call, &response, error));
    if (response.status != 206) {
        return gcs_refused(reader->gcs, &response, "storage.objects.get", reader->key, error);
    }
    return call.http.sink_done == piece->size ? STATUS_OK : is_short(reader, error);
}

static void start_pieces(GcsReader *reader)
{
    while (reader->used < GCS_PARALLEL_COUNT && reader->next_offset < reader->end) {
        PieceTask *piece = &reader->pieces[(reader->first + reader->used) % GCS_PARALLEL_COUNT];
        piece->reader = reader;
        piece->offset = reader->next_offset;
        piece->size = (size_t)MIN(reader->end - reader->next_offset, (int64_t)GCS_PIECE_SIZE);
        piece->data = piece->data != NULL ? piece->data : mem_alloc(GCS_PIECE_SIZE);
        piece->task.run = fetch_piece;
        reader->next_offset += (int64_t)piece->size;
        reader->used++;
        storage_task_start(reader->gcs->tasks, &piece->task);
    }
}

static Status check_crc(GcsReader *reader, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    reader->is_checked = true;
    if (!reader->is_whole || !reader->has_crc ||
        text_equal(gcs_crc32c_text(arena, reader->crc), reader->expected_crc)) {
        return STATUS_OK;
    }
    return error_set(error, REASON_OBJECT_CORRUPT,
                     "%s: '%s' does not have the checksum that the store keeps of it",
                     reader->gcs->description, reader->key);
}

// What the first answer tells of the object.
static Status take_first(GcsReader *reader, const GcsCall *call, const HttpResponse *response,
                         int64_t length, Error *error)
{
    int64_t offset = call->http.range_offset;
    size_t size = call->http.sink_done;
    int64_t total = call->http.total_size >= 0 ? call->http.total_size : (int64_t)size;
    char text[32];
    if (!http_response_header(response, "X-Goog-Generation", text, sizeof(text)) ||
        !text_to_int64(text, &reader->generation)) {
        reader->generation = -1;
    }
    reader->end = length < 0 ? total : MIN(total, offset + length);
    reader->next_offset = offset + (int64_t)size;
    reader->has_crc = find_crc(response, reader->expected_crc, sizeof(reader->expected_crc));
    reader->is_whole = offset == 0 && reader->end == total;
    if ((int64_t)size != MIN(reader->end - offset, (int64_t)call->http.sink_size)) {
        return is_short(reader, error);
    }
    if (reader->next_offset == reader->end) {
        reader->crc = crc32c(call->http.sink, size);
        return check_crc(reader, error); // before anybody has seen a byte
    }
    if (reader->generation < 0) {
        error_set(error, REASON_STORAGE_UNFIT, "%s: the store does not tell generations of objects",
                  reader->gcs->description);
        return error_hint(error, "check the endpoint: something else may answer there");
    }
    return STATUS_OK;
}

// Fetches what begins at `offset`, at most `size` bytes of the range's `length` (-1: to the end).
static Status fetch_first(GcsReader *reader, int64_t offset, int64_t length, uint8_t *data,
                          size_t size, size_t *ret_done, Error *error)
{
    CLEANUP(http_response_done) HttpResponse response = {0};
    GcsCall call = {.http = {.sink = data, .sink_size = size, .range_offset = offset}};
    *ret_done = 0;
    RETURN_IF_ERROR(fetch(reader, &call, &response, error));
    if (response.status == 416) {
        reader->is_checked = true; // at or beyond the end: there is nothing
        return STATUS_OK;
    }
    if (response.status != 206 && response.status != 200) {
        return gcs_refused(reader->gcs, &response, "storage.objects.get", reader->key, error);
    }
    *ret_done = call.http.sink_done;
    return take_first(reader, &call, &response, length, error);
}

static Status begin(GcsReader *reader, int64_t offset, int64_t length, Error *error)
{
    PieceTask *piece = &reader->pieces[0];
    StorageObject object;
    size_t size = length < 0 ? GCS_PIECE_SIZE : (size_t)MIN(length, (int64_t)GCS_PIECE_SIZE);
    if (length == 0) {
        reader->is_checked = true;
        return gcs_stat(&reader->gcs->base, reader->key, &object, error);
    }
    piece->data = mem_alloc(size); // it is used again only when it is as large as any piece
    RETURN_IF_ERROR(fetch_first(reader, offset, length, piece->data, size, &piece->size, error));
    reader->used = piece->size > 0 ? 1 : 0;
    start_pieces(reader);
    return STATUS_OK;
}

static GcsReader *reader_new(Storage *storage, const char *key)
{
    GcsReader *reader = mem_alloc(sizeof(*reader));
    reader->gcs = (StorageGcs *)storage;
    reader->key = string_copy(key);
    reader->generation = -1;
    return reader;
}

Status gcs_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                       StorageReader **ret_reader, Error *error)
{
    GcsReader *reader = reader_new(storage, key);
    if (begin(reader, offset, length, error) != STATUS_OK) {
        gcs_reader_close(&reader->base);
        return error->status;
    }
    *ret_reader = &reader->base;
    return STATUS_OK;
}

// The next bytes that have come, at least one unless the range has ended.
static Status read_piece(GcsReader *reader, void *data, size_t size, size_t *ret_size, Error *error)
{
    PieceTask *piece = &reader->pieces[reader->first];
    *ret_size = 0;
    if (reader->error.status != STATUS_OK) {
        *error = reader->error;
        return error->status;
    }
    if (reader->used == 0) {
        return STATUS_OK;
    }
    if (storage_task_wait(reader->gcs->tasks, &piece->task, &reader->error) != STATUS_OK) {
        *error = reader->error;
        return error->status;
    }
    *ret_size = MIN(size, piece->size - reader->position);
    memcpy(data, piece->data + reader->position, *ret_size);
    reader->position += *ret_size;
    if (reader->position == piece->size) {
        reader->position = 0;
        reader->first = (reader->first + 1) % GCS_PARALLEL_COUNT;
        reader->used--;
        start_pieces(reader);
    }
    return STATUS_OK;
}

Status gcs_reader_read(StorageReader *base, void *data, size_t size, size_t *ret_size, Error *error)
{
    GcsReader *reader = (GcsReader *)base;
    RETURN_IF_ERROR(read_piece(reader, data, size, ret_size, error));
    if (!reader->is_checked) {
        reader->crc = crc32c_extend(reader->crc, data, *ret_size);
        if (reader->used == 0) {
            return check_crc(reader, error); // with the last bytes, not after them
        }
    }
    return STATUS_OK;
}

Status gcs_read_range(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                      size_t *ret_size, Error *error)
{
    GcsReader *reader = reader_new(storage, key);
    size_t done = 0;
    size_t part = 0;
    // The first piece comes right into the caller's memory; what follows it, side by side.
    Status status =
        fetch_first(reader, offset, (int64_t)size, data, MIN(size, GCS_PIECE_SIZE), &done, error);
    if (status == STATUS_OK) {
        reader->crc = reader->is_checked ? 0 : crc32c(data, done);
        start_pieces(reader);
    }
    while (status == STATUS_OK && reader->used > 0) {
        status = gcs_reader_read(&reader->base, (uint8_t *)data + done, size - done, &part, error);
        done += part;
    }
    *ret_size = done;
    gcs_reader_close(&reader->base);
    return status;
}
