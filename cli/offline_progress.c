// SPDX-License-Identifier: Apache-2.0
#include "cli/offline_progress.h"

#include "cli/cli_output.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DRAW_INTERVAL_MS 200

// The only thing a signal handler may do.
static atomic_bool is_canceled;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards what follows
static OfflineProgress *first_shown;
static int line_count; // that are drawn; the cursor is at the end of the last
static int64_t drawn_ms;

static void cancel(int number)
{
    (void)number;
    atomic_store(&is_canceled, true);
}

void offline_watch_signals(void)
{
    struct sigaction action = {.sa_handler = cancel, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

const atomic_bool *offline_cancel(void)
{
    return &is_canceled;
}

static void draw_line(const OfflineProgress *progress)
{
    enum { WIDTH = 24 };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char bar[WIDTH + 1];
    int64_t done_bytes = progress->done_bytes;
    int64_t total_bytes = progress->total_bytes;
    double fraction = total_bytes > 0 ? (double)done_bytes / (double)total_bytes : 0;
    double seconds = (double)(clock_monotonic_ms() - progress->started_ms) / 1000;
    double rate = seconds > 0 ? (double)done_bytes / seconds : 0;
    fraction = fraction > 1 ? 1 : fraction;
    for (int i = 0; i < WIDTH; i++) {
        bar[i] = i < (int)(fraction * WIDTH) ? '#' : '-';
    }
    bar[WIDTH] = '\0';
    const char *left = "";
    if (rate > 0 && total_bytes > done_bytes && seconds > 1) {
        left = arena_format(arena, ", %s left",
                            output_duration(arena, (double)(total_bytes - done_bytes) / rate));
    }
    (void)fprintf(stderr, "%s [%s] %3.0f%%  %s of %s, %s/s%s", progress->label, bar, fraction * 100,
                  output_bytes(arena, done_bytes), output_bytes(arena, total_bytes),
                  output_bytes(arena, (int64_t)rate), left);
}

// With the mutex held.
static void erase(void)
{
    if (line_count > 0) {
        (void)fputs("\r", stderr);
        if (line_count > 1) {
            (void)fprintf(stderr, "\x1b[%dA", line_count - 1);
        }
        (void)fputs("\x1b[J", stderr);
    }
    line_count = 0;
}

// With the mutex held.
static void draw(void)
{
    erase();
    for (const OfflineProgress *shown = first_shown; shown != NULL; shown = shown->next) {
        (void)fputs(line_count > 0 ? "\n" : "", stderr);
        draw_line(shown);
        line_count++;
    }
    (void)fflush(stderr);
}

void offline_progress_begin(OfflineProgress *progress, const Cli *cli, const char *label)
{
    *progress = (OfflineProgress){
        .label = label,
        .is_shown =
            !cli->is_json && isatty(STDERR_FILENO) == 1 && !text_equal(getenv("TERM"), "dumb"),
        .started_ms = clock_monotonic_ms(),
    };
    pthread_mutex_lock(&mutex);
    OfflineProgress **place = &first_shown;
    while (progress->is_shown && *place != NULL) {
        place = &(*place)->next;
    }
    if (progress->is_shown) {
        *place = progress;
    }
    pthread_mutex_unlock(&mutex);
}

static bool on_progress(void *context, int64_t done_bytes, int64_t total_bytes)
{
    OfflineProgress *progress = context;
    int64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&mutex);
    progress->done_bytes = done_bytes;
    progress->total_bytes = total_bytes;
    if (progress->is_shown && now_ms - drawn_ms >= DRAW_INTERVAL_MS) {
        drawn_ms = now_ms;
        draw();
    }
    pthread_mutex_unlock(&mutex);
    return !atomic_load(&is_canceled);
}

Progress offline_progress_callback(OfflineProgress *progress)
{
    return (Progress){.on_progress = on_progress, .context = progress};
}

void offline_progress_end(OfflineProgress *progress)
{
    pthread_mutex_lock(&mutex);
    for (OfflineProgress **place = &first_shown; *place != NULL; place = &(*place)->next) {
        if (*place == progress) {
            *place = progress->next;
            if (line_count > 0) {
                draw();
            }
            break;
        }
    }
    pthread_mutex_unlock(&mutex);
}
