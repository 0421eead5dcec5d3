// SPDX-License-Identifier: Apache-2.0
// Which backups a policy keeps: docs/retention.md. Pure; the preview and the worker ask the same
// function.
#pragma once

#include "common/arena.h"
#include "server/store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct RetentionRule {
    int keep_last;       // 0: no such rule
    int64_t keep_for_us; // 0: no such rule
} RetentionRule;

typedef struct RetentionBackup {
    const char *id;
    int64_t checkpoint_us;
    int64_t stored_bytes;
    bool is_succeeded;
    bool is_restorable; // succeeded, and no shard's restore has failed
    bool is_manual;
    // Decided:
    bool is_kept;
    const char *why; // a phrase for people
} RetentionBackup;

// Decides for the backups of one policy, newest first.
void retention_decide(Arena *arena, const RetentionRule *rule, int64_t now_us,
                      RetentionBackup *backups, size_t count);
// Rows of store_backup_retention as such backups, in the arena.
RetentionBackup *retention_backups(const StoreRows *rows, Arena *arena);
