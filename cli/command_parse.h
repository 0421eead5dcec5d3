// SPDX-License-Identifier: Apache-2.0
// From words to an Invocation. Every mistake names the nearest thing that was perhaps meant.
#pragma once

#include "cli/command.h"

typedef struct GlobalOptions {
    const char *server, *token_file, *ca_file, *output; // NULL: not given
    bool is_plain, is_help, is_version;
} GlobalOptions;

// Without a command (also: with --help), ret_invocation->command is NULL, and `ret_group` is the
// group that was named, or NULL. Texts are borrowed from the arguments.
Status command_parse(int argument_count, char **arguments, GlobalOptions *ret_globals,
                     Invocation *ret_invocation, const char **ret_group, Error *error);
// Required arguments and options are there, numbers are numbers.
Status command_check(const Invocation *invocation, Error *error);

const Command *command_find(const char *group, const char *verb); // NULL: none
bool command_group_exists(const char *group);
bool command_begins_group(size_t index); // is it the first of its group in the table?
// "database create DATABASE --engine ENGINE [options]", in the arena.
char *command_usage(Arena *arena, const Command *command);
