// SPDX-License-Identifier: Apache-2.0
// How a request of the S3 driver is signed and sent, and which answers are worth another try.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/xml.h"
#include "storage/storage_s3_internal.h"

#include <assert.h>
#include <string.h>

void s3_request_header(S3Request *request, Arena *arena, const char *name, const char *value)
{
    assert(request->header_count < ARRAY_COUNT(request->headers));
    request->headers[request->header_count++] = arena_format(arena, "%s: %s", name, value);
}

void s3_request_query(S3Request *request, const char *name, const char *value)
{
    assert(request->query_count < ARRAY_COUNT(request->query));
    request->query[request->query_count++] = (AwsQueryPair){.name = name, .value = value};
}

void s3_error_code(const HttpResponse *response, char ret_code[64])
{
    (void)xml_find(response->body.data, response->body.size, "Code", ret_code, 64);
    ret_code[strspn(ret_code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.")] =
        '\0';
}

static void sign(const S3Request *request, const char *path, const char *query, Arena *arena,
                 const AwsCredential *credential, StorageHttpTarget *target)
{
    const AwsSignature signature = aws_sign(
        &(AwsSignatureRequest){
            .credential = credential,
            .region = request->storage->region,
            .service = "s3",
            .time_us = clock_now_us(),
            .method = request->method,
            .host = request->storage->host,
            .path = path,
            .query = query,
            .headers = target->headers,
            .header_count = target->header_count,
            .payload_hash = request->payload_hash,
        },
        arena);
    target->headers[target->header_count++] = signature.date;
    target->headers[target->header_count++] = signature.authorization;
    if (signature.session_token != NULL) {
        target->headers[target->header_count++] = signature.session_token;
    }
    assert(target->header_count <= STORAGE_HTTP_HEADER_COUNT_MAX);
}

static Status prepare(void *context, Arena *arena, StorageHttpTarget *target, Error *error)
{
    const S3Request *request = context;
    const S3Storage *s3 = request->storage;
    const char *object =
        request->key == NULL ? "" : arena_format(arena, "%s%s", s3->place.prefix, request->key);
    const char *path =
        arena_format(arena, "%s/%s", s3->base_path, aws_uri_encode(object, true, arena));
    AwsQueryPair pairs[ARRAY_COUNT(request->query)];
    memcpy(pairs, request->query, sizeof(pairs));
    const char *query = aws_query_text(pairs, request->query_count, arena);
    // A bucket in the path is signed without a slash behind it by some stores and with it by AWS;
    // sent is what is signed.
    target->url =
        arena_format(arena, "%s/%s%s%s", s3->base_url, aws_uri_encode(object, true, arena),
                     query[0] == '\0' ? "" : "?", query);
    for (size_t i = 0; i < request->header_count; i++) {
        target->headers[target->header_count++] = request->headers[i];
    }
    storage_http_header(target, arena, "x-amz-content-sha256", request->payload_hash);
    if (s3->credentials == NULL) {
        return STATUS_OK;
    }
    CLEANUP(aws_credential_done) AwsCredential credential = {0};
    RETURN_IF_ERROR(aws_credentials_get(s3->credentials, &credential, error));
    sign(request, path, query, arena, &credential, target);
    return STATUS_OK;
}

static bool is_one_of(const char *code, const char *const *codes)
{
    for (; *codes != NULL; codes++) {
        if (strcmp(code, *codes) == 0) {
            return true;
        }
    }
    return false;
}

static StorageHttpVerdict judge(void *context, const HttpResponse *response)
{
    // What arrived was not what we sent, or the store did not wait for it.
    static const char *const passing[] = {"RequestTimeout",
                                          "BadDigest",
                                          "IncompleteBody",
                                          "XAmzContentSHA256Mismatch",
                                          "XAmzContentChecksumMismatch",
                                          "ConditionalRequestConflict",
                                          "OperationAborted",
                                          "InternalError",
                                          NULL};
    static const char *const throttling[] = {"SlowDown",
                                             "ServiceUnavailable",
                                             "Throttling",
                                             "ThrottlingException",
                                             "RequestLimitExceeded",
                                             "TooManyRequests",
                                             "KMS.ThrottlingException",
                                             NULL};
    static const char *const expired[] = {"ExpiredToken", "ExpiredTokenException",
                                          "TokenRefreshRequired", NULL};
    const S3Request *request = context;
    StorageHttpVerdict verdict = storage_http_judge(response);
    // Only an answer to CompleteMultipartUpload can be an error with status 200.
    if (verdict != STORAGE_HTTP_DONE || (response->status < 300 && request->sink != NULL)) {
        return verdict;
    }
    char code[64];
    s3_error_code(response, code);
    if (is_one_of(code, throttling)) {
        return STORAGE_HTTP_THROTTLED;
    }
    bool is_refreshed = is_one_of(code, expired) && request->storage->credentials != NULL &&
                        aws_credentials_expire(request->storage->credentials);
    return is_refreshed || is_one_of(code, passing) ? STORAGE_HTTP_RETRY : STORAGE_HTTP_DONE;
}

Status s3_send(const S3Storage *s3, S3Request *request, HttpResponse *ret_response, Error *error)
{
    request->storage = s3;
    if (request->body_digest != NULL) {
        hex_encode(request->body_digest, SHA256_SIZE, request->payload_hash);
    } else {
        aws_payload_hash(request->body, request->body_size, request->payload_hash);
    }
    StorageHttpCall call = {
        .method = request->method,
        .body = request->body,
        .body_size = request->body_size,
        .sink = request->sink,
        .sink_size = request->sink_size,
        .is_range = request->sink != NULL,
        .range_offset = request->range_offset,
        .response_bytes_max = request->response_bytes_max,
        .prepare = prepare,
        .judge = judge,
        .context = request,
    };
    Status status = storage_http_send(s3->http, &call, ret_response, error);
    request->sink_done = call.sink_done;
    request->total_size = call.total_size;
    if (status != STATUS_OK && request->key != NULL) {
        return error_wrap(error, "object '%s' in '%s'", request->key, s3->location);
    }
    return status == STATUS_OK ? status : error_wrap(error, "'%s'", s3->location);
}
