// SPDX-License-Identifier: Apache-2.0
// Wrapping with a key of Google Cloud KMS, which never leaves it. What a data key is for is its
// additional authenticated data; checksums go both ways, as Google's page on data integrity asks:
// https://cloud.google.com/kms/docs/data-integrity-guidelines
#include "common/checksum.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/key_service.h"
#include "repository/key_wrapper_providers.h"
#include "storage/gcp_token.h"

#include <string.h>

#define GCP_ENDPOINT "https://cloudkms.googleapis.com"
#define GCP_SCOPE "https://www.googleapis.com/auth/cloudkms"

typedef struct GcpKeyWrapper {
    KeyWrapper base;
    char *endpoint, *key, *ca_path; // ca_path may be NULL
    GcpTokens *tokens;
} GcpKeyWrapper;

static void gcp_free(KeyWrapper *wrapper)
{
    GcpKeyWrapper *gcp = (GcpKeyWrapper *)wrapper;
    gcp_tokens_free(gcp->tokens);
    mem_free(gcp->endpoint);
    mem_free(gcp->key);
    mem_free(gcp->ca_path);
    mem_free(gcp);
}

static Status gcp_prepare(void *context, Arena *arena,
                          const char *headers[KEY_SERVICE_HEADER_COUNT_MAX + 1], Error *error)
{
    GcpKeyWrapper *gcp = context;
    CLEANUP(secret_done) Secret token = {0};
    RETURN_IF_ERROR(gcp_tokens_get(gcp->tokens, &token, error));
    headers[0] = "Content-Type: application/json";
    headers[1] = arena_format(arena, "Authorization: Bearer %s", secret_text(&token));
    return STATUS_OK;
}

static bool gcp_is_passing(void *context, int http_status, const Json *answer)
{
    (void)context;
    (void)http_status;
    (void)answer;
    return false;
}

static Status gcp_refused(const GcpKeyWrapper *gcp, int http_status, const Json *answer,
                          Error *error)
{
    const Json *problem = json_get(answer, "error");
    const char *word = json_get_text(problem, "status", "");
    const char *message = json_get_text(problem, "message", "");
    Reason reason = REASON_UNAVAILABLE;
    const char *hint = "try again later";
    if (http_status == 401 || http_status == 403) {
        reason = REASON_FORBIDDEN;
        hint = "give the service account the role Cloud KMS CryptoKey Encrypter/Decrypter on the "
               "key";
    } else if (http_status == 404 || text_equal(word, "FAILED_PRECONDITION")) {
        reason = REASON_KEY_MISSING;
        hint = "the key must exist and its version be enabled; a version that is scheduled for "
               "destruction can be brought back";
    } else if (http_status >= 400 && http_status < 500) {
        reason = REASON_KEY_WRONG;
        hint = "it is damaged, from another place, or wrapped by another key";
    }
    error_set(error, reason, "%s: %s (HTTP %d) %.300s", gcp->base.name, word, http_status, message);
    return error_hint(error, "%s", hint);
}

static Status gcp_is_damaged(const GcpKeyWrapper *gcp, const char *what, Error *error)
{
    return error_set(error, REASON_UNAVAILABLE, "%s: %s was damaged on the way", gcp->base.name,
                     what);
}

static void set_bytes(Json *json, const char *name, const char *checksum_name, Arena *arena,
                      const void *data, size_t size)
{
    char *text = base64_encode(arena, data, size);
    json_set_text(json, name, text);
    json_set_text(json, checksum_name, arena_format(arena, "%u", crc32c(data, size)));
    secret_wipe_text(text);
}

// False when they are not there or do not fit their checksum.
static bool get_bytes(const Json *json, const char *name, const char *checksum_name, Arena *arena,
                      uint8_t **ret_data, size_t *ret_size)
{
    int64_t checksum = -1;
    const char *text = json_get_text(json, checksum_name, "");
    return base64_decode(arena, json_get_text(json, name, ""), ret_data, ret_size) &&
           *ret_size > 0 && text_to_int64(text, &checksum) &&
           checksum == (int64_t)crc32c(*ret_data, *ret_size);
}

static Status gcp_call(GcpKeyWrapper *gcp, const char *verb, Json *request,
                       const WrapContext *context, Arena *arena, Json **ret_answer, Error *error)
{
    const char *associated =
        arena_format(arena, "holdfast/1/wrap\n%s\n%s\n%s", context->repository_id,
                     context->database_id, context->key_id);
    CLEANUP(buffer_done) Buffer body = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    int http_status = 0;
    set_bytes(request, "additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c", arena,
              associated, strlen(associated));
    buffer_init(&body, 4 * WRAPPED_SIZE_MAX);
    if (!json_write(request, false, &body)) {
        return error_set(error, REASON_KEY_WRONG, "a wrapped key is too large");
    }
    const KeyServiceCall call = {
        .url = arena_format(arena, "%s/v1/%s:%s", gcp->endpoint, gcp->key, verb),
        .ca_path = gcp->ca_path,
        .body = buffer_text(&body),
        .prepare = gcp_prepare,
        .is_passing = gcp_is_passing,
        .context = gcp};
    Status status = key_service_call(&call, &http_status, &answer, error);
    explicit_bzero(body.data, body.size);
    if (status != STATUS_OK) {
        return error_wrap(error, "%s", gcp->base.name);
    }
    if (http_status != 200) {
        return gcp_refused(gcp, http_status, answer, error);
    }
    *ret_answer = TAKE_PTR(answer);
    return STATUS_OK;
}

static Status gcp_wrap(KeyWrapper *wrapper, const WrapContext *context, const Secret *key,
                       Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error)
{
    GcpKeyWrapper *gcp = (GcpKeyWrapper *)wrapper;
    CLEANUP(json_freep) Json *request = json_new_object();
    CLEANUP(json_freep) Json *answer = NULL;
    set_bytes(request, "plaintext", "plaintextCrc32c", arena, key->data, key->size);
    RETURN_IF_ERROR(gcp_call(gcp, "encrypt", request, context, arena, &answer, error));
    if (!json_get_boolean(answer, "verifiedPlaintextCrc32c", false) ||
        !json_get_boolean(answer, "verifiedAdditionalAuthenticatedDataCrc32c", false)) {
        return gcp_is_damaged(gcp, "a request", error);
    }
    // The key that answered must be the one that was asked: its version's name begins with it.
    const char *name = json_get_text(answer, "name", "");
    size_t key_size = strlen(gcp->key);
    if (strncmp(name, gcp->key, key_size) != 0 || (name[key_size] != '/' && name[key_size] != 0)) {
        return error_set(error, REASON_UNAVAILABLE, "%s: another key answered: %.200s",
                         gcp->base.name, name);
    }
    if (!get_bytes(answer, "ciphertext", "ciphertextCrc32c", arena, ret_wrapped, ret_size)) {
        return gcp_is_damaged(gcp, "an answer", error);
    }
    return STATUS_OK;
}

static Status gcp_unwrap(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                         size_t size, Secret *ret_key, Error *error)
{
    GcpKeyWrapper *gcp = (GcpKeyWrapper *)wrapper;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) Json *request = json_new_object();
    CLEANUP(json_freep) Json *answer = NULL;
    uint8_t *key = NULL;
    size_t key_size = 0;
    set_bytes(request, "ciphertext", "ciphertextCrc32c", arena, wrapped, size);
    RETURN_IF_ERROR(gcp_call(gcp, "decrypt", request, context, arena, &answer, error));
    if (!get_bytes(answer, "plaintext", "plaintextCrc32c", arena, &key, &key_size)) {
        return gcp_is_damaged(gcp, "an answer", error);
    }
    *ret_key = secret_from_bytes(key, key_size);
    explicit_bzero(key, key_size);
    return STATUS_OK;
}

static const KeyWrapperOperations GCP_OPERATIONS = {
    .kind = "gcpkms", .free = gcp_free, .wrap = gcp_wrap, .unwrap = gcp_unwrap};

// "projects/P/locations/L/keyRings/R/cryptoKeys/K", of letters, digits and "-_.:".
static bool is_key_name(const char *key)
{
    static const char *const words[] = {"projects", "locations", "keyRings", "cryptoKeys"};
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        size_t size = strlen(words[i]);
        if (strncmp(key, words[i], size) != 0 || key[size] != '/') {
            return false;
        }
        key += size + 1;
        size = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:");
        bool is_last = i + 1 == ARRAY_COUNT(words);
        if (size == 0 || key[size] != (is_last ? '\0' : '/')) {
            return false;
        }
        key += size + (is_last ? 0 : 1);
    }
    return true;
}

Status key_wrapper_gcp_check(const char *location, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (!is_key_name(key_location_key(location, arena))) {
        error_set(error, REASON_INVALID, "'%.300s' does not name a key of Google Cloud KMS",
                  location);
        return error_hint(error,
                          "write gcpkms:///projects/PROJECT/locations/LOCATION/keyRings/RING/"
                          "cryptoKeys/KEY, without a version");
    }
    return key_location_check_options(location, error);
}

Status key_wrapper_gcp_open(const char *location, KeyWrapper **ret_wrapper, Error *error)
{
    (void)error;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *key = key_location_key(location, arena);
    const char *endpoint = key_location_option(location, "endpoint", arena);
    const char *ca_path = key_location_option(location, "ca_file", arena);
    GcpKeyWrapper *gcp = mem_alloc(sizeof(*gcp));
    key_wrapper_base_init(&gcp->base, &GCP_OPERATIONS, key);
    gcp->key = string_copy(key);
    gcp->endpoint = string_copy(endpoint == NULL ? GCP_ENDPOINT : endpoint);
    gcp->ca_path = ca_path == NULL ? NULL : string_copy(ca_path);
    gcp->tokens = gcp_tokens_new(&(GcpTokenOptions){.scope = GCP_SCOPE, .ca_path = ca_path});
    *ret_wrapper = &gcp->base;
    return STATUS_OK;
}
