// SPDX-License-Identifier: Apache-2.0
#include "server/service/retention.h"

#include "common/text.h"

#define US_PER_SECOND INT64_C(1000000)

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

static void keep(RetentionBackup *backup, const char *why)
{
    backup->is_kept = true;
    backup->why = why;
}

static const char *why_not(Arena *arena, const RetentionRule *rule)
{
    if (rule->keep_for_us == 0) {
        return arena_format(arena, "beyond keep_last %d", rule->keep_last);
    }
    if (rule->keep_last == 0) {
        return arena_format(arena, "older than keep_for %s", span(arena, rule->keep_for_us));
    }
    return arena_format(arena, "beyond keep_last %d and older than keep_for %s", rule->keep_last,
                        span(arena, rule->keep_for_us));
}

void retention_decide(Arena *arena, const RetentionRule *rule, int64_t now_us,
                      RetentionBackup *backups, size_t count)
{
    bool has_rule = rule->keep_last > 0 || rule->keep_for_us > 0;
    int restorable_count = 0; // of the policy, newer than the one looked at
    for (size_t i = 0; i < count; i++) {
        RetentionBackup *backup = &backups[i];
        backup->is_kept = false;
        if (backup->is_manual) {
            keep(backup, "started by hand: kept until it is deleted by hand");
            continue;
        }
        bool is_young = rule->keep_for_us > 0 && backup->is_succeeded &&
                        now_us - backup->checkpoint_us <= rule->keep_for_us;
        if (!has_rule) {
            keep(backup, "the policy keeps every backup");
        } else if (backup->is_restorable && restorable_count == 0) {
            keep(backup, "newest restorable backup");
        } else if (backup->is_restorable && restorable_count < rule->keep_last) {
            keep(backup, arena_format(arena, "within keep_last %d", rule->keep_last));
        } else if (is_young) {
            keep(backup,
                 arena_format(arena, "younger than keep_for %s", span(arena, rule->keep_for_us)));
        } else if (!backup->is_succeeded && restorable_count == 0) {
            keep(backup, "incomplete, and no newer backup is restorable");
        } else {
            backup->why = backup->is_succeeded ? why_not(arena, rule)
                                               : "incomplete, and a newer backup is restorable";
        }
        restorable_count += backup->is_restorable ? 1 : 0;
    }
}

RetentionBackup *retention_backups(const StoreRows *rows, Arena *arena)
{
    RetentionBackup *backups = arena_alloc_array(arena, (size_t)rows->count + 1, sizeof(*backups));
    for (int row = 0; row < rows->count; row++) {
        backups[row] = (RetentionBackup){
            .id = store_value(rows, row, "id"),
            .checkpoint_us = store_time_us(rows, row, "checkpoint_at", 0),
            .stored_bytes = store_integer(rows, row, "stored_bytes", 0),
            .is_succeeded = text_equal(store_value(rows, row, "state"), "succeeded"),
            .is_restorable = store_boolean(rows, row, "is_restorable"),
            .is_manual = text_equal(store_value(rows, row, "trigger"), "manual")};
    }
    return backups;
}
