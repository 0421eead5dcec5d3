// SPDX-License-Identifier: Apache-2.0
// Inside of options.c: names and numbers as texts, and what --help and its like print. Nobody else
// includes it.
#pragma once

#include "common/options.h"

#define OPTION_NUMBER_SIZE 32
#define OPTION_ENVIRONMENT_SIZE 128

void option_number_format(OptionType type, int64_t number, char ret_text[OPTION_NUMBER_SIZE]);
void option_environment_name(const OptionSet *set, const char *key,
                             char ret_name[OPTION_ENVIRONMENT_SIZE]);
// The text to print for --help, --version or --config-reference, malloc'd; NULL for any other
// argument.
char *options_answer(const OptionSet *set, const char *argument);
