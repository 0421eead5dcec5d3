// SPDX-License-Identifier: Apache-2.0
#include "server/service/time_zones.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/store/store_time_zone.h"

#include <pthread.h>
#include <string.h>

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_SECOND)
#define KEEP_MS (24 * 3600 * 1000) // PostgreSQL's zones change with its updates
#define ZONE_COUNT_MAX 1000        // more than there are
#define NAME_SIZE_MAX 64

typedef struct CachedZone {
    char name[NAME_SIZE_MAX];
    int64_t from_us; // the rules hold from here
    int64_t read_at_ms;
    int64_t first_offset_us;
    TimeZoneChange *changes;
    size_t change_count;
} CachedZone;

struct TimeZones {
    pthread_mutex_t mutex;
    CachedZone *zones;
    size_t count;
};

TimeZones *time_zones_new(void)
{
    TimeZones *zones = mem_alloc(sizeof(*zones));
    pthread_mutex_init(&zones->mutex, NULL);
    return zones;
}

void time_zones_free(TimeZones *zones)
{
    if (zones == NULL) {
        return;
    }
    for (size_t i = 0; i < zones->count; i++) {
        mem_free(zones->zones[i].changes);
    }
    mem_free(zones->zones);
    pthread_mutex_destroy(&zones->mutex);
    mem_free(zones);
}

static CachedZone *find(TimeZones *zones, const char *name)
{
    for (size_t i = 0; i < zones->count; i++) {
        if (text_equal(zones->zones[i].name, name)) {
            return &zones->zones[i];
        }
    }
    return NULL;
}

static const TimeZone *copy(Arena *arena, const CachedZone *cached)
{
    TimeZone *zone = arena_alloc(arena, sizeof(*zone));
    size_t size = cached->change_count * sizeof(TimeZoneChange);
    TimeZoneChange *changes = arena_alloc(arena, size + 1);
    if (size > 0) {
        memcpy(changes, cached->changes, size);
    }
    zone->first_offset_us = cached->first_offset_us;
    zone->changes = changes;
    zone->change_count = cached->change_count;
    return zone;
}

static const TimeZone *from_cache(TimeZones *zones, Arena *arena, const char *name,
                                  int64_t after_us)
{
    const TimeZone *zone = NULL;
    pthread_mutex_lock(&zones->mutex);
    const CachedZone *cached = find(zones, name);
    // One year of slack: the rules were read for that much more than a schedule needs.
    if (cached != NULL && clock_monotonic_ms() - cached->read_at_ms < KEEP_MS &&
        after_us >= cached->from_us && after_us < cached->from_us + 365 * US_PER_DAY) {
        zone = copy(arena, cached);
    }
    pthread_mutex_unlock(&zones->mutex);
    return zone;
}

static void to_cache(TimeZones *zones, const char *name, int64_t from_us, const TimeZone *zone)
{
    pthread_mutex_lock(&zones->mutex);
    CachedZone *cached = find(zones, name);
    if (cached == NULL && zones->count < ZONE_COUNT_MAX) {
        zones->zones = mem_realloc_array(zones->zones, zones->count + 1, sizeof(CachedZone));
        cached = &zones->zones[zones->count++];
        memset(cached, 0, sizeof(*cached));
        memcpy(cached->name, name, strlen(name) + 1);
    }
    if (cached != NULL) {
        mem_free(cached->changes);
        cached->changes = mem_alloc_array(zone->change_count + 1, sizeof(TimeZoneChange));
        if (zone->change_count > 0) {
            memcpy(cached->changes, zone->changes, zone->change_count * sizeof(TimeZoneChange));
        }
        cached->change_count = zone->change_count;
        cached->first_offset_us = zone->first_offset_us;
        cached->from_us = from_us;
        cached->read_at_ms = clock_monotonic_ms();
    }
    pthread_mutex_unlock(&zones->mutex);
}

static Status unknown_zone(const char *name, Error *error)
{
    error_set(error, REASON_INVALID, "the time zone '%.60s' is not known", name);
    error_field(error, "time_zone");
    return error_hint(error, "use an IANA name such as 'Europe/Berlin' or 'UTC'");
}

Status time_zones_get(TimeZones *zones, StoreTransaction *transaction, Arena *arena,
                      const char *name, int64_t after_us, const TimeZone **ret_zone, Error *error)
{
    *ret_zone = from_cache(zones, arena, name, after_us);
    if (*ret_zone != NULL) {
        return STATUS_OK;
    }
    if (strlen(name) == 0 || strlen(name) >= NAME_SIZE_MAX) {
        return unknown_zone(name, error);
    }
    bool does_exist = false;
    RETURN_IF_ERROR(store_time_zone_exists(transaction, arena, name, &does_exist, error));
    if (!does_exist) {
        return unknown_zone(name, error);
    }
    StoreRows rows;
    int64_t from_us = after_us - 3 * US_PER_DAY;
    from_us -= from_us % US_PER_DAY; // changes are looked for by whole minutes from here
    RETURN_IF_ERROR(store_time_zone_changes(transaction, arena, name, from_us, CRON_YEAR_COUNT + 2,
                                            &rows, error));
    TimeZone *zone = arena_alloc(arena, sizeof(*zone));
    TimeZoneChange *changes = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*changes));
    for (int row = 0; row < rows.count; row++) {
        int64_t offset_us = store_integer(&rows, row, "offset_seconds", 0) * US_PER_SECOND;
        if (row == 0) {
            zone->first_offset_us = offset_us;
        } else {
            changes[zone->change_count++] = (TimeZoneChange){
                .at_us = store_time_us(&rows, row, "at", 0), .offset_us = offset_us};
        }
    }
    zone->changes = changes;
    to_cache(zones, name, from_us, zone);
    *ret_zone = zone;
    return STATUS_OK;
}

Status schedule_next(TimeZones *zones, StoreTransaction *transaction, const char *schedule,
                     const char *time_zone, int64_t after_us, int64_t *ret_slot_us, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Cron cron;
    const TimeZone *zone = NULL;
    RETURN_IF_ERROR(cron_parse(schedule, &cron, error));
    RETURN_IF_ERROR(time_zones_get(zones, transaction, arena, time_zone, after_us, &zone, error));
    if (!cron_next(&cron, zone, after_us, ret_slot_us)) {
        error_set(error, REASON_SCHEDULE_NEVER_FIRES, "the schedule '%s' never fires", schedule);
        error_field(error, "schedule");
        return error_hint(error,
                          "its day and month never come together; 30 February is such a day");
    }
    return STATUS_OK;
}
