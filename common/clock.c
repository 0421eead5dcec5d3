// SPDX-License-Identifier: Apache-2.0
// Reading clocks, and RFC 3339.
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_US INT64_C(1000000)
#define TIME_MIN_US (INT64_C(-62167219200) * SECOND_US)                 // 0000-01-01T00:00:00Z
#define TIME_MAX_US (INT64_C(253402300799) * SECOND_US + SECOND_US - 1) // the end of 9999

int64_t clock_now_us(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    assert(failed == 0);
    return (int64_t)now.tv_sec * SECOND_US + now.tv_nsec / 1000;
}

int64_t clock_monotonic_ms(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(failed == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void clock_sleep_ms(int64_t duration_ms)
{
    if (duration_ms <= 0) {
        return;
    }
    struct timespec left = {.tv_sec = (time_t)(duration_ms / 1000),
                            .tv_nsec = (long)(duration_ms % 1000) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

void time_format(int64_t time_us, char ret_text[TIME_TEXT_SIZE])
{
    // Four digits for the year is all that RFC 3339 has.
    if (time_us < TIME_MIN_US) {
        time_us = TIME_MIN_US;
    } else if (time_us > TIME_MAX_US) {
        time_us = TIME_MAX_US;
    }
    int64_t micros = time_us % SECOND_US;
    int64_t seconds = time_us / SECOND_US;
    if (micros < 0) {
        micros += SECOND_US;
        seconds--;
    }
    time_t moment = (time_t)seconds;
    struct tm parts;
    struct tm *converted = gmtime_r(&moment, &parts);
    assert(converted != NULL);
    size_t size = strftime(ret_text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    if (parts.tm_year + 1900 < 1000) { // %Y does not pad
        size = (size_t)snprintf(ret_text, TIME_TEXT_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u",
                                (unsigned)(parts.tm_year + 1900) % 10000u,
                                (unsigned)(parts.tm_mon + 1) % 100u, (unsigned)parts.tm_mday % 100u,
                                (unsigned)parts.tm_hour % 100u, (unsigned)parts.tm_min % 100u,
                                (unsigned)parts.tm_sec % 100u);
    }
    if (micros != 0) {
        (void)snprintf(ret_text + size, TIME_TEXT_SIZE - size, ".%06uZ",
                       (unsigned)micros % 1000000u);
    } else {
        (void)snprintf(ret_text + size, TIME_TEXT_SIZE - size, "Z");
    }
}

// Exactly `count` digits.
static bool read_digits(const char **text, int count, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        char c = (*text)[i];
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    *text += count;
    *ret_value = value;
    return true;
}

static bool read_literal(const char **text, const char *allowed)
{
    if (**text == '\0' || strchr(allowed, **text) == NULL) {
        return false;
    }
    (*text)++;
    return true;
}

// Up to nine digits, truncated to microseconds.
static bool read_fraction(const char **text, int64_t *ret_micros)
{
    int64_t micros = 0;
    int count = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++, count++) {
        if (count < 6) {
            micros = micros * 10 + (**text - '0');
        }
    }
    if (count == 0 || count > 9) {
        return false;
    }
    for (; count < 6; count++) {
        micros *= 10;
    }
    *ret_micros = micros;
    return true;
}

static bool read_offset(const char **text, int64_t *ret_offset_seconds)
{
    char sign = **text;
    *ret_offset_seconds = 0;
    if (read_literal(text, "Zz")) {
        return true;
    }
    int hours = 0;
    int minutes = 0;
    if (!read_literal(text, "+-") || !read_digits(text, 2, &hours) || !read_literal(text, ":") ||
        !read_digits(text, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    int64_t seconds = (hours * 60 + minutes) * 60;
    *ret_offset_seconds = sign == '-' ? -seconds : seconds;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && is_leap ? 29 : days[month - 1];
}

bool time_parse(const char *text, int64_t *ret_time_us)
{
    assert(ret_time_us != NULL);
    struct tm parts = {0};
    int year = 0;
    int month = 0;
    if (text == NULL || !read_digits(&text, 4, &year) || !read_literal(&text, "-") ||
        !read_digits(&text, 2, &month) || !read_literal(&text, "-") ||
        !read_digits(&text, 2, &parts.tm_mday) || !read_literal(&text, "Tt ") ||
        !read_digits(&text, 2, &parts.tm_hour) || !read_literal(&text, ":") ||
        !read_digits(&text, 2, &parts.tm_min) || !read_literal(&text, ":") ||
        !read_digits(&text, 2, &parts.tm_sec)) {
        return false;
    }
    // A leap second counts as the second after it.
    if (month < 1 || month > 12 || parts.tm_mday < 1 ||
        parts.tm_mday > days_in_month(year, month) || parts.tm_hour > 23 || parts.tm_min > 59 ||
        parts.tm_sec > 60) {
        return false;
    }
    int64_t micros = 0;
    int64_t offset_seconds = 0;
    if (*text == '.') {
        text++;
        if (!read_fraction(&text, &micros)) {
            return false;
        }
    }
    if (!read_offset(&text, &offset_seconds) || *text != '\0') {
        return false;
    }
    parts.tm_year = year - 1900;
    parts.tm_mon = month - 1;
    int64_t seconds = (int64_t)timegm(&parts);
    *ret_time_us = (seconds - offset_seconds) * SECOND_US + micros;
    return true;
}
