// SPDX-License-Identifier: Apache-2.0
// Which backups a policy keeps: docs/retention.md. Pure; the preview and the worker ask the same
// function.
#pragma once

#include "common/arena.h"
#include "server/store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Periods of the policy's time zone.
typedef enum RetentionPeriod {
    RETENTION_HOUR,
    RETENTION_DAY,
    RETENTION_WEEK, // from Monday, as ISO 8601 has them
    RETENTION_MONTH,
    RETENTION_YEAR,
    RETENTION_PERIOD_COUNT
} RetentionPeriod;

typedef struct RetentionRule {
    int keep_last;       // 0: no such rule
    int64_t keep_for_us; // 0: no such rule
    // keep_hourly to keep_yearly: the newest of each of the last n periods that have one; 0: no
    // such rule
    int keep_periods[RETENTION_PERIOD_COUNT];
} RetentionRule;

// What keeps a backup; several may.
typedef enum RetentionKeeper {
#define KEEPER(name, word) RETENTION_BY_##name,
#include "server/service/retention_keepers.def"
#undef KEEPER
    RETENTION_KEEPER_COUNT
} RetentionKeeper;

typedef struct RetentionBackup {
    const char *id;
    int64_t checkpoint_us;
    int64_t local_us; // the checkpoint as a clock in the policy's time zone showed it, read as UTC
    int64_t stored_bytes;
    bool is_succeeded;
    bool is_restorable; // succeeded, and no shard's restore has failed
    bool is_manual;
    bool is_held;
    bool is_pinned;           // now
    const char *pinned_until; // a date for people; NULL: until it is unpinned
    // Decided:
    bool is_kept;
    unsigned kept_by; // bits: 1 << RetentionKeeper
    const char *why;  // phrases for people
} RetentionBackup;

// Decides for the backups of one policy, newest first.
void retention_decide(Arena *arena, const RetentionRule *rule, int64_t now_us,
                      RetentionBackup *backups, size_t count);
const char *retention_keeper_word(RetentionKeeper keeper); // "keep_daily"
// Columns keep_last, keep_for_us, keep_hourly ... keep_yearly of a row.
RetentionRule retention_rule(const StoreRows *rows, int row);
// Rows of store_backup_retention as such backups, in the arena.
RetentionBackup *retention_backups(const StoreRows *rows, Arena *arena);
