// SPDX-License-Identifier: Apache-2.0
// One operation on an object store that answers what the input says. Input: a word for the
// operation (list, get, head, range, put, delete, many, uploads), a line break, and the answers
// (fuzz_http.h).
#pragma once

#include "storage/storage_options.h"

#include <stddef.h>
#include <stdint.h>

int fuzz_store(const StorageOptions *options, const uint8_t *data, size_t size);
