// SPDX-License-Identifier: Apache-2.0
// Opens seals that were never made, so that a fuzzer gets at what is behind them: what a writer
// with the key, or our own mistake, could have put there. Linked with --wrap=crypto_open.
#pragma once

#include <stdbool.h>

// From now on every seal holds, and its plain is what stands in the object before the tag.
void fuzz_seals_hold(bool do_hold);
