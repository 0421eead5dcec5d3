// SPDX-License-Identifier: Apache-2.0
#include "server/service/cron.h"

#include "common/attributes.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_MINUTE (60 * US_PER_SECOND)
#define MINUTES_PER_DAY 1440

typedef struct CronField {
    const char *name;
    int minimum, maximum;
    const char *const *words; // names of the values from `minimum` on, or NULL
    int word_count;
} CronField;

static const char *const MONTH_WORDS[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const DAY_WORDS[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
static const CronField FIELDS[] = {{"minute", 0, 59, NULL, 0},
                                   {"hour", 0, 23, NULL, 0},
                                   {"day of month", 1, 31, NULL, 0},
                                   {"month", 1, 12, MONTH_WORDS, 12},
                                   {"day of week", 0, 7, DAY_WORDS, 7}};

static const struct {
    const char *name, *schedule;
} SHORTHANDS[] = {{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
                  {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
                  {"@annually", "0 0 1 1 *"}};

static Status bad_schedule(Error *error)
{
    error_field(error, "schedule");
    return error_hint(error, "write five fields: minute hour day-of-month month day-of-week, like "
                             "'30 2 * * *' for half past two every day, or @hourly, @daily, "
                             "@weekly, @monthly");
}

// A number or a word; moves past it.
static bool read_value(const CronField *field, const char **text, int *ret_value)
{
    if (isdigit((unsigned char)**text)) {
        int value = 0;
        for (int i = 0; isdigit((unsigned char)**text); i++, (*text)++) {
            if (i == 4) {
                return false;
            }
            value = value * 10 + (**text - '0');
        }
        *ret_value = value;
        return true;
    }
    for (int i = 0; i < field->word_count; i++) {
        if (strncasecmp(*text, field->words[i], 3) == 0) {
            *text += 3;
            *ret_value = field->minimum + i;
            return true;
        }
    }
    return false;
}

// "*", "n", "n-m", each but "n" with "/step"; moves past it.
static bool read_item(const CronField *field, const char **text, uint64_t *set)
{
    int first = field->minimum;
    int last = field->maximum;
    bool is_single = false;
    if (**text == '*') {
        (*text)++;
        last = field->words == DAY_WORDS ? 6 : last;
    } else {
        if (!read_value(field, text, &first)) {
            return false;
        }
        last = first;
        is_single = **text != '-';
        if (!is_single) {
            (*text)++;
            if (!read_value(field, text, &last)) {
                return false;
            }
        }
    }
    int step = 1;
    if (**text == '/') {
        (*text)++;
        if (is_single || !isdigit((unsigned char)**text) || !read_value(field, text, &step)) {
            return false;
        }
    }
    if (first < field->minimum || last > field->maximum || first > last || step < 1 ||
        step > field->maximum) {
        return false;
    }
    for (int value = first; value <= last; value += step) {
        *set |= UINT64_C(1) << value;
    }
    return true;
}

static Status read_field(const CronField *field, const char *text, uint64_t *ret_set, Error *error)
{
    uint64_t set = 0;
    const char *rest = text;
    bool is_good = read_item(field, &rest, &set);
    while (is_good && *rest == ',') {
        rest++;
        is_good = read_item(field, &rest, &set);
    }
    if (!is_good || *rest != '\0') {
        error_set(error, REASON_INVALID, "the %s of the schedule is '%s'", field->name, text);
        error_field(error, "schedule");
        return error_hint(error,
                          "use '*', numbers from %d to %d%s, ranges 'a-b', steps '*/n' or "
                          "'a-b/n', and lists with ','",
                          field->minimum, field->maximum,
                          field->words != NULL ? " or three-letter names" : "");
    }
    *ret_set = set;
    return STATUS_OK;
}

Status cron_parse(const char *text, Cron *ret_cron, Error *error)
{
    if (text == NULL || text[strspn(text, " \t")] == '\0') {
        error_set(error, REASON_INVALID, "the schedule is missing");
        return bad_schedule(error);
    }
    char copy[CRON_TEXT_SIZE_MAX];
    if (strlen(text) >= sizeof(copy)) {
        error_set(error, REASON_INVALID, "the schedule has more than %d characters",
                  CRON_TEXT_SIZE_MAX - 1);
        return bad_schedule(error);
    }
    memcpy(copy, text, strlen(text) + 1);
    for (size_t i = 0; i < ARRAY_COUNT(SHORTHANDS); i++) {
        if (strcasecmp(text, SHORTHANDS[i].name) == 0) {
            snprintf(copy, sizeof(copy), "%s", SHORTHANDS[i].schedule);
        }
    }
    if (copy[0] == '@') {
        error_set(error, REASON_INVALID, "the schedule '%s' is not known", copy);
        return bad_schedule(error);
    }
    uint64_t sets[ARRAY_COUNT(FIELDS)] = {0};
    bool is_star[ARRAY_COUNT(FIELDS)] = {false};
    size_t count = 0;
    char *rest = NULL;
    for (char *field = strtok_r(copy, " \t", &rest); field != NULL;
         field = strtok_r(NULL, " \t", &rest), count++) {
        if (count == ARRAY_COUNT(FIELDS)) {
            error_set(error, REASON_INVALID, "the schedule has more than five fields");
            return bad_schedule(error);
        }
        is_star[count] = field[0] == '*';
        RETURN_IF_ERROR(read_field(&FIELDS[count], field, &sets[count], error));
    }
    if (count < ARRAY_COUNT(FIELDS)) {
        error_set(error, REASON_INVALID, "the schedule has %zu of five fields", count);
        return bad_schedule(error);
    }
    Cron cron = {.minutes = sets[0],
                 .hours = (uint32_t)sets[1],
                 .days = (uint32_t)sets[2],
                 .months = (uint32_t)sets[3],
                 .weekdays = (uint32_t)(sets[4] | (sets[4] >> 7)) & 0x7f, // 7 is Sunday too
                 .is_any_day = is_star[2],
                 .is_any_weekday = is_star[4]};
    cron.is_absolute = cron.minutes == (UINT64_C(1) << 60) - 1 || cron.hours == (1U << 24) - 1;
    *ret_cron = cron;
    return STATUS_OK;
}

// --- the calendar: days since 1970-01-01, proleptic Gregorian (Howard Hinnant, "chrono-compatible
// low-level date algorithms") ---

static void date_of(int64_t day, int *ret_month, int *ret_day_of_month)
{
    day += 719468;
    int64_t era = (day >= 0 ? day : day - 146096) / 146097;
    int64_t day_of_era = day - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153; // March is 0
    *ret_day_of_month = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *ret_month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
}

static int64_t floor_div(int64_t value, int64_t divisor)
{
    return value / divisor - (value % divisor < 0 ? 1 : 0);
}

static bool day_matches(const Cron *cron, int64_t day)
{
    int month;
    int day_of_month;
    date_of(day, &month, &day_of_month);
    if ((cron->months >> month & 1) == 0) {
        return false;
    }
    int weekday = (int)(((day + 4) % 7 + 7) % 7); // 1970-01-01 was a Thursday
    bool is_day = (cron->days >> day_of_month & 1) != 0;
    bool is_weekday = (cron->weekdays >> weekday & 1) != 0;
    // As in every cron: when both are restricted, either is enough.
    return cron->is_any_day || cron->is_any_weekday ? is_day && is_weekday : is_day || is_weekday;
}

static bool minute_matches(const Cron *cron, int minute_of_day)
{
    return (cron->hours >> (minute_of_day / 60) & 1) != 0 &&
           (cron->minutes >> (minute_of_day % 60) & 1) != 0;
}

// The first local minute >= `minute` (since 1970, by the clock on the wall) that matches; false:
// none up to `end`.
static bool next_local(const Cron *cron, int64_t minute, int64_t end, int64_t *ret_minute)
{
    int64_t day = floor_div(minute, MINUTES_PER_DAY);
    int minute_of_day = (int)(minute - day * MINUTES_PER_DAY);
    for (; day * MINUTES_PER_DAY < end; day++, minute_of_day = 0) {
        if (!day_matches(cron, day)) {
            continue;
        }
        for (; minute_of_day < MINUTES_PER_DAY; minute_of_day++) {
            if (minute_matches(cron, minute_of_day)) {
                *ret_minute = day * MINUTES_PER_DAY + minute_of_day;
                return true;
            }
        }
    }
    return false;
}

static int64_t offset_at(const TimeZone *zone, int64_t time_us)
{
    int64_t offset = zone->first_offset_us;
    for (size_t i = 0; i < zone->change_count && zone->changes[i].at_us <= time_us; i++) {
        offset = zone->changes[i].offset_us;
    }
    return offset;
}

// The first moment at which the clock on the wall shows local_us, or, when a change skips it, the
// moment of the change.
static int64_t moment_of(const TimeZone *zone, int64_t local_us)
{
    int64_t offset = zone->first_offset_us;
    for (size_t i = 0; i < zone->change_count; i++) {
        const TimeZoneChange *change = &zone->changes[i];
        if (local_us - offset < change->at_us) {
            return local_us - offset; // shown before this change
        }
        if (local_us - change->offset_us < change->at_us) {
            return change->at_us; // between what was shown before and after: skipped
        }
        offset = change->offset_us;
    }
    return local_us - offset;
}

// Every hour or every minute: minutes of absolute time whose local form matches, so that a repeated
// hour runs twice.
static bool next_absolute(const Cron *cron, const TimeZone *zone, int64_t after_us, int64_t end_us,
                          int64_t *ret_slot_us)
{
    int64_t time_us = (floor_div(after_us, US_PER_MINUTE) + 1) * US_PER_MINUTE;
    while (time_us < end_us) {
        int64_t offset = offset_at(zone, time_us);
        int64_t change_us = end_us;
        for (size_t i = 0; i < zone->change_count; i++) {
            if (zone->changes[i].at_us > time_us) {
                change_us = MIN(end_us, zone->changes[i].at_us);
                break;
            }
        }
        int64_t local_minute;
        int64_t end_minute = floor_div(change_us + offset, US_PER_MINUTE) + 1;
        int64_t first_minute = floor_div(time_us + offset + US_PER_MINUTE - 1, US_PER_MINUTE);
        if (next_local(cron, first_minute, end_minute, &local_minute) &&
            local_minute * US_PER_MINUTE - offset < change_us) {
            *ret_slot_us = local_minute * US_PER_MINUTE - offset;
            return true;
        }
        time_us = change_us;
    }
    return false;
}

bool cron_next(const Cron *cron, const TimeZone *zone, int64_t after_us, int64_t *ret_slot_us)
{
    int64_t span_us = (int64_t)CRON_YEAR_COUNT * 366 * MINUTES_PER_DAY * US_PER_MINUTE;
    if (cron->is_absolute) {
        return next_absolute(cron, zone, after_us, after_us + span_us, ret_slot_us);
    }
    int64_t local_us = after_us + offset_at(zone, after_us);
    int64_t minute = floor_div(local_us, US_PER_MINUTE);
    int64_t end = minute + span_us / US_PER_MINUTE;
    // In the second pass of a repeated hour, minutes that match belong to the first pass, which is
    // over: go on until one is ahead.
    while (next_local(cron, minute, end, &minute)) {
        int64_t slot_us = moment_of(zone, minute * US_PER_MINUTE);
        if (slot_us > after_us) {
            *ret_slot_us = slot_us;
            return true;
        }
        minute++;
    }
    return false;
}
