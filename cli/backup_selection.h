// SPDX-License-Identifier: Apache-2.0
// Which backup of a repository a command line means.
#pragma once

#include "cli/offline_session.h"

// The sets of --database (all without it), oldest first.
Status selection_list(Repository *repository, const OfflineOptions *options, Arena *arena,
                      BackupSet ***ret_sets, size_t *ret_count, Error *error);
// The one that --backup names: an id, the unambiguous start of one, or "latest" (also without it):
// the newest complete one, of --database or of the only database that there is.
Status selection_find(Repository *repository, const OfflineOptions *options, Arena *arena,
                      const BackupSet **ret_set, Error *error);
// "2026-11-21T08:00:00Z"
const char *selection_time(Arena *arena, int64_t time_us);
