// SPDX-License-Identifier: Apache-2.0
// What the server asks of a source without an instance: `holdfast-agent --probe | --forget-source |
// --clean-source`. The source is a JSON object on stdin, because arguments show in process lists.
// The answer is JSON on stdout: a ProbeResult (or {} for the other two), or {"reason", "message",
// "hint"} and the status' exit code.
#pragma once

// `flag` is one of the three; the exit code.
int source_command_run(const char *flag);
