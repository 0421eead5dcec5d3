// SPDX-License-Identifier: Apache-2.0
// Path, query and body are put together as the JSON of the whole request, which then goes through
// the one mapper.
#include "server/http/http_request.h"

#include "common/json.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"

#include <assert.h>
#include <string.h>

#define MASK_BYTES_MAX 4096
#define MASK_DEPTH_MAX 8

static Status read_body(const HttpRoute *route, const HttpInput *input, Json **ret_body,
                        Error *error)
{
    bool is_empty = true;
    for (size_t i = 0; is_empty && i < input->body_size; i++) {
        is_empty = strchr(" \t\r\n", input->body[i]) != NULL && input->body[i] != '\0';
    }
    if (is_empty) {
        *ret_body = json_new_object();
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *body = NULL;
    RETURN_IF_ERROR(json_parse(input->body, input->body_size, &body, error));
    if (json_type(body) != JSON_OBJECT) {
        return error_set(error, REASON_INVALID, "the body is not a JSON object");
    }
    if (route->body[0] == '\0' && json_count(body) > 0) {
        (void)error_set(error, REASON_INVALID, "%s %s takes no body", route->method, route->path);
        return error_hint(error, "send no body, or {}");
    }
    *ret_body = TAKE_PTR(body);
    return STATUS_OK;
}

// ---- the update mask of a PATCH ----

static bool is_well_known(const ProtobufCMessageDescriptor *descriptor)
{
    return text_has_prefix(descriptor->name, "google.protobuf.");
}

// A member that is a message of ours, so that its own members are named.
static const ProtobufCMessageDescriptor *inner_message(const ProtobufCMessageDescriptor *descriptor,
                                                       const char *key, const Json *value)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, key);
    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE ||
        field->label == PROTOBUF_C_LABEL_REPEATED || json_type(value) != JSON_OBJECT ||
        json_count(value) == 0 || is_well_known(field->descriptor)) {
        return NULL;
    }
    return field->descriptor;
}

static void collect_paths(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                          const Json *object, const char *prefix, int depth, Buffer *mask)
{
    for (size_t i = 0; i < json_count(object); i++) {
        const char *key = NULL;
        const Json *value = json_member(object, i, &key);
        const char *path = arena_format(arena, "%s%s", prefix, key);
        const ProtobufCMessageDescriptor *inner = inner_message(descriptor, key, value);
        if (inner != NULL && depth < MASK_DEPTH_MAX) {
            collect_paths(arena, inner, value, arena_format(arena, "%s.", path), depth + 1, mask);
        } else if (!text_equal(path, "etag")) { // that is a condition, not a change
            (void)buffer_append_format(mask, "%s%s", mask->size > 0 ? "," : "", path);
        }
    }
}

static const ProtobufCMessageDescriptor *
resource_descriptor(const ProtobufCMessageDescriptor *descriptor, const char *body)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, body);
    assert(field != NULL);
    assert(field->type == PROTOBUF_C_TYPE_MESSAGE);
    return field->descriptor;
}

// NULL on success and no mask: the route has none.
static Status make_mask(Arena *arena, const HttpRoute *route, const Json *body,
                        const ProtobufCMessageDescriptor *descriptor, const char **ret_mask,
                        Error *error)
{
    *ret_mask = NULL;
    if (!text_equal(route->method, "PATCH")) {
        return STATUS_OK;
    }
    Buffer mask = {0};
    buffer_init(&mask, MASK_BYTES_MAX);
    collect_paths(arena, resource_descriptor(descriptor, route->body), body, "", 0, &mask);
    bool is_too_long = mask.is_overflowed;
    *ret_mask = arena_string(arena, buffer_text(&mask));
    buffer_done(&mask);
    if (is_too_long) {
        return error_set(error, REASON_INVALID, "the body names too many fields");
    }
    return STATUS_OK;
}

// ---- path and query ----

static Status check_value(const char *name, const char *value, Error *error)
{
    size_t size = strlen(value);
    if (size <= LIMIT_TEXT_BYTES && text_is_utf8(value, size)) {
        return STATUS_OK;
    }
    (void)error_set(error, REASON_INVALID, "the value is too long or not UTF-8");
    return error_field(error, "%s", name);
}

static Status add_path(const HttpMatch *match, Json *request, Json *body, Error *error)
{
    for (size_t i = 0; i < match->parameter_count; i++) {
        const char *name = match->names[i];
        const char *dot = strchr(name, '.');
        // "{shard.name}" is a field of the resource that is the body.
        Json *target = dot == NULL ? request : body;
        const char *key = dot == NULL ? name : dot + 1;
        RETURN_IF_ERROR(check_value(key, match->values[i], error));
        const Json *given = json_get(target, key);
        if (given != NULL && json_type(given) != JSON_NULL &&
            !text_equal(json_text(given, NULL), match->values[i])) {
            (void)error_set(error, REASON_INVALID, "'%s' is in the path and cannot be another",
                            key);
            (void)error_field(error, "%s", key);
            return error_hint(error, "leave it out of the body");
        }
        json_set_text(target, key, match->values[i]);
    }
    return STATUS_OK;
}

static Status wrong_parameter(const HttpPair *pair, const char *expected, Error *error)
{
    (void)error_set(error, REASON_INVALID, "the parameter is not %s", expected);
    return error_field(error, "%s", pair->name);
}

static Status parameter_json(const ProtobufCFieldDescriptor *field, const HttpPair *pair,
                             Json **ret_json, Error *error)
{
    int64_t number = 0;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (pair->value != NULL && !text_equal(pair->value, "true") &&
            !text_equal(pair->value, "false")) {
            return wrong_parameter(pair, "'true' or 'false'", error);
        }
        *ret_json = json_new_boolean(!text_equal(pair->value, "false"));
        return STATUS_OK;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        if (pair->value == NULL || !text_to_int64(pair->value, &number)) {
            return wrong_parameter(pair, "a whole number", error);
        }
        *ret_json = json_new_integer(number);
        return STATUS_OK;
    default:
        *ret_json = json_new_text(pair->value == NULL ? "" : pair->value);
        return STATUS_OK;
    }
}

static bool is_parameter(const HttpRoute *route, const ProtobufCFieldDescriptor *field)
{
    bool takes_query = text_equal(route->method, "GET") || text_equal(route->method, "DELETE");
    return takes_query && field != NULL && field->label != PROTOBUF_C_LABEL_REPEATED &&
           (field->type != PROTOBUF_C_TYPE_MESSAGE || is_well_known(field->descriptor));
}

static Status add_query(const HttpMatch *match, const HttpInput *input,
                        const ProtobufCMessageDescriptor *descriptor, Json *request, Error *error)
{
    for (size_t i = 0; i < input->query_count; i++) {
        const HttpPair *pair = &input->query[i];
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(descriptor, pair->name);
        if (!is_parameter(match->route, field)) {
            (void)error_set(error, REASON_INVALID, "there is no parameter '%.64s'",
                            text_is_utf8(pair->name, strlen(pair->name)) ? pair->name : "?");
            return error_field(error, "%s", pair->name);
        }
        if (json_get(request, pair->name) != NULL) {
            (void)error_set(error, REASON_INVALID, "'%s' is given more than once", pair->name);
            return error_field(error, "%s", pair->name);
        }
        if (pair->value != NULL) {
            RETURN_IF_ERROR(check_value(pair->name, pair->value, error));
        }
        Json *value = NULL;
        RETURN_IF_ERROR(parameter_json(field, pair, &value, error));
        json_set(request, pair->name, value);
    }
    return STATUS_OK;
}

void http_request_name_field(const HttpRoute *route, Error *error)
{
    size_t size = strlen(route->body);
    if (size > 0 && strncmp(error->field, route->body, size) == 0 && error->field[size] == '.') {
        const char *rest = error->field + size + 1;
        (void)memmove(error->field, rest, strlen(rest) + 1);
    }
}

Status http_request_message(Arena *arena, const HttpMatch *match, const HttpInput *input,
                            const ProtobufCMessageDescriptor *descriptor,
                            ProtobufCMessage **ret_message, Error *error)
{
    const HttpRoute *route = match->route;
    CLEANUP(json_freep) Json *request = NULL;
    Json *body = NULL;
    const char *mask = NULL;
    RETURN_IF_ERROR(read_body(route, input, &body, error));
    if (route->body[0] == '\0' || text_equal(route->body, "*")) {
        request = body;
    } else {
        request = json_new_object();
        json_set(request, route->body, body);
    }
    RETURN_IF_ERROR(make_mask(arena, route, body, descriptor, &mask, error));
    RETURN_IF_ERROR(add_path(match, request, body, error));
    RETURN_IF_ERROR(add_query(match, input, descriptor, request, error));
    if (mask != NULL) {
        json_set_text(request, "update_mask", mask);
    }
    return message_from_json(arena, descriptor, request, ret_message, error);
}
