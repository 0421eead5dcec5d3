// SPDX-License-Identifier: Apache-2.0
// Inside of message_*.c: reaching the members of a protobuf-c message through its descriptor.
#pragma once

#include "common/message_json.h"

#include <string.h>

typedef enum WellKnown {
    WELL_KNOWN_NONE,
    WELL_KNOWN_TIME,
    WELL_KNOWN_DURATION,
    WELL_KNOWN_MASK
} WellKnown;

static inline WellKnown well_known_kind(const ProtobufCMessageDescriptor *descriptor)
{
    if (strcmp(descriptor->name, "google.protobuf.Timestamp") == 0) {
        return WELL_KNOWN_TIME;
    }
    if (strcmp(descriptor->name, "google.protobuf.Duration") == 0) {
        return WELL_KNOWN_DURATION;
    }
    if (strcmp(descriptor->name, "google.protobuf.FieldMask") == 0) {
        return WELL_KNOWN_MASK;
    }
    return WELL_KNOWN_NONE;
}

static inline void *member_at(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static inline const void *member_const_at(const ProtobufCMessage *message, unsigned offset)
{
    return (const uint8_t *)message + offset;
}

static inline bool field_is_in_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & (uint32_t)PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

// Bytes of one value in the structure, or of one element of a repeated field.
size_t field_value_size(const ProtobufCFieldDescriptor *field);

// The well-known types as texts. The readers give false for a text that is not one; they allocate
// in the arena.
void well_known_write(const ProtobufCMessage *message, WellKnown kind, Buffer *text);
bool well_known_read(Arena *arena, WellKnown kind, const char *text, ProtobufCMessage *message);
