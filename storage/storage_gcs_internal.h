// SPDX-License-Identifier: Apache-2.0
// Inside the driver of Google Cloud Storage only: the store, and one call of its JSON API.
#pragma once

#include "common/json.h"
#include "storage/gcp_token.h"
#include "storage/storage_driver.h"
#include "storage/storage_http.h"
#include "storage/storage_tasks.h"

typedef struct StorageGcs {
    Storage base;
    StorageLocation location;
    char *description; // "gs://bucket/prefix"
    char *endpoint;    // "https://storage.googleapis.com", without a slash at the end
    char *storage_class, *kms_key_id; // or NULL
    StorageLockMode lock_mode;
    int64_t lock_duration_s;
    GcpTokens *tokens; // NULL: requests carry none
    atomic_bool had_token;
    StorageHttp *http;
    StorageTasks *tasks;
} StorageGcs;

#define GCS_PIECE_SIZE ((size_t)8 * 1024 * 1024) // of a transfer that is cut
#define GCS_PARALLEL_COUNT 4                     // pieces of one download under way
#define GCS_CALL_HEADER_COUNT_MAX 6

// A StorageHttpCall with what it takes to address and to read an answer of the API. Set path and,
// if wanted, headers and the members of `http`; then gcs_send.
typedef struct GcsCall {
    StorageHttpCall http;
    StorageGcs *gcs;
    const char *path; // "/storage/v1/b/..." with its query
    const char *headers[GCS_CALL_HEADER_COUNT_MAX + 1];
    size_t header_count;
    bool was_token_refused; // once: another one is tried
    Secret token;           // the last that was sent
} GcsCall;

void gcs_call_header(GcsCall *call, const char *header); // "Name: value", borrowed
// What gcs_send gives to the transport, with the GcsCall as context; for a call that needs more.
Status gcs_prepare(GcsCall *call, Arena *arena, StorageHttpTarget *target, Error *error);
StorageHttpVerdict gcs_judge(GcsCall *call, const HttpResponse *response);
// As storage_http_send, with the description of the store in the error. Ends the call's token.
Status gcs_send(GcsCall *call, HttpResponse *ret_response, Error *error);

// "/storage/v1/b/BUCKET/o/NAME" of a key of ours; the name is encoded.
const char *gcs_object_path(const StorageGcs *gcs, Arena *arena, const char *key);
// The name within the bucket: the prefix and the key, not encoded.
const char *gcs_object_name(const StorageGcs *gcs, Arena *arena, const char *key);

// What an answer that is no success means, as a Reason with a cure. permission: what the call
// needs, "storage.objects.create". A 404 is the bucket's unless the key is given and the answer
// does not speak of the bucket: then it is REASON_NOT_FOUND.
Status gcs_refused(const StorageGcs *gcs, const HttpResponse *response, const char *permission,
                   const char *key, Error *error);
// The answer's JSON object; REASON_STORAGE_UNFIT when it is none.
Status gcs_parse(const StorageGcs *gcs, const HttpResponse *response, Json **ret_json,
                 Error *error);
// GCS writes 64-bit numbers as texts. -1 when absent or not a number.
int64_t gcs_get_number(const Json *json, const char *name);
char *gcs_crc32c_text(Arena *arena, uint32_t crc); // base64 of its big-endian bytes

Status gcs_open_writer(Storage *storage, const char *key, const StorageWriteOptions *options,
                       StorageWriter **ret_writer, Error *error);
Status gcs_writer_write(StorageWriter *writer, const void *data, size_t size, Error *error);
Status gcs_writer_commit(StorageWriter *writer, Error *error);
void gcs_writer_abort(StorageWriter *writer);
Status gcs_put(Storage *storage, const char *key, const void *data, size_t size,
               const StorageWriteOptions *options, Error *error);

Status gcs_open_reader(Storage *storage, const char *key, int64_t offset, int64_t length,
                       StorageReader **ret_reader, Error *error);
Status gcs_reader_read(StorageReader *reader, void *data, size_t size, size_t *ret_size,
                       Error *error);
void gcs_reader_close(StorageReader *reader);
Status gcs_read_range(Storage *storage, const char *key, int64_t offset, void *data, size_t size,
                      size_t *ret_size, Error *error);

Status gcs_stat(Storage *storage, const char *key, StorageObject *ret_object, Error *error);
