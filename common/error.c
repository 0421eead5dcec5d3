// SPDX-License-Identifier: Apache-2.0
// Statuses and reasons as tables, and the story of a failure.
#include "common/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct StatusRow {
    const char *name;
    int http;
    bool is_retryable;
    int exit_code;
    const char *text;
} StatusRow;

typedef struct ReasonRow {
    const char *slug;
    Status status;
    const char *title;
} ReasonRow;

static const StatusRow status_rows[] = {
#define STATUS(name, grpc, http, retryable, exit_code, text)                                       \
    [grpc] = {#name, http, retryable, exit_code, text},
#include "common/status.def"
#undef STATUS
};

static const ReasonRow reason_rows[REASON_COUNT] = {
#define REASON(name, slug, status, title) [REASON_##name] = {slug, STATUS_##status, title},
#include "common/reasons.def"
#undef REASON
};

// A status can come from the wire, so an unknown number is answered, not asserted.
static const StatusRow *status_row(Status status)
{
    unsigned index = (unsigned)status;
    return index < ARRAY_COUNT(status_rows) ? &status_rows[index] : &status_rows[STATUS_UNKNOWN];
}

static const ReasonRow *reason_row(Reason reason)
{
    unsigned index = (unsigned)reason;
    return index < REASON_COUNT ? &reason_rows[index] : &reason_rows[REASON_INTERNAL];
}

// Cuts at a character, so that a long message stays valid UTF-8.
static void cut_at_character(char *text, size_t capacity, int wanted_size)
{
    if (wanted_size < 0) {
        text[0] = '\0';
        return;
    }
    if ((size_t)wanted_size < capacity) {
        return;
    }
    size_t size = capacity - 1;
    size_t start = size;
    while (start > 0 && size - start < 4 && ((unsigned char)text[start - 1] & 0xc0u) == 0x80u) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (size - (start - 1) < need) {
        text[start - 1] = '\0';
    }
}

static void format_list(char *text, size_t capacity, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
static void format_list(char *text, size_t capacity, const char *format, va_list arguments)
{
    int size = vsnprintf(text, capacity, format, arguments);
    cut_at_character(text, capacity, size);
}

static void error_begin(Error *error, Reason reason, const char *file, int line)
{
    error->status = reason_status(reason);
    error->reason = reason;
    error->file = file;
    error->line = line;
    error->field[0] = '\0';
    error->hint[0] = '\0';
}

Status error_set_at(Error *error, Reason reason, const char *file, int line, const char *format,
                    ...)
{
    assert(error != NULL);
    assert(reason > REASON_NONE && reason < REASON_COUNT);
    // Formatted aside first: an argument may be the error's own text.
    char message[sizeof(error->message)];
    va_list arguments;
    va_start(arguments, format);
    format_list(message, sizeof(message), format, arguments);
    va_end(arguments);
    error_begin(error, reason, file, line);
    memcpy(error->message, message, sizeof(message));
    return error->status;
}

Status error_set_errno_at(Error *error, Reason otherwise, int number, const char *file, int line,
                          const char *format, ...)
{
    assert(error != NULL);
    Reason reason = otherwise;
    if (number == ENOSPC || number == EDQUOT) {
        reason = REASON_DISK_FULL;
    } else if (number == ENOENT) {
        reason = REASON_NOT_FOUND;
    } else if (number == EACCES || number == EPERM) {
        reason = REASON_FORBIDDEN;
    }
    char message[sizeof(error->message)];
    va_list arguments;
    va_start(arguments, format);
    format_list(message, sizeof(message), format, arguments);
    va_end(arguments);
    char storage[128];
    const char *description = strerror_r(number, storage, sizeof(storage));
    error_begin(error, reason, file, line);
    // The cause is worth more than the end of a long context.
    int context_size_max = (int)(sizeof(error->message) - strlen(description) - 3);
    int size = snprintf(error->message, sizeof(error->message), "%.*s: %s", context_size_max,
                        message, description);
    cut_at_character(error->message, sizeof(error->message), size);
    return error->status;
}

Status error_wrap(Error *error, const char *format, ...)
{
    assert(error != NULL);
    assert(error->status != STATUS_OK);
    char context[sizeof(error->message)];
    va_list arguments;
    va_start(arguments, format);
    format_list(context, sizeof(context), format, arguments);
    va_end(arguments);
    char message[2 * sizeof(error->message) + 2];
    int size = snprintf(message, sizeof(message), "%s: %s", context, error->message);
    message[sizeof(error->message) - 1] = '\0';
    cut_at_character(message, sizeof(error->message), size);
    memcpy(error->message, message, sizeof(error->message));
    return error->status;
}

Status error_hint(Error *error, const char *format, ...)
{
    assert(error != NULL);
    char hint[sizeof(error->hint)];
    va_list arguments;
    va_start(arguments, format);
    format_list(hint, sizeof(hint), format, arguments);
    va_end(arguments);
    memcpy(error->hint, hint, sizeof(hint));
    return error->status;
}

Status error_field(Error *error, const char *format, ...)
{
    assert(error != NULL);
    char field[sizeof(error->field)];
    va_list arguments;
    va_start(arguments, format);
    format_list(field, sizeof(field), format, arguments);
    va_end(arguments);
    memcpy(error->field, field, sizeof(field));
    return error->status;
}

void error_clear(Error *error)
{
    assert(error != NULL);
    memset(error, 0, sizeof(*error));
}

const char *status_name(Status status)
{
    return status_row(status)->name;
}

const char *status_text(Status status)
{
    return status_row(status)->text;
}

int status_http(Status status)
{
    return status_row(status)->http;
}

int status_exit_code(Status status)
{
    return status_row(status)->exit_code;
}

bool status_is_retryable(Status status)
{
    return status_row(status)->is_retryable;
}

int reason_http(Reason reason)
{
    switch (reason) {
    case REASON_BODY_TOO_LARGE:
        return 413;
    case REASON_ETAG_MISMATCH:
        return 412;
    default:
        return status_http(reason_status(reason));
    }
}

Status reason_status(Reason reason)
{
    return reason_row(reason)->status;
}

const char *reason_slug(Reason reason)
{
    return reason_row(reason)->slug;
}

const char *reason_title(Reason reason)
{
    return reason_row(reason)->title;
}

Reason reason_from_slug(const char *slug)
{
    for (int i = 0; slug != NULL && i < REASON_COUNT; i++) {
        if (strcmp(reason_rows[i].slug, slug) == 0) {
            return (Reason)i;
        }
    }
    return REASON_INTERNAL;
}
