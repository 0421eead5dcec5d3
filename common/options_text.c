// SPDX-License-Identifier: Apache-2.0
// What a program says about its options.
#include "common/options_text.h"

#include "common/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_BYTES_MAX (1024 * 1024)

typedef struct Scale {
    const char *suffix;
    int64_t factor;
} Scale;

void option_number_format(OptionType type, int64_t number, char ret_text[OPTION_NUMBER_SIZE])
{
    static const Scale durations[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    static const Scale sizes[] = {{"TiB", INT64_C(1) << 40},
                                  {"GiB", INT64_C(1) << 30},
                                  {"MiB", INT64_C(1) << 20},
                                  {"KiB", INT64_C(1) << 10},
                                  {"B", 1}};
    const Scale *scales = type == OPTION_DURATION ? durations : type == OPTION_BYTES ? sizes : NULL;
    for (size_t i = 0; scales != NULL && i < ARRAY_COUNT(sizes); i++) {
        // The largest unit that says it without a fraction.
        if (number != 0 && number % scales[i].factor == 0) {
            (void)snprintf(ret_text, OPTION_NUMBER_SIZE, "%lld%s",
                           (long long)(number / scales[i].factor), scales[i].suffix);
            return;
        }
    }
    (void)snprintf(ret_text, OPTION_NUMBER_SIZE, "%lld", (long long)number);
}

void option_environment_name(const OptionSet *set, const char *key,
                             char ret_name[OPTION_ENVIRONMENT_SIZE])
{
    int size = snprintf(ret_name, OPTION_ENVIRONMENT_SIZE, "%s_", set->environment);
    for (size_t i = 0; key[i] != '\0' && size < OPTION_ENVIRONMENT_SIZE - 1; i++) {
        ret_name[size++] = key[i] == '-' ? '_' : (char)toupper((unsigned char)key[i]);
    }
    ret_name[size] = '\0';
}

static const char *type_word(OptionType type)
{
    static const char *const words[] = {[OPTION_TEXT] = "text",
                                        [OPTION_INTEGER] = "number",
                                        [OPTION_BOOLEAN] = "boolean",
                                        [OPTION_BYTES] = "size",
                                        [OPTION_DURATION] = "duration"};
    return words[type];
}

static void append_range(const OptionSpec *spec, const char *before, Buffer *buffer)
{
    if (spec->minimum == 0 && spec->maximum == 0) {
        return;
    }
    char minimum[OPTION_NUMBER_SIZE];
    char maximum[OPTION_NUMBER_SIZE];
    option_number_format(spec->type, spec->minimum, minimum);
    option_number_format(spec->type, spec->maximum, maximum);
    buffer_append_format(buffer, "%s%s to %s", before, minimum, maximum);
}

static void append_help_line(const OptionSet *set, const OptionSpec *spec, Buffer *buffer)
{
    char name[OPTION_ENVIRONMENT_SIZE];
    option_environment_name(set, spec->key, name);
    if (spec->is_secret) { // there is no flag for it
        buffer_append_format(buffer, "  %s\n      %s (secret: environment or file only)\n", name,
                             spec->help);
        return;
    }
    char flag[160];
    (void)snprintf(flag, sizeof(flag), "--%s %s", spec->key,
                   spec->type == OPTION_BOOLEAN ? "" : type_word(spec->type));
    buffer_append_format(buffer, "  %-34s %s\n      %s", flag, name, spec->help);
    if (spec->fallback != NULL) {
        buffer_append_format(buffer, " [%s]", spec->fallback);
    }
    append_range(spec, "; ", buffer);
    buffer_append_text(buffer, "\n");
}

static void append_help(const OptionSet *set, Buffer *buffer)
{
    buffer_append_format(buffer, "%s\n\nUsage: %s [--option value]...\n\nOptions:\n", set->summary,
                         set->program);
    for (size_t i = 0; i < set->count; i++) {
        append_help_line(set, &set->specs[i], buffer);
    }
    char name[OPTION_ENVIRONMENT_SIZE];
    option_environment_name(set, "config", name);
    buffer_append_format(buffer, "  %-34s %s\n      file of 'key = value' lines\n", "--config file",
                         name);
    buffer_append_text(buffer, "  --help, --version, --config-reference\n\n"
                               "Flags win over the environment, which wins over the file.\n");
}

static void append_cell(const char *text, Buffer *buffer)
{
    for (const char *p = text; *p != '\0'; p++) {
        buffer_append_format(buffer, *p == '|' ? "\\%c" : "%c", *p);
    }
}

static void append_reference(const OptionSet *set, Buffer *buffer)
{
    buffer_append_text(buffer, "| Option | Environment | Type | Default | Range | Meaning |\n"
                               "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < set->count; i++) {
        const OptionSpec *spec = &set->specs[i];
        char name[OPTION_ENVIRONMENT_SIZE];
        option_environment_name(set, spec->key, name);
        buffer_append_format(buffer, "| `%s` | `%s` | %s%s | ", spec->key, name,
                             type_word(spec->type), spec->is_secret ? ", secret" : "");
        if (!text_is_empty(spec->fallback)) {
            buffer_append_text(buffer, "`");
            append_cell(spec->fallback, buffer);
            buffer_append_text(buffer, "`");
        }
        buffer_append_text(buffer, " | ");
        append_range(spec, "", buffer);
        buffer_append_text(buffer, " | ");
        append_cell(spec->help, buffer);
        buffer_append_text(buffer, " |\n");
    }
}

char *options_answer(const OptionSet *set, const char *argument)
{
    CLEANUP(buffer_done) Buffer buffer = {0};
    buffer_init(&buffer, ANSWER_BYTES_MAX);
    if (text_equal(argument, "--help")) {
        append_help(set, &buffer);
    } else if (text_equal(argument, "--version")) {
        buffer_append_format(&buffer, "%s %s\n", set->program, HOLDFAST_VERSION);
    } else if (text_equal(argument, "--config-reference")) {
        append_reference(set, &buffer);
    } else {
        return NULL;
    }
    return buffer_take_text(&buffer);
}
