// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_options.h"

#include "common/arena.h"
#include "common/json.h"
#include "common/text.h"
#include "storage/storage.h"
#include "storage/storage_gcs.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_PER_DAY (INT64_C(24) * 3600)
#define LOCK_DAYS_MAX (100 * 366)
#define LOCK_DURATION_S_MAX (LOCK_DAYS_MAX * SECONDS_PER_DAY)
#define CREDENTIAL_SOURCES                                                                         \
    "automatic", "explicit", "environment", "profile", "web_identity", "container", "instance",    \
        "none"
#define ENCRYPTIONS "default", "store", "kms"
#define LOCK_MODES "none", "governance", "compliance"

static const char *const credential_sources[] = {CREDENTIAL_SOURCES};
static const char *const encryptions[] = {ENCRYPTIONS};
static const char *const lock_modes[] = {LOCK_MODES};

static bool find_word(const char *const *words, size_t count, const char *text, int *ret_index)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(words[i], text) || (i == 0 && text_is_empty(text))) {
            *ret_index = (int)i;
            return true;
        }
    }
    return false;
}

bool storage_credential_source_from_text(const char *text, StorageCredentialSource *ret_source)
{
    int index = 0;
    bool is_known = find_word(credential_sources, ARRAY_COUNT(credential_sources), text, &index);
    *ret_source = (StorageCredentialSource)index;
    return is_known;
}

bool storage_encryption_from_text(const char *text, StorageEncryption *ret_encryption)
{
    int index = 0;
    bool is_known = find_word(encryptions, ARRAY_COUNT(encryptions), text, &index);
    *ret_encryption = (StorageEncryption)index;
    return is_known;
}

bool storage_lock_mode_from_text(const char *text, StorageLockMode *ret_mode)
{
    int index = 0;
    bool is_known = find_word(lock_modes, ARRAY_COUNT(lock_modes), text, &index);
    *ret_mode = (StorageLockMode)index;
    return is_known;
}

const char *storage_credential_source_list(void)
{
    return "automatic, explicit, environment, profile, web_identity, container, instance, none";
}

const char *storage_encryption_list(void)
{
    return "default, store, kms";
}

const char *storage_lock_mode_list(void)
{
    return "none, governance, compliance";
}

static Status bad_location(const char *location, const char *why, Error *error)
{
    error_set(error, REASON_INVALID, "'%.200s' is not a location of a repository: %s", location,
              why);
    error_field(error, "location");
    return error_hint(error, "use file:///absolute/path, s3://bucket/prefix or gs://bucket/prefix");
}

// What S3 and GCS both allow: 3 to 63 lower-case letters, digits, '-', '.' and '_', a letter or
// digit at the ends, no two dots in a row.
static bool is_bucket_name(const char *name, size_t size)
{
    if (size < 3 || size > STORAGE_BUCKET_SIZE_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        bool is_alphanumeric =
            (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        bool is_inner = i > 0 && i + 1 < size;
        if (!is_alphanumeric && !(is_inner && memchr("-._", name[i], 3) != NULL)) {
            return false;
        }
        if (name[i] == '.' && name[i - 1] == '.') {
            return false;
        }
    }
    return true;
}

static Status parse_bucket(const char *location, const char *rest, StorageLocation *ret_location,
                           Error *error)
{
    size_t bucket_size = strcspn(rest, "/");
    if (!is_bucket_name(rest, bucket_size)) {
        return bad_location(location, "the bucket's name is not valid", error);
    }
    memcpy(ret_location->bucket, rest, bucket_size);
    const char *prefix = rest + bucket_size;
    prefix += strspn(prefix, "/");
    size_t prefix_size = strlen(prefix);
    while (prefix_size > 0 && prefix[prefix_size - 1] == '/') {
        prefix_size--;
    }
    if (prefix_size == 0) {
        return STATUS_OK;
    }
    if (prefix_size > STORAGE_PREFIX_SIZE_MAX) {
        return bad_location(location, "the prefix is too long", error);
    }
    memcpy(ret_location->prefix, prefix, prefix_size);
    if (!storage_key_is_valid(ret_location->prefix)) {
        return bad_location(location,
                            "the prefix may have letters, digits, '.', '_', '-' and single slashes",
                            error);
    }
    ret_location->prefix[prefix_size] = '/';
    return STATUS_OK;
}

Status storage_location_parse(const char *location, StorageLocation *ret_location, Error *error)
{
    *ret_location = (StorageLocation){.scheme = STORAGE_SCHEME_FILE};
    if (location[0] == '/' || text_has_prefix(location, "file:///")) {
        return STATUS_OK;
    }
    if (text_has_prefix(location, "s3://")) {
        ret_location->scheme = STORAGE_SCHEME_S3;
        return parse_bucket(location, location + strlen("s3://"), ret_location, error);
    }
    if (text_has_prefix(location, "gs://")) {
        ret_location->scheme = STORAGE_SCHEME_GS;
        return parse_bucket(location, location + strlen("gs://"), ret_location, error);
    }
    return bad_location(location, "it is of no known kind", error);
}

static Status refuse(Error *error, const char *field, const char *message)
{
    error_set(error, REASON_INVALID, "%s", message);
    return error_field(error, "%s", field);
}

static Status check_endpoint(const char *endpoint, Error *error)
{
    const char *host = strstr(endpoint, "://");
    if (!(text_has_prefix(endpoint, "https://") || text_has_prefix(endpoint, "http://")) ||
        host == NULL || host[3] == '\0' || strpbrk(host + 3, "@?# \t\r\n") != NULL ||
        strlen(endpoint) > 255) {
        refuse(error, "endpoint", "the endpoint is not a URL of a server");
        return error_hint(error, "give one such as https://objects.example.com:9000, without a "
                                 "user, bucket or query");
    }
    return STATUS_OK;
}

static bool is_plain_word(const char *text, size_t size_max)
{
    size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return text[size] == '\0' && size <= size_max;
}

static Status check_credentials(const StorageOptions *options, Error *error)
{
    bool has_key = !text_is_empty(options->access_key_id);
    bool has_secret = options->secret_key != NULL && options->secret_key->size > 0;
    StorageCredentialSource source = options->credential_source;
    if ((has_key || has_secret) && source != STORAGE_CREDENTIALS_AUTOMATIC &&
        source != STORAGE_CREDENTIALS_EXPLICIT) {
        return refuse(error, "credential_source",
                      "an explicit credential does not go with another source of credentials");
    }
    bool is_named = !text_is_empty(options->credential_file) || !text_is_empty(options->profile);
    if (is_named &&
        (has_key || has_secret ||
         (source != STORAGE_CREDENTIALS_AUTOMATIC && source != STORAGE_CREDENTIALS_PROFILE))) {
        return refuse(error, "credential_file",
                      "a credential's file or profile does not go with another credential");
    }
    if (source == STORAGE_CREDENTIALS_EXPLICIT && !has_secret) {
        return refuse(error, "credential_source", "the explicit credential is missing");
    }
    return STATUS_OK;
}

Status storage_options_check(const StorageOptions *options, Error *error)
{
    assert(options->location != NULL);
    StorageLocation location;
    RETURN_IF_ERROR(storage_location_parse(options->location, &location, error));
    if (location.scheme == STORAGE_SCHEME_FILE) {
        return STATUS_OK;
    }
    if (!text_is_empty(options->endpoint)) {
        RETURN_IF_ERROR(check_endpoint(options->endpoint, error));
    }
    if (!text_is_empty(options->region) && !is_plain_word(options->region, 63)) {
        return refuse(error, "region", "the region is not a name such as eu-central-1");
    }
    if (!text_is_empty(options->storage_class) && !is_plain_word(options->storage_class, 63)) {
        return refuse(error, "storage_class", "the storage class is not a word such as STANDARD");
    }
    if (!text_is_empty(options->kms_key_id) && options->encryption != STORAGE_ENCRYPTION_KMS) {
        return refuse(error, "kms_key_id", "a KMS key goes with the encryption 'kms' only");
    }
    if (!text_is_empty(options->kms_key_id) && strpbrk(options->kms_key_id, " \t\r\n") != NULL) {
        return refuse(error, "kms_key_id", "the id of the KMS key has spaces in it");
    }
    if ((options->lock_mode == STORAGE_LOCK_NONE) != (options->lock_duration_s == 0) ||
        options->lock_duration_s < 0 || options->lock_duration_s > LOCK_DURATION_S_MAX) {
        return refuse(error, "lock_days",
                      "a lock needs both its mode and a duration of at most 100 years");
    }
    RETURN_IF_ERROR(check_credentials(options, error));
    return location.scheme == STORAGE_SCHEME_GS ? storage_gcs_check(options, error) : STATUS_OK;
}

static const char *json_copy(const Json *json, const char *name, Arena *arena)
{
    const char *text = json_get_text(json, name, "");
    return text[0] == '\0' ? NULL : arena_string(arena, text);
}

static Status bad_word(const char *field, const char *list, Error *error)
{
    error_set(error, REASON_INVALID, "%s is not one of the known words", field);
    error_field(error, "%s", field);
    return error_hint(error, "use one of: %s", list);
}

Status storage_options_from_json(const char *json_text, Arena *arena, StorageOptions *options,
                                 Error *error)
{
    if (text_is_empty(json_text)) {
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *json = NULL;
    RETURN_IF_ERROR(json_parse(json_text, strlen(json_text), &json, error));
    options->endpoint = json_copy(json, "endpoint", arena);
    options->region = json_copy(json, "region", arena);
    options->is_path_style = json_get_boolean(json, "path_style", false);
    options->ca_pem = json_copy(json, "ca_certificate", arena);
    options->kms_key_id = json_copy(json, "kms_key_id", arena);
    options->storage_class = json_copy(json, "storage_class", arena);
    // What is out of bounds stays so, and storage_options_check says it.
    int64_t lock_days = json_get_integer(json, "lock_days", 0);
    options->lock_duration_s = MAX(-1, MIN(lock_days, LOCK_DAYS_MAX + 1)) * SECONDS_PER_DAY;
    if (!storage_encryption_from_text(json_get_text(json, "encryption", ""),
                                      &options->encryption)) {
        return bad_word("encryption", storage_encryption_list(), error);
    }
    if (!storage_lock_mode_from_text(json_get_text(json, "lock_mode", ""), &options->lock_mode)) {
        return bad_word("lock_mode", storage_lock_mode_list(), error);
    }
    if (!storage_credential_source_from_text(json_get_text(json, "credential_source", ""),
                                             &options->credential_source)) {
        return bad_word("credential_source", storage_credential_source_list(), error);
    }
    return STATUS_OK;
}
