// SPDX-License-Identifier: Apache-2.0
// Answers of a server that there is not: linked with --wrap=http_client_send and, so that retries
// wait for nothing, --wrap=clock_sleep_ms and --wrap=clock_monotonic_ms.
#pragma once

#include <stddef.h>
#include <stdint.h>

// The answers to the next requests, with a line "%%" between them, each: a line with the status,
// header lines, an empty line, the body. Then 404 without a body. Borrowed.
void fuzz_http_answers(const uint8_t *data, size_t size);
