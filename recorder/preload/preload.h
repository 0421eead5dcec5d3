// SPDX-License-Identifier: Apache-2.0
// Inside of the preloaded library: what its wrappers share. A wrapper notes what the call is going
// to write, then calls the function that the program would have called without us; it never changes
// what the program sees. No function here allocates, locks, or changes errno, and all of them may
// be called in a signal handler. This library is loaded into foreign programs: it uses the C
// library alone and defines no other symbol than the functions it wraps.
#pragma once

#include "recorder/recorder_table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// A wrapper: INTERPOSED(ssize_t, write, (int fd, const void *data, size_t size)) { ... }
// In it next_write() is the function behind us.
#define INTERPOSED(return_type, name, parameters)                                                  \
    typedef return_type(*name##_type) parameters;                                                  \
    static inline name##_type next_##name(void)                                                    \
    {                                                                                              \
        static _Atomic(void *) found;                                                              \
        union {                                                                                    \
            void *object;                                                                          \
            name##_type function;                                                                  \
        } next = {.object = preload_next(&found, #name)};                                          \
        return next.function;                                                                      \
    }                                                                                              \
    __attribute__((visibility("default"))) return_type name parameters

void *preload_next(_Atomic(void *) *found, const char *name);

// The table's slot of an open file; NULL when there is nothing to note.
const RecorderSlot *preload_find(int fd);
void preload_mark_slot(const RecorderSlot *slot, int64_t offset, int64_t size);
// As recorder_table_mark, for an open file; files that the table does not know are passed over.
void preload_mark(int fd, int64_t offset, int64_t size);
// Everything of the file of that path, if there is one.
void preload_mark_path(int directory_fd, const char *path);
// Everything of a file that was just made or cut: its inode may have been another file's before.
void preload_mark_if_empty(int fd);
// From where a file that is cut or made longer will differ, up to its end.
void preload_mark_resize(int fd, int64_t size);
void preload_doubt(RecorderDoubt doubt);
bool preload_is_recording(void);

// A write at the file's own position, which another thread may be moving. `before` is what begin
// gave to end.
int64_t preload_position_begin(int fd, int64_t size);
void preload_position_end(int fd, int64_t before, ssize_t written);

struct iovec;
int64_t preload_vector_size(const struct iovec *parts, int count);
// What the flags of an open do to the file: before and after the call.
void preload_open_begin(int directory_fd, const char *path, int flags);
void preload_open_end(int fd, int flags);
