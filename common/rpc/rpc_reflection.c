// SPDX-License-Identifier: Apache-2.0
// Server reflection: what services there are, and the descriptor file of a name. The two versions
// of the protocol differ in their package only, so that one handler serves both.
#include "common/memory.h"
#include "common/rpc/rpc_internal.h"
#include "common/text.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"

#include <string.h>

#define NESTING_DEPTH_MAX 16

typedef Google__Protobuf__DescriptorProto MessageDescriptor;
typedef Google__Protobuf__FileDescriptorProto FileDescriptor;
typedef Google__Protobuf__FileDescriptorSet DescriptorSet;
typedef Grpc__Reflection__V1alpha__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1alpha__ServerReflectionResponse Response;

// Health's and reflection's own, embedded at build time.
extern const uint8_t rpc_descriptors[];
extern const size_t rpc_descriptors_size;

struct RpcReflection {
    const RpcServer *server;
    DescriptorSet *sets[2]; // the owner's and ours; NULL when there are none
};

static DescriptorSet *unpack_set(const uint8_t *bytes, size_t size)
{
    return (DescriptorSet *)protobuf_c_message_unpack(
        &google__protobuf__file_descriptor_set__descriptor, NULL, size, bytes);
}

Status rpc_reflection_new(const uint8_t *descriptors, size_t descriptors_size,
                          const RpcServer *server, RpcReflection **ret_reflection, Error *error)
{
    DescriptorSet *given = NULL;
    if (descriptors != NULL) {
        given = unpack_set(descriptors, descriptors_size);
        if (given == NULL) {
            return error_set(error, REASON_INTERNAL, "the descriptors cannot be read");
        }
    }
    RpcReflection *reflection = mem_alloc(sizeof(*reflection));
    reflection->server = server;
    reflection->sets[0] = given;
    reflection->sets[1] = unpack_set(rpc_descriptors, rpc_descriptors_size);
    *ret_reflection = reflection;
    return STATUS_OK;
}

void rpc_reflection_free(RpcReflection *reflection)
{
    if (reflection == NULL) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(reflection->sets); i++) {
        if (reflection->sets[i] != NULL) {
            protobuf_c_message_free_unpacked(&reflection->sets[i]->base, NULL);
        }
    }
    mem_free(reflection);
}

// ---- finding a symbol ----

// What follows "name." in `symbol`; "" when it is the name itself; NULL when it is another.
static const char *after_name(const char *symbol, const char *name)
{
    size_t size = strlen(name);
    if (strncmp(symbol, name, size) != 0) {
        return NULL;
    }
    if (symbol[size] == '\0') {
        return symbol + size;
    }
    return symbol[size] == '.' ? symbol + size + 1 : NULL;
}

static bool has_enum(Google__Protobuf__EnumDescriptorProto **enums, size_t count,
                     const char *symbol)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(enums[i]->name, symbol)) {
            return true;
        }
    }
    return false;
}

static bool message_has_own(const MessageDescriptor *message, const char *symbol)
{
    for (size_t i = 0; i < message->n_field; i++) {
        if (text_equal(message->field[i]->name, symbol)) {
            return true;
        }
    }
    return has_enum(message->enum_type, message->n_enum_type, symbol);
}

static bool has_message(MessageDescriptor **messages, size_t count, const char *symbol)
{
    for (int depth = 0; depth < NESTING_DEPTH_MAX; depth++) {
        const MessageDescriptor *found = NULL;
        const char *rest = NULL;
        for (size_t i = 0; i < count && found == NULL; i++) {
            rest = after_name(symbol, messages[i]->name);
            found = rest == NULL ? NULL : messages[i];
        }
        if (found == NULL) {
            return false;
        }
        if (rest[0] == '\0' || message_has_own(found, rest)) {
            return true;
        }
        symbol = rest;
        messages = found->nested_type;
        count = found->n_nested_type;
    }
    return false;
}

static bool has_service(const FileDescriptor *file, const char *symbol)
{
    for (size_t i = 0; i < file->n_service; i++) {
        const char *rest = after_name(symbol, file->service[i]->name);
        if (rest == NULL) {
            continue;
        }
        if (rest[0] == '\0') {
            return true;
        }
        for (size_t k = 0; k < file->service[i]->n_method; k++) {
            if (text_equal(file->service[i]->method[k]->name, rest)) {
                return true;
            }
        }
    }
    return false;
}

static bool file_has_symbol(const FileDescriptor *file, const char *symbol)
{
    const char *rest = symbol;
    if (!text_is_empty(file->package)) {
        rest = after_name(symbol, file->package);
    }
    return !text_is_empty(rest) && (has_service(file, rest) ||
                                    has_message(file->message_type, file->n_message_type, rest) ||
                                    has_enum(file->enum_type, file->n_enum_type, rest));
}

// By file name or by symbol; the other one is NULL.
static const FileDescriptor *find_file(const RpcReflection *reflection, const char *name,
                                       const char *symbol)
{
    for (size_t i = 0; i < ARRAY_COUNT(reflection->sets); i++) {
        const DescriptorSet *set = reflection->sets[i];
        for (size_t k = 0; set != NULL && k < set->n_file; k++) {
            const FileDescriptor *file = set->file[k];
            if (name != NULL ? text_equal(file->name, name) : file_has_symbol(file, symbol)) {
                return file;
            }
        }
    }
    return NULL;
}

// ---- answers ----

static void answer_file(Arena *arena, const FileDescriptor *file, Response *response)
{
    if (file == NULL) {
        Grpc__Reflection__V1alpha__ErrorResponse *missing = arena_alloc(arena, sizeof(*missing));
        grpc__reflection__v1alpha__error_response__init(missing);
        missing->error_code = STATUS_NOT_FOUND;
        missing->error_message = arena_string(arena, "there is no such file or symbol");
        response->message_response_case =
            GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
        response->error_response = missing;
        return;
    }
    Grpc__Reflection__V1alpha__FileDescriptorResponse *found = arena_alloc(arena, sizeof(*found));
    grpc__reflection__v1alpha__file_descriptor_response__init(found);
    found->n_file_descriptor_proto = 1;
    found->file_descriptor_proto = arena_alloc(arena, sizeof(ProtobufCBinaryData));
    size_t size = protobuf_c_message_get_packed_size(&file->base);
    uint8_t *bytes = arena_alloc(arena, size);
    (void)protobuf_c_message_pack(&file->base, bytes);
    found->file_descriptor_proto[0] = (ProtobufCBinaryData){size, bytes};
    response->message_response_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response->file_descriptor_response = found;
}

static bool is_listed(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

static void answer_list(Arena *arena, const RpcServer *server, Response *response)
{
    typedef Grpc__Reflection__V1alpha__ServiceResponse ServiceResponse;
    char **names = arena_alloc_array(arena, server->route_count, sizeof(*names));
    size_t count = 0;
    for (size_t i = 0; i < server->route_count; i++) {
        const char *name = server->routes[i].method.name + 1;
        char *service = arena_string_n(arena, name, strcspn(name, "/"));
        if (!is_listed(names, count, service)) {
            names[count++] = service;
        }
    }
    Grpc__Reflection__V1alpha__ListServiceResponse *list = arena_alloc(arena, sizeof(*list));
    grpc__reflection__v1alpha__list_service_response__init(list);
    list->service = arena_alloc_array(arena, count, sizeof(*list->service));
    for (size_t i = 0; i < count; i++) {
        ServiceResponse *service = arena_alloc(arena, sizeof(*service));
        grpc__reflection__v1alpha__service_response__init(service);
        service->name = names[i];
        list->service[list->n_service++] = service;
    }
    response->message_response_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response->list_services_response = list;
}

static Status on_open(void *context, RpcCall *call, const RpcRequestInfo *info,
                      const ProtobufCMessage *request, void **ret_state, Error *error)
{
    (void)context;
    (void)call;
    (void)info;
    (void)request;
    (void)error;
    *ret_state = NULL;
    return STATUS_OK;
}

static Status on_message(void *context, void *state, RpcCall *call, const ProtobufCMessage *message,
                         Error *error)
{
    (void)state;
    const RpcReflection *reflection = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Request *request = (const Request *)message;
    Response response = GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__INIT;
    Request echo = *request;
    response.valid_host = request->host;
    response.original_request = &echo;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        answer_list(arena, reflection->server, &response);
        break;
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        answer_file(arena, find_file(reflection, request->file_by_filename, NULL), &response);
        break;
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        answer_file(arena, find_file(reflection, NULL, request->file_containing_symbol), &response);
        break;
    default: // extensions: we have none
        answer_file(arena, NULL, &response);
        break;
    }
    if (!rpc_call_send(call, &response.base)) {
        return error_set(error, REASON_EXHAUSTED, "more questions than answers are read");
    }
    return STATUS_OK;
}

static const RpcMethod METHODS[] = {
    {.name = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
     .kind = RPC_BIDI_STREAM,
     .request = &grpc__reflection__v1alpha__server_reflection_request__descriptor,
     .on_open = on_open,
     .on_message = on_message},
    {.name = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
     .kind = RPC_BIDI_STREAM,
     .request = &grpc__reflection__v1alpha__server_reflection_request__descriptor,
     .on_open = on_open,
     .on_message = on_message},
};

const RpcMethod *rpc_reflection_methods(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(METHODS);
    return METHODS;
}
