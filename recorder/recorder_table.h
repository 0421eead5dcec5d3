// SPDX-License-Identifier: Apache-2.0
// The table that the recorder's preloaded library writes and the agent reads: which blocks of
// which files were written. One shared memory map of a file: a header, slots (a hash table by
// inode, made by the agent before the engine starts and never changed after), and a bitmap whose
// bits are only ever set. Nothing but the C library is used here: this is part of both sides.
// Marking is async-signal-safe, takes no lock, allocates nothing and is safe in any number of
// threads and processes.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define RECORDER_TABLE_MAGIC UINT64_C(0x317463657264666f) // "ofdrect1" in memory
#define RECORDER_TABLE_VERSION 1
// Programs that can note that they record; later ones count, but their pids are not kept.
#define RECORDER_ATTACHED_MAX 64
// The environment variable that names the table's file to the preloaded library.
#define RECORDER_TABLE_VARIABLE "HOLDFAST_RECORDER"
// What the preloaded library is called, wherever it is.
#define RECORDER_LIBRARY_NAME "libholdfast-recorder.so"

// Something happened that the library cannot follow: bits of RecorderHeader.doubts.
typedef enum RecorderDoubt {
    RECORDER_DOUBT_IO_URING = 1, // a ring was set up: its writes are not seen
    RECORDER_DOUBT_EXEC = 2,     // a program was started without the recorder
} RecorderDoubt;

typedef struct RecorderHeader {
    uint64_t magic;
    uint32_t version;
    uint32_t block_shift; // a block is 1 << block_shift bytes
    uint64_t device;      // of every file in the table
    uint64_t table_size;  // of the whole file, in bytes
    uint64_t slot_count;  // a power of two
    uint64_t slots_offset, bitmap_offset;
    uint64_t word_count; // of the bitmap, 64 bits each
    _Atomic uint32_t doubts;
    _Atomic uint32_t attached_count;
    _Atomic int32_t attached[RECORDER_ATTACHED_MAX]; // pids
} RecorderHeader;

typedef struct RecorderSlot {
    uint64_t inode; // 0: no file
    // The blocks that the file had when recording began. One more bit stands for everything behind
    // them.
    uint64_t block_count;
    uint64_t first_word;
} RecorderSlot;

typedef struct RecorderTable {
    RecorderHeader *header;
    RecorderSlot *slots;
    _Atomic uint64_t *words;
} RecorderTable;

// How many words a file of so many blocks takes.
uint64_t recorder_table_words(uint64_t block_count);
// The slot count for so many files: a power of two, at most half full.
uint64_t recorder_table_slot_count(uint64_t file_count);
// The size in bytes of a table.
uint64_t recorder_table_size(uint64_t slot_count, uint64_t word_count);
// Writes the header into zeroed memory of recorder_table_size bytes.
void recorder_table_format(void *memory, uint32_t block_shift, uint64_t device, uint64_t slot_count,
                           uint64_t word_count);
// False when the memory does not hold a whole table of this version.
bool recorder_table_open(void *memory, uint64_t size, RecorderTable *ret_table);

// Adds a file that is not there yet; only before anybody else has the table.
const RecorderSlot *recorder_table_add(RecorderTable *table, uint64_t inode, uint64_t block_count,
                                       uint64_t first_word);
// NULL: the table does not know this file.
const RecorderSlot *recorder_table_find(const RecorderTable *table, const struct stat *facts);
// Marks every block that `size` bytes at `offset` touch; a negative size means up to the end and
// whatever will be behind it.
void recorder_table_mark(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                         int64_t size);
// Is any block marked that `size` bytes at `offset` touch?
bool recorder_table_is_marked(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                              int64_t size);
// Is any block, or what is behind them, marked?
bool recorder_table_has_marks(const RecorderTable *table, const RecorderSlot *slot);
