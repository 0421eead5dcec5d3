// SPDX-License-Identifier: Apache-2.0
// Bytes, metadata, deadlines and errors between our types and gRPC core's.
#define LOG_MODULE "rpc"

#include "common/buffer.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/rpc/rpc_internal.h"
#include "common/text.h"

#include <assert.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <string.h>

static const char HEX_DIGITS[] = "0123456789ABCDEF";

// gRPC would write to stderr in its own format.
static void on_library_log(gpr_log_func_args *arguments)
{
    if (arguments->severity >= GPR_LOG_SEVERITY_ERROR) {
        log_debug("grpc core", "text", arguments->message, NULL);
    }
}

static void install_log_function(void)
{
    gpr_set_log_function(on_library_log);
}

void rpc_library_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, install_log_function);
    grpc_init();
}

// The C API's arguments are `char *` though it only reads them.
static char *unconst(const char *text)
{
    return (char *)(uintptr_t)text;
}

grpc_arg rpc_integer_argument(const char *key, int value)
{
    grpc_arg argument = {.type = GRPC_ARG_INTEGER, .key = unconst(key)};
    argument.value.integer = value;
    return argument;
}

grpc_arg rpc_string_argument(const char *key, const char *value)
{
    grpc_arg argument = {.type = GRPC_ARG_STRING, .key = unconst(key)};
    argument.value.string = unconst(value);
    return argument;
}

gpr_timespec rpc_deadline(int64_t timeout_ms)
{
    if (timeout_ms < 0) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
}

grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    // Small slices live inside the struct: only ever write through the variable that is used
    // afterwards.
    grpc_slice slice = grpc_slice_malloc(size);
    size_t packed_size = protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    assert(packed_size == size);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

Status rpc_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor,
                  grpc_byte_buffer *buffer, ProtobufCMessage **ret_message, Error *error)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, buffer)) {
        return error_set(error, REASON_INVALID, "the message cannot be read");
    }
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    Status status = message_unpack(arena, descriptor, GRPC_SLICE_START_PTR(slice),
                                   GRPC_SLICE_LENGTH(slice), ret_message, error);
    grpc_slice_unref(slice);
    return status;
}

bool rpc_slice_equal(grpc_slice slice, const char *text)
{
    size_t size = strlen(text);
    return GRPC_SLICE_LENGTH(slice) == size && memcmp(GRPC_SLICE_START_PTR(slice), text, size) == 0;
}

char *rpc_slice_text(Arena *arena, grpc_slice slice)
{
    return arena_string_n(arena, (const char *)GRPC_SLICE_START_PTR(slice),
                          GRPC_SLICE_LENGTH(slice));
}

const char *rpc_metadata_text(Arena *arena, const grpc_metadata_array *metadata, const char *key)
{
    for (size_t i = 0; i < metadata->count; i++) {
        if (rpc_slice_equal(metadata->metadata[i].key, key)) {
            return rpc_slice_text(arena, metadata->metadata[i].value);
        }
    }
    return "";
}

grpc_slice rpc_encode_value(const char *text)
{
    size_t size = 0;
    for (const char *at = text; *at != '\0'; at++) {
        size += *at < ' ' || *at > '~' || *at == '%' ? 3 : 1;
    }
    grpc_slice slice = grpc_slice_malloc(size);
    uint8_t *target = GRPC_SLICE_START_PTR(slice);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~' || *at == '%') {
            *target++ = '%';
            *target++ = (uint8_t)HEX_DIGITS[((unsigned char)*at) >> 4];
            *target++ = (uint8_t)HEX_DIGITS[((unsigned char)*at) & 15];
        } else {
            *target++ = (uint8_t)*at;
        }
    }
    return slice;
}

static int hex_value(char digit)
{
    const char *place = digit == '\0' ? NULL : strchr(HEX_DIGITS, digit);
    return place == NULL ? -1 : (int)(place - HEX_DIGITS);
}

void rpc_decode_value(char *text)
{
    char *target = text;
    for (const char *at = text; *at != '\0'; at++) {
        int high = *at == '%' ? hex_value(at[1]) : -1;
        int low = high >= 0 ? hex_value(at[2]) : -1;
        int value = high * 16 + low;
        if (low >= 0 && value != 0) {
            *target++ = (char)(unsigned char)value;
            at += 2;
        } else {
            *target++ = *at;
        }
    }
    *target = '\0';
}

static Reason reason_of_code(grpc_status_code code)
{
    switch (code) {
    case GRPC_STATUS_CANCELLED:
        return REASON_CANCELED;
    case GRPC_STATUS_INVALID_ARGUMENT:
    case GRPC_STATUS_OUT_OF_RANGE:
        return REASON_INVALID;
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        return REASON_DEADLINE;
    case GRPC_STATUS_NOT_FOUND:
        return REASON_NOT_FOUND;
    case GRPC_STATUS_ALREADY_EXISTS:
        return REASON_EXISTS;
    case GRPC_STATUS_PERMISSION_DENIED:
        return REASON_FORBIDDEN;
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return REASON_EXHAUSTED;
    case GRPC_STATUS_FAILED_PRECONDITION:
        return REASON_PRECONDITION;
    case GRPC_STATUS_ABORTED:
        return REASON_CONFLICT;
    case GRPC_STATUS_UNIMPLEMENTED:
        return REASON_UNIMPLEMENTED;
    case GRPC_STATUS_OK: // of a stream that should not have ended
    case GRPC_STATUS_UNAVAILABLE:
        return REASON_UNAVAILABLE;
    case GRPC_STATUS_UNAUTHENTICATED:
        return REASON_UNAUTHENTICATED;
    case GRPC_STATUS_UNKNOWN:
    case GRPC_STATUS_INTERNAL:
    case GRPC_STATUS_DATA_LOSS:
    case GRPC_STATUS__DO_NOT_USE:
    default:
        return REASON_INTERNAL;
    }
}

static const char *decoded_metadata(Arena *arena, const grpc_metadata_array *metadata,
                                    const char *key)
{
    char *text = arena_string(arena, rpc_metadata_text(arena, metadata, key));
    rpc_decode_value(text);
    return text;
}

Status rpc_error_from_status(Error *error, const char *address, grpc_status_code code,
                             grpc_slice details, const grpc_metadata_array *trailing)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *message = rpc_slice_text(arena, details);
    const char *slug = rpc_metadata_text(arena, trailing, RPC_METADATA_REASON);
    Reason reason = reason_of_code(code);
    if (slug[0] == '\0' && reason == REASON_UNAVAILABLE) {
        (void)error_set(error, reason, "'%s' cannot be reached: %s", address,
                        code == GRPC_STATUS_OK ? "the stream was closed" : message);
    } else if (slug[0] == '\0' && reason == REASON_DEADLINE) {
        (void)error_set(error, reason, "'%s' did not answer in time", address);
    } else {
        Reason named_reason = reason_from_slug(slug);
        if (text_equal(reason_slug(named_reason), slug)) {
            reason = named_reason;
        }
        (void)error_set(error, reason, "%s", message);
    }
    if (code > GRPC_STATUS_OK && code <= GRPC_STATUS_UNAUTHENTICATED) {
        error->status = (Status)code;
    }
    const char *field = decoded_metadata(arena, trailing, RPC_METADATA_FIELD);
    if (field[0] != '\0') {
        (void)error_field(error, "%s", field);
    }
    const char *hint = decoded_metadata(arena, trailing, RPC_METADATA_HINT);
    if (hint[0] != '\0') {
        (void)error_hint(error, "%s", hint);
    }
    return error->status;
}
