// SPDX-License-Identifier: Apache-2.0
// Messages to JSON, and the words of enums.
#include "common/crypto.h"
#include "common/message_field.h"

#include <assert.h>
#include <ctype.h>

#define ENUM_WORD_BYTES 128
#define WELL_KNOWN_BYTES_MAX (64 * 1024)

static Json *value_to_json(const ProtobufCFieldDescriptor *field, const void *value);

// "BackupState" makes "BACKUP_STATE_"; how much of the value's name that is, or 0.
static size_t prefix_size(const ProtobufCEnumDescriptor *descriptor, const char *value_name)
{
    const char *type = descriptor->short_name;
    size_t size = 0;
    for (size_t i = 0; type[i] != '\0'; i++) {
        bool is_word_start = i > 0 && isupper((unsigned char)type[i]) &&
                             !isupper((unsigned char)type[i - 1]) && type[i - 1] != '_';
        if (is_word_start && value_name[size++] != '_') {
            return 0;
        }
        if (value_name[size++] != (char)toupper((unsigned char)type[i])) {
            return 0;
        }
    }
    return value_name[size] == '_' ? size + 1 : 0;
}

static bool is_unspecified(const char *name)
{
    size_t size = strlen(name);
    const size_t suffix_size = strlen("UNSPECIFIED");
    return size >= suffix_size && strcmp(name + size - suffix_size, "UNSPECIFIED") == 0;
}

const char *enum_word(const ProtobufCEnumDescriptor *descriptor, int value, char *storage,
                      size_t storage_size)
{
    assert(descriptor != NULL);
    assert(storage != NULL);
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(descriptor, value);
    if (found == NULL || (value == 0 && is_unspecified(found->name))) {
        return NULL;
    }
    const char *name = found->name + prefix_size(descriptor, found->name);
    size_t size = strlen(name);
    if (size >= storage_size) {
        return NULL;
    }
    for (size_t i = 0; i <= size; i++) {
        storage[i] = (char)tolower((unsigned char)name[i]);
    }
    return storage;
}

bool enum_from_word(const ProtobufCEnumDescriptor *descriptor, const char *word, int *ret_value)
{
    assert(descriptor != NULL);
    char storage[ENUM_WORD_BYTES];
    for (unsigned i = 0; word != NULL && i < descriptor->n_values; i++) {
        int value = descriptor->values[i].value;
        const char *candidate = enum_word(descriptor, value, storage, sizeof(storage));
        if (candidate != NULL && strcmp(candidate, word) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static Json *bytes_to_json(const ProtobufCBinaryData *bytes)
{
    Arena *arena = arena_new();
    Json *json = json_new_text(base64url_encode(arena, bytes->data, bytes->len));
    arena_free(arena);
    return json;
}

static Json *unsigned_to_json(uint64_t value)
{
    return value <= INT64_MAX ? json_new_integer((int64_t)value) : json_new_number((double)value);
}

// NULL: the value has no word and is left out.
static Json *enum_to_json(const ProtobufCFieldDescriptor *field, int value)
{
    char storage[ENUM_WORD_BYTES];
    const char *word = enum_word(field->descriptor, value, storage, sizeof(storage));
    return word == NULL ? NULL : json_new_text(word);
}

static Json *value_to_json(const ProtobufCFieldDescriptor *field, const void *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_new_integer(*(const int32_t *)value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_new_integer(*(const uint32_t *)value);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_new_integer(*(const int64_t *)value);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return unsigned_to_json(*(const uint64_t *)value);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_new_number((double)*(const float *)value);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_new_number(*(const double *)value);
    case PROTOBUF_C_TYPE_BOOL:
        return json_new_boolean(*(const protobuf_c_boolean *)value != 0);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_to_json(field, *(const int *)value);
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)value;
        return json_new_text(text == NULL ? "" : text);
    }
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_to_json(value);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *message = *(const ProtobufCMessage *const *)value;
        return message == NULL ? NULL : message_to_json(message);
    }
    }
    return NULL;
}

static Json *list_to_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    Json *array = json_new_array();
    size_t count = *(const size_t *)member_const_at(message, field->quantifier_offset);
    const uint8_t *values = *(const uint8_t *const *)member_const_at(message, field->offset);
    size_t value_size = field_value_size(field);
    for (size_t i = 0; i < count; i++) {
        Json *item = value_to_json(field, values + i * value_size);
        if (item != NULL) {
            json_add(array, item);
        }
    }
    return array;
}

static bool is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (field_is_in_oneof(field)) {
        uint32_t chosen = *(const uint32_t *)member_const_at(message, field->quantifier_offset);
        return chosen == field->id;
    }
    if (field->label != PROTOBUF_C_LABEL_OPTIONAL || field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return true; // a message that is NULL is left out by value_to_json
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        return *(const char *const *)member_const_at(message, field->offset) != NULL;
    }
    return *(const protobuf_c_boolean *)member_const_at(message, field->quantifier_offset) != 0;
}

Json *message_to_json(const ProtobufCMessage *message)
{
    assert(message != NULL);
    assert(message->descriptor != NULL);
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    WellKnown kind = well_known_kind(descriptor);
    if (kind != WELL_KNOWN_NONE) {
        CLEANUP(buffer_done) Buffer text = {0};
        buffer_init(&text, WELL_KNOWN_BYTES_MAX);
        well_known_write(message, kind, &text);
        return json_new_text(buffer_text(&text));
    }
    Json *object = json_new_object();
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        Json *value = NULL;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            value = list_to_json(message, field);
        } else if (is_present(message, field)) {
            value = value_to_json(field, member_const_at(message, field->offset));
        }
        if (value != NULL) {
            json_append(object, field->name, value);
        }
    }
    return object;
}
