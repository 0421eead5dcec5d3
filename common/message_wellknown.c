// SPDX-License-Identifier: Apache-2.0
// Timestamp, Duration and FieldMask as texts, and the arithmetic of message members.
#include "common/clock.h"
#include "common/message_field.h"
#include "common/text.h"

#include <assert.h>
#include <stdlib.h>

#define SECOND_US INT64_C(1000000)
#define SECOND_NS 1000000000
// The limits of google/protobuf/duration.proto and timestamp.proto.
#define DURATION_SECONDS_MAX INT64_C(315576000000)
#define TIME_SECONDS_MIN INT64_C(-62135596800)
#define TIME_SECONDS_MAX INT64_C(253402300799)

size_t field_value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default: // all others are numbers of 32 bits, enums too
        return 4;
    }
}

static unsigned offset_of(const ProtobufCMessageDescriptor *descriptor, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, name);
    assert(field != NULL); // the type is recognised by its full name, so it has its fields
    return field->offset;
}

static int64_t clamp(int64_t value, int64_t minimum, int64_t maximum)
{
    return value < minimum ? minimum : value > maximum ? maximum : value;
}

static void get_seconds(const ProtobufCMessage *message, int64_t *ret_seconds, int32_t *ret_nanos)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    *ret_seconds = *(const int64_t *)member_const_at(message, offset_of(descriptor, "seconds"));
    *ret_nanos = *(const int32_t *)member_const_at(message, offset_of(descriptor, "nanos"));
}

static void set_seconds(ProtobufCMessage *message, int64_t seconds, int32_t nanos)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    *(int64_t *)member_at(message, offset_of(descriptor, "seconds")) = seconds;
    *(int32_t *)member_at(message, offset_of(descriptor, "nanos")) = nanos;
}

static void write_time(const ProtobufCMessage *message, Buffer *text)
{
    int64_t seconds = 0;
    int32_t nanos = 0;
    get_seconds(message, &seconds, &nanos);
    seconds = clamp(seconds, TIME_SECONDS_MIN, TIME_SECONDS_MAX);
    char moment[TIME_TEXT_SIZE];
    time_format(seconds * SECOND_US + clamp(nanos, 0, SECOND_NS - 1) / 1000, moment);
    buffer_append_text(text, moment);
}

static void write_duration(const ProtobufCMessage *message, Buffer *text)
{
    int64_t seconds = 0;
    int32_t nanos = 0;
    get_seconds(message, &seconds, &nanos);
    seconds = clamp(seconds, -DURATION_SECONDS_MAX, DURATION_SECONDS_MAX);
    int64_t fraction = clamp(nanos, -(SECOND_NS - 1), SECOND_NS - 1);
    const char *sign = seconds < 0 || fraction < 0 ? "-" : "";
    buffer_append_format(text, "%s%lld", sign, llabs((long long)seconds));
    if (fraction != 0) {
        buffer_append_format(text, ".%09lld", llabs((long long)fraction));
        while (text->data[text->size - 1] == '0') {
            text->data[--text->size] = '\0';
        }
    }
    buffer_append_text(text, "s");
}

static void write_mask(const ProtobufCMessage *message, Buffer *text)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "paths");
    assert(field != NULL);
    size_t count = *(const size_t *)member_const_at(message, field->quantifier_offset);
    char *const *paths = *(char *const *const *)member_const_at(message, field->offset);
    for (size_t i = 0; i < count; i++) {
        buffer_append_format(text, "%s%s", i > 0 ? "," : "", paths[i]);
    }
}

void well_known_write(const ProtobufCMessage *message, WellKnown kind, Buffer *text)
{
    assert(kind != WELL_KNOWN_NONE);
    if (kind == WELL_KNOWN_TIME) {
        write_time(message, text);
    } else if (kind == WELL_KNOWN_DURATION) {
        write_duration(message, text);
    } else {
        write_mask(message, text);
    }
}

static bool read_time(const char *text, ProtobufCMessage *message)
{
    int64_t time_us = 0;
    if (!time_parse(text, &time_us)) {
        return false;
    }
    int64_t seconds = time_us / SECOND_US;
    int64_t micros = time_us % SECOND_US;
    if (micros < 0) { // nanos count forward, also before 1970
        micros += SECOND_US;
        seconds--;
    }
    if (seconds < TIME_SECONDS_MIN || seconds > TIME_SECONDS_MAX) {
        return false;
    }
    set_seconds(message, seconds, (int32_t)(micros * 1000));
    return true;
}

// "-12.5s"
static bool read_seconds(const char *text, int64_t *ret_seconds, int32_t *ret_nanos)
{
    bool is_negative = text[0] == '-';
    const char *position = text + (is_negative ? 1 : 0);
    int64_t seconds = 0;
    int digit_count = 0;
    for (; *position >= '0' && *position <= '9' && digit_count < 13; position++, digit_count++) {
        seconds = seconds * 10 + (*position - '0');
    }
    if (digit_count == 0 || seconds > DURATION_SECONDS_MAX) {
        return false;
    }
    int32_t nanos = 0;
    if (*position == '.') {
        position++;
        int32_t place = SECOND_NS / 10;
        if (*position < '0' || *position > '9') {
            return false;
        }
        for (; *position >= '0' && *position <= '9' && place > 0; position++, place /= 10) {
            nanos += (*position - '0') * place;
        }
    }
    if (strcmp(position, "s") != 0) {
        return false;
    }
    *ret_seconds = is_negative ? -seconds : seconds;
    *ret_nanos = is_negative ? -nanos : nanos;
    return true;
}

static bool read_duration(const char *text, ProtobufCMessage *message)
{
    int64_t seconds = 0;
    int32_t nanos = 0;
    if (!read_seconds(text, &seconds, &nanos)) {
        int64_t duration_ms = 0;
        if (!text_to_duration_ms(text, &duration_ms) || duration_ms / 1000 > DURATION_SECONDS_MAX) {
            return false;
        }
        seconds = duration_ms / 1000;
        nanos = (int32_t)(duration_ms % 1000) * 1000000;
    }
    set_seconds(message, seconds, nanos);
    return true;
}

static bool read_mask(Arena *arena, const char *text, ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "paths");
    assert(field != NULL);
    size_t count = 0;
    char **paths = NULL;
    if (text[0] != '\0') {
        paths = text_split(arena, text, ',', &count);
    }
    for (size_t i = 0; i < count; i++) {
        if (paths[i][0] == '\0') {
            return false;
        }
    }
    *(size_t *)member_at(message, field->quantifier_offset) = count;
    *(char ***)member_at(message, field->offset) = paths;
    return true;
}

bool well_known_read(Arena *arena, WellKnown kind, const char *text, ProtobufCMessage *message)
{
    assert(kind != WELL_KNOWN_NONE);
    if (kind == WELL_KNOWN_TIME) {
        return read_time(text, message);
    }
    return kind == WELL_KNOWN_DURATION ? read_duration(text, message)
                                       : read_mask(arena, text, message);
}
