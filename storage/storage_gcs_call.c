// SPDX-License-Identifier: Apache-2.0
// One call of Google Cloud Storage's JSON API, and what its answers mean:
// https://cloud.google.com/storage/docs/json_api/v1/status-codes
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_gcs_internal.h"

#include <assert.h>
#include <string.h>

#define SHOWN_BYTES 300

void gcs_call_header(GcsCall *call, const char *header)
{
    assert(call->header_count < GCS_CALL_HEADER_COUNT_MAX);
    call->headers[call->header_count++] = header;
}

Status gcs_prepare(GcsCall *call, Arena *arena, StorageHttpTarget *target, Error *error)
{
    target->url = arena_format(arena, "%s%s", call->gcs->endpoint, call->path);
    for (size_t i = 0; i < call->header_count; i++) {
        target->headers[target->header_count++] = call->headers[i];
    }
    if (call->gcs->tokens == NULL) {
        return STATUS_OK;
    }
    secret_done(&call->token);
    if (gcp_tokens_get(call->gcs->tokens, &call->token, error) != STATUS_OK) {
        // The transport goes on trying what is unavailable. Where there never was a token there is
        // most likely none to be had, and waiting for minutes would only hide it.
        bool is_away = error->reason == REASON_UNAVAILABLE && atomic_load(&call->gcs->had_token);
        error->reason = is_away ? error->reason : REASON_STORAGE_CREDENTIAL;
        error->status = reason_status(error->reason);
        return error->status;
    }
    atomic_store(&call->gcs->had_token, true);
    storage_http_header(target, arena, "Authorization",
                        arena_format(arena, "Bearer %s", secret_text(&call->token)));
    return STATUS_OK;
}

// The first word that the answer's JSON gives for the failure, and its sentence. ret_json owns
// both.
static void read_problem(const HttpResponse *response, const char **ret_word,
                         const char **ret_message, Json **ret_json)
{
    Error ignored = {0};
    *ret_json = NULL;
    (void)json_parse(buffer_text(&response->body), response->body.size, ret_json, &ignored);
    const Json *problem = json_get(*ret_json, "error");
    const Json *first = json_first(json_get(problem, "errors"));
    *ret_word = json_get_text(first, "reason", "");
    *ret_message = json_get_text(problem, "message", json_get_text(first, "message", ""));
}

static bool is_any_of(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(word, words[i])) {
            return true;
        }
    }
    return false;
}

static bool is_rate_limit(const char *word)
{
    static const char *const words[] = {"rateLimitExceeded", "userRateLimitExceeded"};
    return is_any_of(word, words, ARRAY_COUNT(words));
}

StorageHttpVerdict gcs_judge(GcsCall *call, const HttpResponse *response)
{
    if (response->status == 401 && call->gcs->tokens != NULL && !call->was_token_refused) {
        call->was_token_refused = true; // it may have been taken back before its end
        gcp_tokens_forget(call->gcs->tokens, &call->token);
        return STORAGE_HTTP_RETRY;
    }
    if (response->status == 403) {
        CLEANUP(json_freep) Json *json = NULL;
        const char *word = NULL;
        const char *message = NULL;
        read_problem(response, &word, &message, &json);
        return is_rate_limit(word) ? STORAGE_HTTP_THROTTLED : STORAGE_HTTP_DONE;
    }
    return storage_http_judge(response);
}

static Status prepare(void *context, Arena *arena, StorageHttpTarget *target, Error *error)
{
    return gcs_prepare(context, arena, target, error);
}

static StorageHttpVerdict judge(void *context, const HttpResponse *response)
{
    return gcs_judge(context, response);
}

Status gcs_send(GcsCall *call, HttpResponse *ret_response, Error *error)
{
    call->http.prepare = prepare;
    call->http.judge = judge;
    call->http.context = call;
    Status status = storage_http_send(call->gcs->http, &call->http, ret_response, error);
    secret_done(&call->token);
    return status == STATUS_OK ? STATUS_OK : error_wrap(error, "%s", call->gcs->description);
}

const char *gcs_object_name(const StorageGcs *gcs, Arena *arena, const char *key)
{
    return arena_format(arena, "%s%s", gcs->location.prefix, key);
}

const char *gcs_object_path(const StorageGcs *gcs, Arena *arena, const char *key)
{
    return arena_format(arena, "/storage/v1/b/%s/o/%s", gcs->location.bucket,
                        text_url_encode(arena, gcs_object_name(gcs, arena, key)));
}

Status gcs_parse(const StorageGcs *gcs, const HttpResponse *response, Json **ret_json, Error *error)
{
    Error ignored = {0};
    CLEANUP(json_freep) Json *json = NULL;
    (void)json_parse(buffer_text(&response->body), response->body.size, &json, &ignored);
    if (json_type(json) != JSON_OBJECT) {
        error_set(error, REASON_STORAGE_UNFIT, "%s: the answer is not the JSON of an object store",
                  gcs->description);
        return error_hint(error, "check the endpoint: something else may answer there");
    }
    *ret_json = TAKE_PTR(json);
    return STATUS_OK;
}

int64_t gcs_get_number(const Json *json, const char *name)
{
    int64_t number = -1;
    const char *text = json_get_text(json, name, "");
    return text_to_int64(text, &number) ? number : json_get_integer(json, name, -1);
}

char *gcs_crc32c_text(Arena *arena, uint32_t crc)
{
    const uint8_t bytes[] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                             (uint8_t)crc};
    return base64_encode(arena, bytes, sizeof(bytes));
}

// --- refusals ---------------------------------------------------------------------------------

typedef struct Refusal {
    const StorageGcs *gcs;
    const HttpResponse *response;
    const char *permission, *key;
    const char *word, *message;
} Refusal;

static Status say(const Refusal *refusal, Reason reason, const char *what, Error *error)
{
    return error_set(error, reason, "%s: %s%s%s (HTTP %d %.64s%s%.*s)", refusal->gcs->description,
                     refusal->key != NULL ? refusal->key : "", refusal->key != NULL ? ": " : "",
                     what, refusal->response->status, refusal->word,
                     refusal->message[0] != '\0' ? ": " : "", SHOWN_BYTES, refusal->message);
}

static Status say_bad_request(const Refusal *refusal, Error *error)
{
    if (strcasestr(refusal->message, "crc32c") != NULL) {
        say(refusal, REASON_UNAVAILABLE, "the upload was damaged on the way", error);
        return error_hint(error, "try again; if it goes on, check the network and this machine's "
                                 "memory");
    }
    if (text_has_prefix(refusal->word, "userProject")) {
        say(refusal, REASON_STORAGE_ACCESS, "the bucket wants to know whom to bill", error);
        return error_hint(error,
                          "turn Requester Pays off for the bucket: 'gcloud storage buckets "
                          "update gs://%s --no-requester-pays'",
                          refusal->gcs->location.bucket);
    }
    if (text_has_prefix(refusal->word, "cloudKms") || strcasestr(refusal->message, "kms") != NULL) {
        say(refusal, REASON_STORAGE_ACCESS, "the key of Cloud KMS cannot be used", error);
        return error_hint(error, "the key must be enabled and in the bucket's location, and the "
                                 "project's Cloud Storage service agent needs the role Cloud KMS "
                                 "CryptoKey Encrypter/Decrypter on it");
    }
    if (refusal->gcs->lock_mode != STORAGE_LOCK_NONE &&
        strcasestr(refusal->message, "retention") != NULL) {
        say(refusal, REASON_STORAGE_UNFIT, "the bucket takes no retention of objects", error);
        return error_hint(error,
                          "use a bucket made with --enable-per-object-retention, or no lock");
    }
    say(refusal, REASON_STORAGE_UNFIT, "the store did not take the request", error);
    return error_hint(error, "check the bucket's settings, storage class and endpoint");
}

static Status say_forbidden(const Refusal *refusal, Error *error)
{
    static const char *const locks[] = {"retentionPolicyNotMet", "objectUnderActiveHold"};
    if (is_any_of(refusal->word, locks, ARRAY_COUNT(locks))) {
        say(refusal, REASON_OBJECT_LOCKED, "the store keeps the object for now", error);
        return error_hint(error, "it can go when its retention ends or its hold is released");
    }
    if (text_equal(refusal->word, "insufficientPermissions") ||
        strcasestr(refusal->message, "scope") != NULL) {
        say(refusal, REASON_STORAGE_ACCESS, "the access token is not for Cloud Storage", error);
        return error_hint(error, "give the machine the access scope storage-rw or cloud-platform");
    }
    bool is_retention = strcasestr(refusal->message, "setRetention") != NULL;
    say(refusal, REASON_STORAGE_ACCESS, "the store does not allow it", error);
    return error_hint(error,
                      "grant the service account the role %s on the bucket; the call needs "
                      "%s%s",
                      refusal->gcs->lock_mode == STORAGE_LOCK_NONE
                          ? "Storage Object User (roles/storage.objectUser)"
                          : "Storage Object Admin (roles/storage.objectAdmin)",
                      refusal->permission, is_retention ? " and storage.objects.setRetention" : "");
}

static Status say_not_found(const Refusal *refusal, Error *error)
{
    bool is_bucket = refusal->key == NULL || strcasestr(refusal->message, "bucket does not exist");
    if (!is_bucket) {
        return error_set(error, REASON_NOT_FOUND, "%s: there is no object '%s'",
                         refusal->gcs->description, refusal->key);
    }
    say(refusal, REASON_STORAGE_BUCKET, "there is no such bucket", error);
    return error_hint(error,
                      "create it, or correct the location: 'gcloud storage buckets create "
                      "gs://%s'",
                      refusal->gcs->location.bucket);
}

Status gcs_refused(const StorageGcs *gcs, const HttpResponse *response, const char *permission,
                   const char *key, Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    Refusal refusal = {.gcs = gcs, .response = response, .permission = permission, .key = key};
    read_problem(response, &refusal.word, &refusal.message, &json);
    switch (response->status) {
    case 400:
        return say_bad_request(&refusal, error);
    case 401:
        say(&refusal, REASON_STORAGE_CREDENTIAL, "the store does not take the credential", error);
        return error_hint(error, gcs->tokens != NULL
                                     ? "check that the service account and its key still exist and "
                                       "are enabled, and the clock of this machine"
                                     : "the bucket is not public: give a credential");
    case 403:
        return is_rate_limit(refusal.word)
                   ? say(&refusal, REASON_UNAVAILABLE, "the store asks for fewer requests", error)
                   : say_forbidden(&refusal, error);
    case 404:
        return say_not_found(&refusal, error);
    case 429:
    case 503:
        say(&refusal, REASON_UNAVAILABLE, "the store asks for fewer requests", error);
        return error_hint(error, "it went on for long: lower the concurrency, or ask for a quota");
    default:
        break;
    }
    bool is_passing = response->status >= 500 || response->status == 408;
    say(&refusal, is_passing ? REASON_UNAVAILABLE : REASON_STORAGE_UNFIT,
        is_passing ? "the store failed" : "the store gave an answer that we do not know", error);
    return error_hint(error, is_passing ? "try again later"
                                        : "check the endpoint: something else may answer there");
}
