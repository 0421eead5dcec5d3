// SPDX-License-Identifier: Apache-2.0
// The time zone database that PostgreSQL carries.
#pragma once

#include "server/store/store.h"

// Whether PostgreSQL knows this IANA name; abbreviations and POSIX rules do not count. Slow (it
// reads every zone's file).
Status store_time_zone_exists(StoreTransaction *transaction, Arena *arena, const char *name,
                              bool *ret_exists, Error *error);
// Every change of the zone's offset from UTC from `from_us` on, for year_count years, exact to the
// minute. First row: the offset at from_us. Columns: at (timestamptz), offset_seconds.
Status store_time_zone_changes(StoreTransaction *transaction, Arena *arena, const char *name,
                               int64_t from_us, int year_count, StoreRows *ret_rows, Error *error);
