// SPDX-License-Identifier: Apache-2.0
// Errors: a Status is returned, the story is in the caller's Error.
//
// An Error is a plain struct on the entry point's stack; it owns nothing. Functions that can fail
// take `Error *error` last and never NULL, return Status, and write their `ret_` outputs only on
// STATUS_OK. Libraries never log above debug: the entry point logs or answers once. A message is
// lower case, has no full stop, quotes values, and never holds a secret. The hint says what to do
// about it.
#pragma once

#include "common/attributes.h"

#include <stdbool.h>

typedef enum Status {
#define STATUS(name, grpc, http, retryable, exit_code, text) STATUS_##name = (grpc),
#include "common/status.def"
#undef STATUS
} Status;

typedef enum Reason {
#define REASON(name, slug, status, title) REASON_##name,
#include "common/reasons.def"
#undef REASON
    REASON_COUNT
} Reason;

typedef struct Error {
    Status status;
    Reason reason;
    const char *file; // where it was raised
    int line;
    char field[64];     // the request field at fault, or ""
    char message[1536]; // what happened; room for the tail of a program's own words
    char hint[512];     // what to do, or ""
} Error;

// Fills the error and returns the reason's status, so that a failure is one statement:
// `return error_set(error, REASON_NOT_FOUND, "database '%s' does not exist", name);`
#define error_set(error, reason, ...)                                                              \
    error_set_at((error), (reason), __FILE__, __LINE__, __VA_ARGS__)
Status error_set_at(Error *error, Reason reason, const char *file, int line, const char *format,
                    ...) PRINTF_LIKE(5, 6);
// Prepends "context: " to the message; keeps status, reason, field and hint. Returns error->status.
Status error_wrap(Error *error, const char *format, ...) PRINTF_LIKE(2, 3);
// Sets the hint (replacing one) or the field; both return error->status.
Status error_hint(Error *error, const char *format, ...) PRINTF_LIKE(2, 3);
Status error_field(Error *error, const char *format, ...) PRINTF_LIKE(2, 3);
// As error_set, from errno: ENOSPC and EDQUOT become REASON_DISK_FULL, ENOENT REASON_NOT_FOUND,
// EACCES and EPERM REASON_FORBIDDEN, the rest `otherwise`; ": <strerror>" is appended.
#define error_set_errno(error, otherwise, number, ...)                                             \
    error_set_errno_at((error), (otherwise), (number), __FILE__, __LINE__, __VA_ARGS__)
Status error_set_errno_at(Error *error, Reason otherwise, int number, const char *file, int line,
                          const char *format, ...) PRINTF_LIKE(6, 7);
void error_clear(Error *error);

#define RETURN_IF_ERROR(expression)                                                                \
    do {                                                                                           \
        Status return_status_ = (expression);                                                      \
        if (return_status_ != STATUS_OK) {                                                         \
            return return_status_;                                                                 \
        }                                                                                          \
    } while (0)

const char *status_name(Status status); // "NOT_FOUND"
const char *status_text(Status status);
int status_http(Status status);
int status_exit_code(Status status);
bool status_is_retryable(Status status);
// HTTP for a reason: the status's, but 413 for BODY_TOO_LARGE and 412 for ETAG_MISMATCH.
int reason_http(Reason reason);
Status reason_status(Reason reason);
const char *reason_slug(Reason reason);
const char *reason_title(Reason reason);
// REASON_INTERNAL for a slug this version does not know.
Reason reason_from_slug(const char *slug);
