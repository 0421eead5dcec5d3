// SPDX-License-Identifier: Apache-2.0
// Reading options: defaults, file, environment, flags; the later wins.
#include "common/options.h"

#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/options_text.h"
#include "common/secret.h"
#include "common/text.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where a value comes from, for messages: "line 3 of '/etc/holdfast.conf'",
// "HOLDFAST_HTTP_ADDRESS", "--http-address".
typedef struct Source {
    const char *origin;
    char place[LIMIT_PATH_BYTES + 64];
} Source;

static const OptionSpec *find_spec(const OptionSet *set, const char *key)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->specs[i].key, key) == 0) {
            return &set->specs[i];
        }
    }
    return NULL;
}

static OptionValue *value_of(const OptionSet *set, const OptionSpec *spec)
{
    return &set->values[spec - set->specs];
}

static bool parse_boolean(const char *text, int64_t *ret_value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_value = (int64_t)(i % 2);
            return true;
        }
    }
    return false;
}

static bool parse_number(OptionType type, const char *text, int64_t *ret_number)
{
    switch (type) {
    case OPTION_TEXT:
        *ret_number = 0;
        return true;
    case OPTION_INTEGER:
        return text_to_int64(text, ret_number);
    case OPTION_BOOLEAN:
        return parse_boolean(text, ret_number);
    case OPTION_BYTES:
        return text_to_bytes(text, ret_number);
    case OPTION_DURATION:
        return text_to_duration_ms(text, ret_number);
    }
    return false;
}

static Status bad_value(const OptionSpec *spec, const Source *source, const char *text,
                        Error *error)
{
    static const char *const hints[] = {[OPTION_TEXT] = "",
                                        [OPTION_INTEGER] = "give a whole number",
                                        [OPTION_BOOLEAN] = "give true or false",
                                        [OPTION_BYTES] = "give a size such as 4096, 64MiB or 1GB",
                                        [OPTION_DURATION] =
                                            "give a duration such as 250ms, 90s, 15m, 12h or 7d"};
    if (spec->is_secret) {
        error_set(error, REASON_OPTION_INVALID, "%s: the value is not valid", source->place);
    } else {
        error_set(error, REASON_OPTION_INVALID, "%s: '%.128s' is not a valid value", source->place,
                  text);
    }
    error_field(error, "%s", spec->key);
    return error_hint(error, "%s", hints[spec->type]);
}

static Status check_range(const OptionSpec *spec, const Source *source, int64_t number,
                          Error *error)
{
    bool has_range = spec->minimum != 0 || spec->maximum != 0;
    if (spec->type == OPTION_TEXT || spec->type == OPTION_BOOLEAN || !has_range ||
        (number >= spec->minimum && number <= spec->maximum)) {
        return STATUS_OK;
    }
    char given[OPTION_NUMBER_SIZE];
    char minimum[OPTION_NUMBER_SIZE];
    char maximum[OPTION_NUMBER_SIZE];
    option_number_format(spec->type, number, given);
    option_number_format(spec->type, spec->minimum, minimum);
    option_number_format(spec->type, spec->maximum, maximum);
    error_set(error, REASON_OPTION_INVALID, "%s: %s is not between %s and %s", source->place, given,
              minimum, maximum);
    error_field(error, "%s", spec->key);
    return error_hint(error, "give a value between %s and %s", minimum, maximum);
}

static void drop_text(OptionValue *value)
{
    secret_wipe_text(value->text);
    mem_free(value->text);
    value->text = NULL;
}

static Status set_value(OptionSet *set, const OptionSpec *spec, const Source *source,
                        const char *text, Error *error)
{
    int64_t number = 0;
    bool is_unset = spec->type == OPTION_TEXT && text[0] == '\0'; // takes a default away
    if (!parse_number(spec->type, text, &number) || !text_is_utf8(text, strlen(text))) {
        return bad_value(spec, source, text, error);
    }
    RETURN_IF_ERROR(check_range(spec, source, number, error));
    OptionValue *value = value_of(set, spec);
    drop_text(value);
    value->text = is_unset ? NULL : string_copy(text);
    value->number = number;
    value->origin = source->origin;
    return STATUS_OK;
}

static void load_defaults(OptionSet *set)
{
    Source source = {.origin = "default", .place = "default"};
    for (size_t i = 0; i < set->count; i++) {
        const OptionSpec *spec = &set->specs[i];
        set->values[i].origin = "default";
        if (spec->fallback != NULL) {
            Error error = {0};
            Status status = set_value(set, spec, &source, spec->fallback, &error);
            assert(status == STATUS_OK); // the table contradicts itself
        }
    }
}

static Status unknown_key(const OptionSet *set, const Source *source, const char *key,
                          const char *prefix, Error *error)
{
    error_set(error, REASON_OPTION_INVALID, "%s: there is no option '%s%.64s'", source->place,
              prefix, key);
    error_field(error, "%.63s", key);
    const char *nearest = NULL;
    size_t distance_min = 4; // more is another word, not a slip
    for (size_t i = 0; i < set->count; i++) {
        size_t distance = text_distance(set->specs[i].key, key);
        if (distance < distance_min) {
            distance_min = distance;
            nearest = set->specs[i].key;
        }
    }
    if (nearest != NULL) {
        return error_hint(error, "did you mean '%s%s'?", prefix, nearest);
    }
    return error_hint(error, "'%s --help' lists all options", set->program);
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t size = strlen(text);
    while (size > 0 && isspace((unsigned char)text[size - 1])) {
        size--;
    }
    text[size] = '\0';
    return text;
}

// `seen` has a flag for each option: a key given twice is a mistake that nobody would find.
static Status load_line(OptionSet *set, char *line, const Source *source, bool *seen, Error *error)
{
    char *key = trim(line);
    if (key[0] == '\0' || key[0] == '#') {
        return STATUS_OK;
    }
    char *equals = strchr(key, '=');
    if (equals == NULL) {
        // The line is not quoted: it may be a secret that lost its key.
        error_set(error, REASON_OPTION_INVALID, "%s: expected 'key = value'", source->place);
        return error_hint(error, "comments start with # and stand alone on their line");
    }
    *equals = '\0';
    char *text = trim(equals + 1);
    key = trim(key);
    const OptionSpec *spec = find_spec(set, key);
    if (spec == NULL) {
        return unknown_key(set, source, key, "", error);
    }
    if (seen[spec - set->specs]) {
        error_set(error, REASON_OPTION_INVALID, "%s: '%s' is given twice", source->place, key);
        return error_field(error, "%s", key);
    }
    seen[spec - set->specs] = true;
    return set_value(set, spec, source, text, error);
}

static Status load_file(OptionSet *set, const char *path, Error *error)
{
    CLEANUP(secret_done) Secret content = {0}; // it may hold passwords
    char *text = NULL;
    if (file_read(path, LIMIT_FILE_BYTES, &text, &content.size, error) != STATUS_OK) {
        error_field(error, "config");
        return error_wrap(error, "reading the configuration file");
    }
    content.data = (uint8_t *)text;
    Source source = {.origin = "file"};
    if (strlen(text) != content.size) {
        return error_set(error, REASON_OPTION_INVALID, "'%s' is not a text file", path);
    }
    CLEANUP_FREE bool *seen = mem_alloc_array(set->count, sizeof(bool));
    int line_number = 1;
    char *line = text;
    while (line != NULL) {
        char *next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        (void)snprintf(source.place, sizeof(source.place), "%s:%d", path, line_number++);
        RETURN_IF_ERROR(load_line(set, line, &source, seen, error));
        line = next;
    }
    return STATUS_OK;
}

static Status load_environment(OptionSet *set, Error *error)
{
    Source source = {.origin = "environment"};
    for (size_t i = 0; i < set->count; i++) {
        char name[OPTION_ENVIRONMENT_SIZE];
        option_environment_name(set, set->specs[i].key, name);
        const char *text = getenv(name);
        if (text_is_empty(text)) { // "KEY=" in a unit file means: not set
            continue;
        }
        (void)snprintf(source.place, sizeof(source.place), "%s", name);
        RETURN_IF_ERROR(set_value(set, &set->specs[i], &source, text, error));
    }
    return STATUS_OK;
}

typedef struct Flag {
    char key[128];
    const char *text; // NULL: no value
} Flag;

// Splits arguments[*index] and, when it needs one, takes the next as its value.
static Status read_flag(const OptionSet *set, int argument_count, char **arguments, int *index,
                        Flag *ret_flag, Error *error)
{
    const char *argument = arguments[*index];
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0') {
        error_set(error, REASON_OPTION_INVALID, "unexpected argument '%.64s'", argument);
        return error_hint(error,
                          "options are given as --key value or --key=value; '%s --help' lists them",
                          set->program);
    }
    const char *key = argument + 2;
    const char *equals = strchr(key, '=');
    size_t key_size = equals == NULL ? strlen(key) : (size_t)(equals - key);
    (void)snprintf(ret_flag->key, sizeof(ret_flag->key), "%.*s", (int)MIN(key_size, 127), key);
    ret_flag->text = equals == NULL ? NULL : equals + 1;
    const OptionSpec *spec = find_spec(set, ret_flag->key);
    bool is_config = strcmp(ret_flag->key, "config") == 0;
    if (spec == NULL && !is_config) {
        Source source = {.place = "command line"};
        return unknown_key(set, &source, ret_flag->key, "--", error);
    }
    if (ret_flag->text == NULL && spec != NULL && spec->type == OPTION_BOOLEAN) {
        ret_flag->text = "true";
    } else if (ret_flag->text == NULL && *index + 1 < argument_count) {
        ret_flag->text = arguments[++*index];
    }
    if (ret_flag->text == NULL) {
        error_set(error, REASON_OPTION_INVALID, "--%s: the value is missing", ret_flag->key);
        return error_field(error, "%s", ret_flag->key);
    }
    return STATUS_OK;
}

static Status refuse_secret(const OptionSet *set, const OptionSpec *spec, Error *error)
{
    char name[OPTION_ENVIRONMENT_SIZE];
    option_environment_name(set, spec->key, name);
    error_set(error, REASON_OPTION_INVALID,
              "--%s: a secret is not taken from the command line, where every user sees it",
              spec->key);
    error_field(error, "%s", spec->key);
    return error_hint(error, "set %s, or '%s' in the configuration file", name, spec->key);
}

static Status load_flags(OptionSet *set, int argument_count, char **arguments, Error *error)
{
    Source source = {.origin = "flag"};
    for (int i = 1; i < argument_count; i++) {
        Flag flag = {0};
        RETURN_IF_ERROR(read_flag(set, argument_count, arguments, &i, &flag, error));
        const OptionSpec *spec = find_spec(set, flag.key);
        if (spec == NULL) {
            continue; // --config, which was read first
        }
        if (spec->is_secret) {
            return refuse_secret(set, spec, error);
        }
        (void)snprintf(source.place, sizeof(source.place), "--%s", spec->key);
        RETURN_IF_ERROR(set_value(set, spec, &source, flag.text, error));
    }
    return STATUS_OK;
}

// The file's name has to be known before anything else is read; mistakes are told by load_flags.
static const char *config_path(const OptionSet *set, int argument_count, char **arguments)
{
    const char *path = NULL;
    for (int i = 1; i < argument_count; i++) {
        Flag flag = {0};
        Error ignored = {0};
        if (read_flag(set, argument_count, arguments, &i, &flag, &ignored) == STATUS_OK &&
            strcmp(flag.key, "config") == 0) {
            path = flag.text;
        }
    }
    if (path == NULL) {
        char name[OPTION_ENVIRONMENT_SIZE];
        option_environment_name(set, "config", name);
        path = getenv(name);
    }
    return text_is_empty(path) ? NULL : path;
}

Status options_load(OptionSet *set, int argument_count, char **arguments, char **ret_text,
                    Error *error)
{
    assert(set != NULL);
    assert(ret_text != NULL);
    *ret_text = NULL;
    set->values = mem_alloc_array(set->count, sizeof(OptionValue));
    load_defaults(set);
    for (int i = 1; i < argument_count; i++) {
        char *text = options_answer(set, arguments[i]);
        if (text != NULL) {
            *ret_text = text;
            return STATUS_OK;
        }
    }
    const char *path = config_path(set, argument_count, arguments);
    if (path != NULL) {
        RETURN_IF_ERROR(load_file(set, path, error));
    }
    RETURN_IF_ERROR(load_environment(set, error));
    return load_flags(set, argument_count, arguments, error);
}

void options_done(OptionSet *set)
{
    if (set == NULL || set->values == NULL) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        drop_text(&set->values[i]);
    }
    mem_free(set->values);
    set->values = NULL;
}

static const OptionValue *get_value(const OptionSet *set, const char *key)
{
    assert(set->values != NULL);
    const OptionSpec *spec = find_spec(set, key);
    assert(spec != NULL);
    return value_of(set, spec);
}

const char *options_text(const OptionSet *set, const char *key)
{
    return get_value(set, key)->text;
}

int64_t options_number(const OptionSet *set, const char *key)
{
    return get_value(set, key)->number;
}

bool options_boolean(const OptionSet *set, const char *key)
{
    return get_value(set, key)->number != 0;
}
