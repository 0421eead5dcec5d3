// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: zstd with what it needs between calls. One thread at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct Compressor Compressor;
Compressor *compressor_new(int level);
void compressor_free(Compressor *compressor); // NULL is fine
// The size of what was written to `packed`, which has room for `size`; 0: it would not be smaller.
size_t compressor_pack(Compressor *compressor, const uint8_t *plain, size_t size, uint8_t *packed);
