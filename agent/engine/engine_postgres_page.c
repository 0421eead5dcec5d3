// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's page checksums: 32 interleaved FNV-1a sums over the page's words, folded and mixed
// with the page's number (src/include/storage/checksum_impl.h describes the algorithm).
#include "agent/engine/engine_postgres_page.h"

#include "common/attributes.h"

#include <assert.h>
#include <string.h>

#define SUM_COUNT 32
#define FNV_PRIME UINT32_C(16777619)
#define HEADER_CHECKSUM_OFFSET 8
#define HEADER_UPPER_OFFSET 14

static const uint32_t base_offsets[SUM_COUNT] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
};

// Eight of the sums, so that the four of a row are in registers from the first row to the last.
#define SUMS_SIZE 32
typedef uint32_t Sums VECTOR_SIZE(SUMS_SIZE);

ALWAYS_INLINE void mix(Sums *sums, const uint8_t *data)
{
    Sums mixed;
    memcpy(&mixed, data, sizeof(mixed));
    mixed ^= *sums;
    *sums = (mixed * FNV_PRIME) ^ (mixed >> 17);
}

// Compiled into each of its callers with the instructions that those may use: without AVX2 a
// multiplication of words is many shifts and additions.
ALWAYS_INLINE uint16_t checksum(const uint8_t *page, uint32_t block)
{
    static const uint8_t zeros[SUMS_SIZE] = {0};
    uint8_t first[SUMS_SIZE];
    memcpy(first, page, sizeof(first));
    memset(first + HEADER_CHECKSUM_OFFSET, 0, sizeof(uint16_t)); // as if its own field were zero
    Sums sums[4];
    memcpy(sums, base_offsets, sizeof(sums));
    for (const uint8_t *row = page; row < page + POSTGRES_PAGE_SIZE; row += sizeof(sums)) {
        mix(&sums[0], row == page ? first : row);
        mix(&sums[1], row + SUMS_SIZE);
        mix(&sums[2], row + 2 * SUMS_SIZE);
        mix(&sums[3], row + 3 * SUMS_SIZE);
    }
    Sums all = {0};
    for (size_t i = 0; i < ARRAY_COUNT(sums); i++) {
        mix(&sums[i], zeros);
        mix(&sums[i], zeros);
        all ^= sums[i];
    }
    uint32_t result = 0;
    for (size_t i = 0; i < SUMS_SIZE / sizeof(all[0]); i++) {
        result ^= all[i];
    }
    return (uint16_t)((result ^ block) % 65535 + 1);
}

uint16_t postgres_page_checksum_portable(const uint8_t *page, uint32_t block)
{
    return checksum(page, block);
}

#if defined(__x86_64__)
NEEDS_PROCESSOR("avx2")
static uint16_t checksum_with_avx2(const uint8_t *page, uint32_t block)
{
    return checksum(page, block);
}
#endif

uint16_t postgres_page_checksum(const uint8_t *page, uint32_t block)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        return checksum_with_avx2(page, block);
    }
#endif
    return postgres_page_checksum_portable(page, block);
}

bool postgres_page_is_valid(const uint8_t *page, uint32_t block)
{
    uint16_t stored;
    uint16_t upper;
    memcpy(&stored, page + HEADER_CHECKSUM_OFFSET, sizeof(stored));
    memcpy(&upper, page + HEADER_UPPER_OFFSET, sizeof(upper));
    if (upper != 0) {
        return stored == postgres_page_checksum(page, block);
    }
    return page[0] == 0 && memcmp(page, page + 1, POSTGRES_PAGE_SIZE - 1) == 0;
}

bool postgres_page_check(void *context, const uint8_t *data, size_t size, int64_t offset,
                         int64_t *bad_page)
{
    const PostgresPageFile *file = context;
    assert(file != NULL);
    assert(offset % POSTGRES_PAGE_SIZE == 0);
    int64_t first_page = offset / POSTGRES_PAGE_SIZE;
    uint32_t first_block = file->segment * (uint32_t)POSTGRES_SEGMENT_PAGES + (uint32_t)first_page;
    size_t page_count = size / POSTGRES_PAGE_SIZE;
    for (size_t i = 0; i < page_count; i++) {
        if (!postgres_page_is_valid(data + i * POSTGRES_PAGE_SIZE, first_block + (uint32_t)i)) {
            *bad_page = first_page + (int64_t)i;
            return false;
        }
    }
    if (size % POSTGRES_PAGE_SIZE != 0) {
        *bad_page = first_page + (int64_t)page_count;
        return false;
    }
    return true;
}

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9') {
        text++;
    }
    return text;
}

static bool is_relation_directory(const char *path)
{
    return strncmp(path, "base/", 5) == 0 || strncmp(path, "global/", 7) == 0 ||
           strncmp(path, "pg_tblspc/", 10) == 0;
}

bool postgres_page_file(const char *path, uint32_t *ret_segment)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || !is_relation_directory(path)) {
        return false;
    }
    const char *name = slash + 1;
    if (name[0] == 't') { // a temporary relation: t<backend>_<number>
        const char *end = skip_digits(name + 1);
        if (end == name + 1 || *end != '_') {
            return false;
        }
        name = end + 1;
    }
    const char *rest = skip_digits(name);
    if (rest == name) {
        return false;
    }
    static const char *const forks[] = {"_fsm", "_vm", "_init"};
    for (size_t i = 0; i < sizeof(forks) / sizeof(forks[0]); i++) {
        size_t length = strlen(forks[i]);
        if (strncmp(rest, forks[i], length) == 0) {
            rest += length;
            break;
        }
    }
    uint32_t segment = 0;
    if (*rest == '.') {
        const char *end = skip_digits(rest + 1);
        if (end == rest + 1 || end - rest > 6) { // a relation has at most 32768 segments of 1 GiB
            return false;
        }
        for (const char *digit = rest + 1; digit < end; digit++) {
            segment = segment * 10 + (uint32_t)(*digit - '0');
        }
        rest = end;
    }
    if (*rest != '\0') {
        return false;
    }
    *ret_segment = segment;
    return true;
}
