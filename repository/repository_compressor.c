// SPDX-License-Identifier: Apache-2.0
// Compression of extents and nodes.
#include "repository/repository_compressor.h"

#include "common/memory.h"

#include <assert.h>
#include <zstd.h>

// Level 1 is for speed, so its table stays in the first cache: a fifth faster on database pages,
// and not larger (docs/decisions/0021-extents-have-32-kib.md).
#define FAST_LEVEL 1
#define FAST_HASH_LOG 11
#define FAST_MIN_MATCH 5

struct Compressor {
    ZSTD_CCtx *context;
};

static void set(const Compressor *compressor, ZSTD_cParameter parameter, int value)
{
    size_t result = ZSTD_CCtx_setParameter(compressor->context, parameter, value);
    assert(!ZSTD_isError(result));
}

Compressor *compressor_new(int level)
{
    Compressor *compressor = mem_alloc(sizeof(*compressor));
    compressor->context = ZSTD_createCCtx();
    assert(compressor->context != NULL); // out of memory, as in memory.c
    int possible = MIN(MAX(level, ZSTD_minCLevel()), ZSTD_maxCLevel());
    set(compressor, ZSTD_c_compressionLevel, possible);
    if (possible == FAST_LEVEL) {
        set(compressor, ZSTD_c_strategy, ZSTD_fast);
        set(compressor, ZSTD_c_hashLog, FAST_HASH_LOG);
        set(compressor, ZSTD_c_minMatch, FAST_MIN_MATCH);
    }
    return compressor;
}

void compressor_free(Compressor *compressor)
{
    if (compressor != NULL) {
        ZSTD_freeCCtx(compressor->context);
        mem_free(compressor);
    }
}

size_t compressor_pack(Compressor *compressor, const uint8_t *plain, size_t size, uint8_t *packed)
{
    size_t packed_size = ZSTD_compress2(compressor->context, packed, size, plain, size);
    return ZSTD_isError(packed_size) || packed_size >= size ? 0 : packed_size;
}
