// SPDX-License-Identifier: Apache-2.0
// The id that a call carries through logs and answers. Thread-safe.
#pragma once

#include "common/arena.h"

// The caller's own when it is 1..64 letters, digits and "-_.:", otherwise one that is made here.
const char *request_id_accept(Arena *arena, const char *given);
