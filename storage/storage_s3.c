// SPDX-License-Identifier: Apache-2.0
// Storage in S3 and what is compatible with it. An object of at most one part is one PUT, a larger
// one a multipart upload; both make a whole object visible at once. Every write carries a token of
// ours in the object's metadata, by which a write whose answer was lost is known again.
// https://docs.aws.amazon.com/AmazonS3/latest/API/
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "storage/storage_s3_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TASK_THREAD_COUNT_MAX 16
#define REGION_DEFAULT "us-east-1"

static void s3_free(Storage *storage)
{
    S3Storage *s3 = (S3Storage *)storage;
    storage_tasks_free(s3->tasks);
    storage_http_free(s3->http);
    aws_credentials_free(s3->credentials);
    storage_base_done(storage);
    mem_free(s3->location);
    mem_free(s3->endpoint);
    mem_free(s3->host);
    mem_free(s3->base_url);
    mem_free(s3->region);
    mem_free(s3->kms_key_id);
    mem_free(s3->storage_class);
    mem_free(s3);
}

static const char *s3_describe(const Storage *storage)
{
    return ((const S3Storage *)storage)->location;
}

// "Fri, 24 May 2013 00:00:00 GMT"; 0 for anything else.
static int64_t parse_http_time_us(const char *text)
{
    struct tm fields = {0};
    return strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &fields) == NULL
               ? 0
               : (int64_t)timegm(&fields) * 1000000;
}

// An answer to HEAD has no body that could tell what is wrong: ask once more in a way that has one.
static Status explain_head(const S3Storage *s3, const char *key, Error *error)
{
    uint8_t byte;
    S3Request request = {
        .method = "GET", .action = "s3:GetObject", .key = key, .sink = &byte, .sink_size = 1};
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    if (response.status < 300 || response.status == 416) {
        return error_set(error, REASON_UNAVAILABLE,
                         "the store answers HEAD and GET of object '%s' differently", key);
    }
    return s3_answer_failed(s3, &request, &response, error);
}

Status s3_stat(const S3Storage *s3, const char *key, StorageObject *ret_object, char *ret_token,
               Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "HEAD", .action = "s3:GetObject", .key = key};
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    if (response.status >= 300 && response.status != 404) {
        return explain_head(s3, key, error);
    }
    RETURN_IF_ERROR(s3_check_answer(s3, &request, &response, error));
    char text[64];
    int64_t size_bytes = -1;
    if (!http_response_header(&response, "Content-Length", text, sizeof(text)) ||
        !text_to_int64(text, &size_bytes) || size_bytes < 0) {
        return error_set(error, REASON_STORAGE_UNFIT,
                         "the store does not tell the size of object '%s'", key);
    }
    ret_object->size_bytes = size_bytes;
    ret_object->modified_us = http_response_header(&response, "Last-Modified", text, sizeof(text))
                                  ? parse_http_time_us(text)
                                  : 0;
    // Told only to who may s3:GetObjectRetention.
    if (http_response_header(&response, "x-amz-object-lock-retain-until-date", text,
                             sizeof(text)) &&
        !time_parse(text, &ret_object->locked_until_us)) {
        ret_object->locked_until_us = 0;
    }
    if (ret_token != NULL && !http_response_header(&response, S3_TOKEN_HEADER, ret_token, 40)) {
        ret_token[0] = '\0';
    }
    return STATUS_OK;
}

static Status s3_stat_object(Storage *storage, const char *key, StorageObject *ret_object,
                             Error *error)
{
    return s3_stat((const S3Storage *)storage, key, ret_object, NULL, error);
}

static Status s3_remove(Storage *storage, const char *key, Error *error)
{
    const S3Storage *s3 = (const S3Storage *)storage;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    S3Request request = {.method = "DELETE", .action = "s3:DeleteObject", .key = key};
    CLEANUP(http_response_done) HttpResponse response = {0};
    RETURN_IF_ERROR(s3_send(s3, &request, &response, error));
    Status status = s3_check_answer(s3, &request, &response, error);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static const StorageOperations S3_OPERATIONS = {
    .name = "s3",
    .free = s3_free,
    .describe = s3_describe,
    .open_writer = s3_open_writer,
    .writer_write = s3_writer_write,
    .writer_commit = s3_writer_commit,
    .writer_abort = s3_writer_abort,
    .open_reader = s3_open_reader,
    .reader_read = s3_reader_read,
    .reader_close = s3_reader_close,
    .stat = s3_stat_object,
    .list = s3_list,
    .remove = s3_remove,
    .put = s3_put,
    .read_range = s3_read_range,
    .remove_many = s3_remove_many,
    .remove_stale = s3_remove_stale,
};

// Without slashes at the end and without the port that is the scheme's own, which no Host header
// has.
static char *normalize_endpoint(const char *endpoint)
{
    size_t size = strlen(endpoint);
    while (size > 0 && endpoint[size - 1] == '/') {
        size--;
    }
    char *text = string_copy_n(endpoint, size);
    const char *port = text_has_prefix(text, "https://") ? ":443" : ":80";
    if (text_has_suffix(text, port)) {
        text[size - strlen(port)] = '\0';
    }
    return text;
}

static void set_address(S3Storage *s3, const StorageOptions *options)
{
    bool is_aws = text_is_empty(options->endpoint);
    s3->endpoint = is_aws ? string_format("https://s3.%s.amazonaws.com%s", s3->region,
                                          text_has_prefix(s3->region, "cn-") ? ".cn" : "")
                          : normalize_endpoint(options->endpoint);
    // A wildcard certificate covers one label only: buckets with dots go into the path.
    bool is_path_style = options->is_path_style || (strchr(s3->place.bucket, '.') != NULL &&
                                                    text_has_prefix(s3->endpoint, "https://"));
    const char *authority = strstr(s3->endpoint, "://") + 3;
    int scheme_size = (int)(authority - s3->endpoint);
    if (is_path_style) {
        s3->host = string_copy(authority);
        s3->base_url = string_format("%s/%s", s3->endpoint, s3->place.bucket);
        s3->base_path = s3->base_url + strlen(s3->endpoint);
    } else {
        s3->host = string_format("%s.%s", s3->place.bucket, authority);
        s3->base_url = string_format("%.*s%s", scheme_size, s3->endpoint, s3->host);
        s3->base_path = "";
    }
}

static void set_credentials(S3Storage *s3, const StorageOptions *options)
{
    static const AwsCredentialSource sources[] = {
        [STORAGE_CREDENTIALS_AUTOMATIC] = AWS_CREDENTIALS_AUTOMATIC,
        [STORAGE_CREDENTIALS_EXPLICIT] = AWS_CREDENTIALS_EXPLICIT,
        [STORAGE_CREDENTIALS_ENVIRONMENT] = AWS_CREDENTIALS_ENVIRONMENT,
        [STORAGE_CREDENTIALS_PROFILE] = AWS_CREDENTIALS_PROFILE,
        [STORAGE_CREDENTIALS_WEB_IDENTITY] = AWS_CREDENTIALS_WEB_IDENTITY,
        [STORAGE_CREDENTIALS_CONTAINER] = AWS_CREDENTIALS_CONTAINER,
        [STORAGE_CREDENTIALS_INSTANCE] = AWS_CREDENTIALS_INSTANCE,
    };
    if (options->credential_source == STORAGE_CREDENTIALS_NONE) {
        return;
    }
    bool is_named = !text_is_empty(options->credential_file) || !text_is_empty(options->profile);
    const AwsCredentialsOptions credentials = {
        .source = is_named ? AWS_CREDENTIALS_PROFILE : sources[options->credential_source],
        .access_key_id = options->access_key_id,
        .secret_key = options->secret_key,
        .session_token = options->session_token,
        .profile = options->profile,
        .profiles_path = options->credential_file,
        .region = options->region,
    };
    s3->credentials = aws_credentials_new(&credentials);
}

Status storage_s3_new(const StorageOptions *options, Storage **ret_storage, Error *error)
{
    StorageLocation place;
    RETURN_IF_ERROR(storage_location_parse(options->location, &place, error));
    assert(place.scheme == STORAGE_SCHEME_S3);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *region =
        text_is_empty(options->region) ? aws_region(options->profile, arena) : options->region;
    S3Storage *s3 = mem_alloc(sizeof(*s3));
    storage_base_init(&s3->base, &S3_OPERATIONS);
    s3->place = place;
    size_t prefix_size = strlen(place.prefix);
    s3->location = string_format("s3://%s%s%.*s", place.bucket, prefix_size > 0 ? "/" : "",
                                 (int)(prefix_size > 0 ? prefix_size - 1 : 0), place.prefix);
    s3->region = string_copy(text_is_empty(region) ? REGION_DEFAULT : region);
    s3->encryption = options->encryption;
    s3->kms_key_id = text_is_empty(options->kms_key_id) ? NULL : string_copy(options->kms_key_id);
    s3->storage_class =
        text_is_empty(options->storage_class) ? NULL : string_copy(options->storage_class);
    s3->lock_mode = options->lock_mode;
    s3->lock_duration_s = options->lock_duration_s;
    set_address(s3, options);
    set_credentials(s3, options);
    s3->http = storage_http_new(
        &(StorageHttpOptions){.ca_pem = text_is_empty(options->ca_pem) ? NULL : options->ca_pem,
                              .limits = options->limits});
    s3->tasks = storage_tasks_new(TASK_THREAD_COUNT_MAX);
    *ret_storage = (Storage *)s3;
    return STATUS_OK;
}
