// SPDX-License-Identifier: Apache-2.0
// A storage that is far away: around another one, it makes each call take longer, or holds reads
// back until enough of them are under way at once. Thread-safe.
#pragma once

#include "storage/storage.h"

Storage *distant_storage_new(Storage *inner, int latency_ms); // takes ownership of inner
// From the read number `first` (0: the next) of objects whose keys contain `part` on, reads wait
// until `count` of them wait; then all go on, and later ones do not wait. `part` is borrowed.
void distant_storage_gate(Storage *storage, const char *part, int first, int count);
// Reads since then of objects whose keys contain `part`.
int distant_storage_read_count(Storage *storage);
// Whether so many reads came together. One that waits for half a minute gives up on it.
bool distant_storage_was_opened(Storage *storage);
