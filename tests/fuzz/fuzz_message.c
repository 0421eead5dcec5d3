// SPDX-License-Identifier: Apache-2.0
// Requests as JSON and as protobuf. Input: the name of an RPC, a line break, and the JSON of its
// request; or, behind the line "agent", what an agent sends as bytes.
#include "common/memory.h"
#include "common/message_json.h"
#include "holdfast/v1/agent.pb-c.h"
#include "holdfast/v1/holdfast.pb-c.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

// What the mapper accepts goes over the wire, and comes back.
static void check_wire(Arena *arena, const ProtobufCMessage *message)
{
    Error error = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    CLEANUP_FREE uint8_t *packed = mem_alloc(size);
    size_t written = protobuf_c_message_pack(message, packed);
    assert(written == size);
    ProtobufCMessage *again = NULL;
    Status status = message_unpack(arena, message->descriptor, packed, size, &again, &error);
    assert(status == STATUS_OK);
    json_free(message_to_json(again));
}

static void read_json(Arena *arena, const char *text, size_t size,
                      const ProtobufCMessageDescriptor *descriptor)
{
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    ProtobufCMessage *message = NULL;
    if (json_parse(text, size, &json, &error) == STATUS_OK &&
        message_from_json(arena, descriptor, json, &message, &error) == STATUS_OK) {
        check_wire(arena, message);
        json_free(message_to_json(message));
    }
}

static void read_bytes(Arena *arena, const uint8_t *data, size_t size)
{
    Error error = {0};
    ProtobufCMessage *message = NULL;
    if (message_unpack(arena, &holdfast__v1__agent_message__descriptor, data, size, &message,
                       &error) == STATUS_OK) {
        json_free(message_to_json(message));
        check_wire(arena, message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    if (end == NULL) {
        return 0;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *name = arena_string_n(arena, (const char *)data, (size_t)(end - data));
    size_t rest_size = size - (size_t)(end - data) - 1;
    const ProtobufCMethodDescriptor *rpc =
        protobuf_c_service_descriptor_get_method_by_name(&holdfast__v1__holdfast__descriptor, name);
    if (rpc != NULL) {
        read_json(arena, (const char *)end + 1, rest_size, rpc->input);
    } else if (strcmp(name, "agent") == 0) {
        read_bytes(arena, end + 1, rest_size);
    }
    return 0;
}
