// SPDX-License-Identifier: Apache-2.0
// Rows to messages: a column fills the field of its name.
#include "common/json.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/store/store.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NANOSECONDS_PER_MICROSECOND 1000
#define MICROSECONDS_PER_SECOND 1000000
#define COLUMN_NAME_SIZE_MAX 128

// Which field a column fills: `field` of the message, or of its nested message `parent`.
typedef struct Target {
    const ProtobufCFieldDescriptor *parent;
    const ProtobufCFieldDescriptor *field;
} Target;

static void *member(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static void set_seconds(ProtobufCMessage *message, int64_t time_us)
{
    // Timestamp and Duration are alike: seconds, nanos.
    int64_t seconds = time_us / MICROSECONDS_PER_SECOND;
    int64_t rest = time_us % MICROSECONDS_PER_SECOND;
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    if (rest < 0 && text_equal(descriptor->name, "google.protobuf.Timestamp")) {
        seconds--;
        rest += MICROSECONDS_PER_SECOND;
    }
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, "seconds");
    *(int64_t *)member(message, field->offset) = seconds;
    field = protobuf_c_message_descriptor_get_field_by_name(descriptor, "nanos");
    *(int32_t *)member(message, field->offset) = (int32_t)(rest * NANOSECONDS_PER_MICROSECOND);
}

// ISO 8601 as PostgreSQL writes it: P[nY][nM][nD][T[nH][nM][n.nS]], each number may have a sign. A
// month counts as 30 days.
bool store_interval_parse(const char *text, int64_t *ret_interval_us)
{
    if (*text++ != 'P') {
        return false;
    }
    double seconds = 0;
    bool is_time = false;
    while (*text != '\0') {
        if (*text == 'T') {
            is_time = true;
            text++;
            continue;
        }
        char *end;
        double number = strtod(text, &end);
        if (end == text) {
            return false;
        }
        switch (*end) {
        case 'Y':
            seconds += number * 365.25 * 86400;
            break;
        case 'M':
            seconds += number * (is_time ? 60 : 30 * 86400);
            break;
        case 'D':
            seconds += number * 86400;
            break;
        case 'H':
            seconds += number * 3600;
            break;
        case 'S':
            seconds += number;
            break;
        default:
            return false;
        }
        text = end + 1;
    }
    *ret_interval_us = llround(seconds * MICROSECONDS_PER_SECOND);
    return true;
}

static bool set_message(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        const char *value, Arena *arena, Error *error)
{
    const ProtobufCMessageDescriptor *descriptor = field->descriptor;
    ProtobufCMessage **slot = member(message, field->offset);
    bool is_time = text_equal(descriptor->name, "google.protobuf.Timestamp");
    if (is_time || text_equal(descriptor->name, "google.protobuf.Duration")) {
        int64_t value_us;
        bool is_read =
            is_time ? store_time_parse(value, &value_us) : store_interval_parse(value, &value_us);
        if (is_read) {
            *slot = message_new(arena, descriptor);
            set_seconds(*slot, value_us);
        }
        return is_read;
    }
    CLEANUP(json_freep) Json *json = NULL;
    return json_parse(value, strlen(value), &json, error) == STATUS_OK &&
           message_from_json(arena, descriptor, json, slot, error) == STATUS_OK;
}

// A json array of objects.
static bool set_repeated(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         const char *value, Arena *arena, Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    if (field->type != PROTOBUF_C_TYPE_MESSAGE ||
        json_parse(value, strlen(value), &json, error) != STATUS_OK ||
        json_type(json) != JSON_ARRAY) {
        return false;
    }
    size_t count = 0;
    ProtobufCMessage **items = arena_alloc_array(arena, json_count(json) + 1, sizeof(*items));
    for (const Json *item = json_first(json); item != NULL; item = json_next(item)) {
        if (message_from_json(arena, field->descriptor, item, &items[count], error) != STATUS_OK) {
            return false;
        }
        count++;
    }
    *(size_t *)member(message, field->quantifier_offset) = count;
    *(void **)member(message, field->offset) = items;
    return true;
}

static bool set_number(void *slot, ProtobufCType type, const char *value)
{
    if (type == PROTOBUF_C_TYPE_DOUBLE) {
        char *end;
        *(double *)slot = strtod(value, &end);
        return end != value && *end == '\0';
    }
    int64_t number;
    if (!text_to_int64(value, &number)) {
        return false;
    }
    if (type == PROTOBUF_C_TYPE_INT64) {
        *(int64_t *)slot = number;
        return true;
    }
    if (type != PROTOBUF_C_TYPE_INT32 || number < INT32_MIN || number > INT32_MAX) {
        return false;
    }
    *(int32_t *)slot = (int32_t)number;
    return true;
}

static bool set_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                      const char *value, Arena *arena, Error *error)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return set_repeated(message, field, value, arena, error);
    }
    void *slot = member(message, field->offset);
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        *(const char **)slot = value; // the rows are in the same arena
        return true;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)slot = text_equal(value, "t");
        return true;
    case PROTOBUF_C_TYPE_ENUM: {
        int number;
        if (!enum_from_word(field->descriptor, value, &number)) {
            return false;
        }
        memcpy(slot, &number, sizeof(number));
        return true;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        return set_message(message, field, value, arena, error);
    default:
        return set_number(slot, field->type, value);
    }
}

static Target target_of(const ProtobufCMessageDescriptor *descriptor, const char *column)
{
    Target target = {0};
    const char *dot = strchr(column, '.');
    if (dot != NULL) {
        char name[COLUMN_NAME_SIZE_MAX];
        size_t size = (size_t)(dot - column);
        assert(size < sizeof(name));
        memcpy(name, column, size);
        name[size] = '\0';
        target.parent = protobuf_c_message_descriptor_get_field_by_name(descriptor, name);
        if (target.parent == NULL || target.parent->type != PROTOBUF_C_TYPE_MESSAGE) {
            return (Target){0};
        }
        descriptor = target.parent->descriptor;
        column = dot + 1;
    }
    target.field = protobuf_c_message_descriptor_get_field_by_name(descriptor, column);
    return target;
}

Status store_messages(const StoreRows *rows, Arena *arena,
                      const ProtobufCMessageDescriptor *descriptor,
                      ProtobufCMessage ***ret_messages, Error *error)
{
    Target *targets = arena_alloc_array(arena, (size_t)rows->column_count + 1, sizeof(*targets));
    for (int column = 0; column < rows->column_count; column++) {
        targets[column] = target_of(descriptor, rows->names[column]);
    }
    ProtobufCMessage **messages =
        arena_alloc_array(arena, (size_t)rows->count + 1, sizeof(*messages));
    for (int row = 0; row < rows->count; row++) {
        messages[row] = message_new(arena, descriptor);
        for (int column = 0; column < rows->column_count; column++) {
            const char *value = rows->values[row * rows->column_count + column];
            const Target *target = &targets[column];
            if (value == NULL || target->field == NULL) {
                continue;
            }
            ProtobufCMessage *message = messages[row];
            if (target->parent != NULL) {
                ProtobufCMessage **slot = member(message, target->parent->offset);
                if (*slot == NULL) {
                    *slot = message_new(arena, target->parent->descriptor);
                }
                message = *slot;
            }
            if (!set_field(message, target->field, value, arena, error)) {
                return error_set(error, REASON_INTERNAL, "column '%s' does not fit '%s'",
                                 rows->names[column], descriptor->name);
            }
        }
    }
    *ret_messages = messages;
    return STATUS_OK;
}
