// SPDX-License-Identifier: Apache-2.0
// WAL segment files: their names, which of them a backup needs, and timeline histories. For the
// PostgreSQL engine's files only.
#pragma once

#include "common/error.h"
#include "recorder/recorder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POSTGRESQL_SEGMENT_NAME_SIZE 25

void postgresql_segment_name(uint32_t timeline, uint64_t segment, int64_t segment_bytes,
                             char ret_name[POSTGRESQL_SEGMENT_NAME_SIZE]);
bool postgresql_segment_parse(const char *name, int64_t segment_bytes, uint32_t *ret_timeline,
                              uint64_t *ret_segment);
// Where `timeline` ends in the history of a later one ("1\t0/5000138\treason" lines). False: it is
// not part of it.
bool postgresql_history_switch(const char *history, uint32_t timeline, uint64_t *ret_switch_lsn);
// The newest segment of a directory: where a copy made by pg_basebackup ends.
Status postgresql_wal_newest(const char *data_directory, int64_t segment_bytes,
                             uint32_t *ret_timeline, uint64_t *ret_segment, Error *error);
// Removes the segments that starting at redo_lsn and replaying to end_lsn do not need, and makes
// everything at and behind end_lsn zeros, so that no server that is ever started on the directory
// can find anything later. The recorder (or NULL) is told.
Status postgresql_wal_trim(const char *data_directory, int64_t segment_bytes, uint64_t redo_lsn,
                           uint64_t end_lsn, const Recorder *recorder, Error *error);
