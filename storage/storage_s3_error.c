// SPDX-License-Identifier: Apache-2.0
// What a failure of S3 means, in our words and with its cure.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
#include "common/text.h"
#include "common/xml.h"
#include "storage/storage_s3_internal.h"

#include <stdio.h>
#include <string.h>

typedef struct Meaning {
    const char *code;
    Reason reason;
    const char *message; // of the object or bucket: "... 's3://bucket/prefix'"
    const char *hint;
} Meaning;

#define CREDENTIAL REASON_STORAGE_CREDENTIAL
static const Meaning meanings[] = {
    {"InvalidAccessKeyId", CREDENTIAL, "the store does not know the access key",
     "check the access key id, and that the key is active and belongs to this store"},
    {"SignatureDoesNotMatch", CREDENTIAL, "the signature does not match: the secret key is wrong",
     "check the secret key that goes with the access key id, and the region"},
    {"ExpiredToken", CREDENTIAL, "the session token is expired", "give a fresh credential"},
    {"InvalidToken", CREDENTIAL, "the session token is not valid",
     "give the session token that belongs to the access key"},
    {"InvalidSecurity", CREDENTIAL, "the store does not take the credential",
     "check the access key id and its secret"},
    {"AuthFailure", CREDENTIAL, "the store does not take the credential",
     "check the access key id and its secret"},
    {"NotSignedUp", CREDENTIAL, "the account is not signed up for S3",
     "sign it up, or use another"},
    {"AccountProblem", CREDENTIAL, "the account has a problem", "ask the provider of the store"},
    {"NoSuchBucket", REASON_STORAGE_BUCKET, "the bucket does not exist",
     "make the bucket, or check its name, the endpoint and the account"},
    {"RequestTimeTooSkewed", REASON_CLOCK_SKEW,
     "the clock of this machine is more than 15 minutes off",
     "set the clock, with NTP for example"},
    {"InvalidObjectState", REASON_STORAGE_UNFIT, "the object is archived and cannot be read now",
     "restore it from the archive, and use a storage class that can be read at once"},
    {"InvalidStorageClass", REASON_STORAGE_UNFIT, "the store does not have the storage class",
     "choose another storage class"},
    {"NotImplemented", REASON_STORAGE_UNFIT, "the store does not have something that we need",
     "conditional writes (If-None-Match) and multipart uploads are needed"},
    {"KMS.NotFoundException", REASON_STORAGE_UNFIT, "the KMS key does not exist",
     "check the key's id and that it is in the bucket's region"},
    {"KMS.DisabledException", REASON_STORAGE_UNFIT, "the KMS key is disabled", "enable the key"},
    {"KMS.KMSInvalidStateException", REASON_STORAGE_UNFIT,
     "the KMS key is in a state that does not allow its use", "enable the key"},
    {"ObjectLockConfigurationNotFoundError", REASON_STORAGE_UNFIT, "the bucket has no object lock",
     "make the bucket with object lock enabled, or use no lock"},
    {"InvalidBucketState", REASON_STORAGE_UNFIT, "the bucket's state does not allow it",
     "object lock needs a bucket with versions"},
    {"QuotaExceeded", REASON_DISK_FULL, "the quota is used up",
     "raise the quota, or delete old backups"},
    {"InsufficientCapacity", REASON_DISK_FULL, "the store is full",
     "add space to it, or delete old backups"},
    {"XMinioStorageFull", REASON_DISK_FULL, "the store is full",
     "add space to it, or delete old backups"},
};

// "object 'key' in 's3://bucket'" or "'s3://bucket'".
static void show_place(const S3Storage *s3, const S3Request *request, char *ret_text, size_t size)
{
    if (request->key != NULL) {
        (void)snprintf(ret_text, size, "object '%s' in '%s'", request->key, s3->location);
    } else {
        (void)snprintf(ret_text, size, "'%s'", s3->location);
    }
}

static bool is_plain(const char *text, const char *more)
{
    for (; *text != '\0'; text++) {
        bool is_alphanumeric = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                               (*text >= '0' && *text <= '9');
        if (!is_alphanumeric && strchr(more, *text) == NULL) {
            return false;
        }
    }
    return true;
}

// "... is not authorized to perform: s3:PutObject on resource ...": the action, which may be one of
// the key service.
static void find_action(const S3Request *request, const HttpResponse *response, char *ret_action,
                        size_t size)
{
    static const char before[] = "to perform: ";
    char message[2048];
    (void)xml_find(response->body.data, response->body.size, "Message", message, sizeof(message));
    const char *found = strstr(message, before);
    (void)snprintf(ret_action, size, "%s", request->action);
    if (found != NULL) {
        found += strlen(before);
        size_t length = strspn(found, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789:");
        if (length > 0 && length < size) {
            (void)snprintf(ret_action, size, "%.*s", (int)length, found);
        }
    }
}

static Status access_denied(const S3Storage *s3, const S3Request *request, const char *action,
                            Error *error)
{
    char place[800];
    show_place(s3, request, place, sizeof(place));
    error_set(error, REASON_STORAGE_ACCESS, "%s: the store does not allow %s", place, action);
    if (text_equal(action, "s3:GetObject")) {
        // AWS answers so for a missing object, too, when the caller may not list.
        return error_hint(error,
                          "allow s3:GetObject on 'arn:aws:s3:::%s/%s*' and s3:ListBucket on "
                          "'arn:aws:s3:::%s' in the policy of the credential's user or role",
                          s3->place.bucket, s3->place.prefix, s3->place.bucket);
    }
    return error_hint(error,
                      "allow %s on 'arn:aws:s3:::%s%s%s%s' in the policy of the credential's "
                      "user or role",
                      action, s3->place.bucket, request->key != NULL ? "/" : "",
                      request->key != NULL ? s3->place.prefix : "",
                      request->key != NULL ? "*" : "");
}

// The region that the bucket is in, from the header, the body, or the host it redirects to.
static bool find_region(const HttpResponse *response, char ret_region[64])
{
    if (!http_response_header(response, "x-amz-bucket-region", ret_region, 64) ||
        ret_region[0] == '\0') {
        (void)xml_find(response->body.data, response->body.size, "Region", ret_region, 64);
    }
    return ret_region[0] != '\0' && is_plain(ret_region, "-_");
}

static Status wrong_region(const S3Storage *s3, const HttpResponse *response, Error *error)
{
    char region[64];
    bool is_told = find_region(response, region);
    error_set(error, REASON_STORAGE_BUCKET, "'%s' is not in region '%s'", s3->location, s3->region);
    if (is_told) {
        return error_hint(error, "set the repository's region to '%s'", region);
    }
    return error_hint(error, "set the region that the bucket is in, and its endpoint");
}

static Status unknown(const S3Storage *s3, const S3Request *request, int status, const char *code,
                      Error *error)
{
    char place[800];
    show_place(s3, request, place, sizeof(place));
    bool is_theirs = status >= 500 || status == 429 || status == 408 || status == 409;
    error_set(error, is_theirs ? REASON_UNAVAILABLE : REASON_STORAGE_UNFIT,
              "%s: the store answered %s with HTTP status %d%s%s", place, request->method, status,
              code[0] == '\0' ? "" : ", ", code);
    if (status == 503 || status == 429) {
        return error_hint(error, "the store asks for fewer requests: try later, or lower the "
                                 "number of requests in flight");
    }
    return is_theirs ? error_hint(error, "try again later")
                     : error_hint(error, "check the endpoint, the region and the path style");
}

// STATUS_OK: the code has no meaning of its own here.
static Status code_means(const S3Storage *s3, const S3Request *request, const char *code,
                         Error *error)
{
    char place[800];
    show_place(s3, request, place, sizeof(place));
    for (size_t i = 0; i < ARRAY_COUNT(meanings); i++) {
        if (text_equal(code, meanings[i].code)) {
            error_set(error, meanings[i].reason, "%s: %s", place, meanings[i].message);
            return error_hint(error, "%s", meanings[i].hint);
        }
    }
    return STATUS_OK;
}

bool s3_is_lock_message(const char *message)
{
    return strstr(message, "object lock") != NULL || strstr(message, "Object Lock") != NULL ||
           strstr(message, "WORM") != NULL;
}

static bool is_locked(const HttpResponse *response, const char *code)
{
    char message[1024];
    return text_equal(code, "ObjectLocked") || (xml_find(response->body.data, response->body.size,
                                                         "Message", message, sizeof(message)) &&
                                                s3_is_lock_message(message));
}

static bool is_wrong_region(const S3Storage *s3, const HttpResponse *response, const char *code)
{
    static const char *const codes[] = {"PermanentRedirect", "TemporaryRedirect",
                                        "AuthorizationHeaderMalformed",
                                        "IllegalLocationConstraintException"};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        if (text_equal(code, codes[i])) {
            return true;
        }
    }
    char region[64];
    return response->status == 301 || response->status == 307 ||
           (response->status == 400 && find_region(response, region) &&
            !text_equal(region, s3->region));
}

Status s3_code_failed(const S3Storage *s3, const S3Request *request, const char *code, Error *error)
{
    RETURN_IF_ERROR(code_means(s3, request, code, error));
    if (text_equal(code, "AccessDenied")) {
        return access_denied(s3, request, request->action, error);
    }
    return unknown(s3, request, 500, code, error);
}

Status s3_answer_failed(const S3Storage *s3, const S3Request *request, const HttpResponse *response,
                        Error *error)
{
    char code[64];
    s3_error_code(response, code);
    RETURN_IF_ERROR(code_means(s3, request, code, error));
    if (response->status == 404 && request->key != NULL) {
        return error_set(error, REASON_NOT_FOUND, "there is no object '%s' in '%s'", request->key,
                         s3->location);
    }
    if (is_wrong_region(s3, response, code)) {
        return wrong_region(s3, response, error);
    }
    if (response->status < 500 && is_locked(response, code)) {
        return error_set(error, REASON_OBJECT_LOCKED, "object '%s' in '%s' is locked",
                         request->key != NULL ? request->key : "", s3->location);
    }
    if (response->status == 403 || response->status == 401) {
        char action[64];
        find_action(request, response, action, sizeof(action));
        return access_denied(s3, request, action, error);
    }
    if (response->status == 507) {
        return code_means(s3, request, "InsufficientCapacity", error);
    }
    return unknown(s3, request, response->status, code, error);
}

Status s3_check_answer(const S3Storage *s3, const S3Request *request, const HttpResponse *response,
                       Error *error)
{
    return response->status >= 200 && response->status < 300
               ? STATUS_OK
               : s3_answer_failed(s3, request, response, error);
}
