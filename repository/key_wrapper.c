// SPDX-License-Identifier: Apache-2.0
// Which kind of wrapping key a location names, and what all kinds have in common.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/key_wrapper_providers.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LOCATION_SIZE_MAX 2048

typedef struct KeyScheme {
    const char *prefix;
    Status (*check)(const char *location, Error *error);
    Status (*open)(const char *location, KeyWrapper **ret_wrapper, Error *error);
} KeyScheme;

static const KeyScheme SCHEMES[] = {
    {KEY_SCHEME_FILE, key_wrapper_file_check, key_wrapper_file_open},
    {"/", key_wrapper_file_check, key_wrapper_file_open},
    {KEY_SCHEME_AWS, key_wrapper_aws_check, key_wrapper_aws_open},
    {KEY_SCHEME_GCP, key_wrapper_gcp_check, key_wrapper_gcp_open},
};

static const KeyScheme *find_scheme(const char *location)
{
    for (size_t i = 0; i < ARRAY_COUNT(SCHEMES); i++) {
        if (text_has_prefix(location, SCHEMES[i].prefix)) {
            return &SCHEMES[i];
        }
    }
    // A path may be relative on a command line.
    return strstr(location, "://") == NULL ? &SCHEMES[1] : NULL;
}

static Status scheme_unknown(const char *location, Error *error)
{
    error_set(error, REASON_INVALID, "the key '%.200s' is not of a known kind", location);
    return error_hint(error, "name a key file, awskms:///KEY of AWS KMS, or gcpkms:///projects/... "
                             "of Google Cloud KMS");
}

Status key_location_check(const char *location, Error *error)
{
    const KeyScheme *scheme = find_scheme(location);
    if (scheme == NULL) {
        return scheme_unknown(location, error);
    }
    if (location[0] == '\0' || strlen(location) > LOCATION_SIZE_MAX) {
        return error_set(error, REASON_INVALID, "the key's location has no or over %d bytes",
                         LOCATION_SIZE_MAX);
    }
    return scheme->check(location, error);
}

bool key_location_is_file(const char *location)
{
    const KeyScheme *scheme = find_scheme(location);
    return scheme != NULL && scheme->open == key_wrapper_file_open;
}

const char *key_location_path(const char *location)
{
    return text_has_prefix(location, KEY_SCHEME_FILE) ? location + strlen(KEY_SCHEME_FILE)
                                                      : location;
}

Status key_wrapper_open(const char *location, KeyWrapper **ret_wrapper, Error *error)
{
    RETURN_IF_ERROR(key_location_check(location, error));
    return find_scheme(location)->open(location, ret_wrapper, error);
}

const char *key_location_key(const char *location, Arena *arena)
{
    const char *key = strstr(location, ":///");
    key = key == NULL ? location : key + strlen(":///");
    return arena_string_n(arena, key, strcspn(key, "?"));
}

const char *key_location_option(const char *location, const char *name, Arena *arena)
{
    const char *place = strchr(location, '?');
    size_t name_size = strlen(name);
    while (place != NULL) {
        place++;
        if (strncmp(place, name, name_size) == 0 && place[name_size] == '=') {
            const char *value = place + name_size + 1;
            return arena_string_n(arena, value, strcspn(value, "&"));
        }
        place = strchr(place, '&');
    }
    return NULL;
}

static bool is_known_option(const char *option, size_t size)
{
    static const char *const names[] = {"endpoint", "ca_file", "region"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strlen(names[i]) == size && strncmp(names[i], option, size) == 0) {
            return true;
        }
    }
    return false;
}

Status key_location_check_options(const char *location, Error *error)
{
    const char *place = strchr(location, '?');
    while (place != NULL) {
        const char *option = place + 1;
        size_t size = strcspn(option, "=&");
        if (option[size] != '=' || !is_known_option(option, size)) {
            error_set(error, REASON_INVALID, "'%.*s' is not an option of a key's location",
                      (int)MIN(size, 60), option);
            return error_hint(error, "options are endpoint=URL, ca_file=/path and region=NAME");
        }
        place = strchr(option, '&');
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *endpoint = key_location_option(location, "endpoint", arena);
    if (endpoint != NULL && !text_has_prefix(endpoint, "https://") &&
        !text_has_prefix(endpoint, "http://")) {
        return error_set(error, REASON_INVALID, "the endpoint '%.200s' is not a URL", endpoint);
    }
    return STATUS_OK;
}

void key_wrapper_base_init(KeyWrapper *wrapper, const KeyWrapperOperations *operations,
                           const char *key)
{
    CLEANUP_FREE char *text =
        string_format("holdfast/1/wrapping-key\n%s\n%s", operations->kind, key);
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(text, strlen(text), digest);
    wrapper->operations = operations;
    hex_encode(digest, (WRAPPING_ID_SIZE - 1) / 2, wrapper->id);
    (void)snprintf(wrapper->name, sizeof(wrapper->name), "%s:///%s", operations->kind, key);
}

void key_wrapper_free(KeyWrapper *wrapper)
{
    if (wrapper != NULL) {
        wrapper->operations->free(wrapper);
    }
}

void key_wrapper_freep(KeyWrapper **wrapper)
{
    key_wrapper_free(*wrapper);
    *wrapper = NULL;
}

const char *key_wrapper_id(const KeyWrapper *wrapper)
{
    return wrapper->id;
}

const char *key_wrapper_kind(const KeyWrapper *wrapper)
{
    return wrapper->operations->kind;
}

const char *key_wrapper_name(const KeyWrapper *wrapper)
{
    return wrapper->name;
}

Status key_wrapper_wrap(KeyWrapper *wrapper, const WrapContext *context, const Secret *key,
                        Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error)
{
    assert(key->size == AES256_KEY_SIZE);
    uint8_t *wrapped = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(
        wrapper->operations->wrap(wrapper, context, key, arena, &wrapped, &size, error));
    if (size == 0 || size > WRAPPED_SIZE_MAX) {
        return error_set(error, REASON_INTERNAL, "%s gave a wrapped key of %zu bytes",
                         wrapper->name, size);
    }
    *ret_wrapped = wrapped;
    *ret_size = size;
    return STATUS_OK;
}

Status key_wrapper_unwrap(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                          size_t size, Secret *ret_key, Error *error)
{
    CLEANUP(secret_done) Secret key = {0};
    if (size == 0 || size > WRAPPED_SIZE_MAX) {
        return error_set(error, REASON_KEY_WRONG, "a wrapped key has %zu bytes", size);
    }
    RETURN_IF_ERROR(wrapper->operations->unwrap(wrapper, context, wrapped, size, &key, error));
    if (key.size != AES256_KEY_SIZE) {
        return error_set(error, REASON_KEY_WRONG, "%s gave a data key of %zu bytes", wrapper->name,
                         key.size);
    }
    *ret_key = key;
    key = (Secret){0};
    return STATUS_OK;
}
