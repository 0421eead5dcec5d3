// SPDX-License-Identifier: Apache-2.0
// The requests of S3 that are about many objects: listing, removing many, clearing unfinished
// uploads.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/xml.h"
#include "storage/storage_s3_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct ListReading {
    const S3Storage *s3;
    Arena *arena;
    StorageObject *objects;
    size_t count, limit;
    StorageObject next;   // under construction
    const char *last_key; // of ours or not
    bool has_more;
    const char *problem;
} ListReading;

static bool refuse(const char **problem, const char *what)
{
    *problem = what;
    return false;
}

// Without the location's prefix; NULL for what is not below it.
static const char *own_key(const S3Storage *s3, const char *key)
{
    return text_has_prefix(key, s3->place.prefix) ? key + strlen(s3->place.prefix) : NULL;
}

static bool end_object(ListReading *reading)
{
    if (reading->next.key == NULL) {
        return refuse(&reading->problem, "it has an object that was not asked for");
    }
    reading->last_key = reading->next.key;
    if (reading->count == reading->limit) {
        return refuse(&reading->problem, "it has more objects than were asked for");
    }
    // Whatever else lies in the bucket is not ours to see: a "folder" of a console, say.
    if (storage_key_is_valid(reading->next.key)) {
        reading->objects[reading->count++] = reading->next;
    }
    reading->next = (StorageObject){0};
    return true;
}

static bool on_list_element(void *context, const char *path, const char *text)
{
    ListReading *reading = context;
    StorageObject *next = &reading->next;
    const char *name = strchr(path, '/');
    if (name == NULL) {
        return true;
    }
    name++;
    if (text_equal(name, "Contents/Key")) {
        const char *key = own_key(reading->s3, text);
        next->key = key == NULL ? NULL : arena_string(reading->arena, key);
    } else if (text_equal(name, "Contents/Size")) {
        return text_to_int64(text, &next->size_bytes) && next->size_bytes >= 0
                   ? true
                   : refuse(&reading->problem, "a size is no number");
    } else if (text_equal(name, "Contents/LastModified")) {
        return time_parse(text, &next->modified_us) ? true
                                                    : refuse(&reading->problem, "a time is none");
    } else if (text_equal(name, "IsTruncated")) {
        reading->has_more = text_equal(text, "true");
    } else if (text_equal(name, "Contents")) {
        return end_object(reading);
    }
    return true;
}

static Status bad_listing(const S3Storage *s3, const char *problem, Error *error)
{
    return error_set(error, REASON_STORAGE_UNFIT, "the store's listing of '%s' cannot be used: %s",
                     s3->location, problem);
}

static Status list_page(const S3Storage *s3, const char *prefix, const char *after,
                        ListReading *reading, Error *error)
{
    Arena *arena = reading->arena;
    S3Request request = {
        .method = "GET", .action = "s3:ListBucket", .response_bytes_max = S3_LIST_BYTES_MAX};
    s3_request_query(&request, "list-type", "2");
    s3_request_query(&request, "max-keys", arena_format(arena, "%zu", reading->limit));
    s3_request_query(&request, "prefix", arena_format(arena, "%s%s", s3->place.prefix, prefix));
    if (after[0] != '\0') {
        s3_request_query(&request, "start-after",
                         arena_format(arena, "%s%s", s3->place.prefix, after));
    }
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    Error cause = {0};
    reading->has_more = false;
    reading->last_key = NULL;
    if (xml_read(response.body.data, response.body.size, on_list_element, reading, &cause) !=
        STATUS_OK) {
        return bad_listing(s3, cause.message, error);
    }
    return reading->problem == NULL ? STATUS_OK : bad_listing(s3, reading->problem, error);
}

Status s3_list(Storage *storage, const char *prefix, const char *after, size_t limit, Arena *arena,
               StoragePage *ret_page, bool *ret_has_more, Error *error)
{
    const S3Storage *s3 = (const S3Storage *)storage;
    ListReading reading = {.s3 = s3, .arena = arena, .limit = limit};
    reading.objects = arena_alloc_array(arena, limit, sizeof(StorageObject));
    do {
        RETURN_IF_ERROR(list_page(s3, prefix, after, &reading, error));
        if (reading.has_more &&
            (reading.last_key == NULL || strcmp(reading.last_key, after) <= 0)) {
            return bad_listing(s3, "it goes on, but not behind where it was", error);
        }
        after = reading.last_key;
    } while (reading.has_more && reading.count == 0); // a page without an object of ours
    ret_page->objects = reading.objects;
    ret_page->count = reading.count;
    *ret_has_more = reading.has_more;
    return STATUS_OK;
}

// --- removing many ----------------------------------------------------------------------------

typedef struct RemovalReading {
    const S3Storage *s3;
    StorageRemoval *removals;
    size_t count;
    char key[STORAGE_PREFIX_SIZE_MAX + STORAGE_KEY_SIZE_MAX + 2];
    char code[64];
    bool is_lock;
    char failed_code[64]; // of the first that is neither missing nor locked
} RemovalReading;

static void end_removal_error(RemovalReading *reading)
{
    bool is_locked = reading->is_lock || text_equal(reading->code, "ObjectLocked");
    const char *key = own_key(reading->s3, reading->key);
    for (size_t i = 0; is_locked && key != NULL && i < reading->count; i++) {
        if (text_equal(reading->removals[i].key, key)) {
            reading->removals[i].is_locked = true;
        }
    }
    if (!is_locked && !text_equal(reading->code, "NoSuchKey") && reading->failed_code[0] == '\0') {
        memcpy(reading->failed_code, reading->code, sizeof(reading->failed_code));
    }
    reading->is_lock = false;
    reading->code[0] = '\0';
    reading->key[0] = '\0';
}

static void keep_text(char *place, size_t size, const char *text)
{
    size_t length = MIN(strlen(text), size - 1);
    memcpy(place, text, length);
    place[length] = '\0';
}

static bool on_removal_element(void *context, const char *path, const char *text)
{
    RemovalReading *reading = context;
    const char *name = strchr(path, '/');
    if (name == NULL) {
        return true;
    }
    name++;
    if (text_equal(name, "Error/Key")) {
        keep_text(reading->key, sizeof(reading->key), text);
    } else if (text_equal(name, "Error/Code")) {
        keep_text(reading->code, sizeof(reading->code), text);
    } else if (text_equal(name, "Error/Message")) {
        reading->is_lock = s3_is_lock_message(text);
    } else if (text_equal(name, "Error")) {
        end_removal_error(reading);
    }
    return true;
}

static Status read_removals(const S3Storage *s3, const S3Request *request, StorageRemoval *removals,
                            size_t count, const HttpResponse *response, Error *error)
{
    RemovalReading *reading = mem_alloc(sizeof(*reading));
    *reading = (RemovalReading){.s3 = s3, .removals = removals, .count = count};
    Error cause = {0};
    Status status =
        xml_read(response->body.data, response->body.size, on_removal_element, reading, &cause);
    if (status != STATUS_OK) {
        status = bad_listing(s3, cause.message, error);
    } else if (reading->failed_code[0] != '\0') {
        status = s3_code_failed(s3, request, reading->failed_code, error);
    }
    mem_free(reading);
    return status;
}

Status s3_remove_many(Storage *storage, StorageRemoval *removals, size_t count, Error *error)
{
    const S3Storage *s3 = (const S3Storage *)storage;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Buffer body;
    buffer_init(&body, S3_LIST_BYTES_MAX);
    (void)buffer_append_text(&body, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        (void)buffer_append_text(&body, "<Object><Key>"); // keys have nothing to escape
        (void)buffer_append_format(&body, "%s%s", s3->place.prefix, removals[i].key);
        (void)buffer_append_text(&body, "</Key></Object>");
    }
    (void)buffer_append_text(&body, "</Delete>");
    S3Request request = {.method = "POST",
                         .action = "s3:DeleteObject",
                         .body = body.data,
                         .body_size = body.size,
                         .response_bytes_max = S3_LIST_BYTES_MAX};
    uint8_t digest[MD5_SIZE];
    crypto_md5(body.data, body.size, digest);
    s3_request_query(&request, "delete", "");
    s3_request_header(&request, arena, "Content-MD5", base64_encode(arena, digest, sizeof(digest)));
    s3_request_header(&request, arena, "Content-Type", "application/xml");
    CLEANUP(http_response_done) HttpResponse response = {0};
    Status status = s3_send(s3, &request, &response, error);
    if (status == STATUS_OK) {
        status = s3_check_answer(s3, &request, &response, error);
    }
    if (status == STATUS_OK) {
        status = read_removals(s3, &request, removals, count, &response, error);
    }
    buffer_done(&body);
    return status;
}

// --- unfinished uploads -----------------------------------------------------------------------

typedef struct Upload {
    const char *key, *id;
    int64_t initiated_us;
    bool is_dated; // one without a time is taken for a living one
} Upload;

typedef struct UploadReading {
    const S3Storage *s3;
    Arena *arena;
    Upload uploads[1000];
    size_t count;
    Upload next;
    const char *key_marker, *id_marker;
    bool has_more;
} UploadReading;

static bool on_upload_element(void *context, const char *path, const char *text)
{
    UploadReading *reading = context;
    const char *name = strchr(path, '/');
    if (name == NULL) {
        return true;
    }
    name++;
    if (text_equal(name, "Upload/Key")) {
        const char *key = own_key(reading->s3, text);
        reading->next.key = key == NULL ? NULL : arena_string(reading->arena, key);
    } else if (text_equal(name, "Upload/UploadId")) {
        reading->next.id = arena_string(reading->arena, text);
    } else if (text_equal(name, "Upload/Initiated")) {
        reading->next.is_dated = time_parse(text, &reading->next.initiated_us);
    } else if (text_equal(name, "NextKeyMarker")) {
        reading->key_marker = arena_string(reading->arena, text);
    } else if (text_equal(name, "NextUploadIdMarker")) {
        reading->id_marker = arena_string(reading->arena, text);
    } else if (text_equal(name, "IsTruncated")) {
        reading->has_more = text_equal(text, "true");
    } else if (text_equal(name, "Upload")) {
        if (reading->count < ARRAY_COUNT(reading->uploads)) {
            reading->uploads[reading->count++] = reading->next;
        }
        reading->next = (Upload){0};
    }
    return true;
}

static Status list_uploads(const S3Storage *s3, UploadReading *reading, Error *error)
{
    S3Request request = {.method = "GET",
                         .action = "s3:ListBucketMultipartUploads",
                         .response_bytes_max = S3_LIST_BYTES_MAX};
    s3_request_query(&request, "uploads", "");
    s3_request_query(&request, "max-uploads", "1000");
    s3_request_query(&request, "prefix", s3->place.prefix);
    if (reading->has_more) {
        s3_request_query(&request, "key-marker", reading->key_marker);
        s3_request_query(&request, "upload-id-marker", reading->id_marker);
    }
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    reading->count = 0;
    reading->has_more = false;
    reading->key_marker = "";
    reading->id_marker = "";
    Error cause = {0};
    if (xml_read(response.body.data, response.body.size, on_upload_element, reading, &cause) !=
        STATUS_OK) {
        return bad_listing(s3, cause.message, error);
    }
    return STATUS_OK;
}

static Status abort_stale(const S3Storage *s3, const UploadReading *reading, int64_t *removed_count,
                          Error *error)
{
    int64_t before_us = clock_now_us() - S3_STALE_AFTER_US;
    for (size_t i = 0; i < reading->count; i++) {
        const Upload *upload = &reading->uploads[i];
        if (upload->key == NULL || upload->id == NULL || !upload->is_dated ||
            upload->initiated_us > before_us || !storage_key_is_valid(upload->key)) {
            continue;
        }
        S3Request request = {
            .method = "DELETE", .action = "s3:AbortMultipartUpload", .key = upload->key};
        s3_request_query(&request, "uploadId", upload->id);
        CLEANUP(http_response_done) HttpResponse response = {0};
        RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
        if (response.status != 404) {
            RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
            (*removed_count)++;
        }
    }
    return STATUS_OK;
}

Status s3_remove_stale(Storage *storage, int64_t *ret_removed_count, Error *error)
{
    const S3Storage *s3 = (const S3Storage *)storage;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    UploadReading *reading = arena_alloc(arena, sizeof(*reading));
    *reading = (UploadReading){.s3 = s3, .arena = arena};
    int64_t removed_count = 0;
    do {
        RETURN_IF_ERROR(list_uploads(s3, reading, error));
        RETURN_IF_ERROR(abort_stale(s3, reading, &removed_count, error));
        // A store that says "there is more" without saying where has no more for us.
    } while (reading->has_more && reading->key_marker[0] != '\0');
    *ret_removed_count = removed_count;
    return STATUS_OK;
}
