// SPDX-License-Identifier: Apache-2.0
// Checksums that services use to tell a damaged transfer. Thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t size); // Castagnoli (RFC 3720 B.4)
// Of what had the checksum `crc` (0: nothing yet) with these bytes after it.
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size);
// The same without the processor's help, for tests.
uint32_t crc32c_extend_portable(uint32_t crc, const void *data, size_t size);
