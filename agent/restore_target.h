// SPDX-License-Identifier: Apache-2.0
// The directory that a restore fills for a person. A mark in it (a file that names the restore)
// tells what an earlier try of the same restore has left from somebody's data: only a marked
// directory is ever emptied. The mark goes when the server has taken the restore.
#pragma once

#include "common/error.h"

// `owner`: what the mark says, one line: the same for all tries of one restore of one shard, and
// for nobody else.
//
// OK when the directory is missing or empty, or was left by an earlier try and is now emptied (the
// mark last, so that being killed here leaves it marked). REASON_TARGET_NOT_EMPTY for anything
// else, which is left alone.
Status restore_target_prepare(const char *directory, const char *owner, Error *error);
// Marks a directory (made when missing), durably. REASON_TARGET_NOT_EMPTY when a mark is there.
Status restore_target_mark(const char *directory, const char *owner, Error *error);
// The directory is the person's now. Fine when there is no mark.
Status restore_target_unmark(const char *directory, Error *error);
// Removes all that is in it, the mark last; the directory itself stays.
Status restore_target_empty(const char *directory, Error *error);
