// SPDX-License-Identifier: Apache-2.0
// The command table and what it is made of: the one source of parsing, help, completion and
// docs/cli.md. Most commands are one REST call and need no code of their own: the table says where
// each value goes.
#pragma once

#include "cli/cli.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum ValueKind {
    VALUE_TEXT,
    VALUE_INTEGER,
    VALUE_DURATION, // "1h" is sent as "3600s"
    VALUE_BYTES,    // "64MiB" is sent as 67108864
    VALUE_FLAG,     // no value; sent as true
    VALUE_BOOLEAN,  // "true" or "false"
    VALUE_LIST,     // may be given several times; sent as an array
    VALUE_SECRET,   // a file whose content is sent, "-": stdin; never the value itself
    VALUE_HEADER,   // sent as the request header that `field` names
} ValueKind;

typedef struct CommandOption {
    const char *name; // "keep-for", without the dashes; NULL ends a list
    ValueKind kind;
    const char *placeholder; // "DURATION" in the help; NULL for flags
    const char *field; // where the value goes in the body, dotted, or the query's key; NULL: the
                       // command's own
    const char *help;
    const char *choices; // words for completion, separated by spaces; or NULL
    bool is_required;
} CommandOption;

#define ARGUMENT_COUNT_MAX 4

typedef struct CommandArgument {
    const char *name;  // "DATABASE", also what {database} in the path is; NULL ends a list
    const char *field; // also sent in the body; or NULL
    const char *help;
    bool is_optional;
} CommandArgument;

// How a value is shown.
typedef enum ViewFormat {
    VIEW_TEXT,
    VIEW_NUMBER,
    VIEW_BYTES,
    VIEW_AGO,  // a moment, from now: "3m ago", "in 5m"
    VIEW_TIME, // a moment, as local time
    VIEW_DURATION,
    VIEW_PERCENT, // of 0 .. 1
    VIEW_STATE,   // a word with a colour
    VIEW_YES,     // "yes" or "no"
} ViewFormat;

typedef struct ViewColumn {
    const char *title; // NULL ends a list
    const char *field; // dotted
    ViewFormat format;
} ViewColumn;

typedef struct Invocation Invocation;

typedef struct Command {
    const char *group;   // "database"
    const char *verb;    // "create", or NULL: the group is the command
    const char *summary; // one line
    const char *method, *path;
    CommandArgument arguments[ARGUMENT_COUNT_MAX + 1];
    const CommandOption *options; // or NULL
    const char *list_key;         // the answer is a list under this key, in pages
    const ViewColumn *columns;    // of the list
    int limit;        // of a list: how many at most unless --limit says so; 0: it has no pages
    const char *done; // said after success instead of the answer: "created"
    Status (*run)(Cli *cli, const Invocation *invocation,
                  Error *error); // NULL: one REST call, as said above
    const char *details;         // more help, or NULL
    bool is_offline;             // for help and completion: cli/offline.c runs it
                                 // (cli/repository_commands.h)
} Command;

extern const Command COMMANDS[];
extern const size_t COMMAND_COUNT;
extern const CommandOption GLOBAL_OPTIONS[];

#define INVOCATION_OPTION_COUNT_MAX 256

// A command line, understood.
struct Invocation {
    const Command *command;
    const char *arguments[ARGUMENT_COUNT_MAX];
    struct {
        const CommandOption *option;
        const char *value; // "" for flags
    } options[INVOCATION_OPTION_COUNT_MAX];
    size_t option_count;
};

// NULL when the argument or option was not given.
const char *invocation_argument(const Invocation *invocation, size_t index);
const char *invocation_option(const Invocation *invocation, const char *name);
bool invocation_has(const Invocation *invocation, const char *name);
