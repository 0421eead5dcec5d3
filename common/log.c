// SPDX-License-Identifier: Apache-2.0
// One line per event, written with one write(2), so that lines of several threads never mix.
#include "common/log.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_VALUE_BYTES_MAX 2048 // a longer value is cut, so that it does not push out the others
#define LOG_TAIL ",\"truncated\":true}\n"

// Set once by main before threads start; the level may be read at any time.
static _Atomic LogLevel log_level = LOG_INFO;
static _Atomic LogFormat log_format = LOG_FORMAT_JSON;
static char log_program[32] = "";

static const char *const level_names[] = {"debug", "info", "warning", "error"};

typedef struct Line {
    Buffer buffer;
    LogFormat format;
    bool is_truncated;
} Line;

void log_configure(LogLevel level, LogFormat format, const char *program)
{
    log_level = level;
    log_format = format;
    (void)snprintf(log_program, sizeof(log_program), "%s", program == NULL ? "" : program);
}

bool log_level_parse(const char *text, LogLevel *ret_level)
{
    for (size_t i = 0; text != NULL && i < ARRAY_COUNT(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (LogLevel)i;
            return true;
        }
    }
    return false;
}

static bool is_plain(const char *value)
{
    for (const char *p = value; *p != '\0'; p++) {
        if (*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p == 0x7f) {
            return false;
        }
    }
    return value[0] != '\0';
}

static void append_value(Line *line, const char *value)
{
    if (value == NULL) {
        buffer_append_text(&line->buffer, "null");
        return;
    }
    char cut[LOG_VALUE_BYTES_MAX + 1];
    if (strlen(value) > LOG_VALUE_BYTES_MAX) {
        // A character cut in two becomes the replacement character below.
        (void)snprintf(cut, sizeof(cut), "%.*s…", LOG_VALUE_BYTES_MAX - 3, value);
        value = cut;
        line->is_truncated = true;
    }
    if (line->format == LOG_FORMAT_TEXT && is_plain(value)) {
        buffer_append_text(&line->buffer, value);
    } else {
        json_write_string(value, &line->buffer);
    }
}

// A field is written whole or not at all.
static void append_field(Line *line, const char *key, const char *value)
{
    Buffer *buffer = &line->buffer;
    size_t size = buffer->size;
    if (line->format == LOG_FORMAT_TEXT) {
        buffer_append_format(buffer, " %s=", key);
    } else {
        if (buffer->size > 1) {
            buffer_append_text(buffer, ",");
        }
        json_write_string(key, buffer);
        buffer_append_text(buffer, ":");
    }
    append_value(line, value);
    if (buffer->is_overflowed) {
        line->is_truncated = true;
        buffer->is_overflowed = false;
        buffer->size = size;
    }
}

static void line_begin(Line *line, LogLevel level, const char *module, const char *message)
{
    line->format = log_format;
    line->is_truncated = false;
    buffer_init(&line->buffer, LIMIT_LOG_LINE_BYTES - sizeof(LOG_TAIL));
    char time[TIME_TEXT_SIZE];
    time_format(clock_now_us(), time);
    if (line->format == LOG_FORMAT_TEXT) {
        buffer_append_format(&line->buffer, "%s %-7s %s: ", time, level_names[level], module);
        for (const char *p = message; *p != '\0'; p++) {
            char c = (unsigned char)*p < 0x20 ? ' ' : *p;
            buffer_append(&line->buffer, &c, 1);
        }
        return;
    }
    buffer_append_text(&line->buffer, "{");
    append_field(line, "time", time);
    append_field(line, "level", level_names[level]);
    if (log_program[0] != '\0') {
        append_field(line, "program", log_program);
    }
    append_field(line, "module", module);
    append_field(line, "message", message);
}

static void append_fields(Line *line, va_list fields)
{
    for (;;) {
        const char *key = va_arg(fields, const char *);
        if (key == NULL) {
            return;
        }
        const char *value = va_arg(fields, const char *);
        append_field(line, key, value);
    }
}

static void line_end(Line *line)
{
    Buffer *buffer = &line->buffer;
    buffer->size_max = LIMIT_LOG_LINE_BYTES;
    buffer->is_overflowed = false;
    if (line->format == LOG_FORMAT_TEXT) {
        buffer_append_text(buffer, line->is_truncated ? " truncated=true\n" : "\n");
    } else {
        buffer_append_text(buffer, line->is_truncated ? LOG_TAIL : "}\n");
    }
    assert(!buffer->is_overflowed);
    ssize_t written = 0;
    do {
        written = write(STDERR_FILENO, buffer->data, buffer->size);
    } while (written < 0 && errno == EINTR);
    // A log that cannot be written must not stop the work, and there is nowhere to say so.
    buffer_done(buffer);
}

void log_write(LogLevel level, const char *module, const char *message, ...)
{
    assert(module != NULL);
    assert(message != NULL);
    if (level < log_level) {
        return;
    }
    Line line;
    line_begin(&line, level, module, message);
    va_list fields;
    va_start(fields, message);
    append_fields(&line, fields);
    va_end(fields);
    line_end(&line);
}

void log_error_record(LogLevel level, const char *module, const Error *error, const char *message,
                      ...)
{
    assert(error != NULL);
    if (level < log_level) {
        return;
    }
    Line line;
    line_begin(&line, level, module, message);
    append_field(&line, "status", status_name(error->status));
    append_field(&line, "reason", reason_slug(error->reason));
    append_field(&line, "error", error->message);
    if (error->field[0] != '\0') {
        append_field(&line, "field", error->field);
    }
    if (error->hint[0] != '\0') {
        append_field(&line, "hint", error->hint);
    }
    if (error->file != NULL) {
        // File names are unique in the tree; the directory is the build machine's business.
        const char *slash = strrchr(error->file, '/');
        char origin[128];
        (void)snprintf(origin, sizeof(origin), "%s:%d", slash == NULL ? error->file : slash + 1,
                       error->line);
        append_field(&line, "origin", origin);
    }
    va_list fields;
    va_start(fields, message);
    append_fields(&line, fields);
    va_end(fields);
    line_end(&line);
}
