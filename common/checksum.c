// SPDX-License-Identifier: Apache-2.0
// With the processor's instruction where it has one; else by tables for eight bytes at once. The
// instruction needs its last result three cycles later but can begin another each cycle, so that
// three parts of a long text are summed side by side and put together afterwards.
#include "common/checksum.h"

#include "common/attributes.h"

#include <pthread.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82f63b78U // reflected
#define TABLE_COUNT 8

static uint32_t tables[TABLE_COUNT][256]; // constant once they are filled
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL & (0U - (crc & 1U)));
        }
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int i = 1; i < TABLE_COUNT; i++) {
            uint32_t before = tables[i - 1][byte];
            tables[i][byte] = tables[0][before & 255] ^ (before >> 8);
        }
    }
}

static uint32_t extend_by_tables(uint32_t crc, const uint8_t *bytes, size_t size)
{
    (void)pthread_once(&tables_once, fill_tables); // cannot fail with this control
    while (size >= TABLE_COUNT) {
        crc ^= (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
               (uint32_t)bytes[3] << 24;
        crc = tables[7][crc & 255] ^ tables[6][(crc >> 8) & 255] ^ tables[5][(crc >> 16) & 255] ^
              tables[4][crc >> 24] ^ tables[3][bytes[4]] ^ tables[2][bytes[5]] ^
              tables[1][bytes[6]] ^ tables[0][bytes[7]];
        bytes += TABLE_COUNT;
        size -= TABLE_COUNT;
    }
    for (; size > 0; size--) {
        crc = tables[0][(crc ^ *bytes++) & 255] ^ (crc >> 8);
    }
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

#define LANE_SIZE 1024

static uint32_t lane_tables[4][256]; // a sum with LANE_SIZE zeros after it, by each of its bytes
static pthread_once_t lane_tables_once = PTHREAD_ONCE_INIT;

NEEDS_PROCESSOR("sse4.2")
static uint32_t extend_in_order(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint64_t wide = crc;
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes, sizeof(word));
        wide = _mm_crc32_u64(wide, word);
        bytes += sizeof(word);
    }
    crc = (uint32_t)wide;
    for (; size > 0; size--) {
        crc = _mm_crc32_u8(crc, *bytes++);
    }
    return crc;
}

static void fill_lane_tables(void)
{
    static const uint8_t zeros[LANE_SIZE] = {0};
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int i = 0; i < 4; i++) {
            lane_tables[i][byte] = extend_in_order(byte << 8 * i, zeros, sizeof(zeros));
        }
    }
}

static uint32_t over_lane(uint64_t crc)
{
    return lane_tables[0][crc & 255] ^ lane_tables[1][(crc >> 8) & 255] ^
           lane_tables[2][(crc >> 16) & 255] ^ lane_tables[3][(crc >> 24) & 255];
}

NEEDS_PROCESSOR("sse4.2")
static uint32_t extend_by_instruction(uint32_t crc, const uint8_t *bytes, size_t size)
{
    (void)pthread_once(&lane_tables_once, fill_lane_tables); // cannot fail with this control
    while (size >= 3 * LANE_SIZE) {
        uint64_t sums[3] = {crc, 0, 0};
        for (const uint8_t *end = bytes + LANE_SIZE; bytes < end; bytes += sizeof(uint64_t)) {
            uint64_t words[3];
            memcpy(&words[0], bytes, sizeof(uint64_t));
            memcpy(&words[1], bytes + LANE_SIZE, sizeof(uint64_t));
            memcpy(&words[2], bytes + (size_t)2 * LANE_SIZE, sizeof(uint64_t));
            sums[0] = _mm_crc32_u64(sums[0], words[0]);
            sums[1] = _mm_crc32_u64(sums[1], words[1]);
            sums[2] = _mm_crc32_u64(sums[2], words[2]);
        }
        crc = over_lane(over_lane(sums[0]) ^ sums[1]) ^ (uint32_t)sums[2];
        bytes += (size_t)2 * LANE_SIZE;
        size -= (size_t)3 * LANE_SIZE;
    }
    return extend_in_order(crc, bytes, size);
}

static uint32_t extend(uint32_t crc, const uint8_t *bytes, size_t size)
{
    return __builtin_cpu_supports("sse4.2") ? extend_by_instruction(crc, bytes, size)
                                            : extend_by_tables(crc, bytes, size);
}
#else
static uint32_t extend(uint32_t crc, const uint8_t *bytes, size_t size)
{
    return extend_by_tables(crc, bytes, size);
}
#endif

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size)
{
    return ~extend(~crc, data, size);
}

uint32_t crc32c_extend_portable(uint32_t crc, const void *data, size_t size)
{
    return ~extend_by_tables(~crc, data, size);
}

uint32_t crc32c(const void *data, size_t size)
{
    return crc32c_extend(0, data, size);
}
