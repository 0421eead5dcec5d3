// SPDX-License-Identifier: Apache-2.0
// Time. Moments are int64 microseconds since 1970 UTC; spans measured by the monotonic clock.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TIME_TEXT_SIZE 28 // "2026-11-21T08:00:00.123456Z" and the NUL

int64_t clock_now_us(void);
int64_t clock_monotonic_ms(void);
void clock_sleep_ms(int64_t duration_ms);
void time_format(int64_t time_us,
                 char ret_text[TIME_TEXT_SIZE]); // RFC 3339, UTC, 6 decimals only when needed
bool time_parse(const char *text, int64_t *ret_time_us); // RFC 3339 with Z or offset
