// SPDX-License-Identifier: Apache-2.0
// Part of the command table: the options of the commands on keys and on repositories themselves.
#pragma once

#include "cli/command.h"

#define OFFLINE_DETAILS "*Offline*: needs only the repository and its key file. "

extern const CommandOption REPOSITORY_CREATE[];
extern const CommandOption REPOSITORY_UPDATE[];
extern const CommandOption OFFLINE_KEY_ONLY[];
extern const CommandOption OFFLINE[];
extern const CommandOption OFFLINE_CHECK[];
extern const CommandOption OFFLINE_COPY[];
extern const CommandOption OFFLINE_DIFF[];
extern const CommandOption ROTATE_DATA_KEY[];
extern const CommandOption DESTROY_DATA_KEYS[];
extern const CommandOption ROTATE_KEY[];
extern const CommandOption DESTROY_KEY[];
extern const CommandOption OFFLINE_RESTORE[];
