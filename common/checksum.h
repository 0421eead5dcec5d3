// SPDX-License-Identifier: Apache-2.0
// Checksums that services use to tell a damaged transfer. Thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t size); // Castagnoli (RFC 3720 B.4)
