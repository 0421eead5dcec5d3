// SPDX-License-Identifier: Apache-2.0
#include "recorder/recorder_table.h"

#define SLOT_COUNT_MIN 64
#define WORD_BITS 64
#define BLOCK_SHIFT_MAX 30
#define HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15)

static uint64_t align_up(uint64_t size)
{
    return (size + 63) / 64 * 64;
}

uint64_t recorder_table_words(uint64_t block_count)
{
    return block_count / WORD_BITS + 1; // room for the bit behind the end
}

uint64_t recorder_table_slot_count(uint64_t file_count)
{
    uint64_t count = SLOT_COUNT_MIN;
    while (count < file_count * 2) {
        count *= 2;
    }
    return count;
}

static uint64_t slots_offset(void)
{
    return align_up(sizeof(RecorderHeader));
}

static uint64_t bitmap_offset(uint64_t slot_count)
{
    return slots_offset() + align_up(slot_count * sizeof(RecorderSlot));
}

uint64_t recorder_table_size(uint64_t slot_count, uint64_t word_count)
{
    return bitmap_offset(slot_count) + word_count * sizeof(uint64_t);
}

void recorder_table_format(void *memory, uint32_t block_shift, uint64_t device, uint64_t slot_count,
                           uint64_t word_count)
{
    RecorderHeader *header = memory;
    header->magic = RECORDER_TABLE_MAGIC;
    header->version = RECORDER_TABLE_VERSION;
    header->block_shift = block_shift;
    header->device = device;
    header->table_size = recorder_table_size(slot_count, word_count);
    header->slot_count = slot_count;
    header->slots_offset = slots_offset();
    header->bitmap_offset = bitmap_offset(slot_count);
    header->word_count = word_count;
}

static bool is_whole(const RecorderHeader *header, uint64_t size)
{
    if (size < sizeof(*header) || header->magic != RECORDER_TABLE_MAGIC ||
        header->version != RECORDER_TABLE_VERSION || header->table_size != size ||
        header->block_shift > BLOCK_SHIFT_MAX) {
        return false;
    }
    uint64_t slot_count = header->slot_count;
    return slot_count >= SLOT_COUNT_MIN && (slot_count & (slot_count - 1)) == 0 &&
           slot_count <= size / sizeof(RecorderSlot) &&
           header->word_count <= size / sizeof(uint64_t) &&
           header->slots_offset == slots_offset() &&
           header->bitmap_offset == bitmap_offset(slot_count) &&
           recorder_table_size(slot_count, header->word_count) == size;
}

bool recorder_table_open(void *memory, uint64_t size, RecorderTable *ret_table)
{
    RecorderHeader *header = memory;
    if (!is_whole(header, size)) {
        return false;
    }
    uint8_t *bytes = memory;
    ret_table->header = header;
    ret_table->slots = (RecorderSlot *)(void *)(bytes + header->slots_offset);
    ret_table->words = (_Atomic uint64_t *)(void *)(bytes + header->bitmap_offset);
    return true;
}

static uint64_t first_place(const RecorderTable *table, uint64_t inode)
{
    return (inode * HASH_FACTOR >> 20) & (table->header->slot_count - 1);
}

const RecorderSlot *recorder_table_add(RecorderTable *table, uint64_t inode, uint64_t block_count,
                                       uint64_t first_word)
{
    uint64_t mask = table->header->slot_count - 1;
    uint64_t place = first_place(table, inode);
    while (table->slots[place].inode != 0) {
        place = (place + 1) & mask;
    }
    table->slots[place] = (RecorderSlot){inode, block_count, first_word};
    return &table->slots[place];
}

const RecorderSlot *recorder_table_find(const RecorderTable *table, const struct stat *facts)
{
    if (!S_ISREG(facts->st_mode) || facts->st_dev != table->header->device) {
        return NULL;
    }
    uint64_t mask = table->header->slot_count - 1;
    uint64_t place = first_place(table, facts->st_ino);
    for (uint64_t tried = 0; tried <= mask && table->slots[place].inode != 0; tried++) {
        if (table->slots[place].inode == facts->st_ino) {
            return &table->slots[place];
        }
        place = (place + 1) & mask;
    }
    return NULL;
}

static void set_bits(_Atomic uint64_t *word, uint64_t bits)
{
    // Most writes go where there was one already: looking keeps the line shared.
    if ((atomic_load_explicit(word, memory_order_relaxed) & bits) != bits) {
        atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
    }
}

// The blocks of a range, and the bits of one word that stand for them.
typedef struct BlockRange {
    uint64_t first, last;
} BlockRange;

static BlockRange range_of(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                           int64_t size)
{
    uint64_t behind = slot->block_count;
    uint64_t first = (uint64_t)offset >> table->header->block_shift;
    uint64_t last = size < 0 || size > INT64_MAX - offset
                        ? behind
                        : ((uint64_t)offset + (uint64_t)size - 1) >> table->header->block_shift;
    return (BlockRange){first < behind ? first : behind, last < behind ? last : behind};
}

static uint64_t bits_in(const BlockRange *range, uint64_t word)
{
    uint64_t bits = UINT64_MAX;
    if (word == range->first / WORD_BITS) {
        bits &= UINT64_MAX << range->first % WORD_BITS;
    }
    if (word == range->last / WORD_BITS) {
        bits &= UINT64_MAX >> (WORD_BITS - 1 - range->last % WORD_BITS);
    }
    return bits;
}

void recorder_table_mark(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                         int64_t size)
{
    if (size == 0 || offset < 0) {
        return; // nothing is written, or the call will fail
    }
    BlockRange range = range_of(table, slot, offset, size);
    _Atomic uint64_t *words = table->words + slot->first_word;
    for (uint64_t word = range.first / WORD_BITS; word <= range.last / WORD_BITS; word++) {
        set_bits(&words[word], bits_in(&range, word));
    }
}

bool recorder_table_is_marked(const RecorderTable *table, const RecorderSlot *slot, int64_t offset,
                              int64_t size)
{
    if (size == 0 || offset < 0) {
        return false;
    }
    BlockRange range = range_of(table, slot, offset, size);
    const _Atomic uint64_t *words = table->words + slot->first_word;
    for (uint64_t word = range.first / WORD_BITS; word <= range.last / WORD_BITS; word++) {
        if ((atomic_load_explicit(&words[word], memory_order_relaxed) & bits_in(&range, word)) !=
            0) {
            return true;
        }
    }
    return false;
}

bool recorder_table_has_marks(const RecorderTable *table, const RecorderSlot *slot)
{
    return recorder_table_is_marked(table, slot, 0, -1);
}
