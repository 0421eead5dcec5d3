// SPDX-License-Identifier: Apache-2.0
// What every fuzz target defines: libFuzzer calls it with what it made up, replay_main.c with the
// files of the corpus. Whatever the bytes are, it returns 0; what must not be ends the program: a
// sanitizer's report, or an assertion about what was read.
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
