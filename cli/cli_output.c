// SPDX-License-Identifier: Apache-2.0
#include "cli/cli_output.h"

#include "common/clock.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMN_COUNT_MAX 16
#define OUTPUT_BYTES_MAX (64 * 1024 * 1024)

// --- colours ------------------------------------------------------------------------------------

const char *colour_begin(const Cli *cli, Colour colour)
{
    static const char *const codes[] = {"",         "\x1b[1m",  "\x1b[2m",
                                        "\x1b[32m", "\x1b[33m", "\x1b[31m"};
    return cli->has_color ? codes[colour] : "";
}

const char *colour_end(const Cli *cli, Colour colour)
{
    return cli->has_color && colour != COLOUR_NONE ? "\x1b[0m" : "";
}

Colour colour_of_state(const char *state)
{
    static const char *const good[] = {"succeeded", "committed", "protected", "serving", "joined",
                                       "yes",       "ready",     "kept",      NULL};
    static const char *const bad[] = {"failed", "unprotected", "error", "lost", "no", NULL};
    static const char *const between[] = {"running",    "at_risk",  "warning",
                                          "pending",    "intended", "launched",
                                          "destroying", "deleting", NULL};
    for (size_t i = 0; good[i] != NULL; i++) {
        if (text_equal(good[i], state)) {
            return COLOUR_GREEN;
        }
    }
    for (size_t i = 0; bad[i] != NULL; i++) {
        if (text_equal(bad[i], state)) {
            return COLOUR_RED;
        }
    }
    for (size_t i = 0; between[i] != NULL; i++) {
        if (text_equal(between[i], state)) {
            return COLOUR_YELLOW;
        }
    }
    return COLOUR_DIM;
}

// --- values -------------------------------------------------------------------------------------

const Json *json_path(const Json *object, const char *path)
{
    const Json *value = object;
    while (value != NULL && *path != '\0') {
        size_t size = strcspn(path, ".");
        CLEANUP_FREE char *key = string_copy_n(path, size);
        value = json_get(value, key);
        path += size + (path[size] == '.' ? 1 : 0);
    }
    return value;
}

char *output_safe(Arena *arena, const char *text)
{
    char *copy = arena_string(arena, text);
    for (char *at = copy; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte < 0x20 || byte == 0x7f) {
            *at = byte == '\n' || byte == '\t' ? ' ' : '?';
        } else if (byte == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0) {
            at[0] = '?'; // a C1 control character, which terminals obey too
            at[1] = '?';
        }
    }
    return copy;
}

char *output_bytes(Arena *arena, int64_t size_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double size = (double)size_bytes;
    size_t unit = 0;
    while (size >= 1024 && unit + 1 < ARRAY_COUNT(units)) {
        size /= 1024;
        unit++;
    }
    return arena_format(arena, unit == 0 || size >= 100 ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

char *output_duration(Arena *arena, double seconds)
{
    if (seconds < 1) {
        return arena_format(arena, "%.0fms", seconds * 1000);
    }
    if (seconds < 10) {
        return arena_format(arena, "%.1fs", seconds);
    }
    static const struct {
        int64_t seconds;
        const char *word;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
    int64_t whole = (int64_t)llround(seconds);
    size_t unit = 0;
    while (whole < units[unit].seconds) {
        unit++;
    }
    int64_t count = whole / units[unit].seconds;
    // The next smaller unit says enough, and nothing when it is 0.
    int64_t rest =
        unit + 1 < ARRAY_COUNT(units) ? whole % units[unit].seconds / units[unit + 1].seconds : 0;
    if (rest == 0) {
        return arena_format(arena, "%lld%s", (long long)count, units[unit].word);
    }
    return arena_format(arena, "%lld%s %lld%s", (long long)count, units[unit].word, (long long)rest,
                        units[unit + 1].word);
}

bool duration_from_json(const char *text, double *ret_seconds)
{
    if (text == NULL) {
        return false;
    }
    char *end = NULL;
    *ret_seconds = strtod(text, &end);
    return end != text && text_equal(end, "s");
}

// The larger unit alone: "3m", "2h", "5d".
static char *format_rough(Arena *arena, int64_t seconds)
{
    if (seconds < 60) {
        return arena_format(arena, "%llds", (long long)seconds);
    }
    if (seconds < 3600) {
        return arena_format(arena, "%lldm", (long long)(seconds / 60));
    }
    if (seconds < 2 * 86400) {
        return arena_format(arena, "%lldh", (long long)(seconds / 3600));
    }
    return arena_format(arena, "%lldd", (long long)(seconds / 86400));
}

static char *format_ago(Arena *arena, int64_t time_us)
{
    int64_t seconds = (clock_now_us() - time_us) / 1000000;
    if (seconds >= 0) {
        return arena_format(arena, "%s ago", format_rough(arena, seconds));
    }
    return arena_format(arena, "in %s", format_rough(arena, -seconds));
}

static char *format_time(Arena *arena, int64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm local = {0};
    char text[64] = "";
    if (localtime_r(&seconds, &local) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
    }
    return arena_string(arena, text);
}

static char *format_scalar(Arena *arena, const Json *value)
{
    switch (json_type(value)) {
    case JSON_STRING: {
        const char *text = json_text(value, "");
        return *text == '\0' ? arena_string(arena, "-") : output_safe(arena, text);
    }
    case JSON_NUMBER: {
        double number = json_number(value, 0);
        if (number == floor(number) && fabs(number) < 9e15) {
            return arena_format(arena, "%lld", (long long)number);
        }
        return arena_format(arena, "%.3g", number);
    }
    case JSON_BOOL:
        return arena_string(arena, json_boolean(value, false) ? "yes" : "no");
    default:
        return arena_string(arena, "-");
    }
}

char *output_value(Arena *arena, const Json *value, ViewFormat format)
{
    if (value == NULL || json_type(value) == JSON_NULL) {
        return arena_string(arena, format == VIEW_YES ? "no" : "-");
    }
    const char *text = json_text(value, NULL);
    int64_t time_us = 0;
    double seconds = 0;
    switch (format) {
    case VIEW_BYTES:
        return output_bytes(arena, json_integer(value, 0));
    case VIEW_PERCENT:
        return arena_format(arena, "%.0f%%", json_number(value, 0) * 100);
    case VIEW_AGO:
        return text != NULL && time_parse(text, &time_us) ? format_ago(arena, time_us)
                                                          : format_scalar(arena, value);
    case VIEW_TIME:
        return text != NULL && time_parse(text, &time_us) ? format_time(arena, time_us)
                                                          : format_scalar(arena, value);
    case VIEW_DURATION:
        return duration_from_json(text, &seconds) ? output_duration(arena, seconds)
                                                  : format_scalar(arena, value);
    default:
        return format_scalar(arena, value);
    }
}

size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80; // continuation bytes take no place
    }
    return width;
}

// --- tables -------------------------------------------------------------------------------------

static void print_padded(const char *text, size_t width, bool is_last)
{
    (void)fputs(text, stdout);
    for (size_t i = text_width(text); !is_last && i < width + 2; i++) {
        (void)fputc(' ', stdout);
    }
}

static void print_row(const Cli *cli, char *const *cells, const ViewColumn *columns, size_t count,
                      const size_t *widths)
{
    for (size_t i = 0; i < count; i++) {
        Colour colour = columns[i].format == VIEW_STATE ? colour_of_state(cells[i]) : COLOUR_NONE;
        (void)fputs(colour_begin(cli, colour), stdout);
        print_padded(cells[i], widths[i], i + 1 == count);
        (void)fputs(colour_end(cli, colour), stdout);
    }
    (void)fputc('\n', stdout);
}

void output_table(const Cli *cli, const Json *items, const ViewColumn *columns)
{
    size_t row_count = json_count(items);
    if (row_count == 0) {
        (void)printf("none\n");
        return;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t widths[COLUMN_COUNT_MAX] = {0};
    size_t count = 0;
    while (columns[count].title != NULL && count < COLUMN_COUNT_MAX) {
        widths[count] = text_width(columns[count].title);
        count++;
    }
    char **cells = arena_alloc_array(arena, row_count * count, sizeof(*cells));
    size_t row = 0;
    for (const Json *item = json_first(items); item != NULL; item = json_next(item), row++) {
        for (size_t i = 0; i < count; i++) {
            char *cell = output_value(arena, json_path(item, columns[i].field), columns[i].format);
            cells[row * count + i] = cell;
            widths[i] = MAX(widths[i], text_width(cell));
        }
    }
    (void)fputs(colour_begin(cli, COLOUR_BOLD), stdout);
    for (size_t i = 0; i < count; i++) {
        print_padded(columns[i].title, widths[i], i + 1 == count);
    }
    (void)printf("%s\n", colour_end(cli, COLOUR_BOLD));
    for (row = 0; row < row_count; row++) {
        print_row(cli, cells + row * count, columns, count, widths);
    }
}

// --- details ------------------------------------------------------------------------------------

// The words of our field names say what a value is: "size_bytes", "created_at",
// "proven_recovery_time".
static ViewFormat format_of_key(const char *key, const Json *value)
{
    double seconds = 0;
    if (text_has_suffix(key, "_bytes") || text_has_suffix(key, "_bytes_per_second")) {
        return VIEW_BYTES;
    }
    if (text_has_suffix(key, "_at") || text_equal(key, "time")) {
        return VIEW_TIME;
    }
    if (text_equal(key, "progress")) {
        return VIEW_PERCENT;
    }
    if (text_equal(key, "state") || text_equal(key, "protection") || text_equal(key, "severity")) {
        return VIEW_STATE;
    }
    if (duration_from_json(json_text(value, NULL), &seconds)) {
        return VIEW_DURATION;
    }
    return VIEW_TEXT;
}

static void print_details(const Cli *cli, Arena *arena, const Json *object, int indent);

static void print_list(const Cli *cli, Arena *arena, const char *key, const Json *list, int indent)
{
    if (json_count(list) == 0) {
        return;
    }
    (void)printf("%*s%s%s:%s", indent, "", colour_begin(cli, COLOUR_DIM), output_safe(arena, key),
                 colour_end(cli, COLOUR_DIM));
    bool is_inline = json_type(json_first(list)) != JSON_OBJECT;
    if (!is_inline) {
        (void)fputc('\n', stdout);
    }
    for (const Json *item = json_first(list); item != NULL; item = json_next(item)) {
        if (is_inline) {
            (void)printf(" %s", output_value(arena, item, format_of_key(key, item)));
        } else {
            (void)printf("%*s-\n", indent + 2, "");
            print_details(cli, arena, item, indent + 4);
        }
    }
    if (is_inline) {
        (void)fputc('\n', stdout);
    }
}

static void print_details(const Cli *cli, Arena *arena, const Json *object, int indent)
{
    for (const Json *member = json_first(object); member != NULL; member = json_next(member)) {
        const char *key = json_key(member);
        if (json_type(member) == JSON_ARRAY) {
            print_list(cli, arena, key, member, indent);
            continue;
        }
        if (json_type(member) == JSON_OBJECT) {
            (void)printf("%*s%s%s:%s\n", indent, "", colour_begin(cli, COLOUR_DIM),
                         output_safe(arena, key), colour_end(cli, COLOUR_DIM));
            print_details(cli, arena, member, indent + 2);
            continue;
        }
        if (json_type(member) == JSON_NULL || text_equal(json_text(member, "x"), "")) {
            continue;
        }
        ViewFormat format = format_of_key(key, member);
        const char *value = output_value(arena, member, format);
        Colour colour = format == VIEW_STATE ? colour_of_state(value) : COLOUR_NONE;
        (void)printf("%*s%s%-22s%s %s%s%s", indent, "", colour_begin(cli, COLOUR_DIM),
                     arena_format(arena, "%s:", output_safe(arena, key)),
                     colour_end(cli, COLOUR_DIM), colour_begin(cli, colour), value,
                     colour_end(cli, colour));
        if (format == VIEW_TIME) {
            (void)printf(" (%s)", output_value(arena, member, VIEW_AGO));
        }
        (void)fputc('\n', stdout);
    }
}

void output_details(const Cli *cli, const Json *object)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    print_details(cli, arena, object, 0);
}

void output_json(const Json *json)
{
    CLEANUP(buffer_done) Buffer text;
    buffer_init(&text, OUTPUT_BYTES_MAX);
    (void)json_write(json, true, &text);
    (void)printf("%s\n", buffer_text(&text));
}

void output_error(const Cli *cli, const Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool has_color = cli->has_color;
    (void)fprintf(stderr, "%sholdfast:%s %s\n", has_color ? "\x1b[31m" : "",
                  has_color ? "\x1b[0m" : "", output_safe(arena, error->message));
    if (error->field[0] != '\0') {
        (void)fprintf(stderr, "  field: %s\n", output_safe(arena, error->field));
    }
    if (error->hint[0] != '\0') {
        (void)fprintf(stderr, "  hint: %s\n", output_safe(arena, error->hint));
    }
}
