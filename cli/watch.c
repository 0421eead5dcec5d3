// SPDX-License-Identifier: Apache-2.0
// Polls: a page of shards a second is cheap, survives restarts of the server, and needs no state.
#include "cli/watch.h"

#include "cli/cli_output.h"
#include "cli/command_run.h"
#include "cli/watch_display.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/text.h"

#define POLL_LIVE_MS 500
#define POLL_PLAIN_MS 1000
// A server that is restarted is back by then.
#define UNREACHABLE_MS_MAX 120000

static const char *const BACKUP_FINAL_STATES[] = {"succeeded", "failed",  "canceled",
                                                  "deleting",  "deleted", NULL};
static const char *const RESTORE_FINAL_STATES[] = {"serving", "succeeded", "failed", "canceled",
                                                   NULL};

const WatchKind WATCH_BACKUP = {.word = "backup",
                                .path = "/v1/backups",
                                .shards_path = "shards",
                                .final_states = BACKUP_FINAL_STATES};
const WatchKind WATCH_RESTORE = {
    .word = "restore", .path = "/v1/restores", .final_states = RESTORE_FINAL_STATES};

static bool is_final(const WatchKind *kind, const Json *object)
{
    const char *state = json_get_text(object, "state", "");
    for (size_t i = 0; kind->final_states[i] != NULL; i++) {
        if (text_equal(kind->final_states[i], state)) {
            return true;
        }
    }
    return false;
}

static Status outcome(const WatchKind *kind, const Json *object, Error *error)
{
    const char *state = json_get_text(object, "state", "");
    const char *id = json_get_text(object, "id", "");
    if (text_equal(state, "canceled")) {
        return error_set(error, REASON_CANCELED, "%s '%s' was canceled", kind->word, id);
    }
    if (text_equal(state, "failed")) {
        Reason reason = reason_from_slug(json_get_text(object, "reason", ""));
        return error_set(error, reason, "%s '%s' failed: %s", kind->word, id,
                         json_get_text(object, "message", ""));
    }
    return STATUS_OK;
}

static Status fetch(Cli *cli, const WatchKind *kind, const char *id, Json **ret_object,
                    Json **ret_shards, Error *error)
{
    // A watch may last for hours: what its calls need lives for one round only.
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Cli round = *cli;
    round.arena = arena;
    char *path = arena_format(arena, "%s/%s", kind->path, cli_escape(arena, id));
    CLEANUP(json_freep) Json *object = NULL;
    RETURN_IF_ERROR(cli_get(&round, path, NULL, &object, error));
    if (object == NULL) {
        return error_set(error, REASON_INTERNAL, "the server's answer is empty");
    }
    if (kind->shards_path != NULL) {
        bool has_more = false;
        path = arena_format(arena, "%s/%s", path, kind->shards_path);
        RETURN_IF_ERROR(command_list(&round, path, NULL, "shards", LIMIT_SHARD_COUNT, ret_shards,
                                     &has_more, error));
    }
    *ret_object = object;
    object = NULL;
    return STATUS_OK;
}

static Status watch_loop(Cli *cli, const WatchKind *kind, const char *id, WatchDisplay *display,
                         Error *error)
{
    int64_t reached_ms = clock_monotonic_ms();
    bool is_noted = false;
    while (true) {
        CLEANUP(json_freep) Json *object = NULL;
        CLEANUP(json_freep) Json *shards = NULL;
        error_clear(error);
        Status status = fetch(cli, kind, id, &object, &shards, error);
        if (status == STATUS_OK) {
            watch_display_update(display, object,
                                 json_get(shards != NULL ? shards : object, "shards"));
            reached_ms = clock_monotonic_ms();
            is_noted = false;
        } else if (status != STATUS_UNAVAILABLE ||
                   clock_monotonic_ms() - reached_ms > UNREACHABLE_MS_MAX) {
            return status;
        } else if (!is_noted) {
            watch_display_note(display, "the server cannot be reached, trying on");
            is_noted = true;
        }
        if (status == STATUS_OK && is_final(kind, object)) {
            watch_display_finish(display, object);
            if (cli->is_json) {
                output_json(object);
            }
            return outcome(kind, object, error);
        }
        clock_sleep_ms(cli->is_terminal ? POLL_LIVE_MS : POLL_PLAIN_MS);
    }
}

Status watch_run(Cli *cli, const WatchKind *kind, const char *id, Error *error)
{
    WatchDisplay *display = watch_display_new(cli, kind);
    Status status = watch_loop(cli, kind, id, display, error);
    watch_display_free(display);
    return status;
}
