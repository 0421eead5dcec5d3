// SPDX-License-Identifier: Apache-2.0
// Options from one table: defaults, then a file (`key = value` lines, # comments), then
// environment, then flags. Each program has an options.def: OPTION(key, type, default, minimum,
// maximum, is_secret, help). The flag is
// --key value or --key=value (a boolean may stand alone), the environment variable PREFIX_KEY
// (upper case, '-' as '_'; empty counts as not set), the file's key the same as the flag's. An
// empty text in the file or a flag unsets.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum OptionType {
    OPTION_TEXT,
    OPTION_INTEGER,
    OPTION_BOOLEAN,
    OPTION_BYTES,
    OPTION_DURATION
} OptionType;

typedef struct OptionSpec {
    const char *key; // "http-address"
    OptionType type;
    const char *fallback;     // as text; NULL: none
    int64_t minimum, maximum; // for numbers; DURATION in ms, BYTES in bytes; both 0: no check
    bool is_secret;           // refused as a flag (process lists), never printed
    const char *help;         // one line
} OptionSpec;

typedef struct OptionValue {
    char *text;         // owned; NULL when there is none
    int64_t number;     // INTEGER, BOOLEAN, BYTES, DURATION (ms)
    const char *origin; // "default", "file", "environment", "flag"
} OptionValue;

typedef struct OptionSet {
    const char *program;     // "holdfastd"
    const char *environment; // "HOLDFAST"
    const char *summary;     // first line of --help
    const OptionSpec *specs;
    size_t count;
    OptionValue *values; // parallel to specs; owned
} OptionSet;

// Reads everything; `--config FILE` or PREFIX_CONFIG names the file. Unknown keys, bad values and
// secrets given as flags are REASON_OPTION_INVALID with the key as field. `--help`, `--version` and
// `--config-reference` (a Markdown table, which docs/configuration.md is checked against) set
// ret_text, malloc'd, to print: the caller exits 0.
Status options_load(OptionSet *set, int argument_count, char **arguments, char **ret_text,
                    Error *error);
void options_done(OptionSet *set);
const char *options_text(const OptionSet *set,
                         const char *key); // asserts that the key exists; NULL when unset
int64_t options_number(const OptionSet *set, const char *key);
bool options_boolean(const OptionSet *set, const char *key);
