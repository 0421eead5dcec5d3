// SPDX-License-Identifier: Apache-2.0
// Compares what a recorder says was written with what really differs from the restored copy. Fails
// the test where something differs that is not said to be written.
#pragma once

#include "recorder/recorder.h"

typedef struct RecorderCheck {
    int64_t changed_bytes, written_bytes, size_bytes; // in blocks of the recorder
} RecorderCheck;

// A recorder with the library that the build made, begun on the directory.
Recorder *recorder_check_begin(const char *data_directory, char *table_path);
// One file of the directory (path relative to it) against the restored copy's.
void recorder_check_file(const Recorder *recorder, const char *data_directory,
                         const char *restored_directory, const char *path, RecorderCheck *check);
// Every file of it.
void recorder_check_tree(const Recorder *recorder, const char *data_directory,
                         const char *restored_directory, RecorderCheck *check);
// The engine recorded, and the answer was of use: less is written than exists. Says the ratio.
void recorder_check_end(const Recorder *recorder, const RecorderCheck *check, const char *what);
// Kills the engine whose pid is the first word of that file, and its children (SIGKILL), and waits
// until they are gone.
void recorder_check_kill(const char *directory, const char *pid_file);
