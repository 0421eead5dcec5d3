// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the working side of a NodeCache. Thread-safe; at most 2 GiB of disk and
// 16 MiB of memory, after which it takes no more.
#pragma once

#include "repository/repository.h"
#include "repository/repository_format.h"

// Keeps a sealed node, if there is room.
void node_cache_put(NodeCache *cache, const Ref *ref, const uint8_t *sealed);
// `ret_sealed` has room for ref->stored_size. False: it is not there.
bool node_cache_get(NodeCache *cache, const Ref *ref, uint8_t *ret_sealed);
