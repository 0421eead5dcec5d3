// SPDX-License-Identifier: Apache-2.0
// On a terminal the lines are drawn again in place; elsewhere a line is printed for every change of
// state or phase.
#include "cli/watch_display.h"

#include "cli/cli_output.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <langinfo.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 24
#define LINE_BYTES_MAX 1024
#define NAME_WIDTH_MAX 32

struct WatchDisplay {
    const Cli *cli;
    const WatchKind *kind;
    FILE *file;
    bool is_live; // a terminal that lines can be drawn again on
    bool is_utf8;
    int drawn_count; // lines to go up
    int64_t started_ms;
    Json *seen; // what was said of each shard and of the whole, as text
};

WatchDisplay *watch_display_new(const Cli *cli, const WatchKind *kind)
{
    WatchDisplay *display = mem_alloc(sizeof(*display));
    display->cli = cli;
    display->kind = kind;
    display->file = cli->is_json ? stderr : stdout;
    display->is_live = cli->is_terminal && !cli->is_json;
    display->is_utf8 = text_equal(nl_langinfo(CODESET), "UTF-8");
    display->started_ms = clock_monotonic_ms();
    display->seen = json_new_object();
    return display;
}

void watch_display_free(WatchDisplay *display)
{
    if (display == NULL) {
        return;
    }
    json_free(display->seen);
    mem_free(display);
}

// --- words --------------------------------------------------------------------------------------

static double shard_fraction(const Json *shard)
{
    const char *state = json_get_text(shard, "state", "");
    if (text_equal(state, "committed") || text_equal(state, "succeeded") ||
        text_equal(state, "serving")) {
        return 1;
    }
    double total = json_number(json_get(shard, "total_bytes"), -1);
    double done = json_number(json_get(shard, "done_bytes"), 0);
    double fraction = json_number(json_get(shard, "progress"), total > 0 ? done / total : 0);
    return fmin(fmax(fraction, 0), 1);
}

// A shard that works is best described by its phase.
static const char *shard_word(const Json *shard)
{
    const char *state = json_get_text(shard, "state", "pending");
    const char *phase = json_get_text(shard, "phase", "");
    return text_equal(state, "running") && *phase != '\0' ? phase : state;
}

static char *make_bar(const WatchDisplay *display, Arena *arena, double fraction)
{
    size_t filled = (size_t)llround(fraction * BAR_WIDTH);
    const char *full = display->is_utf8 ? "\u2588" : "#";
    const char *empty = display->is_utf8 ? "\u2591" : "-";
    CLEANUP(buffer_done) Buffer bar;
    buffer_init(&bar, LINE_BYTES_MAX);
    for (size_t i = 0; i < BAR_WIDTH; i++) {
        (void)buffer_append_text(&bar, i < filled ? full : empty);
    }
    return arena_string(arena, buffer_text(&bar));
}

static char *shard_numbers(Arena *arena, const Json *shard)
{
    const char *message = json_get_text(shard, "message", "");
    if (*message != '\0') {
        return output_safe(arena, message);
    }
    int64_t size = json_get_integer(shard, "size_bytes", 0);
    if (text_equal(json_get_text(shard, "state", ""), "committed")) {
        return arena_format(arena, "%s, new %s, stored %s", output_bytes(arena, size),
                            output_bytes(arena, json_get_integer(shard, "new_bytes", 0)),
                            output_bytes(arena, json_get_integer(shard, "stored_bytes", 0)));
    }
    int64_t done = json_get_integer(shard, "done_bytes", 0);
    int64_t total = json_get_integer(shard, "total_bytes", -1);
    int64_t rate = json_get_integer(shard, "rate_bytes_per_second", 0);
    int32_t port = (int32_t)json_get_integer(shard, "port", 0);
    double eta = 0;
    bool has_eta = duration_from_json(json_get_text(shard, "eta", NULL), &eta) && eta > 0;
    if (port > 0 && text_equal(json_get_text(shard, "state", ""), "serving")) {
        return arena_format(arena, "127.0.0.1:%d", port);
    }
    return arena_format(
        arena, "%s%s%s%s%s%s%s", done > 0 ? output_bytes(arena, done) : "", total > 0 ? " of " : "",
        total > 0 ? output_bytes(arena, total) : "", rate > 0 ? ", " : "",
        rate > 0 ? output_bytes(arena, rate) : "", rate > 0 ? "/s" : "",
        has_eta ? arena_format(arena, ", %s left", output_duration(arena, eta)) : "");
}

// --- a terminal ---------------------------------------------------------------------------------

static void terminal_size(int *ret_rows, int *ret_columns)
{
    struct winsize size = {0};
    *ret_rows = 24;
    *ret_columns = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        *ret_rows = size.ws_row;
        *ret_columns = size.ws_col;
    }
}

// Cuts to a number of characters, so that a line never wraps and the lines can be counted.
static char *cut(Arena *arena, const char *text, int width)
{
    const char *at = text;
    for (int count = 0; *at != '\0'; at++) {
        if (((unsigned char)*at & 0xc0) != 0x80 && ++count > width) {
            break;
        }
    }
    return arena_string_n(arena, text, (size_t)(at - text));
}

static void go_to_first_line(WatchDisplay *display)
{
    if (display->drawn_count > 0) {
        (void)fprintf(display->file, "\x1b[%dA", display->drawn_count);
    }
    (void)fputs("\x1b[J", display->file);
    display->drawn_count = 0;
}

static void draw_shard(WatchDisplay *display, Arena *arena, const Json *shard, int name_width,
                       int columns)
{
    const char *word = shard_word(shard);
    Colour colour = colour_of_state(json_get_text(shard, "state", "pending"));
    const char *name = output_safe(arena, json_get_text(shard, "shard", ""));
    double fraction = shard_fraction(shard);
    char *line = arena_format(arena, "%3.0f%%  %s", fraction * 100, shard_numbers(arena, shard));
    int room = columns - name_width - 11 - BAR_WIDTH - 6;
    (void)fprintf(display->file, "  %-*s  %s%-10s%s %s %s\n", name_width, name,
                  colour_begin(display->cli, colour), output_safe(arena, word),
                  colour_end(display->cli, colour), make_bar(display, arena, fraction),
                  cut(arena, line, MAX(room, 4)));
    display->drawn_count++;
}

static int widest_name(const Json *shards)
{
    size_t width = 4;
    for (const Json *shard = json_first(shards); shard != NULL; shard = json_next(shard)) {
        width = MAX(width, text_width(json_get_text(shard, "shard", "")));
    }
    return (int)MIN(width, (size_t)NAME_WIDTH_MAX);
}

static bool is_active(const Json *shard)
{
    const char *state = json_get_text(shard, "state", "");
    return text_equal(state, "running") || text_equal(state, "failed");
}

// Those that work or have failed come first when there are more than fit.
static void draw_shards(WatchDisplay *display, Arena *arena, const Json *shards, int rows,
                        int columns)
{
    int name_width = widest_name(shards);
    int room = MAX(rows - 3, 1);
    int count = (int)json_count(shards);
    int left = count;
    for (int pass = count <= room ? 2 : 0; pass < 3; pass++) {
        for (const Json *shard = json_first(shards); shard != NULL; shard = json_next(shard)) {
            bool is_wanted = pass == 2 ? count <= room : is_active(shard) == (pass == 0);
            if (is_wanted && display->drawn_count - 1 < room) {
                draw_shard(display, arena, shard, name_width, columns);
                left--;
            }
        }
    }
    if (left > 0) {
        (void)fprintf(display->file, "  ... and %d more\n", left);
        display->drawn_count++;
    }
}

static void draw(WatchDisplay *display, const Json *object, const Json *shards)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    int rows = 0;
    int columns = 0;
    terminal_size(&rows, &columns);
    go_to_first_line(display);
    const char *state = json_get_text(object, "state", "");
    char *head = arena_format(arena, "%s %s of %s", display->kind->word,
                              output_safe(arena, json_get_text(object, "id", "")),
                              output_safe(arena, json_get_text(object, "database", "")));
    double seconds = (double)(clock_monotonic_ms() - display->started_ms) / 1000;
    (void)fprintf(display->file, "%s: %s%s%s %s\n", cut(arena, head, MAX(columns - 24, 10)),
                  colour_begin(display->cli, colour_of_state(state)), output_safe(arena, state),
                  colour_end(display->cli, colour_of_state(state)),
                  output_duration(arena, seconds));
    display->drawn_count = 1;
    draw_shards(display, arena, shards, rows, columns);
    (void)fflush(display->file);
}

// --- plain lines --------------------------------------------------------------------------------

static void print_line(WatchDisplay *display, const char *text)
{
    time_t now = (time_t)(clock_now_us() / 1000000);
    struct tm local = {0};
    char when[16] = "";
    if (localtime_r(&now, &local) != NULL) {
        (void)strftime(when, sizeof(when), "%H:%M:%S", &local);
    }
    (void)fprintf(display->file, "%s %s\n", when, text);
    (void)fflush(display->file);
}

static void print_change(WatchDisplay *display, Arena *arena, const char *name, const char *word,
                         const char *more)
{
    char *said = arena_format(arena, "%s%s%s", word, *more == '\0' ? "" : ": ", more);
    if (text_equal(json_get_text(display->seen, name, ""), said)) {
        return;
    }
    json_set_text(display->seen, name, said);
    print_line(display, arena_format(arena, "%s: %s", name, said));
}

static void print_changes(WatchDisplay *display, const Json *object, const Json *shards)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *whole = arena_format(arena, "%s %s", display->kind->word,
                               output_safe(arena, json_get_text(object, "id", "")));
    print_change(display, arena, whole, output_safe(arena, json_get_text(object, "state", "")), "");
    for (const Json *shard = json_first(shards); shard != NULL; shard = json_next(shard)) {
        const char *state = json_get_text(shard, "state", "");
        bool is_over = !text_equal(state, "running") && !text_equal(state, "pending");
        char *name =
            arena_format(arena, "shard %s", output_safe(arena, json_get_text(shard, "shard", "")));
        print_change(display, arena, name, output_safe(arena, shard_word(shard)),
                     is_over ? shard_numbers(arena, shard) : "");
    }
}

// --- both ---------------------------------------------------------------------------------------

void watch_display_update(WatchDisplay *display, const Json *object, const Json *shards)
{
    if (display->is_live) {
        draw(display, object, shards);
    } else {
        print_changes(display, object, shards);
    }
}

void watch_display_note(WatchDisplay *display, const char *text)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (display->is_live) {
        go_to_first_line(display);
        (void)fprintf(display->file, "%s\n", output_safe(arena, text));
        (void)fflush(display->file);
    } else {
        print_line(display, output_safe(arena, text));
    }
}

void watch_display_finish(WatchDisplay *display, const Json *object)
{
    const char *state = json_get_text(object, "state", "");
    int64_t size = json_get_integer(object, "size_bytes", 0);
    if (display->cli->is_json || !text_equal(state, "succeeded") || size == 0) {
        return;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    double skew = 0;
    bool has_skew = duration_from_json(json_get_text(object, "checkpoint_skew", NULL), &skew);
    (void)fprintf(display->file, "%s, new %s, stored %s, received %s%s\n",
                  output_bytes(arena, size),
                  output_bytes(arena, json_get_integer(object, "new_bytes", 0)),
                  output_bytes(arena, json_get_integer(object, "stored_bytes", 0)),
                  output_bytes(arena, json_get_integer(object, "received_bytes", 0)),
                  has_skew ? arena_format(arena, ", checkpoint skew %.0f ms", skew * 1000) : "");
}
