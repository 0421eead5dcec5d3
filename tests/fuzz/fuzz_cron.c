// SPDX-License-Identifier: Apache-2.0
// Schedules. A slot is after the moment it was asked for, on a minute, and the same when asked
// again.
#include "common/memory.h"
#include "server/service/cron.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

#define MINUTE_US INT64_C(60000000)
#define HOUR_US (60 * MINUTE_US)

// Clocks that jump: forwards, backwards, by half an hour, over midnight, and twice in a day.
static const TimeZoneChange CHANGES[] = {
    {INT64_C(1774746000000000), 2 * HOUR_US},    // 2026-03-29 01:00
    {INT64_C(1792890000000000), HOUR_US},        // 2026-10-25 01:00
    {INT64_C(1798761600000000), 90 * MINUTE_US}, // 2027-01-01 00:00
    {INT64_C(1798765200000000), -11 * HOUR_US},  {INT64_C(1798768800000000), 13 * HOUR_US},
};
static const TimeZone ZONES[] = {
    {.first_offset_us = 0},
    {.first_offset_us = HOUR_US, .changes = CHANGES, .change_count = ARRAY_COUNT(CHANGES)},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    Cron cron;
    CLEANUP_FREE char *text = string_copy_n((const char *)data, size);
    if (cron_parse(text, &cron, &error) != STATUS_OK) {
        assert(error.reason == REASON_INVALID);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(ZONES); i++) {
        int64_t after_us = INT64_C(1774659600000000);
        for (int step = 0; step < 4; step++) {
            int64_t slot_us = 0;
            int64_t again_us = 0;
            if (!cron_next(&cron, &ZONES[i], after_us, &slot_us)) {
                break;
            }
            assert(slot_us > after_us);
            assert(slot_us % MINUTE_US == 0);
            bool is_same = cron_next(&cron, &ZONES[i], slot_us - 1, &again_us);
            assert(is_same && again_us == slot_us);
            after_us = slot_us;
        }
    }
    return 0;
}
