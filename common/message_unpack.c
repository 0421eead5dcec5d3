// SPDX-License-Identifier: Apache-2.0
// Unpacking from the wire into an arena, after a look at the bytes: protobuf-c checks neither UTF-8
// nor depth, hides what follows a NUL, and can be made to allocate a hundred times what it was
// sent.
#include "common/limits.h"
#include "common/message_field.h"
#include "common/text.h"

#include <assert.h>

#define WIRE_DEPTH_MAX LIMIT_JSON_DEPTH
#define VARINT_BYTES_MAX 10

typedef struct Wire {
    const uint8_t *data;
    size_t size;
    size_t position;
} Wire;

typedef struct Scan {
    size_t field_count;
    const char *problem;
    const char *field; // the text field at fault
} Scan;

static bool scan_message(Scan *scan, const ProtobufCMessageDescriptor *descriptor, Wire wire,
                         int depth);

static bool fail(Scan *scan, const char *problem)
{
    scan->problem = problem;
    return false;
}

static bool read_varint(Wire *wire, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && wire->position < wire->size; i++) {
        uint8_t byte = wire->data[wire->position++];
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool skip(Wire *wire, uint64_t size)
{
    if (size > wire->size - wire->position) {
        return false;
    }
    wire->position += (size_t)size;
    return true;
}

static bool scan_bytes(Scan *scan, const ProtobufCFieldDescriptor *field, Wire *wire, int depth)
{
    uint64_t size = 0;
    size_t start = 0;
    if (!read_varint(wire, &size) || (start = wire->position, !skip(wire, size))) {
        return fail(scan, "a field is cut off");
    }
    if (field == NULL) {
        return true;
    }
    const uint8_t *data = wire->data + start;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return scan_message(scan, field->descriptor, (Wire){.data = data, .size = (size_t)size},
                            depth + 1);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING && size > 0) {
        scan->field = field->name;
        if (memchr(data, '\0', (size_t)size) != NULL) {
            return fail(scan, "a text contains NUL");
        }
        if (!text_is_utf8((const char *)data, (size_t)size)) {
            return fail(scan, "a text is not UTF-8");
        }
    }
    return true;
}

static bool scan_message(Scan *scan, const ProtobufCMessageDescriptor *descriptor, Wire wire,
                         int depth)
{
    if (depth > WIRE_DEPTH_MAX) {
        return fail(scan, "nested too deeply");
    }
    while (wire.position < wire.size) {
        uint64_t tag = 0;
        uint64_t ignored = 0;
        if (++scan->field_count > LIMIT_MESSAGE_FIELD_COUNT) {
            return fail(scan, "too many fields");
        }
        if (!read_varint(&wire, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
            return fail(scan, "a field's tag is wrong");
        }
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
        bool is_whole = true;
        switch (tag & 7) {
        case PROTOBUF_C_WIRE_TYPE_VARINT:
            is_whole = read_varint(&wire, &ignored);
            break;
        case PROTOBUF_C_WIRE_TYPE_64BIT:
            is_whole = skip(&wire, 8);
            break;
        case PROTOBUF_C_WIRE_TYPE_32BIT:
            is_whole = skip(&wire, 4);
            break;
        case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
            if (!scan_bytes(scan, field, &wire, depth)) {
                return false;
            }
            break;
        default:
            return fail(scan, "an unknown wire type");
        }
        if (!is_whole) {
            return fail(scan, "a field is cut off");
        }
    }
    return true;
}

static void *allocate_in_arena(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void free_nothing(void *arena, void *memory)
{
    (void)arena; // the arena frees everything at once
    (void)memory;
}

ProtobufCMessage *message_new(Arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    assert(descriptor != NULL);
    ProtobufCMessage *message = arena_alloc(arena, descriptor->sizeof_message);
    protobuf_c_message_init(descriptor, message);
    return message;
}

Status message_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *data,
                      size_t size, ProtobufCMessage **ret_message, Error *error)
{
    assert(arena != NULL);
    assert(descriptor != NULL);
    assert(data != NULL || size == 0);
    Scan scan = {0};
    if (!scan_message(&scan, descriptor, (Wire){.data = data, .size = size}, 0)) {
        error_set(error, REASON_INVALID, "the bytes are not a %s: %s", descriptor->short_name,
                  scan.problem);
        return error_field(error, "%s", scan.field == NULL ? "" : scan.field);
    }
    ProtobufCAllocator allocator = {
        .alloc = allocate_in_arena, .free = free_nothing, .allocator_data = arena};
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, size, data);
    if (message == NULL) {
        return error_set(error, REASON_INVALID, "the bytes are not a %s", descriptor->short_name);
    }
    *ret_message = message;
    return STATUS_OK;
}
