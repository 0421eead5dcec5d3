// SPDX-License-Identifier: Apache-2.0
// The client's event stream. The same events come out wherever the stream is cut.
#include "cli/event_lines.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

static void count_event(void *context, const Json *event)
{
    size_t *count = context;
    assert(event != NULL);
    *count += 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t counts[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        EventLines lines;
        event_lines_init(&lines, count_event, &counts[i]);
        event_lines_feed(&lines, data, i == 0 ? size : size / 2);
        for (size_t at = size / 2; i == 1 && at < size; at++) {
            event_lines_feed(&lines, data + at, 1);
        }
        event_lines_done(&lines);
    }
    assert(counts[0] == counts[1]);
    return 0;
}
