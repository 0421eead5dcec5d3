// SPDX-License-Identifier: Apache-2.0
#include "cli/command_parse.h"

#include "common/buffer.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <string.h>

#define WORD_BYTES_MAX 64
#define USAGE_BYTES_MAX 4096

// --- looking up ---------------------------------------------------------------------------------

const Command *command_find(const char *group, const char *verb)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (text_equal(COMMANDS[i].group, group) && text_equal(COMMANDS[i].verb, verb)) {
            return &COMMANDS[i];
        }
    }
    return NULL;
}

bool command_group_exists(const char *group)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (text_equal(COMMANDS[i].group, group)) {
            return true;
        }
    }
    return false;
}

bool command_begins_group(size_t index)
{
    return index == 0 || !text_equal(COMMANDS[index - 1].group, COMMANDS[index].group);
}

const char *invocation_argument(const Invocation *invocation, size_t index)
{
    assert(index < ARGUMENT_COUNT_MAX);
    return invocation->arguments[index];
}

const char *invocation_option(const Invocation *invocation, const char *name)
{
    for (size_t i = 0; i < invocation->option_count; i++) {
        if (text_equal(invocation->options[i].option->name, name)) {
            return invocation->options[i].value;
        }
    }
    return NULL;
}

bool invocation_has(const Invocation *invocation, const char *name)
{
    return invocation_option(invocation, name) != NULL;
}

static const CommandOption *find_option(const CommandOption *options, const char *name, size_t size)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        if (strlen(option->name) == size && memcmp(option->name, name, size) == 0) {
            return option;
        }
    }
    return NULL;
}

// --- what was perhaps meant ---------------------------------------------------------------------

// Levenshtein's distance; words longer than the limit are as far as can be.
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a);
    size_t b_size = strlen(b);
    if (a_size > WORD_BYTES_MAX || b_size > WORD_BYTES_MAX) {
        return WORD_BYTES_MAX;
    }
    size_t row[WORD_BYTES_MAX + 1];
    for (size_t i = 0; i <= b_size; i++) {
        row[i] = i;
    }
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(substituted, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_size];
}

typedef struct Nearest {
    const char *word;
    size_t distance;
} Nearest;

static void consider(Nearest *nearest, const char *word, const char *candidate)
{
    if (candidate == NULL) {
        return;
    }
    size_t distance = edit_distance(word, candidate);
    if (text_has_prefix(candidate, word) && *word != '\0') {
        distance = MIN(distance, 1); // cut short
    }
    if (distance < nearest->distance) {
        *nearest = (Nearest){.word = candidate, .distance = distance};
    }
}

static Nearest nearest_begin(const char *word)
{
    // Further than this it is another word, not a slip.
    return (Nearest){.word = NULL, .distance = MAX(strlen(word) / 3, 2) + 1};
}

static Status unknown_group(const char *word, Error *error)
{
    Nearest nearest = nearest_begin(word);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        consider(&nearest, word, COMMANDS[i].group);
    }
    (void)error_set(error, REASON_INVALID, "there is no command '%s'", word);
    return nearest.word == NULL ? error_hint(error, "holdfast help lists the commands")
                                : error_hint(error, "did you mean '%s'?", nearest.word);
}

static Status unknown_verb(const char *group, const char *word, Error *error)
{
    Nearest nearest = nearest_begin(word);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (text_equal(COMMANDS[i].group, group)) {
            consider(&nearest, word, COMMANDS[i].verb);
        }
    }
    (void)error_set(error, REASON_INVALID, "'%s' has no command '%s'", group, word);
    return nearest.word == NULL ? error_hint(error, "holdfast help %s lists them", group)
                                : error_hint(error, "did you mean '%s %s'?", group, nearest.word);
}

static Status unknown_option(const Command *command, const char *name, Error *error)
{
    Nearest nearest = nearest_begin(name);
    const CommandOption *lists[] = {command == NULL ? NULL : command->options, GLOBAL_OPTIONS};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        for (const CommandOption *option = lists[i]; option != NULL && option->name != NULL;
             option++) {
            consider(&nearest, name, option->name);
        }
    }
    (void)error_set(error, REASON_INVALID, "there is no option '--%s'%s", name,
                    command == NULL ? " before the command" : " here");
    return nearest.word == NULL ? error_hint(error, "--help lists the options")
                                : error_hint(error, "did you mean '--%s'?", nearest.word);
}

// --- parsing ------------------------------------------------------------------------------------

typedef struct Parser {
    int argument_count, at;
    char **arguments;
    GlobalOptions *globals;
    Invocation *invocation;
    const char *group;
    size_t word_count;  // arguments of the command so far
    bool is_words_only; // after "--"
} Parser;

static void take_global(GlobalOptions *globals, const char *name, const char *value)
{
    if (text_equal(name, "server")) {
        globals->server = value;
    } else if (text_equal(name, "token-file")) {
        globals->token_file = value;
    } else if (text_equal(name, "ca-file")) {
        globals->ca_file = value;
    } else if (text_equal(name, "output")) {
        globals->output = value;
    } else if (text_equal(name, "no-color")) {
        globals->is_plain = true;
    } else if (text_equal(name, "help")) {
        globals->is_help = true;
    } else if (text_equal(name, "version")) {
        globals->is_version = true;
    } else {
        assert(!"every global option is taken");
    }
}

static Status take_value(Parser *parser, const CommandOption *option, const char *given,
                         const char **ret_value, Error *error)
{
    if (option->kind == VALUE_FLAG) {
        if (given != NULL) {
            return error_set(error, REASON_INVALID, "--%s takes no value", option->name);
        }
        *ret_value = "";
        return STATUS_OK;
    }
    if (given == NULL) {
        if (parser->at >= parser->argument_count) {
            return error_set(error, REASON_INVALID, "--%s needs a value: %s", option->name,
                             option->placeholder);
        }
        given = parser->arguments[parser->at++];
    }
    *ret_value = given;
    return STATUS_OK;
}

static Status take_option(Parser *parser, const char *text, Error *error)
{
    const char *equals = strchr(text, '=');
    size_t size = equals != NULL ? (size_t)(equals - text) : strlen(text);
    if (size == strlen("token") && memcmp(text, "token", size) == 0) {
        (void)error_set(error, REASON_INVALID,
                        "a token is not taken from the command line, "
                        "which every user of the machine can read");
        return error_hint(error, "use --token-file, HOLDFAST_TOKEN_FILE or HOLDFAST_TOKEN");
    }
    Invocation *invocation = parser->invocation;
    const CommandOption *option = NULL;
    if (invocation->command != NULL) {
        option = find_option(invocation->command->options, text, size);
    }
    bool is_global = option == NULL;
    if (is_global) {
        option = find_option(GLOBAL_OPTIONS, text, size);
    }
    if (option == NULL) {
        CLEANUP_FREE char *name = string_copy_n(text, size);
        return unknown_option(invocation->command, name, error);
    }
    const char *value = NULL;
    RETURN_IF_ERROR(take_value(parser, option, equals != NULL ? equals + 1 : NULL, &value, error));
    if (is_global) {
        take_global(parser->globals, option->name, value);
        return STATUS_OK;
    }
    if (option->kind != VALUE_LIST && invocation_has(invocation, option->name)) {
        return error_set(error, REASON_INVALID, "--%s is given twice", option->name);
    }
    if (invocation->option_count == INVOCATION_OPTION_COUNT_MAX) {
        return error_set(error, REASON_INVALID, "there are over %d options",
                         INVOCATION_OPTION_COUNT_MAX);
    }
    invocation->options[invocation->option_count].option = option;
    invocation->options[invocation->option_count].value = value;
    invocation->option_count++;
    return STATUS_OK;
}

static Status take_word(Parser *parser, const char *word, Error *error)
{
    Invocation *invocation = parser->invocation;
    if (invocation->command != NULL) {
        if (invocation->command->arguments[parser->word_count].name == NULL) {
            return error_set(error, REASON_INVALID, "'%s' is one argument too many", word);
        }
        invocation->arguments[parser->word_count++] = word;
        return STATUS_OK;
    }
    if (parser->group == NULL) {
        if (!command_group_exists(word)) {
            return unknown_group(word, error);
        }
        parser->group = word;
        invocation->command = command_find(word, NULL);
        return STATUS_OK;
    }
    invocation->command = command_find(parser->group, word);
    return invocation->command == NULL ? unknown_verb(parser->group, word, error) : STATUS_OK;
}

Status command_parse(int argument_count, char **arguments, GlobalOptions *ret_globals,
                     Invocation *ret_invocation, const char **ret_group, Error *error)
{
    *ret_globals = (GlobalOptions){0};
    *ret_invocation = (Invocation){0};
    Parser parser = {.argument_count = argument_count,
                     .at = 1,
                     .arguments = arguments,
                     .globals = ret_globals,
                     .invocation = ret_invocation};
    while (parser.at < argument_count) {
        const char *text = arguments[parser.at++];
        // A shard's name may begin with one '-', so that only two make an option.
        if (!parser.is_words_only && text_equal(text, "--")) {
            parser.is_words_only = true;
        } else if (!parser.is_words_only && text_equal(text, "-h")) {
            ret_globals->is_help = true;
        } else if (!parser.is_words_only && text_has_prefix(text, "--")) {
            RETURN_IF_ERROR(take_option(&parser, text + 2, error));
        } else {
            RETURN_IF_ERROR(take_word(&parser, text, error));
        }
    }
    *ret_group = parser.group;
    return STATUS_OK;
}

// --- checking -----------------------------------------------------------------------------------

static Status missing(const Command *command, const char *what, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)error_set(error, REASON_INVALID, "%s is missing", what);
    return error_hint(error, "usage: holdfast %s", command_usage(arena, command));
}

static Status check_value(const CommandOption *option, const char *value, Error *error)
{
    int64_t number = 0;
    if (option->kind == VALUE_INTEGER && !text_to_int64(value, &number)) {
        return error_set(error, REASON_INVALID, "--%s wants a whole number, not '%s'", option->name,
                         value);
    }
    if (option->kind == VALUE_BOOLEAN && !text_equal(value, "true") &&
        !text_equal(value, "false")) {
        return error_set(error, REASON_INVALID, "--%s wants 'true' or 'false', not '%s'",
                         option->name, value);
    }
    if (option->kind == VALUE_DURATION && !text_to_duration_ms(value, &number)) {
        (void)error_set(error, REASON_INVALID, "--%s wants a duration, not '%s'", option->name,
                        value);
        return error_hint(error, "for example 90s, 15m, 12h or 7d");
    }
    if (option->kind == VALUE_BYTES && !text_to_bytes(value, &number)) {
        (void)error_set(error, REASON_INVALID, "--%s wants a number of bytes, not '%s'",
                        option->name, value);
        return error_hint(error, "for example 512KiB, 20MiB or 0");
    }
    return STATUS_OK;
}

Status command_check(const Invocation *invocation, Error *error)
{
    const Command *command = invocation->command;
    for (size_t i = 0; command->arguments[i].name != NULL; i++) {
        if (invocation->arguments[i] == NULL && !command->arguments[i].is_optional) {
            return missing(command, command->arguments[i].name, error);
        }
    }
    for (const CommandOption *option = command->options; option != NULL && option->name != NULL;
         option++) {
        if (option->is_required && !invocation_has(invocation, option->name)) {
            CLEANUP_FREE char *name = string_format("--%s", option->name);
            return missing(command, name, error);
        }
    }
    for (size_t i = 0; i < invocation->option_count; i++) {
        RETURN_IF_ERROR(
            check_value(invocation->options[i].option, invocation->options[i].value, error));
    }
    return STATUS_OK;
}

char *command_usage(Arena *arena, const Command *command)
{
    Buffer text;
    buffer_init(&text, USAGE_BYTES_MAX);
    (void)buffer_append_text(&text, command->group);
    if (command->verb != NULL) {
        (void)buffer_append_format(&text, " %s", command->verb);
    }
    for (size_t i = 0; command->arguments[i].name != NULL; i++) {
        (void)buffer_append_format(&text, command->arguments[i].is_optional ? " [%s]" : " %s",
                                   command->arguments[i].name);
    }
    bool has_more = false;
    for (const CommandOption *option = command->options; option != NULL && option->name != NULL;
         option++) {
        if (option->is_required) {
            (void)buffer_append_format(&text, " --%s %s", option->name, option->placeholder);
        }
        has_more = has_more || !option->is_required;
    }
    if (has_more) {
        (void)buffer_append_text(&text, " [OPTION...]");
    }
    char *usage = arena_string(arena, buffer_text(&text));
    buffer_done(&text);
    return usage;
}
