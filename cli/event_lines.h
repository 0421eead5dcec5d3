// SPDX-License-Identifier: Apache-2.0
// Reads server-sent events: lines "data: {...}", a blank line ends an event (WHATWG HTML, 9.2).
// Other fields are skipped, and so is data that is no JSON. An event has at most 256 KiB. One
// thread at a time.
#pragma once

#include "common/buffer.h"
#include "common/json.h"

typedef struct EventLines {
    void (*on_event)(void *context, const Json *event); // borrowed for the call
    void *context;
    Buffer line, data;
} EventLines;

void event_lines_init(EventLines *lines, void (*on_event)(void *context, const Json *event),
                      void *context);
void event_lines_done(EventLines *lines);
// Forgets the half event of a stream that broke.
void event_lines_begin(EventLines *lines);
// The next bytes of the stream, cut anywhere.
void event_lines_feed(EventLines *lines, const void *data, size_t size);
