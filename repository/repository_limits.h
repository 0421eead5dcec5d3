// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the working side of Limits.
#pragma once

#include "repository/repository.h"

#include <stdatomic.h>

// Waits until one more thread may compute; every enter has its leave. Nothing that may wait for
// another thread belongs in between.
void limits_enter(Limits *limits);
void limits_leave(Limits *limits);
// Waits until so many bytes may go out or come in; ends early when is_stopping becomes true.
void limits_wait_upload(Limits *limits, size_t size, const atomic_bool *is_stopping);
void limits_wait_download(Limits *limits, size_t size, const atomic_bool *is_stopping);
// The same in steps, for who has to look around meanwhile: false after some 100 ms, not yet.
bool limits_try_download(Limits *limits, size_t size);
