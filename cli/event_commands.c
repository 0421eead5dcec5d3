// SPDX-License-Identifier: Apache-2.0
#include "cli/event_commands.h"

#include "cli/cli_output.h"
#include "cli/command_run.h"
#include "cli/event_lines.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

#define LINE_BYTES_MAX (256 * 1024)
#define RECONNECT_MS 1000
// A stream that breaks so often without a single event is not coming back.
#define BREAK_COUNT_MAX 60

// --- printing -----------------------------------------------------------------------------------

static void print_event(const Cli *cli, const Json *event)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (cli->is_json) { // one object a line: a stream has no end that an array would need
        Buffer line;
        buffer_init(&line, LINE_BYTES_MAX);
        (void)json_write(event, false, &line);
        (void)printf("%s\n", buffer_text(&line));
        buffer_done(&line);
    } else {
        const char *severity = json_get_text(event, "severity", "");
        Colour colour = text_equal(severity, "info") ? COLOUR_NONE : colour_of_state(severity);
        const char *database = json_get_text(event, "database", "");
        const char *shard = json_get_text(event, "shard", "");
        (void)printf(
            "%s%s%s  %s%s%s%s%s%s%s  %s\n", colour_begin(cli, COLOUR_DIM),
            output_value(arena, json_get(event, "time"), VIEW_TIME), colour_end(cli, COLOUR_DIM),
            colour_begin(cli, colour), output_value(arena, json_get(event, "kind"), VIEW_TEXT),
            colour_end(cli, colour), *database == '\0' ? "" : "  ", output_safe(arena, database),
            *shard == '\0' ? "" : "/", output_safe(arena, shard),
            output_safe(arena, json_get_text(event, "message", "")));
    }
    (void)fflush(stdout);
}

// --- following ----------------------------------------------------------------------------------

typedef struct EventFollower {
    const Cli *cli;
    EventLines lines;
    int64_t last_id;
    bool has_event; // since the stream was opened
} EventFollower;

static void on_event(void *context, const Json *event)
{
    EventFollower *follower = context;
    int64_t id = json_get_integer(event, "id", 0);
    if (id > follower->last_id || id == 0) {
        print_event(follower->cli, event);
        follower->last_id = MAX(follower->last_id, id);
    }
    follower->has_event = true;
}

static bool on_data(void *context, const void *data, size_t size)
{
    EventFollower *follower = context;
    event_lines_feed(&follower->lines, data, size);
    return true;
}

static Status follow(Cli *cli, const char *query, int64_t last_id, Error *error)
{
    EventFollower follower = {.cli = cli, .last_id = last_id};
    event_lines_init(&follower.lines, on_event, &follower);
    Status status = STATUS_OK;
    for (int break_count = 0; break_count < BREAK_COUNT_MAX; break_count++) {
        if (break_count > 0) {
            clock_sleep_ms(RECONNECT_MS);
        }
        char id[32];
        (void)snprintf(id, sizeof(id), "%lld", (long long)follower.last_id);
        follower.has_event = false;
        event_lines_begin(&follower.lines);
        error_clear(error);
        status =
            cli_stream(cli, "/v1/events/stream", cli_query_add(cli->arena, query, "after_id", id),
                       on_data, &follower, error);
        if (status != STATUS_OK && status != STATUS_UNAVAILABLE && status != STATUS_UNKNOWN) {
            break;
        }
        break_count = follower.has_event ? 0 : break_count;
    }
    event_lines_done(&follower.lines);
    return status;
}

// --- the command --------------------------------------------------------------------------------

static const char *stream_query(Cli *cli, const Invocation *invocation)
{
    static const char *const names[] = {"database", "backup"};
    const char *query = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        const char *value = invocation_option(invocation, names[i]);
        query = value == NULL ? query : cli_query_add(cli->arena, query, names[i], value);
    }
    return query;
}

// The list is newest first; people read downwards in time, as a log. Returns the newest id.
static int64_t print_oldest_first(Cli *cli, const Json *events)
{
    size_t count = json_count(events);
    const Json **order = arena_alloc_array(cli->arena, count + 1, sizeof(*order));
    int64_t newest_id = 0;
    for (const Json *event = json_first(events); event != NULL; event = json_next(event)) {
        order[--count] = event;
        newest_id = MAX(newest_id, json_get_integer(event, "id", 0));
    }
    for (size_t i = 0; i < json_count(events); i++) {
        print_event(cli, order[i]);
    }
    return newest_id;
}

Status events_run(Cli *cli, const Invocation *invocation, Error *error)
{
    int limit = 0;
    RETURN_IF_ERROR(command_limit(invocation, &limit, error));
    bool is_following = invocation_has(invocation, "follow");
    if (is_following && invocation_has(invocation, "minimum-severity")) {
        return error_set(error, REASON_INVALID, "--minimum-severity does not go with --follow");
    }
    CLEANUP(json_freep) Json *list = NULL;
    bool has_more = false;
    RETURN_IF_ERROR(command_list(cli, "/v1/events", command_query(cli, invocation), "events", limit,
                                 &list, &has_more, error));
    if (cli->is_json && !is_following) {
        output_json(list);
        return STATUS_OK;
    }
    int64_t newest_id = print_oldest_first(cli, json_get(list, "events"));
    return is_following ? follow(cli, stream_query(cli, invocation), newest_id, error) : STATUS_OK;
}
