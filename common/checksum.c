// SPDX-License-Identifier: Apache-2.0
#include "common/checksum.h"

#define CRC32C_POLYNOMIAL 0x82f63b78U // reflected

uint32_t crc32c(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t crc = 0xffffffffU;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL & (0U - (crc & 1U)));
        }
    }
    return ~crc;
}
