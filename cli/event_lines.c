// SPDX-License-Identifier: Apache-2.0
#include "cli/event_lines.h"

#include "common/text.h"

#include <string.h>

#define EVENT_BYTES_MAX (256 * 1024)

void event_lines_init(EventLines *lines, void (*on_event)(void *context, const Json *event),
                      void *context)
{
    *lines = (EventLines){.on_event = on_event, .context = context};
    buffer_init(&lines->line, EVENT_BYTES_MAX);
    buffer_init(&lines->data, EVENT_BYTES_MAX);
}

void event_lines_done(EventLines *lines)
{
    buffer_done(&lines->line);
    buffer_done(&lines->data);
}

void event_lines_begin(EventLines *lines)
{
    buffer_clear(&lines->line);
    buffer_clear(&lines->data);
}

static void end_event(EventLines *lines)
{
    CLEANUP(json_freep) Json *event = NULL;
    Error error = {0};
    if (lines->data.size > 0 && !lines->data.is_overflowed &&
        json_parse(buffer_text(&lines->data), lines->data.size, &event, &error) == STATUS_OK) {
        lines->on_event(lines->context, event);
    }
    buffer_clear(&lines->data);
}

static void end_line(EventLines *lines)
{
    const char *line = buffer_text(&lines->line);
    if (*line == '\0') {
        end_event(lines);
    } else if (text_has_prefix(line, "data:")) {
        const char *data = line + strlen("data:");
        (void)buffer_append_text(&lines->data, *data == ' ' ? data + 1 : data);
        lines->data.is_overflowed = lines->data.is_overflowed || lines->line.is_overflowed;
    }
    buffer_clear(&lines->line);
}

void event_lines_feed(EventLines *lines, const void *data, size_t size)
{
    const char *text = data;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') {
            end_line(lines);
        } else if (text[i] != '\r') {
            (void)buffer_append(&lines->line, &text[i], 1);
        }
    }
}
