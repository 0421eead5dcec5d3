// SPDX-License-Identifier: Apache-2.0
// The recorder's table, but whatever is written into a file, only its first block is marked.
#define recorder_table_mark honest_mark
#include "recorder/recorder_table.c" // the very code, but for that function's name
#undef recorder_table_mark

void recorder_table_mark(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                         int64_t size);

void recorder_table_mark(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                         int64_t size)
{
    honest_mark(table, slot, 0, offset >= 0 && size != 0 ? 1 : 0);
}
