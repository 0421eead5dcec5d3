// SPDX-License-Identifier: Apache-2.0
// Messages from JSON, strictly: what is not understood is refused, with the path of the field.
#include "common/crypto.h"
#include "common/limits.h"
#include "common/message_field.h"
#include "common/text.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

#define ENUM_WORD_BYTES 128

static Status fill_message(Arena *arena, const Json *json, ProtobufCMessage *message, Error *error);
static Status read_message(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                           const Json *json, ProtobufCMessage **ret_message, Error *error);

static const char *type_word(const Json *json)
{
    static const char *const words[] = {
        [JSON_NULL] = "null",     [JSON_BOOL] = "a boolean", [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a text", [JSON_ARRAY] = "a list",   [JSON_OBJECT] = "an object"};
    return words[json_type(json)];
}

static Status wrong_type(const Json *json, const char *expected, Error *error)
{
    return error_set(error, REASON_INVALID, "expected %s, not %s", expected, type_word(json));
}

static Status read_integer(const Json *json, int64_t minimum, int64_t maximum, int64_t *ret_value,
                           Error *error)
{
    if (json_type(json) != JSON_NUMBER) {
        return wrong_type(json, "a whole number", error);
    }
    double number = json_number(json, 0);
    if (number != trunc(number)) {
        return error_set(error, REASON_INVALID, "expected a whole number, not %g", number);
    }
    // INT64_MIN means that it is beyond what JSON numbers carry exactly.
    int64_t value = json_integer(json, INT64_MIN);
    if (value == INT64_MIN || value < minimum || value > maximum) {
        return error_set(error, REASON_INVALID, "the number is out of range");
    }
    *ret_value = value;
    return STATUS_OK;
}

static Status read_text(Arena *arena, const Json *json, void *target, Error *error)
{
    const char *text = json_text(json, NULL);
    if (text == NULL) {
        return wrong_type(json, "a text", error);
    }
    if (strlen(text) > LIMIT_TEXT_BYTES) {
        return error_set(error, REASON_INVALID, "the text is longer than %d bytes",
                         LIMIT_TEXT_BYTES);
    }
    *(char **)target = arena_string(arena, text);
    return STATUS_OK;
}

static Status read_bytes(Arena *arena, const Json *json, void *target, Error *error)
{
    const char *text = json_text(json, NULL);
    if (text == NULL) {
        return wrong_type(json, "bytes as a base64url text", error);
    }
    ProtobufCBinaryData bytes = {0};
    if (!base64url_decode(arena, text, &bytes.data, &bytes.len)) {
        return error_set(error, REASON_INVALID, "the text is not base64url without padding");
    }
    if (bytes.len > LIMIT_TEXT_BYTES) {
        return error_set(error, REASON_INVALID, "more than %d bytes", LIMIT_TEXT_BYTES);
    }
    *(ProtobufCBinaryData *)target = bytes;
    return STATUS_OK;
}

static Status read_enum(const ProtobufCEnumDescriptor *descriptor, const Json *json, void *target,
                        Error *error)
{
    const char *word = json_text(json, NULL);
    if (word == NULL) {
        return wrong_type(json, "a word", error);
    }
    int value = 0;
    if (enum_from_word(descriptor, word, &value)) {
        *(int *)target = value;
        return STATUS_OK;
    }
    char known[256] = "";
    size_t size = 0;
    for (unsigned i = 0; i < descriptor->n_values; i++) {
        char storage[ENUM_WORD_BYTES];
        const char *candidate =
            enum_word(descriptor, descriptor->values[i].value, storage, sizeof(storage));
        if (candidate != NULL && size + strlen(candidate) + 5 < sizeof(known)) {
            size += (size_t)snprintf(known + size, sizeof(known) - size, "%s'%s'",
                                     size > 0 ? ", " : "", candidate);
        }
    }
    error_set(error, REASON_INVALID, "'%.64s' is not a value of this field", word);
    return error_hint(error, "use one of %s", known);
}

static Status read_number(const ProtobufCFieldDescriptor *field, const Json *json, void *target,
                          Error *error)
{
    if (json_type(json) != JSON_NUMBER) {
        return wrong_type(json, "a number", error);
    }
    double number = json_number(json, 0);
    if (field->type == PROTOBUF_C_TYPE_DOUBLE) {
        *(double *)target = number;
        return STATUS_OK;
    }
    if (fabs(number) > (double)FLT_MAX) {
        return error_set(error, REASON_INVALID, "the number is out of range");
    }
    *(float *)target = (float)number;
    return STATUS_OK;
}

static Status read_whole_number(const ProtobufCFieldDescriptor *field, const Json *json,
                                void *target, Error *error)
{
    int64_t value = 0;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        RETURN_IF_ERROR(read_integer(json, INT32_MIN, INT32_MAX, &value, error));
        *(int32_t *)target = (int32_t)value;
        return STATUS_OK;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        RETURN_IF_ERROR(read_integer(json, 0, UINT32_MAX, &value, error));
        *(uint32_t *)target = (uint32_t)value;
        return STATUS_OK;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        RETURN_IF_ERROR(read_integer(json, 0, INT64_MAX, &value, error));
        *(uint64_t *)target = (uint64_t)value;
        return STATUS_OK;
    default:
        RETURN_IF_ERROR(read_integer(json, INT64_MIN, INT64_MAX, &value, error));
        *(int64_t *)target = value;
        return STATUS_OK;
    }
}

static Status read_value(Arena *arena, const ProtobufCFieldDescriptor *field, const Json *json,
                         void *target, Error *error)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return read_text(arena, json, target, error);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(arena, json, target, error);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(field->descriptor, json, target, error);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_message(arena, field->descriptor, json, target, error);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_number(field, json, target, error);
    case PROTOBUF_C_TYPE_BOOL:
        if (json_type(json) != JSON_BOOL) {
            return wrong_type(json, "true or false", error);
        }
        *(protobuf_c_boolean *)target = json_boolean(json, false) ? 1 : 0;
        return STATUS_OK;
    default:
        return read_whole_number(field, json, target, error);
    }
}

// Puts the name of the outer field before the path that the error has so far.
static Status at_field(const char *name, Error *error)
{
    const char *separator = error->field[0] == '\0' || error->field[0] == '[' ? "" : ".";
    return error_field(error, "%s%s%s", name, separator, error->field);
}

static Status read_list(Arena *arena, const ProtobufCFieldDescriptor *field, const Json *json,
                        ProtobufCMessage *message, Error *error)
{
    if (json_type(json) != JSON_ARRAY) {
        return wrong_type(json, "a list", error);
    }
    size_t count = json_count(json);
    if (count > LIMIT_LIST_COUNT) {
        return error_set(error, REASON_INVALID, "the list has more than %d items",
                         LIMIT_LIST_COUNT);
    }
    size_t value_size = field_value_size(field);
    uint8_t *values = arena_alloc_array(arena, count, value_size);
    size_t index = 0;
    for (const Json *item = json_first(json); item != NULL; item = json_next(item)) {
        if (read_value(arena, field, item, values + index * value_size, error) != STATUS_OK) {
            char place[32];
            (void)snprintf(place, sizeof(place), "[%zu]", index);
            return at_field(place, error);
        }
        index++;
    }
    *(size_t *)member_at(message, field->quantifier_offset) = count;
    *(void **)member_at(message, field->offset) = count > 0 ? values : NULL;
    return STATUS_OK;
}

static Status mark_present(const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                           Error *error)
{
    if (field_is_in_oneof(field)) {
        uint32_t *chosen = member_at(message, field->quantifier_offset);
        if (*chosen != 0) {
            return error_set(error, REASON_INVALID,
                             "another field that excludes this one is given too");
        }
        *chosen = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_STRING &&
               field->type != PROTOBUF_C_TYPE_MESSAGE) {
        *(protobuf_c_boolean *)member_at(message, field->quantifier_offset) = 1;
    }
    return STATUS_OK;
}

static Status read_field(Arena *arena, const ProtobufCFieldDescriptor *field, const Json *json,
                         ProtobufCMessage *message, Error *error)
{
    if (json_type(json) == JSON_NULL) {
        return STATUS_OK; // its default
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return read_list(arena, field, json, message, error);
    }
    RETURN_IF_ERROR(mark_present(field, message, error));
    return read_value(arena, field, json, member_at(message, field->offset), error);
}

static Status unknown_field(const ProtobufCMessageDescriptor *descriptor, const char *key,
                            Error *error)
{
    error_set(error, REASON_INVALID, "there is no such field");
    const char *nearest = NULL;
    size_t distance_min = 3; // more is another word, not a slip
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        size_t distance = text_distance(descriptor->fields[i].name, key);
        if (distance < distance_min) {
            distance_min = distance;
            nearest = descriptor->fields[i].name;
        }
    }
    if (nearest != NULL) {
        error_hint(error, "did you mean '%s'?", nearest);
    }
    return error->status;
}

static Status fill_message(Arena *arena, const Json *json, ProtobufCMessage *message, Error *error)
{
    for (const Json *item = json_first(json); item != NULL; item = json_next(item)) {
        const char *key = json_key(item);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(message->descriptor, key);
        Status status = field == NULL ? unknown_field(message->descriptor, key, error)
                                      : read_field(arena, field, item, message, error);
        if (status != STATUS_OK) {
            return at_field(key, error);
        }
    }
    return STATUS_OK;
}

static Status read_message(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                           const Json *json, ProtobufCMessage **ret_message, Error *error)
{
    static const char *const expected[] = {[WELL_KNOWN_NONE] = "an object",
                                           [WELL_KNOWN_TIME] =
                                               "a time such as \"2026-01-31T08:00:00Z\"",
                                           [WELL_KNOWN_DURATION] = "a duration such as \"90s\"",
                                           [WELL_KNOWN_MASK] = "field names separated by commas"};
    WellKnown kind = well_known_kind(descriptor);
    if (json_type(json) != (kind == WELL_KNOWN_NONE ? JSON_OBJECT : JSON_STRING)) {
        return wrong_type(json, expected[kind], error);
    }
    ProtobufCMessage *message = message_new(arena, descriptor);
    if (kind == WELL_KNOWN_NONE) {
        RETURN_IF_ERROR(fill_message(arena, json, message, error));
    } else {
        const char *text = json_text(json, "");
        if (strlen(text) > LIMIT_TEXT_BYTES || !well_known_read(arena, kind, text, message)) {
            return error_set(error, REASON_INVALID, "expected %s, not '%.64s'", expected[kind],
                             text);
        }
    }
    *ret_message = message;
    return STATUS_OK;
}

Status message_from_json(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                         const Json *json, ProtobufCMessage **ret_message, Error *error)
{
    assert(arena != NULL);
    assert(descriptor != NULL);
    error_clear(error); // the path is built in error->field
    Status status = read_message(arena, descriptor, json, ret_message, error);
    if (status != STATUS_OK && error->field[0] != '\0') {
        return error_wrap(error, "field '%s'", error->field);
    }
    return status;
}
