// SPDX-License-Identifier: Apache-2.0
// Writing to Google Cloud Storage. An object of one piece goes with one request that holds its
// metadata and checksum; a larger one by a resumable session, piece by piece. Every object carries
// a random mark of its writer: an answer that was lost is told from somebody else's object by it.
// https://cloud.google.com/storage/docs/performing-resumable-uploads
//
// Sessions that nobody ends cannot be listed: the store drops them by itself after a week, and what
// they hold is not visible and costs nothing. So there is nothing for remove_stale to do.
#include "common/checksum.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_gcs_internal.h"

#include <assert.h>
#include <string.h>

#define CAPACITY_FIRST ((size_t)64 * 1024)
#define HEAD_ROOM ((size_t)8192)   // before the piece, for the first part of a multipart body
#define TAIL_ROOM ((size_t)128)    // after it, for the end
#define MARK_NAME "holdfast-write" // as with S3
#define SESSION_SIZE_MAX 8192
#define BEGIN_COUNT_MAX 3    // of an object whose bytes are all at hand
#define STALLED_COUNT_MAX 20 // answers in a row that kept nothing of a piece

typedef struct GcsWriter {
    StorageWriter base;
    StorageGcs *gcs;
    char *key;
    char mark[2 * 16 + 1];
    bool is_create_only;
    uint8_t *body; // HEAD_ROOM, the piece, TAIL_ROOM
    size_t capacity, size;
    int64_t offset; // of the piece within the object
    uint32_t crc;   // of all bytes so far
    char *session;  // path and query of the resumable session, which is a secret; or NULL
    bool is_failed;
    bool may_begin_again; // what failed left nothing, and may go well the next time
} GcsWriter;

static void forget_session(GcsWriter *writer)
{
    secret_wipe_text(writer->session);
    mem_free(writer->session);
    writer->session = NULL;
}

static void writer_free(GcsWriter *writer)
{
    forget_session(writer);
    mem_free(writer->body);
    mem_free(writer->key);
    mem_free(writer);
}

static GcsWriter *writer_new(Storage *storage, const char *key, const StorageWriteOptions *options)
{
    GcsWriter *writer = mem_alloc(sizeof(*writer));
    uint8_t mark[16];
    crypto_random(mark, sizeof(mark));
    hex_encode(mark, sizeof(mark), writer->mark);
    writer->gcs = (StorageGcs *)storage;
    writer->key = string_copy(key);
    writer->is_create_only = options->is_create_only;
    return writer;
}

Status gcs_open_writer(Storage *storage, const char *key, const StorageWriteOptions *options,
                       StorageWriter **ret_writer, Error *error)
{
    (void)error;
    *ret_writer = (StorageWriter *)writer_new(storage, key, options);
    return STATUS_OK;
}

// --- the object's metadata --------------------------------------------------------------------

// crc: of the whole object, or NULL when it is not known yet.
static const char *make_metadata(const GcsWriter *writer, Arena *arena, const uint32_t *crc)
{
    const StorageGcs *gcs = writer->gcs;
    CLEANUP(json_freep) Json *metadata = json_new_object();
    CLEANUP(buffer_done) Buffer text = {0};
    Json *own = json_new_object();
    json_set_text(own, MARK_NAME, writer->mark);
    json_set(metadata, "metadata", own);
    json_set_text(metadata, "name", gcs_object_name(gcs, arena, writer->key));
    json_set_text(metadata, "contentType", "application/octet-stream");
    if (crc != NULL) {
        json_set_text(metadata, "crc32c", gcs_crc32c_text(arena, *crc));
    }
    if (gcs->storage_class != NULL) {
        json_set_text(metadata, "storageClass", gcs->storage_class);
    }
    if (gcs->lock_mode != STORAGE_LOCK_NONE) {
        char until[TIME_TEXT_SIZE];
        time_format(clock_now_us() + gcs->lock_duration_s * 1000000, until);
        Json *retention = json_new_object();
        json_set_text(retention, "mode",
                      gcs->lock_mode == STORAGE_LOCK_COMPLIANCE ? "Locked" : "Unlocked");
        json_set_text(retention, "retainUntilTime", until);
        json_set(metadata, "retention", retention);
    }
    buffer_init(&text, HEAD_ROOM);
    (void)json_write(metadata, false, &text);
    assert(!text.is_overflowed);
    return arena_string(arena, buffer_text(&text));
}

static const char *upload_path(const GcsWriter *writer, Arena *arena, const char *type)
{
    const StorageGcs *gcs = writer->gcs;
    const char *key_name = gcs->kms_key_id;
    return arena_format(arena, "/upload/storage/v1/b/%s/o?uploadType=%s&name=%s%s%s%s",
                        gcs->location.bucket, type,
                        text_url_encode(arena, gcs_object_name(gcs, arena, writer->key)),
                        writer->is_create_only ? "&ifGenerationMatch=0" : "",
                        key_name != NULL ? "&kmsKeyName=" : "",
                        key_name != NULL ? text_url_encode(arena, key_name) : "");
}

// --- what became of it ------------------------------------------------------------------------

static Status remove_damaged(GcsWriter *writer, Arena *arena, int64_t generation, Error *error)
{
    CLEANUP(http_response_done) HttpResponse response = {0};
    Error ignored = {0};
    GcsCall call = {.gcs = writer->gcs, .http = {.method = "DELETE"}};
    call.path =
        arena_format(arena, "%s?generation=%lld", gcs_object_path(writer->gcs, arena, writer->key),
                     (long long)generation);
    bool is_gone = generation > 0 && gcs_send(&call, &response, &ignored) == STATUS_OK &&
                   (response.status == 204 || response.status == 200 || response.status == 404);
    writer->may_begin_again = is_gone;
    error_set(error, REASON_UNAVAILABLE, "%s: %s: the upload was damaged on the way and %s",
              writer->gcs->description, writer->key,
              is_gone ? "removed again" : "could not be removed again");
    return error_hint(error, "try again; if it goes on, check the network and this machine's "
                             "memory");
}

// The store's own checksum and size must be ours.
static Status verify(GcsWriter *writer, Arena *arena, const Json *object, Error *error)
{
    const char *crc = json_get_text(object, "crc32c", "");
    if (gcs_get_number(object, "size") != writer->offset + (int64_t)writer->size ||
        !text_equal(crc, gcs_crc32c_text(arena, writer->crc))) {
        return remove_damaged(writer, arena, gcs_get_number(object, "generation"), error);
    }
    return STATUS_OK;
}

// Something is under the key that must not be replaced: our own object, when an answer was lost, or
// another one.
static Status look_who_was_first(GcsWriter *writer, Arena *arena, Error *error)
{
    const StorageGcs *gcs = writer->gcs;
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP(json_freep) Json *object = NULL;
    GcsCall call = {.gcs = writer->gcs, .http = {.method = "GET"}};
    call.path = gcs_object_path(gcs, arena, writer->key);
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    if (response.status == 200) {
        RETURN_IF_ERROR(gcs_parse(gcs, &response, &object, error));
        const Json *metadata = json_get(object, "metadata");
        if (text_equal(json_get_text(metadata, MARK_NAME, ""), writer->mark)) {
            return verify(writer, arena, object, error);
        }
    } else if (response.status != 404) {
        return gcs_refused(gcs, &response, "storage.objects.get", writer->key, error);
    }
    return error_set(error, REASON_EXISTS, "%s: object '%s' exists already", gcs->description,
                     writer->key);
}

// Of the last answer of an upload.
static Status conclude(GcsWriter *writer, Arena *arena, const HttpResponse *response, Error *error)
{
    CLEANUP(json_freep) Json *object = NULL;
    if (response->status == 412 && writer->is_create_only) {
        return look_who_was_first(writer, arena, error);
    }
    if (response->status != 200 && response->status != 201) {
        gcs_refused(writer->gcs, response, "storage.objects.create", NULL, error);
        writer->may_begin_again = response->status == 400 && error->reason == REASON_UNAVAILABLE;
        return error_wrap(error, "writing '%s'", writer->key);
    }
    RETURN_IF_ERROR(gcs_parse(writer->gcs, response, &object, error));
    return verify(writer, arena, object, error);
}

// --- with one request -------------------------------------------------------------------------

static Status upload_at_once(GcsWriter *writer, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    // The mark is random and not known before: no content can hold it but by chance.
    const char *head =
        arena_format(arena,
                     "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n"
                     "--%s\r\nContent-Type: application/octet-stream\r\n\r\n",
                     writer->mark, make_metadata(writer, arena, &writer->crc), writer->mark);
    const char *tail = arena_format(arena, "\r\n--%s--\r\n", writer->mark);
    size_t head_size = strlen(head);
    size_t tail_size = strlen(tail);
    assert(head_size <= HEAD_ROOM);
    assert(tail_size <= TAIL_ROOM);
    uint8_t *body = writer->body + HEAD_ROOM - head_size;
    memcpy(body, head, head_size);
    memcpy(writer->body + HEAD_ROOM + writer->size, tail, tail_size);
    GcsCall call = {
        .gcs = writer->gcs,
        .path = upload_path(writer, arena, "multipart"),
        .http = {.method = "POST", .body = body, .body_size = head_size + writer->size + tail_size},
    };
    gcs_call_header(
        &call, arena_format(arena, "Content-Type: multipart/related; boundary=%s", writer->mark));
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    return conclude(writer, arena, &response, error);
}

// --- with a session ---------------------------------------------------------------------------

static Status begin_session(GcsWriter *writer, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    const char *metadata = make_metadata(writer, arena, NULL);
    GcsCall call = {
        .gcs = writer->gcs,
        .path = upload_path(writer, arena, "resumable"),
        .http = {.method = "POST", .body = metadata, .body_size = strlen(metadata)},
    };
    gcs_call_header(&call, "Content-Type: application/json; charset=UTF-8");
    gcs_call_header(&call, "X-Upload-Content-Type: application/octet-stream");
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    if (response.status != 200 && response.status != 201) {
        RETURN_IF_ERROR(conclude(writer, arena, &response, error));
    }
    // Its host is left out: our token goes to the endpoint only, and an emulator may give a name
    // that only itself can reach.
    char *location = arena_alloc(arena, SESSION_SIZE_MAX);
    bool is_there = http_response_header(&response, "Location", location, SESSION_SIZE_MAX);
    const char *authority = strstr(location, "://");
    const char *path = authority == NULL ? location : strchr(authority + 3, '/');
    if (!is_there || path == NULL || path[0] != '/') {
        return error_set(error, REASON_STORAGE_UNFIT, "%s: the answer names no upload session",
                         writer->gcs->description);
    }
    writer->session = string_copy(path);
    secret_wipe_text(location);
    return STATUS_OK;
}

// One piece under way. The first try sends it; after a failure nobody knows how much of it came, so
// the tries that follow ask.
typedef struct PieceCall {
    GcsCall call;
    const GcsWriter *writer;
    size_t done; // of the piece, as far as the store has said
    bool is_last;
    bool is_asking;
} PieceCall;

// bytes FIRST-LAST/TOTAL, with a star for what is not known or not sent.
static const char *content_range(const PieceCall *piece, Arena *arena)
{
    const GcsWriter *writer = piece->writer;
    long long end = (long long)(writer->offset + (int64_t)writer->size);
    const char *total = piece->is_last ? arena_format(arena, "%lld", end) : "*";
    if (piece->is_asking) {
        return arena_format(arena, "Content-Range: bytes */%s", total);
    }
    long long first = (long long)(writer->offset + (int64_t)piece->done);
    return arena_format(arena, "Content-Range: bytes %lld-%lld/%s", first, end - 1, total);
}

static Status prepare_piece(void *context, Arena *arena, StorageHttpTarget *target, Error *error)
{
    PieceCall *piece = context;
    StorageHttpCall *http = &piece->call.http;
    piece->is_asking = http->try_count > 1 || http->body_size == 0;
    if (piece->is_asking) {
        http->body_size = 0;
    }
    RETURN_IF_ERROR(gcs_prepare(&piece->call, arena, target, error));
    target->headers[target->header_count++] = content_range(piece, arena);
    if (piece->is_last) {
        // The store refuses to finish an object of another checksum.
        storage_http_header(
            target, arena, "X-Goog-Hash",
            arena_format(arena, "crc32c=%s", gcs_crc32c_text(arena, piece->writer->crc)));
    }
    return STATUS_OK;
}

static StorageHttpVerdict judge_piece(void *context, const HttpResponse *response)
{
    PieceCall *piece = context;
    return gcs_judge(&piece->call, response);
}

// How much of the piece the store has, by the Range header of a 308: "bytes=0-N", absent for
// nothing. False for what cannot be.
static bool parse_kept(const GcsWriter *writer, const HttpResponse *response, size_t *ret_done)
{
    char text[64];
    int64_t kept = 0;
    if (http_response_header(response, "Range", text, sizeof(text))) {
        const char *last = strchr(text, '-');
        if (!text_has_prefix(text, "bytes=0-") || last == NULL || !text_to_int64(last + 1, &kept) ||
            kept < 0) {
            return false;
        }
        kept++;
    }
    *ret_done = (size_t)(kept - writer->offset);
    return kept >= writer->offset && kept <= writer->offset + (int64_t)writer->size;
}

static Status session_is_lost(GcsWriter *writer, const HttpResponse *response, Error *error)
{
    writer->may_begin_again = true;
    error_set(error, REASON_UNAVAILABLE, "%s: writing '%s': the upload session is gone (HTTP %d)",
              writer->gcs->description, writer->key, response->status);
    return error_hint(error, "write the object again");
}

static Status send_piece(PieceCall *piece, int failure_count, HttpResponse *ret_response,
                         Error *error)
{
    const GcsWriter *writer = piece->writer;
    piece->call = (GcsCall){
        .gcs = writer->gcs,
        .path = writer->session,
        .http = {.method = "PUT",
                 .body = writer->body + HEAD_ROOM + piece->done,
                 .body_size = writer->size - piece->done,
                 .failure_count = failure_count,
                 .prepare = prepare_piece,
                 .judge = judge_piece,
                 .context = piece},
    };
    Status status = storage_http_send(writer->gcs->http, &piece->call.http, ret_response, error);
    secret_done(&piece->call.token);
    return status == STATUS_OK
               ? STATUS_OK
               : error_wrap(error, "%s: writing '%s'", writer->gcs->description, writer->key);
}

static Status refuse_early_end(const GcsWriter *writer, const HttpResponse *response, Error *error)
{
    if (response->status != 200 && response->status != 201) {
        gcs_refused(writer->gcs, response, "storage.objects.create", NULL, error);
        return error_wrap(error, "writing '%s'", writer->key);
    }
    return error_set(error, REASON_STORAGE_UNFIT,
                     "%s: writing '%s': the store ended the object before its last piece",
                     writer->gcs->description, writer->key);
}

// Sends the piece until the store has all of it; what it keeps of a piece that broke is not sent
// again. The last piece ends the object.
static Status upload_piece(GcsWriter *writer, bool is_last, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    PieceCall piece = {.writer = writer, .is_last = is_last};
    int failure_count = 0;
    if (writer->session == NULL) {
        RETURN_IF_ERROR(begin_session(writer, error));
    }
    while (true) {
        CLEANUP(http_response_done) HttpResponse response = {0};
        size_t done = 0;
        RETURN_IF_ERROR(send_piece(&piece, failure_count, &response, error));
        if (response.status == 404 || response.status == 410) {
            return session_is_lost(writer, &response, error);
        }
        if (response.status != 308) {
            return is_last ? conclude(writer, arena, &response, error)
                           : refuse_early_end(writer, &response, error);
        }
        if (!parse_kept(writer, &response, &done) || done < piece.done) {
            return session_is_lost(writer, &response, error);
        }
        failure_count =
            done > piece.done ? 0 : failure_count + MAX(piece.call.http.try_count - 1, 1);
        piece.done = done;
        if (done == writer->size && !is_last) {
            return STATUS_OK;
        }
        if (failure_count >= STALLED_COUNT_MAX) {
            return error_set(error, REASON_UNAVAILABLE, "%s: writing '%s': the store keeps nothing",
                             writer->gcs->description, writer->key);
        }
    }
}

// --- the writer -------------------------------------------------------------------------------

static void reserve(GcsWriter *writer, size_t size)
{
    size_t capacity = MAX(writer->capacity, CAPACITY_FIRST);
    while (capacity < size) {
        capacity *= 2;
    }
    if (capacity > writer->capacity) {
        writer->capacity = MIN(capacity, GCS_PIECE_SIZE);
        writer->body = mem_realloc_array(writer->body, HEAD_ROOM + writer->capacity + TAIL_ROOM, 1);
    }
}

static Status write_pieces(GcsWriter *writer, const uint8_t *data, size_t size, Error *error)
{
    while (size > 0) {
        // GCS_PIECE_SIZE is a multiple of 256 KiB, as the store asks. A full piece is held back
        // until there is more: the last one is sent by commit.
        if (writer->size == GCS_PIECE_SIZE) {
            RETURN_IF_ERROR(upload_piece(writer, false, error));
            writer->offset += (int64_t)writer->size;
            writer->size = 0;
        }
        size_t part = MIN(size, GCS_PIECE_SIZE - writer->size);
        reserve(writer, writer->size + part);
        memcpy(writer->body + HEAD_ROOM + writer->size, data, part);
        writer->crc = crc32c_extend(writer->crc, data, part);
        writer->size += part;
        data += part;
        size -= part;
    }
    return STATUS_OK;
}

Status gcs_writer_write(StorageWriter *base, const void *data, size_t size, Error *error)
{
    GcsWriter *writer = (GcsWriter *)base;
    Status status = write_pieces(writer, data, size, error);
    writer->is_failed = writer->is_failed || status != STATUS_OK;
    return status;
}

static Status finish(GcsWriter *writer, Error *error)
{
    if (writer->session != NULL) {
        return upload_piece(writer, true, error);
    }
    reserve(writer, CAPACITY_FIRST);
    return upload_at_once(writer, error);
}

// Drops at once what the session holds; it would go by itself in a week. One try will do.
static void end_session(const GcsWriter *writer)
{
    CLEANUP(http_response_done) HttpResponse response = {0};
    Error ignored = {0};
    GcsCall call = {.gcs = writer->gcs,
                    .path = writer->session,
                    .http = {.method = "DELETE", .failure_count = STALLED_COUNT_MAX}};
    (void)gcs_send(&call, &response, &ignored);
}

Status gcs_writer_commit(StorageWriter *base, Error *error)
{
    GcsWriter *writer = (GcsWriter *)base;
    Status status = writer->is_failed ? error_set(error, REASON_UNAVAILABLE,
                                                  "%s: a part of '%s' could not be written",
                                                  writer->gcs->description, writer->key)
                                      : finish(writer, error);
    writer_free(writer);
    return status;
}

// Begins again under the same mark where a session was lost or bytes were damaged: they are still
// at hand.
Status gcs_put(Storage *storage, const char *key, const void *data, size_t size,
               const StorageWriteOptions *options, Error *error)
{
    GcsWriter *writer = writer_new(storage, key, options);
    Status status = STATUS_OK;
    for (int i = 1;; i++) {
        status = write_pieces(writer, data, size, error);
        status = status == STATUS_OK ? finish(writer, error) : status;
        if (status == STATUS_OK || !writer->may_begin_again || i == BEGIN_COUNT_MAX) {
            break;
        }
        error_clear(error);
        forget_session(writer);
        writer->offset = 0;
        writer->size = 0;
        writer->crc = 0;
        writer->may_begin_again = false;
    }
    if (status != STATUS_OK && writer->session != NULL) {
        end_session(writer);
    }
    writer_free(writer);
    return status;
}

void gcs_writer_abort(StorageWriter *base)
{
    GcsWriter *writer = (GcsWriter *)base;
    if (writer->session != NULL) {
        end_session(writer);
    }
    writer_free(writer);
}
