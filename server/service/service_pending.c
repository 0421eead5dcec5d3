// SPDX-License-Identifier: Apache-2.0
// Handlers that are not written yet: weak, so that each one that is takes its place. This file goes
// away with the last.
#include "server/service/service_internal.h"

#define METHOD(name, snake, request, response, role, is_mutation)                                  \
    __attribute__((weak))                                                                          \
    Status service_##snake(Service *service, ServiceCall *call, const ProtobufCMessage *message,   \
                           ProtobufCMessage **ret_response, Error *error)                          \
    {                                                                                              \
        (void)service;                                                                             \
        (void)call;                                                                                \
        (void)message;                                                                             \
        (void)ret_response;                                                                        \
        return error_set(error, REASON_UNIMPLEMENTED, "%s is not there yet", #name);               \
    }
#include "server/service/methods.def"
__attribute__((weak)) Status service_ensure_admin_token(Service *service, const char *path,
                                                        bool *ret_is_new, Error *error)
{
    (void)service;
    (void)path;
    (void)ret_is_new;
    return error_set(error, REASON_UNIMPLEMENTED, "not there yet");
}
__attribute__((weak)) Status service_metrics(Service *service, Buffer *buffer, Error *error)
{
    (void)service;
    (void)buffer;
    return error_set(error, REASON_UNIMPLEMENTED, "not there yet");
}
