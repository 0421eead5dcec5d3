// SPDX-License-Identifier: Apache-2.0
// The contract's FileDescriptorSet, with all it imports and without comments: what gRPC reflection
// serves.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern const uint8_t api_descriptors[];
extern const size_t api_descriptors_size;
