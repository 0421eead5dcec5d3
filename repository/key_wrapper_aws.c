// SPDX-License-Identifier: Apache-2.0
// Wrapping with a key of AWS KMS, which never leaves it: Encrypt and Decrypt of its HTTP API. What
// a data key is for is its encryption context, which AWS authenticates and writes into CloudTrail:
// https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html
#include "common/aws_credentials.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/key_service.h"
#include "repository/key_wrapper_providers.h"

#include <stdio.h>
#include <string.h>

#define BODY_BYTES_MAX (4 * WRAPPED_SIZE_MAX)

typedef struct AwsKeyWrapper {
    KeyWrapper base;
    char *endpoint, *region, *key, *ca_path; // ca_path may be NULL
    AwsCredentials *credentials;
} AwsKeyWrapper;

// One call under way.
typedef struct AwsCall {
    AwsKeyWrapper *aws;
    const char *operation; // "Encrypt"
    const char *body;
} AwsCall;

static void aws_free(KeyWrapper *wrapper)
{
    AwsKeyWrapper *aws = (AwsKeyWrapper *)wrapper;
    aws_credentials_free(aws->credentials);
    mem_free(aws->endpoint);
    mem_free(aws->region);
    mem_free(aws->key);
    mem_free(aws->ca_path);
    mem_free(aws);
}

static Status aws_prepare(void *context, Arena *arena,
                          const char *headers[KEY_SERVICE_HEADER_COUNT_MAX + 1], Error *error)
{
    const AwsCall *call = context;
    CLEANUP(aws_credential_done) AwsCredential credential = {0};
    char payload_hash[65];
    RETURN_IF_ERROR(aws_credentials_get(call->aws->credentials, &credential, error));
    headers[0] = "Content-Type: application/x-amz-json-1.1";
    headers[1] = arena_format(arena, "X-Amz-Target: TrentService.%s", call->operation);
    aws_payload_hash(call->body, strlen(call->body), payload_hash);
    const AwsSignature signature =
        aws_sign(&(AwsSignatureRequest){.credential = &credential,
                                        .region = call->aws->region,
                                        .service = "kms",
                                        .time_us = clock_now_us(),
                                        .method = "POST",
                                        .host = strstr(call->aws->endpoint, "://") + 3,
                                        .path = "/",
                                        .query = "",
                                        .headers = headers,
                                        .header_count = 2,
                                        .payload_hash = payload_hash},
                 arena);
    headers[2] = signature.date;
    headers[3] = signature.authorization;
    headers[4] = signature.session_token; // or NULL, the end
    return STATUS_OK;
}

// "com.amazonaws.kms#NotFoundException" or just "NotFoundException".
static const char *error_word(const Json *answer)
{
    const char *type = json_get_text(answer, "__type", "");
    const char *word = strchr(type, '#');
    return word == NULL ? type : word + 1;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (text_equal(word, *words)) {
            return true;
        }
    }
    return false;
}

static bool aws_is_passing(void *context, int http_status, const Json *answer)
{
    static const char *const passing[] = {"ThrottlingException", "KMSInternalException",
                                          "DependencyTimeoutException", "KeyUnavailableException",
                                          NULL};
    const AwsCall *call = context;
    const char *word = error_word(answer);
    (void)http_status;
    if (text_equal(word, "ExpiredTokenException")) {
        return aws_credentials_expire(call->aws->credentials);
    }
    return is_one_of(word, passing);
}

static Status aws_refused(const AwsKeyWrapper *aws, int http_status, const Json *answer,
                          Error *error)
{
    static const char *const unusable[] = {"NotFoundException", "DisabledException",
                                           "KMSInvalidStateException", "InvalidKeyUsageException",
                                           NULL};
    static const char *const wrong[] = {"InvalidCiphertextException", "IncorrectKeyException",
                                        NULL};
    const char *word = error_word(answer);
    const char *message = json_get_text(answer, "message", json_get_text(answer, "Message", ""));
    Reason reason = REASON_UNAVAILABLE;
    const char *hint = "try again later";
    if (is_one_of(word, wrong)) {
        reason = REASON_KEY_WRONG;
        hint = "it is damaged, from another place, or wrapped by another key; an alias may point "
               "to another key now";
    } else if (is_one_of(word, unusable)) {
        reason = REASON_KEY_MISSING;
        hint = "the key must exist in this region, be enabled, and encrypt and decrypt; a key that "
               "is scheduled for deletion can be brought back";
    } else if (http_status >= 400 && http_status < 500) {
        reason = REASON_FORBIDDEN;
        hint = "check the credentials, this machine's clock, and that they allow kms:Encrypt and "
               "kms:Decrypt on the key";
    }
    error_set(error, reason, "%s: %s (HTTP %d) %.300s", aws->base.name, word, http_status, message);
    return error_hint(error, "%s", hint);
}

static void set_context(Json *request, const WrapContext *context)
{
    Json *json = json_new_object();
    json_set_text(json, "holdfast:repository", context->repository_id);
    json_set_text(json, "holdfast:database", context->database_id);
    json_set_text(json, "holdfast:key", context->key_id);
    json_set(request, "EncryptionContext", json);
}

static Status aws_call(AwsKeyWrapper *aws, const char *operation, Json *request,
                       const WrapContext *context, Json **ret_answer, Error *error)
{
    CLEANUP(buffer_done) Buffer body = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    int http_status = 0;
    json_set_text(request, "KeyId", aws->key);
    set_context(request, context);
    buffer_init(&body, BODY_BYTES_MAX);
    if (!json_write(request, false, &body)) {
        return error_set(error, REASON_KEY_WRONG, "a wrapped key is too large");
    }
    AwsCall call = {.aws = aws, .operation = operation, .body = buffer_text(&body)};
    const KeyServiceCall service = {.url = aws->endpoint,
                                    .ca_path = aws->ca_path,
                                    .body = call.body,
                                    .prepare = aws_prepare,
                                    .is_passing = aws_is_passing,
                                    .context = &call};
    Status status = key_service_call(&service, &http_status, &answer, error);
    explicit_bzero(body.data, body.size);
    if (status != STATUS_OK) {
        return error_wrap(error, "%s", aws->base.name);
    }
    if (http_status != 200) {
        return aws_refused(aws, http_status, answer, error);
    }
    *ret_answer = TAKE_PTR(answer);
    return STATUS_OK;
}

static void set_bytes(Json *json, const char *name, Arena *arena, const void *data, size_t size)
{
    char *text = base64_encode(arena, data, size);
    json_set_text(json, name, text);
    secret_wipe_text(text);
}

static Status get_bytes(const AwsKeyWrapper *aws, const Json *json, const char *name, Arena *arena,
                        uint8_t **ret_data, size_t *ret_size, Error *error)
{
    if (!base64_decode(arena, json_get_text(json, name, ""), ret_data, ret_size) ||
        *ret_size == 0) {
        return error_set(error, REASON_UNAVAILABLE, "%s: an answer has no %s", aws->base.name,
                         name);
    }
    return STATUS_OK;
}

static Status aws_wrap(KeyWrapper *wrapper, const WrapContext *context, const Secret *key,
                       Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error)
{
    AwsKeyWrapper *aws = (AwsKeyWrapper *)wrapper;
    CLEANUP(json_freep) Json *request = json_new_object();
    CLEANUP(json_freep) Json *answer = NULL;
    set_bytes(request, "Plaintext", arena, key->data, key->size);
    RETURN_IF_ERROR(aws_call(aws, "Encrypt", request, context, &answer, error));
    return get_bytes(aws, answer, "CiphertextBlob", arena, ret_wrapped, ret_size, error);
}

static Status aws_unwrap(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                         size_t size, Secret *ret_key, Error *error)
{
    AwsKeyWrapper *aws = (AwsKeyWrapper *)wrapper;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) Json *request = json_new_object();
    CLEANUP(json_freep) Json *answer = NULL;
    uint8_t *key = NULL;
    size_t key_size = 0;
    set_bytes(request, "CiphertextBlob", arena, wrapped, size);
    RETURN_IF_ERROR(aws_call(aws, "Decrypt", request, context, &answer, error));
    RETURN_IF_ERROR(get_bytes(aws, answer, "Plaintext", arena, &key, &key_size, error));
    *ret_key = secret_from_bytes(key, key_size);
    explicit_bzero(key, key_size);
    return STATUS_OK;
}

static const KeyWrapperOperations AWS_OPERATIONS = {
    .kind = "awskms", .free = aws_free, .wrap = aws_wrap, .unwrap = aws_unwrap};

// --- locations --------------------------------------------------------------------------------

// "arn:aws:kms:eu-central-1:111122223333:key/..." says its region; in the arena, or NULL.
static const char *region_of_arn(const char *key, Arena *arena)
{
    size_t count = 0;
    char **parts = text_split(arena, key, ':', &count);
    bool is_arn = count == 6 && text_equal(parts[0], "arn") && text_equal(parts[2], "kms");
    return is_arn && parts[3][0] != '\0' ? parts[3] : NULL;
}

static bool is_key_name(const char *key)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/:";
    size_t size = strlen(key);
    return size > 0 && size <= 256 && strspn(key, allowed) == size;
}

static const char *find_region(const char *location, Arena *arena)
{
    const char *region = region_of_arn(key_location_key(location, arena), arena);
    region = region != NULL ? region : key_location_option(location, "region", arena);
    return region != NULL ? region : aws_region(NULL, arena);
}

Status key_wrapper_aws_check(const char *location, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *key = key_location_key(location, arena);
    if (!is_key_name(key) || (text_has_prefix(key, "arn:") && region_of_arn(key, arena) == NULL)) {
        error_set(error, REASON_INVALID, "'%.300s' does not name a key of AWS KMS", location);
        return error_hint(error, "write awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID or "
                                 "awskms:///alias/NAME?region=REGION");
    }
    return key_location_check_options(location, error);
}

Status key_wrapper_aws_open(const char *location, KeyWrapper **ret_wrapper, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *key = key_location_key(location, arena);
    const char *region = find_region(location, arena);
    const char *endpoint = key_location_option(location, "endpoint", arena);
    const char *ca_path = key_location_option(location, "ca_file", arena);
    if (region == NULL) {
        error_set(error, REASON_INVALID, "the region of '%.300s' is not known", location);
        return error_hint(error, "write the key's ARN, add ?region=REGION, or set AWS_REGION");
    }
    if (endpoint == NULL) {
        bool is_china = text_has_prefix(region, "cn-");
        endpoint =
            arena_format(arena, "https://kms.%s.amazonaws.com%s", region, is_china ? ".cn" : "");
    }
    AwsKeyWrapper *aws = mem_alloc(sizeof(*aws));
    key_wrapper_base_init(&aws->base, &AWS_OPERATIONS, key);
    aws->key = string_copy(key);
    aws->region = string_copy(region);
    aws->endpoint = string_copy(endpoint);
    for (size_t size = strlen(aws->endpoint); size > 0 && aws->endpoint[size - 1] == '/'; size--) {
        aws->endpoint[size - 1] = '\0';
    }
    aws->ca_path = ca_path == NULL ? NULL : string_copy(ca_path);
    aws->credentials = aws_credentials_new(&(AwsCredentialsOptions){.region = region});
    *ret_wrapper = &aws->base;
    return STATUS_OK;
}
