// SPDX-License-Identifier: Apache-2.0
// Cron schedules in a time zone: docs/schedules.md. Pure functions.
#pragma once

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRON_TEXT_SIZE_MAX 256
#define CRON_YEAR_COUNT                                                                            \
    9 // 29 February comes back after 8 years at most (1896 to 1904, 2096 to 2104)

typedef struct Cron {
    uint64_t minutes; // bit n: minute n
    uint32_t hours;
    uint32_t days;                   // of the month, from bit 1
    uint32_t months;                 // from bit 1
    uint32_t weekdays;               // bit 0: Sunday
    bool is_any_day, is_any_weekday; // the field starts with '*'
    bool is_absolute; // every hour or every minute: follows absolute time through a change of the
                      // clocks
} Cron;

// REASON_INVALID, field "schedule", says which part is wrong and what it may be.
Status cron_parse(const char *text, Cron *ret_cron, Error *error);

// What a zone's clocks are ahead of UTC, from each change on.
typedef struct TimeZoneChange {
    int64_t at_us;
    int64_t offset_us; // from then on
} TimeZoneChange;
typedef struct TimeZone {
    int64_t first_offset_us;       // before the first change
    const TimeZoneChange *changes; // in order
    size_t change_count;
} TimeZone;

// The first slot after `after_us`; false: none within CRON_YEAR_COUNT years.
bool cron_next(const Cron *cron, const TimeZone *zone, int64_t after_us, int64_t *ret_slot_us);
