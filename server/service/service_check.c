// SPDX-License-Identifier: Apache-2.0
// Checks of what callers send: each names the field and the cure.
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/service_internal.h"

#include <string.h>

#define MICROSECONDS_PER_SECOND 1000000

Status check_name(const char *field, const char *value, Error *error)
{
    if (text_is_label(value)) {
        return STATUS_OK;
    }
    if (text_is_empty(value)) {
        error_set(error, REASON_INVALID, "'%s' is missing", field);
    } else {
        error_set(error, REASON_INVALID, "'%s' is '%.80s', which is not a name", field, value);
    }
    error_field(error, "%s", field);
    return error_hint(error,
                      "use 1 to %d lower-case letters, digits and '-', starting and ending "
                      "with a letter or digit",
                      LIMIT_NAME_BYTES);
}

Status check_id(const char *field, const char *value, Error *error)
{
    if (uuid_is_valid(value)) {
        return STATUS_OK;
    }
    if (text_is_empty(value)) {
        error_set(error, REASON_INVALID, "'%s' is missing", field);
        error_field(error, "%s", field);
        return error_hint(error, "give the id of a %s", field);
    }
    return error_set(error, REASON_NOT_FOUND, "there is no %s '%.80s'", field, value);
}

Status check_body(const char *field, const void *body, Error *error)
{
    if (body == NULL) {
        error_set(error, REASON_INVALID, "'%s' is missing", field);
        error_field(error, "%s", field);
        return error_hint(error, "send the %s as the request's body", field);
    }
    return STATUS_OK;
}

static bool has_control_characters(const char *value)
{
    for (; *value != '\0'; value++) {
        unsigned char character = (unsigned char)*value;
        if ((character < ' ' && character != '\n' && character != '\t' && character != '\r') ||
            character == 0x7f) {
            return true;
        }
    }
    return false;
}

Status check_text(const char *field, const char *value, size_t size_max, bool is_required,
                  Error *error)
{
    if (is_required && text_is_empty(value)) {
        error_set(error, REASON_INVALID, "'%s' is missing", field);
        error_field(error, "%s", field);
        return error_hint(error, "give a text of 1 to %zu bytes", size_max);
    }
    size_t size = value != NULL ? strlen(value) : 0;
    if (size > size_max) {
        error_set(error, REASON_INVALID, "'%s' has %zu bytes, at most %zu are allowed", field, size,
                  size_max);
        error_field(error, "%s", field);
        return error_hint(error, "shorten it");
    }
    if (size > 0 && (!text_is_utf8(value, size) || has_control_characters(value))) {
        error_set(error, REASON_INVALID, "'%s' has characters that are not text", field);
        error_field(error, "%s", field);
        return error_hint(error, "remove control characters; the encoding must be UTF-8");
    }
    return STATUS_OK;
}

Status check_absolute_path(const char *field, const char *value, Error *error)
{
    RETURN_IF_ERROR(check_text(field, value, LIMIT_PATH_BYTES - 1, true, error));
    bool is_bad = value[0] != '/' || value[1] == '\0' || strchr(value, '\n') != NULL;
    for (const char *segment = value; !is_bad && segment != NULL;) {
        segment++;
        size_t size = strcspn(segment, "/");
        is_bad = (size == 1 && segment[0] == '.') ||
                 (size == 2 && segment[0] == '.' && segment[1] == '.');
        segment = strchr(segment, '/');
    }
    if (is_bad) {
        error_set(error, REASON_INVALID, "'%s' is '%.200s', which is not an absolute path", field,
                  value);
        error_field(error, "%s", field);
        return error_hint(error, "give a path that starts with '/' and has no '.' or '..' in it");
    }
    return STATUS_OK;
}

Status check_key(ServiceCall *call, Error *error)
{
    size_t size = strlen(call->idempotency_key);
    bool is_bad = size > LIMIT_IDEMPOTENCY_KEY_BYTES;
    for (size_t i = 0; i < size && !is_bad; i++) {
        is_bad = call->idempotency_key[i] < ' ' || call->idempotency_key[i] > '~';
    }
    if (is_bad) {
        error_set(error, REASON_INVALID, "the idempotency key is not usable");
        error_field(error, "Idempotency-Key");
        return error_hint(error, "use 1 to %d printable ASCII characters, like a UUID",
                          LIMIT_IDEMPOTENCY_KEY_BYTES);
    }
    return STATUS_OK;
}

Status check_duration(const char *field, const Google__Protobuf__Duration *duration,
                      int64_t minimum_s, int64_t maximum_s, int64_t fallback_us,
                      int64_t *ret_duration_us, Error *error)
{
    if (duration == NULL) {
        *ret_duration_us = fallback_us;
        return STATUS_OK;
    }
    if (duration->seconds < minimum_s || duration->seconds > maximum_s ||
        (duration->seconds == maximum_s && duration->nanos > 0) || duration->nanos < 0 ||
        duration->nanos > 999999999) {
        error_set(error, REASON_INVALID, "'%s' is out of range", field);
        error_field(error, "%s", field);
        return error_hint(error, "use %lld to %lld seconds", (long long)minimum_s,
                          (long long)maximum_s);
    }
    *ret_duration_us = duration->seconds * MICROSECONDS_PER_SECOND + duration->nanos / 1000;
    return STATUS_OK;
}

Google__Protobuf__Timestamp *service_timestamp(Arena *arena, int64_t time_us)
{
    ProtobufCMessage *message = message_new(arena, &google__protobuf__timestamp__descriptor);
    Google__Protobuf__Timestamp *timestamp = (Google__Protobuf__Timestamp *)message;
    timestamp->seconds = time_us / MICROSECONDS_PER_SECOND;
    timestamp->nanos = (int32_t)(time_us % MICROSECONDS_PER_SECOND) * 1000;
    return timestamp;
}

Status service_mask(const Google__Protobuf__FieldMask *mask, const MaskField *fields,
                    size_t field_count, unsigned *ret_bits, Error *error)
{
    unsigned bits = 0;
    size_t path_count = mask != NULL ? mask->n_paths : 0;
    for (size_t i = 0; i < path_count; i++) {
        bool is_every = text_equal(mask->paths[i], "*");
        bool is_known = is_every;
        for (size_t k = 0; k < field_count; k++) {
            if (is_every || text_equal(mask->paths[i], fields[k].path)) {
                bits |= (unsigned)fields[k].bit;
                is_known = true;
            }
        }
        if (!is_known) {
            error_set(error, REASON_INVALID, "'%.60s' cannot be changed", mask->paths[i]);
            error_field(error, "%.60s", mask->paths[i]);
            return error_hint(error, "leave it out; it is set by the server, fixed at creation, or "
                                     "does not exist");
        }
    }
    if (path_count == 0) {
        error_set(error, REASON_INVALID, "nothing is to be changed");
        error_field(error, "update_mask");
        return error_hint(error, "name the fields to change (as REST: put them in the body)");
    }
    *ret_bits = bits;
    return STATUS_OK;
}
