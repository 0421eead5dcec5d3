// SPDX-License-Identifier: Apache-2.0
// JSON of protobuf messages, by walking protobuf-c descriptors: the one mapper of the contract.
//
// Rules: snake_case names; google.protobuf.Timestamp as an RFC 3339 text in UTC;
// google.protobuf.Duration as seconds text "90s"; google.protobuf.FieldMask as one comma-separated
// text; google.protobuf.Struct is not used; 64-bit integers as numbers; bytes as base64url; enum
// values in lower case without the type's prefix (BACKUP_STATE_SUCCEEDED is "succeeded"), and the
// zero value *_UNSPECIFIED as absent. Singular scalars are always written, unset messages and empty
// oneofs are left out, repeated fields are always written as arrays.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

#include <protobuf-c/protobuf-c.h>

// Fills a new message allocated in the arena. Unknown keys, wrong types, numbers out of range,
// texts over LIMIT_TEXT_BYTES, lists over LIMIT_LIST_COUNT and unknown enum words are
// REASON_INVALID with the field's path
// ("policy.schedule"). null means: leave it at its default. A Duration may also be given as "15m",
// "12h", "7d".
Status message_from_json(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                         const Json *json, ProtobufCMessage **ret_message, Error *error);
MUST_USE Json *message_to_json(const ProtobufCMessage *message);
// Enum words, both ways; NULL or false for one that is not there.
const char *enum_word(const ProtobufCEnumDescriptor *descriptor, int value, char *storage,
                      size_t storage_size);
bool enum_from_word(const ProtobufCEnumDescriptor *descriptor, const char *word, int *ret_value);
// A zeroed message with default values, in the arena; never freed with
// protobuf_c_message_free_unpacked.
ProtobufCMessage *message_new(Arena *arena, const ProtobufCMessageDescriptor *descriptor);
// Unpacks into the arena (no separate free). REASON_INVALID: the bytes are not such a message, hold
// texts that are not UTF-8 or contain NUL, or are nested deeper than LIMIT_JSON_DEPTH.
Status message_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *data,
                      size_t size, ProtobufCMessage **ret_message, Error *error);
