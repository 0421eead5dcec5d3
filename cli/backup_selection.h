// SPDX-License-Identifier: Apache-2.0
// Which backup of a repository a command line means.
#pragma once

#include "cli/offline_session.h"

// The sets of --database (all without it), oldest first.
Status selection_list(Repository *repository, const OfflineOptions *options, Arena *arena,
                      BackupSet ***ret_sets, size_t *ret_count, Error *error);
// The same without those that cannot be opened: on_unreadable hears why of each.
Status selection_scan(Repository *repository, const OfflineOptions *options, Arena *arena,
                      void (*on_unreadable)(void *context, const char *database_id,
                                            const char *backup_id, const Error *error),
                      void *context, BackupSet ***ret_sets, size_t *ret_count, Error *error);
// The one that --backup names: an id, the unambiguous start of one, or "latest" (also without it):
// the newest complete one, of --database or of the only database that there is.
Status selection_find(Repository *repository, const OfflineOptions *options, Arena *arena,
                      const BackupSet **ret_set, Error *error);
// Whether --shard names it, or nothing is named.
bool selection_has_shard(const OfflineOptions *options, const SetShard *shard);
Json *selection_json(Arena *arena, const BackupSet *set); // the caller's
// "2026-11-21T08:00:00Z"
const char *selection_time(Arena *arena, int64_t time_us);
