// SPDX-License-Identifier: Apache-2.0
#include "server/service/retention.h"

#include "common/text.h"

#include <assert.h>
#include <string.h>

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_HOUR (3600 * US_PER_SECOND)
#define US_PER_DAY (24 * US_PER_HOUR)

static const char *const KEEPER_WORDS[] = {
#define KEEPER(name, word) word,
#include "server/service/retention_keepers.def"
#undef KEEPER
};

static const struct {
    const char *rule, *word;
} PERIODS[] = {{"keep_hourly", "hour"},
               {"keep_daily", "day"},
               {"keep_weekly", "week"},
               {"keep_monthly", "month"},
               {"keep_yearly", "year"}};

const char *retention_keeper_word(RetentionKeeper keeper)
{
    assert(keeper < RETENTION_KEEPER_COUNT);
    return KEEPER_WORDS[keeper];
}

// --- periods ----------------------------------------------------------------------------------

static int64_t floor_divide(int64_t number, int64_t divisor)
{
    int64_t quotient = number / divisor;
    return quotient * divisor > number ? quotient - 1 : quotient;
}

typedef struct Date {
    int64_t year;
    int month, day, day_of_year; // from 1
} Date;

// Of the proleptic Gregorian calendar; days since 1970. Years begin in March here, so that a leap
// day is the last.
static Date date_of(int64_t days)
{
    static const int DAYS_BEFORE[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t shifted = days + 719468; // since 0000-03-01
    int64_t era = floor_divide(shifted, 146097);
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    Date date = {.year = year_of_era + era * 400 + (month >= 10 ? 1 : 0),
                 .month = (int)(month < 10 ? month + 3 : month - 9),
                 .day = (int)(day_of_year - (153 * month + 2) / 5 + 1)};
    bool is_leap = (date.year % 4 == 0 && date.year % 100 != 0) || date.year % 400 == 0;
    date.day_of_year = DAYS_BEFORE[date.month - 1] + date.day + (is_leap && date.month > 2 ? 1 : 0);
    return date;
}

static int64_t week_of(int64_t days)
{
    return floor_divide(days + 3, 7); // 1970-01-01 was a Thursday
}

// Equal for two backups of the same period. An hour that comes twice when the clocks go back is
// two hours: its key is the moment at which it began.
static int64_t period_key(RetentionPeriod period, const RetentionBackup *backup)
{
    int64_t days = floor_divide(backup->local_us, US_PER_DAY);
    Date date = date_of(days);
    switch (period) {
    case RETENTION_HOUR:
        return floor_divide(backup->local_us, US_PER_HOUR) * US_PER_HOUR -
               (backup->local_us - backup->checkpoint_us);
    case RETENTION_DAY:
        return days;
    case RETENTION_WEEK:
        return week_of(days);
    case RETENTION_MONTH:
        return date.year * 12 + date.month;
    case RETENTION_YEAR:
    case RETENTION_PERIOD_COUNT:
    default:
        return date.year;
    }
}

static const char *period_name(Arena *arena, RetentionPeriod period, int64_t local_us)
{
    int64_t days = floor_divide(local_us, US_PER_DAY);
    Date date = date_of(days);
    Date thursday = date_of(week_of(days) * 7); // a week belongs to the year of its Thursday
    switch (period) {
    case RETENTION_HOUR:
        return arena_format(arena, "%04lld-%02d-%02d %02d:00", (long long)date.year, date.month,
                            date.day,
                            (int)(floor_divide(local_us - days * US_PER_DAY, US_PER_HOUR)));
    case RETENTION_DAY:
        return arena_format(arena, "%04lld-%02d-%02d", (long long)date.year, date.month, date.day);
    case RETENTION_WEEK:
        return arena_format(arena, "%04lld-W%02d", (long long)thursday.year,
                            (thursday.day_of_year - 1) / 7 + 1);
    case RETENTION_MONTH:
        return arena_format(arena, "%04lld-%02d", (long long)date.year, date.month);
    case RETENTION_YEAR:
    case RETENTION_PERIOD_COUNT:
    default:
        return arena_format(arena, "%04lld", (long long)date.year);
    }
}

// --- deciding ---------------------------------------------------------------------------------

// Where the walk from the newest to the oldest is. A clock that goes back over midnight can come
// back to a day once: the last two keys tell whether a period is new.
typedef struct Walk {
    const RetentionRule *rule;
    int64_t now_us;
    int restorable_count;                    // of the policy, newer than the one looked at
    int counts[RETENTION_PERIOD_COUNT];      // periods that had one
    int64_t keys[RETENTION_PERIOD_COUNT][2]; // of the last ones
} Walk;

static bool is_new_period(Walk *walk, RetentionPeriod period, const RetentionBackup *backup)
{
    int64_t key = period_key(period, backup);
    int64_t *keys = walk->keys[period];
    if ((walk->counts[period] > 0 && keys[0] == key) ||
        (walk->counts[period] > 1 && keys[1] == key)) {
        return false;
    }
    keys[1] = keys[0];
    keys[0] = key;
    walk->counts[period]++;
    return true;
}

static void keep(Arena *arena, RetentionBackup *backup, RetentionKeeper keeper, const char *why)
{
    backup->why = backup->is_kept ? arena_format(arena, "%s, %s", backup->why, why) : why;
    backup->is_kept = true;
    backup->kept_by |= 1U << keeper;
}

static const char *span(Arena *arena, int64_t duration_us)
{
    long long seconds = duration_us / US_PER_SECOND;
    if (seconds % 86400 == 0) {
        return arena_format(arena, "%lldd", seconds / 86400);
    }
    if (seconds % 3600 == 0) {
        return arena_format(arena, "%lldh", seconds / 3600);
    }
    return seconds % 60 == 0 ? arena_format(arena, "%lldm", seconds / 60)
                             : arena_format(arena, "%llds", seconds);
}

static bool has_rule(const RetentionRule *rule)
{
    bool has_one = rule->keep_last > 0 || rule->keep_for_us > 0;
    for (size_t period = 0; period < RETENTION_PERIOD_COUNT; period++) {
        has_one = has_one || rule->keep_periods[period] > 0;
    }
    return has_one;
}

// What keeps it whatever the rules are.
static void keep_by_itself(Arena *arena, RetentionBackup *backup)
{
    if (backup->is_held) {
        keep(arena, backup, RETENTION_BY_HOLD, "on legal hold");
    }
    if (backup->is_pinned) {
        keep(arena, backup, RETENTION_BY_PIN,
             backup->pinned_until != NULL
                 ? arena_format(arena, "pinned until %s", backup->pinned_until)
                 : "pinned");
    }
    if (backup->is_manual) {
        keep(arena, backup, RETENTION_BY_MANUAL,
             "started by hand: kept until it is deleted by hand");
    }
}

static void keep_by_count(Arena *arena, Walk *walk, RetentionBackup *backup)
{
    const RetentionRule *rule = walk->rule;
    if (walk->restorable_count == 0) {
        keep(arena, backup, RETENTION_BY_NEWEST, "newest restorable backup");
    }
    if (walk->restorable_count < rule->keep_last) {
        keep(arena, backup, RETENTION_BY_LAST,
             arena_format(arena, "within keep_last %d", rule->keep_last));
    }
    walk->restorable_count++;
    for (RetentionPeriod period = 0; period < RETENTION_PERIOD_COUNT; period++) {
        int count = rule->keep_periods[period];
        if (walk->counts[period] < count && is_new_period(walk, period, backup)) {
            keep(arena, backup, RETENTION_BY_HOUR + period,
                 arena_format(arena, "newest of %s %s (%s %d)", PERIODS[period].word,
                              period_name(arena, period, backup->local_us), PERIODS[period].rule,
                              count));
        }
    }
}

static const char *why_not(Arena *arena, const Walk *walk, const RetentionBackup *backup)
{
    const RetentionRule *rule = walk->rule;
    if (!backup->is_succeeded) {
        return "incomplete, and a newer backup is restorable";
    }
    const char *why = NULL;
    if (rule->keep_last > 0) {
        why = arena_format(arena, "beyond keep_last %d", rule->keep_last);
    }
    if (rule->keep_for_us > 0) {
        why = arena_format(arena, "%s%solder than keep_for %s", why != NULL ? why : "",
                           why != NULL ? " and " : "", span(arena, rule->keep_for_us));
    }
    for (RetentionPeriod period = 0; period < RETENTION_PERIOD_COUNT; period++) {
        if (rule->keep_periods[period] > 0) {
            why = arena_format(arena, "%s%snot kept by %s %d", why != NULL ? why : "",
                               why != NULL ? ", " : "", PERIODS[period].rule,
                               rule->keep_periods[period]);
        }
    }
    return backup->is_restorable ? why : arena_format(arena, "does not restore, %s", why);
}

void retention_decide(Arena *arena, const RetentionRule *rule, int64_t now_us,
                      RetentionBackup *backups, size_t count)
{
    Walk walk = {.rule = rule, .now_us = now_us};
    bool is_ruled = has_rule(rule);
    for (size_t i = 0; i < count; i++) {
        RetentionBackup *backup = &backups[i];
        backup->is_kept = false;
        backup->kept_by = 0;
        keep_by_itself(arena, backup);
        if (backup->is_manual) {
            continue; // it does not count
        }
        if (!is_ruled) {
            keep(arena, backup, RETENTION_BY_EVERYTHING, "the policy keeps every backup");
            continue;
        }
        if (!backup->is_succeeded && walk.restorable_count == 0) {
            keep(arena, backup, RETENTION_BY_INCOMPLETE,
                 "incomplete, and no newer backup is restorable");
        }
        if (backup->is_restorable) {
            keep_by_count(arena, &walk, backup);
        }
        if (rule->keep_for_us > 0 && backup->is_succeeded &&
            now_us - backup->checkpoint_us <= rule->keep_for_us) {
            keep(arena, backup, RETENTION_BY_AGE,
                 arena_format(arena, "younger than keep_for %s", span(arena, rule->keep_for_us)));
        }
        if (!backup->is_kept) {
            backup->why = why_not(arena, &walk, backup);
        }
    }
}

// --- rows -------------------------------------------------------------------------------------

RetentionRule retention_rule(const StoreRows *rows, int row)
{
    RetentionRule rule = {.keep_last = (int)store_integer(rows, row, "keep_last", 0),
                          .keep_for_us = store_integer(rows, row, "keep_for_us", 0)};
    for (RetentionPeriod period = 0; period < RETENTION_PERIOD_COUNT; period++) {
        rule.keep_periods[period] = (int)store_integer(rows, row, PERIODS[period].rule, 0);
    }
    return rule;
}

RetentionBackup *retention_backups(const StoreRows *rows, Arena *arena)
{
    RetentionBackup *backups = arena_alloc_array(arena, (size_t)rows->count + 1, sizeof(*backups));
    for (int row = 0; row < rows->count; row++) {
        backups[row] = (RetentionBackup){
            .id = store_value(rows, row, "id"),
            .checkpoint_us = store_time_us(rows, row, "checkpoint_at", 0),
            .local_us = store_integer(rows, row, "local_us", 0),
            .stored_bytes = store_integer(rows, row, "stored_bytes", 0),
            .is_succeeded = text_equal(store_value(rows, row, "state"), "succeeded"),
            .is_restorable = store_boolean(rows, row, "is_restorable"),
            .is_manual = text_equal(store_value(rows, row, "trigger"), "manual"),
            .is_held = store_boolean(rows, row, "is_held"),
            .is_pinned = store_boolean(rows, row, "is_pinned"),
            .pinned_until = store_value(rows, row, "pinned_until_text")};
    }
    return backups;
}
