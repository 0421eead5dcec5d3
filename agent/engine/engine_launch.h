// SPDX-License-Identifier: Apache-2.0
// How an engine's processes are started: by the launcher (agent/engine/child.h), so that they die
// with us, and with the recorder in them when there is one.
#pragma once

#include "agent/engine/engine.h"
#include "common/process.h"

#include <sys/types.h>

// As process_spawn. `process->arguments` begin with the engine's program; its environment is added
// to ours, and to what the launcher and the recorder need.
Status engine_launch(const EngineOptions *options, const ProcessOptions *process, pid_t *ret_pid,
                     Error *error);
