// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_time_zone.h"

Status store_time_zone_exists(StoreTransaction *transaction, Arena *arena, const char *name,
                              bool *ret_exists, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "SELECT EXISTS (SELECT 1 FROM pg_timezone_names WHERE name = $1 "
                    "AND name NOT LIKE 'posix%' AND name NOT LIKE 'right/%') AS does_exist",
                    STORE_PARAMETERS(name), &rows, error));
    *ret_exists = store_boolean(&rows, 0, "does_exist");
    return STATUS_OK;
}

Status store_time_zone_changes(StoreTransaction *transaction, Arena *arena, const char *name,
                               int64_t from_us, int year_count, StoreRows *ret_rows, Error *error)
{
    // Look twice a day, then by the minute where the offset differs. No zone has changed twice
    // within half a day.
    return store_query(
        transaction, arena,
        "WITH sample AS (SELECT t, extract(epoch FROM (t AT TIME ZONE $1) - "
        "(t AT TIME ZONE 'UTC'))::int AS o FROM generate_series($2::timestamptz, "
        "$2::timestamptz + make_interval(years => $3::int), interval '12 hours') AS t), "
        "pair AS (SELECT t, o, lag(t) OVER w AS before, lag(o) OVER w AS o_before FROM sample "
        "WINDOW w AS (ORDER BY t)) "
        "SELECT $2::timestamptz AS at, o AS offset_seconds FROM sample WHERE t = $2::timestamptz "
        "UNION ALL (SELECT m.at, pair.o FROM pair CROSS JOIN LATERAL (SELECT min(t) AS at FROM "
        "generate_series(pair.before, pair.t, interval '1 minute') AS t WHERE "
        "extract(epoch FROM (t AT TIME ZONE $1) - (t AT TIME ZONE 'UTC'))::int = pair.o) m "
        "WHERE pair.o <> pair.o_before) ORDER BY at",
        STORE_PARAMETERS(name, store_time_parameter(arena, from_us),
                         store_integer_parameter(arena, year_count)),
        ret_rows, error);
}
