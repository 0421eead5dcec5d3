// SPDX-License-Identifier: Apache-2.0
// AWS Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
// Pure functions; results live in the arena.
#pragma once

#include "common/arena.h"
#include "common/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AWS_PAYLOAD_HASH_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct AwsCredential {
    char *access_key_id;
    Secret secret_key;
    Secret session_token;  // empty: none
    int64_t expires_at_us; // 0: never
} AwsCredential;

AwsCredential aws_credential_copy(const AwsCredential *credential);
void aws_credential_done(AwsCredential *credential); // wipes

typedef struct AwsQueryPair {
    const char *name, *value; // not encoded
} AwsQueryPair;

typedef struct AwsSignatureRequest {
    const AwsCredential *credential;
    const char *region, *service; // "eu-central-1", "s3"
    int64_t time_us;
    const char *method;
    const char *host;  // as the Host header says it, with a port that is not the scheme's
    const char *path;  // the canonical one: encoded, once for S3 and twice for other services
    const char *query; // of aws_query_text, or ""
    // "Name: value"; all are signed, beside Host, X-Amz-Date and X-Amz-Security-Token.
    const char *const *headers;
    size_t header_count;
    const char *payload_hash; // hex SHA-256 of the body, or "UNSIGNED-PAYLOAD"
} AwsSignatureRequest;

// Headers to send beside the request's own.
typedef struct AwsSignature {
    const char *authorization; // "Authorization: ..."
    const char *date;          // "X-Amz-Date: ..."
    const char *session_token; // "X-Amz-Security-Token: ...", or NULL
    const char *canonical_request;
} AwsSignature;

AwsSignature aws_sign(const AwsSignatureRequest *request, Arena *arena);
// Percent-encodes all bytes but A-Za-z0-9-._~ and, with is_path, '/'.
char *aws_uri_encode(const char *text, bool is_path, Arena *arena);
// "a=1&b=": encoded, in the order that signatures need; reorders the pairs. Send exactly this.
char *aws_query_text(AwsQueryPair *pairs, size_t count, Arena *arena);
// As x-amz-content-sha256 has it. 65 bytes.
void aws_payload_hash(const void *data, size_t size, char ret_text[65]);
