// SPDX-License-Identifier: Apache-2.0
// Which blocks of a restored directory were written since: what the agent asks before it
// publishes. A library that is preloaded into the engine notes every write in a table
// (recorder/recorder_table.h, recorder/preload/); here the table is made, and judged. The answer is
// always on the safe side: what is not known to be as it was restored is written. docs/recorder.md
// has the rules and their reasons.
//
// One thread at a time, but recorder_note_write and recorder_note_cut, which any thread may call
// between begin and free.
#pragma once

#include "common/error.h"
#include "recorder/recorder_table.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Recorder Recorder;

// What a mark stands for: a page of InnoDB, two of PostgreSQL.
#define RECORDER_BLOCK_SIZE (16 * 1024)

// Why an answer is what it is, for people.
typedef enum RecorderState {
    RECORDER_OFF,     // recording did not begin
    RECORDER_TRUSTED, // every engine process recorded, nothing escaped it
    RECORDER_ABSENT,  // an engine ran without the library
    RECORDER_DOUBTED, // something was done that the library cannot follow
} RecorderState;
const char *recorder_state_name(RecorderState state); // "off", "trusted", "absent", "doubted"

// `agent_program` is our own executable, beside which the library is installed; `table_path` is
// where the table goes. Borrowed until recorder_free.
Recorder *recorder_new(const char *agent_program, const char *table_path);
void recorder_free(Recorder *recorder); // removes the table; NULL is fine
void recorder_freep(Recorder **recorder);

// The directory holds exactly what was restored and nobody writes there yet: notes what every file
// is, sets its time of modification to one in the past (so that any write shows, however coarse the
// file system's clock), and makes the table. Without it, or when it fails, every answer is
// "written".
Status recorder_begin(Recorder *recorder, const char *directory, Error *error);

// For whoever starts an engine's process on the directory. The texts live as long as the recorder;
// NULL when nothing is recorded. The library belongs into LD_PRELOAD of the engine (not of the
// launcher, which need not be a program that it can be loaded into), the table's path into
// RECORDER_TABLE_VARIABLE.
const char *recorder_library_path(const Recorder *recorder);
const char *recorder_table_path(const Recorder *recorder);
// An engine's process was started. If it turns out not to have recorded, nothing is trusted.
void recorder_note_launch(Recorder *recorder, pid_t pid);
// We ourselves write into, or cut, a file of the directory.
void recorder_note_write(const Recorder *recorder, int fd, int64_t offset, int64_t size);

// After the engines have ended.
RecorderState recorder_state(const Recorder *recorder);

// A file as it is now, against what was restored under its path.
typedef struct RecorderView {
    const Recorder *recorder;
    const RecorderSlot *slot; // NULL: all of it is written
    bool is_untouched;        // none of it is
    int64_t same_bytes;       // of the file's beginning; behind them it is another length
} RecorderView;
// `path` is relative to the directory. Looks at the file's identity and times only: O(1).
void recorder_view(const Recorder *recorder, const char *path, RecorderView *ret_view);
// May one of the `size` bytes at `offset` differ from what was restored there? Thread-safe.
bool recorder_view_is_written(const RecorderView *view, int64_t offset, int64_t size);
