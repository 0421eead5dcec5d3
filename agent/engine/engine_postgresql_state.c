// SPDX-License-Identifier: Apache-2.0
// What a PostgreSQL backup's manifest keeps for the next generation and for a restore.
#include "agent/engine/engine_postgresql.h"
#include "common/json.h"
#include "common/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_BYTES_MAX (64 * 1024)
#define STATE_FORMAT 1

Status postgresql_state_parse(const char *text, PostgresqlState *ret_state, Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    if (json_parse(text, strlen(text), &json, error) != STATUS_OK ||
        json_get_integer(json, "format", 0) != STATE_FORMAT) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the manifest's engine state is not one this version reads");
    }
    PostgresqlState state = {0};
    const char *identifier = json_get_text(json, "system_identifier", "");
    state.system_identifier = strtoull(identifier, NULL, 10);
    int64_t timeline = json_get_integer(json, "timeline", 0);
    const char *name = json_get_text(json, "checkpoint_name", "");
    const char *superuser = json_get_text(json, "superuser", "postgres");
    if (state.system_identifier == 0 || timeline < 1 || timeline > UINT32_MAX ||
        !postgresql_lsn_parse(json_get_text(json, "checkpoint_lsn", ""), &state.checkpoint_lsn) ||
        text_is_empty(name) || strlen(name) >= sizeof(state.checkpoint_name) ||
        strlen(superuser) >= sizeof(state.superuser)) {
        return error_set(error, REASON_PARENT_UNRESTORABLE,
                         "the manifest's engine state lacks what PostgreSQL needs");
    }
    state.timeline = (uint32_t)timeline;
    (void)snprintf(state.checkpoint_name, sizeof(state.checkpoint_name), "%s", name);
    (void)snprintf(state.superuser, sizeof(state.superuser), "%s", superuser);
    *ret_state = state;
    return STATUS_OK;
}

const char *postgresql_state_write(Arena *arena, const PostgresqlState *state, int major)
{
    char number[32];
    char lsn[POSTGRESQL_LSN_TEXT_SIZE];
    char hint[512];
    (void)snprintf(number, sizeof(number), "%" PRIu64, state->system_identifier);
    postgresql_lsn_format(state->checkpoint_lsn, lsn);
    (void)snprintf(hint, sizeof(hint),
                   "Start PostgreSQL %d on the directory with an empty file recovery.signal in it "
                   "and the settings "
                   "restore_command = 'false', recovery_target_name = '%s', recovery_target_action "
                   "= 'promote', "
                   "archive_mode = 'off': it opens read-write exactly at the checkpoint.",
                   major, state->checkpoint_name);
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_integer(json, "format", STATE_FORMAT);
    json_set_text(json, "system_identifier", number);
    json_set_integer(json, "timeline", state->timeline);
    json_set_text(json, "checkpoint_name", state->checkpoint_name);
    json_set_text(json, "checkpoint_lsn", lsn);
    json_set_text(json, "superuser", state->superuser);
    json_set_integer(json, "major_version", major);
    json_set_text(json, "restore_hint", hint);
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, STATE_BYTES_MAX);
    bool is_written = json_write(json, false, &text);
    assert(is_written); // every part is bounded
    return arena_string(arena, buffer_text(&text));
}
