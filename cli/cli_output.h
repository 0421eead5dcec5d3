// SPDX-License-Identifier: Apache-2.0
// What people see: tables, details, sizes, times. Everything that came from outside is made safe
// for a terminal.
#pragma once

#include "cli/command.h"

#include <stdint.h>
#include <stdio.h>

typedef enum Colour {
    COLOUR_NONE,
    COLOUR_BOLD,
    COLOUR_DIM,
    COLOUR_GREEN,
    COLOUR_YELLOW,
    COLOUR_RED
} Colour;

// A list as a table; an empty one says so.
void output_table(const Cli *cli, const Json *items, const ViewColumn *columns);
// Every field of an object, one a line; lists of objects as tables of their scalar fields.
void output_details(const Cli *cli, const Json *object);
void output_json(const Json *json);
// "holdfast: message", the hint and the field, on standard error.
void output_error(const Cli *cli, const Error *error);

const char *colour_begin(const Cli *cli, Colour colour); // "" without colours
const char *colour_end(const Cli *cli, Colour colour);
Colour colour_of_state(const char *state);

// In the arena. A missing value is "-".
char *output_value(Arena *arena, const Json *value, ViewFormat format);
char *output_bytes(Arena *arena, int64_t size_bytes);           // "1.2 GiB"
char *output_duration(Arena *arena, double seconds);            // "1h 2m", "3.4 s"
char *output_safe(Arena *arena, const char *text);              // control characters become '?'
const Json *json_path(const Json *object, const char *path);    // "source.host"
bool duration_from_json(const char *text, double *ret_seconds); // "90s"
size_t text_width(const char *text);                            // in characters
