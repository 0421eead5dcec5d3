// SPDX-License-Identifier: Apache-2.0
// Inside of the S3 driver only: what its files share.
#pragma once

#include "common/aws_credentials.h"
#include "storage/storage_driver.h"
#include "storage/storage_http.h"
#include "storage/storage_options.h"
#include "storage/storage_tasks.h"

#define S3_PIECE_BYTES ((size_t)8 * 1024 * 1024) // of a download that is cut
#define S3_PART_BYTES ((size_t)16 * 1024 * 1024) // of an upload; what is not larger is one PUT
#define S3_PART_COUNT_MAX 10000                  // of one object: 156 GiB
#define S3_PARALLEL_COUNT 4                      // pieces or parts of one object under way
#define S3_TOKEN_HEADER "x-amz-meta-holdfast-write"
#define S3_LIST_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define S3_STALE_AFTER_US (INT64_C(24) * 3600 * 1000000)

typedef struct S3Storage {
    Storage base;
    StorageLocation place;
    char *location;        // "s3://bucket/prefix", safe to show
    char *endpoint;        // "https://host:port", without the bucket
    char *host;            // of the Host header, with the bucket when that is the style
    char *base_url;        // "https://host:port" of requests
    const char *base_path; // "/bucket" or ""; inside of own memory
    char *region;
    StorageEncryption encryption;
    char *kms_key_id, *storage_class;
    StorageLockMode lock_mode;
    int64_t lock_duration_s;
    AwsCredentials *credentials; // NULL: requests are not signed
    StorageHttp *http;
    StorageTasks *tasks;
} S3Storage;

// One request, which may take several tries.
typedef struct S3Request {
    const char *method;
    const char *action; // what the policy must allow: "s3:PutObject"
    const char *key;    // of the object, without the location's prefix; NULL: the bucket
    AwsQueryPair query[6];
    size_t query_count;
    const char *headers[12]; // "Name: value"
    size_t header_count;
    const void *body;
    size_t body_size;
    const uint8_t *body_digest; // its SHA-256 where that is known already, or NULL
    uint8_t *sink;              // with sink_size: bytes range_offset .. of the object
    size_t sink_size;
    int64_t range_offset;
    size_t response_bytes_max;

    // Of storage_http_send.
    size_t sink_done;
    int64_t total_size;
    // Inside of s3_send.
    const S3Storage *storage;
    char payload_hash[65];
} S3Request;

void s3_request_header(S3Request *request, Arena *arena, const char *name, const char *value);
void s3_request_query(S3Request *request, const char *name, const char *value);
// STATUS_OK: an answer came; s3_answer_failed says what one of 300 or more means.
Status s3_send(const S3Storage *s3, S3Request *request, HttpResponse *ret_response, Error *error);
// The error's code ("NoSuchKey"), or "".
void s3_error_code(const HttpResponse *response, char ret_code[64]);
Status s3_answer_failed(const S3Storage *s3, const S3Request *request, const HttpResponse *response,
                        Error *error);
// What a code inside of an answer means.
Status s3_code_failed(const S3Storage *s3, const S3Request *request, const char *code,
                      Error *error);
// Whether a store says so that an object is locked.
bool s3_is_lock_message(const char *message);
// As s3_answer_failed, but a 2xx answer is OK.
Status s3_check_answer(const S3Storage *s3, const S3Request *request, const HttpResponse *response,
                       Error *error);
// ret_token may be NULL: the token of the write that made the object. 40 bytes.
Status s3_stat(const S3Storage *s3, const char *key, StorageObject *ret_object, char *ret_token,
               Error *error);

Status s3_open_writer(Storage *storage, const char *key, const StorageWriteOptions *options,
                      StorageWriter **ret_writer, Error *error);
Status s3_writer_write(StorageWriter *writer, const void *data, size_t size, Error *error);
Status s3_writer_commit(StorageWriter *writer, Error *error);
void s3_writer_abort(StorageWriter *writer);
Status s3_put(Storage *storage, const char *key, const void *data, size_t size,
              const StorageWriteOptions *options, Error *error);

// Writing one object in parts, between s3_multipart_begin and one of complete and abort.
typedef struct S3Part {
    char etag[128];
    char checksum[64]; // as the store gave it back, or ""
} S3Part;
typedef struct S3Multipart {
    const S3Storage *s3;
    const char *key;
    const char *token;
    bool is_create_only;
    char upload_id[1024];
    S3Part *parts; // owned
    size_t part_count, part_capacity;
} S3Multipart;
Status s3_put_whole(const S3Storage *s3, const char *key, const char *token, bool is_create_only,
                    const void *data, size_t size, Error *error);
Status s3_multipart_begin(S3Multipart *multipart, Error *error);
// number: from 1. Different parts may be sent by different threads.
Status s3_multipart_send(const S3Multipart *multipart, size_t number, const void *data, size_t size,
                         S3Part *ret_part, Error *error);
Status s3_multipart_complete(const S3Multipart *multipart, Error *error);
void s3_multipart_abort(const S3Multipart *multipart); // what stays is remove_stale's

Status s3_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                      StorageReader **ret_reader, Error *error);
Status s3_reader_read(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                      Error *error);
void s3_reader_close(StorageReader *reader);
Status s3_read_range(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                     size_t *ret_size, Error *error);

Status s3_list(Storage *storage, const char *prefix, const char *after, size_t limit, Arena *arena,
               StoragePage *ret_page, bool *ret_has_more, Error *error);
Status s3_remove_many(Storage *storage, StorageRemoval *removals, size_t count, Error *error);
Status s3_remove_stale(Storage *storage, int64_t *ret_removed_count, Error *error);
