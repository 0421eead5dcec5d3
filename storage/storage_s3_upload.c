// SPDX-License-Identifier: Apache-2.0
// The requests that make objects of S3: one PUT, or a multipart upload. A request may take effect
// without our hearing of it; so what makes an object visible carries a token in its metadata, and
// "it is there already" is looked into: it may be our own doing.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/xml.h"
#include "storage/storage_s3_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHECKSUM_HEADER "x-amz-checksum-sha256"
#define CHECKSUM_TEXT_SIZE 45 // base64 of 32 bytes and the NUL

// What applies to the object as a whole: metadata, encryption, class, lock.
static void add_object_headers(const S3Storage *s3, const char *token, S3Request *request,
                               Arena *arena)
{
    static const char *const encryptions[] = {
        [STORAGE_ENCRYPTION_STORE] = "AES256", [STORAGE_ENCRYPTION_KMS] = "aws:kms"};
    s3_request_header(request, arena, S3_TOKEN_HEADER, token);
    if (s3->encryption != STORAGE_ENCRYPTION_DEFAULT) {
        s3_request_header(request, arena, "x-amz-server-side-encryption",
                          encryptions[s3->encryption]);
    }
    if (s3->kms_key_id != NULL) {
        s3_request_header(request, arena, "x-amz-server-side-encryption-aws-kms-key-id",
                          s3->kms_key_id);
    }
    if (s3->storage_class != NULL) {
        s3_request_header(request, arena, "x-amz-storage-class", s3->storage_class);
    }
    if (s3->lock_mode != STORAGE_LOCK_NONE) {
        char until[TIME_TEXT_SIZE];
        int64_t seconds = clock_now_us() / 1000000 + s3->lock_duration_s;
        time_format(seconds * 1000000, until);
        s3_request_header(request, arena, "x-amz-object-lock-mode",
                          s3->lock_mode == STORAGE_LOCK_COMPLIANCE ? "COMPLIANCE" : "GOVERNANCE");
        s3_request_header(request, arena, "x-amz-object-lock-retain-until-date", until);
    }
}

// The body's digest, which is signed and told: it is computed once.
static void add_checksum(S3Request *request, Arena *arena, char ret_text[CHECKSUM_TEXT_SIZE])
{
    uint8_t *digest = arena_alloc(arena, SHA256_SIZE);
    crypto_sha256(request->body, request->body_size, digest);
    request->body_digest = digest;
    (void)snprintf(ret_text, CHECKSUM_TEXT_SIZE, "%s", base64_encode(arena, digest, SHA256_SIZE));
    s3_request_header(request, arena, CHECKSUM_HEADER, ret_text);
}

// The store verifies the payload's hash, which is signed. Those that keep checksums say what they
// have.
static Status check_stored(const S3Storage *s3, const S3Request *request, const char *expected,
                           const HttpResponse *response, Error *error)
{
    char stored[128];
    if (http_response_header(response, CHECKSUM_HEADER, stored, sizeof(stored)) &&
        !text_equal(stored, expected)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "object '%s' in '%s': the store has other bytes than were sent",
                         request->key, s3->location);
    }
    return STATUS_OK;
}

// The key has an object, or the upload is gone: was it this write, whose answer was lost?
static Status settle(const S3Storage *s3, const char *key, const char *token, bool *ret_is_ours,
                     Error *error)
{
    StorageObject object;
    char stored[40] = "";
    Status status = s3_stat(s3, key, &object, stored, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        *ret_is_ours = false;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    *ret_is_ours = text_equal(stored, token);
    return STATUS_OK;
}

static Status exists(const S3Storage *s3, const char *key, const char *token, Error *error)
{
    bool is_ours = false;
    RETURN_IF_ERROR(settle(s3, key, token, &is_ours, error));
    return is_ours ? STATUS_OK
                   : error_set(error, REASON_EXISTS, "object '%s' is in '%s' already", key,
                               s3->location);
}

Status s3_put_whole(const S3Storage *s3, const char *key, const char *token, bool is_create_only,
                    const void *data, size_t size, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {
        .method = "PUT", .action = "s3:PutObject", .key = key, .body = data, .body_size = size};
    char sum[CHECKSUM_TEXT_SIZE];
    add_checksum(&request, arena, sum);
    add_object_headers(s3, token, &request, arena);
    if (is_create_only) {
        s3_request_header(&request, arena, "If-None-Match", "*");
    }
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    if (is_create_only && response.status == 412) {
        return exists(s3, key, token, error);
    }
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    return check_stored(s3, &request, sum, &response, error);
}

Status s3_multipart_begin(S3Multipart *multipart, Error *error)
{
    const S3Storage *s3 = multipart->s3;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "POST", .action = "s3:PutObject", .key = multipart->key};
    s3_request_query(&request, "uploads", "");
    s3_request_header(&request, arena, "x-amz-checksum-algorithm", "SHA256");
    add_object_headers(s3, multipart->token, &request, arena);
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    if (!xml_find(response.body.data, response.body.size, "UploadId", multipart->upload_id,
                  sizeof(multipart->upload_id)) ||
        multipart->upload_id[0] == '\0') {
        return error_set(error, REASON_STORAGE_UNFIT,
                         "object '%s' in '%s': the store began an upload without telling its id",
                         multipart->key, s3->location);
    }
    return STATUS_OK;
}

Status s3_multipart_send(const S3Multipart *multipart, size_t number, const void *data, size_t size,
                         S3Part *ret_part, Error *error)
{
    const S3Storage *s3 = multipart->s3;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "PUT",
                         .action = "s3:PutObject",
                         .key = multipart->key,
                         .body = data,
                         .body_size = size};
    char sum[CHECKSUM_TEXT_SIZE];
    add_checksum(&request, arena, sum);
    s3_request_query(&request, "partNumber", arena_format(arena, "%zu", number));
    s3_request_query(&request, "uploadId", multipart->upload_id);
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    RETURN_IF_ERROR(check_stored(s3, &request, sum, &response, error));
    *ret_part = (S3Part){0};
    if (!http_response_header(&response, "ETag", ret_part->etag, sizeof(ret_part->etag))) {
        return error_set(error, REASON_STORAGE_UNFIT,
                         "object '%s' in '%s': the store took a part without naming it",
                         multipart->key, s3->location);
    }
    if (!http_response_header(&response, CHECKSUM_HEADER, ret_part->checksum,
                              sizeof(ret_part->checksum))) {
        ret_part->checksum[0] = '\0'; // a store that keeps none may not know the element, either
    }
    return STATUS_OK;
}

static void write_parts(const S3Multipart *multipart, Buffer *body)
{
    (void)buffer_append_text(
        body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < multipart->part_count; i++) {
        const S3Part *part = &multipart->parts[i];
        (void)buffer_append_format(body, "<Part><PartNumber>%zu</PartNumber><ETag>", i + 1);
        xml_write_text(part->etag, body);
        (void)buffer_append_text(body, "</ETag>");
        if (part->checksum[0] != '\0') {
            (void)buffer_append_text(body, "<ChecksumSHA256>");
            xml_write_text(part->checksum, body);
            (void)buffer_append_text(body, "</ChecksumSHA256>");
        }
        (void)buffer_append_text(body, "</Part>");
    }
    (void)buffer_append_text(body, "</CompleteMultipartUpload>");
}

static Status send_completion(const S3Multipart *multipart, const Buffer *body, Error *error)
{
    const S3Storage *s3 = multipart->s3;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "POST",
                         .action = "s3:PutObject",
                         .key = multipart->key,
                         .body = body->data,
                         .body_size = body->size};
    s3_request_query(&request, "uploadId", multipart->upload_id);
    s3_request_header(&request, arena, "Content-Type", "application/xml");
    if (multipart->is_create_only) {
        s3_request_header(&request, arena, "If-None-Match", "*");
    }
    CLEANUP(http_response_done) HttpResponse response = {0};
    char code[64];
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    s3_error_code(&response, code);
    if (response.status == 412 && multipart->is_create_only) {
        return exists(s3, multipart->key, multipart->token, error);
    }
    if (text_equal(code, "NoSuchUpload")) {
        bool is_ours = false;
        RETURN_IF_ERROR(settle(s3, multipart->key, multipart->token, &is_ours, error));
        return is_ours ? STATUS_OK
                       : error_set(error, REASON_UNAVAILABLE,
                                   "object '%s' in '%s': somebody ended its upload", multipart->key,
                                   s3->location);
    }
    if (code[0] != '\0') {
        return s3_answer_failed(s3, &request, &response, error); // with status 200, too
    }
    return s3_check_answer(s3, &request, &response, error);
}

Status s3_multipart_complete(const S3Multipart *multipart, Error *error)
{
    Buffer body;
    buffer_init(&body, (size_t)4 * 1024 * 1024); // for 10,000 parts 3 MB
    write_parts(multipart, &body);
    Status status = body.is_overflowed ? error_set(error, REASON_EXHAUSTED,
                                                   "object '%s' has too many parts", multipart->key)
                                       : send_completion(multipart, &body, error);
    buffer_done(&body);
    return status;
}

void s3_multipart_abort(const S3Multipart *multipart)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {
        .method = "DELETE", .action = "s3:AbortMultipartUpload", .key = multipart->key};
    s3_request_query(&request, "uploadId", multipart->upload_id);
    CLEANUP(http_response_done) HttpResponse response = {0};
    Error ignored = {0};
    (void)s3_send(multipart->s3, &request, &response, &ignored); // else it gets stale
}
