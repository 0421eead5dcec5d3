// SPDX-License-Identifier: Apache-2.0
// Time zones, from PostgreSQL's database of them: the same on every replica, whatever its machine
// has installed. Thread-safe.
#pragma once

#include "server/service/cron.h"
#include "server/store/store.h"

typedef struct TimeZones TimeZones;

TimeZones *time_zones_new(void);
void time_zones_free(TimeZones *zones);
// The rules of an IANA zone, good for schedules after `after_us`; in the arena. REASON_INVALID
// (field "time_zone") when PostgreSQL does not know the name. Kept for a day.
Status time_zones_get(TimeZones *zones, StoreTransaction *transaction, Arena *arena,
                      const char *name, int64_t after_us, const TimeZone **ret_zone, Error *error);

// The first slot of a schedule after a moment. REASON_INVALID (field "schedule" or "time_zone"),
// REASON_SCHEDULE_NEVER_FIRES.
Status schedule_next(TimeZones *zones, StoreTransaction *transaction, const char *schedule,
                     const char *time_zone, int64_t after_us, int64_t *ret_slot_us, Error *error);
