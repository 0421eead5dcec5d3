// SPDX-License-Identifier: Apache-2.0
// Following the source: where the private standby is, and whether that is near enough.
#include "agent/engine/engine_postgresql.h"
#include "common/clock.h"
#include "common/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 50
#define FOLLOW_WAIT_MS 30000
#define SAMPLE_AGE_MS_MAX 5000
#define SLOT_ADVANCE_MS 30000
#define RESTART_COUNT_MAX 3
// A standby opens only when it knows every transaction that is open on the source, and those with
// many subtransactions it knows only when they have ended. We do not wait for such a transaction
// longer than this.
#define BLIND_MS 10000

// The roles and databases of the copy are the source's: which of them are there is not for us to
// say.
static Status local_connect(PostgresqlEngine *engine, Error *error)
{
    static const char *const databases[] = {"postgres", "template1"};
    const char *const names[] = {engine->state.superuser, engine->base.source.username};
    Status status = STATUS_OK;
    for (size_t i = 0; i < ARRAY_COUNT(names) * ARRAY_COUNT(databases); i++) {
        const char *name = names[i / ARRAY_COUNT(databases)];
        if (text_is_empty(name)) {
            continue;
        }
        error_clear(error);
        status = postgresql_connect_private(
            engine->base.options.work_directory, engine->server.port, name,
            databases[i % ARRAY_COUNT(databases)], POSTGRESQL_CONNECT_MS,
            engine->base.options.cancel, &engine->local_client, error);
        if (status == STATUS_OK) {
            return STATUS_OK;
        }
    }
    return status;
}

Status postgresql_local_session(PostgresqlEngine *engine, PostgresqlClient **ret_client,
                                Error *error)
{
    if (engine->local_client != NULL && postgresql_is_lost(engine->local_client)) {
        postgresql_closep(&engine->local_client);
    }
    if (engine->local_client == NULL) {
        RETURN_IF_ERROR(local_connect(engine, error));
    }
    *ret_client = engine->local_client;
    return STATUS_OK;
}

// Replayed up to *ret_lsn; 0 while the standby lets nobody in yet. *ret_is_paused: it refuses to go
// on with its limits.
Status postgresql_replayed(PostgresqlEngine *engine, uint64_t *ret_lsn, bool *ret_is_paused,
                           Error *error)
{
    PostgresqlClient *client;
    Error local = {0};
    char text[64] = "";
    *ret_lsn = 0;
    *ret_is_paused = false;
    Status status = postgresql_local_session(engine, &client, &local);
    if (status == STATUS_OK) {
        status = postgresql_query_text(client, REASON_ENGINE_FAILED,
                                       "SELECT pg_catalog.pg_last_wal_replay_lsn() || ' ' || "
                                       "pg_catalog.pg_is_wal_replay_paused()",
                                       NULL, text, sizeof(text), &local);
    }
    if (status != STATUS_OK) {
        postgresql_closep(&engine->local_client);
        if (local.reason == REASON_CANCELED) {
            *error = local;
            return error->status;
        }
        engine->blind_since_ms =
            engine->blind_since_ms == 0 ? clock_monotonic_ms() : engine->blind_since_ms;
        return postgresql_server_check(&engine->server, error);
    }
    engine->blind_since_ms = 0;
    char *blank = strchr(text, ' ');
    if (blank != NULL) {
        *blank = '\0';
        *ret_is_paused = blank[1] == 't';
        (void)postgresql_lsn_parse(text, ret_lsn); // nothing replayed yet is 0
    }
    return STATUS_OK;
}

bool postgresql_is_blind(const PostgresqlEngine *engine)
{
    return engine->blind_since_ms != 0 && clock_monotonic_ms() - engine->blind_since_ms > BLIND_MS;
}

// Following
// -------------------------------------------------------------------------------------------------------

Status postgresql_follow(Engine *base, Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    assert(engine->receiver == NULL);
    RETURN_IF_ERROR(postgresql_source_check(engine, engine->server.major, error));
    RETURN_IF_ERROR(postgresql_slots_prepare(engine, error));
    PostgresqlReceiverOptions options = {
        .source = &base->source,
        .data_directory = base->options.data_directory,
        .recorder = base->options.recorder,
        .system_identifier = engine->control.system_identifier,
        .timeline = engine->start_timeline,
        .start_lsn = engine->start_lsn,
        .segment_bytes = engine->control.wal_segment_bytes,
    };
    RETURN_IF_ERROR(postgresql_receiver_start(&options, &engine->receiver, error));
    int64_t deadline_ms = clock_monotonic_ms() + FOLLOW_WAIT_MS;
    for (;;) {
        PostgresqlReceiverState state;
        RETURN_IF_ERROR(postgresql_receiver_look(engine->receiver, &state, error));
        if (state.has_streamed || clock_monotonic_ms() >= deadline_ms) {
            return STATUS_OK; // a source that is away for a moment is found again
        }
        if (postgresql_is_canceled(engine)) {
            return error_set(error, REASON_CANCELED, "canceled while connecting to the source");
        }
        clock_sleep_ms(POLL_MS);
    }
}

// A standby stops, or (from version 14 on) pauses, when the source raised one of the limits that it
// must not be below. The control file knows the new ones then.
static Status restart_standby(PostgresqlEngine *engine, Error *error)
{
    if (++engine->restart_count > RESTART_COUNT_MAX) {
        return postgresql_server_check(&engine->server, error) != STATUS_OK
                   ? error->status
                   : error_set(error, REASON_ENGINE_FAILED, "PostgreSQL does not go on replaying");
    }
    postgresql_closep(&engine->local_client);
    if (engine->server.pid != 0) {
        RETURN_IF_ERROR(postgresql_server_stop(&engine->server, error));
    }
    RETURN_IF_ERROR(postgresql_read_control(&engine->server, &engine->control, error));
    return postgresql_run_standby(engine, REASON_REPLICATION_BROKEN, error);
}

Status postgresql_replayed_or_restart(PostgresqlEngine *engine, uint64_t *ret_lsn, Error *error)
{
    bool is_paused = false;
    Status status = postgresql_replayed(engine, ret_lsn, &is_paused, error);
    bool is_ended = status != STATUS_OK && error->reason == REASON_ENGINE_FAILED &&
                    (postgresql_server_log_has(&engine->server, "hot standby is not possible") ||
                     postgresql_server_log_has(&engine->server, "insufficient parameter settings"));
    if (is_ended || (status == STATUS_OK && is_paused)) {
        error_clear(error);
        *ret_lsn = 0;
        return restart_standby(engine, error);
    }
    return status;
}

static Status source_position(PostgresqlEngine *engine, uint64_t *ret_lsn, Error *error)
{
    PostgresqlClient *client;
    char text[32];
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    Status status = postgresql_query_text(client, REASON_SOURCE_CHANGED,
                                          "SELECT pg_catalog.pg_current_wal_flush_lsn()", NULL,
                                          text, sizeof(text), error);
    if (status != STATUS_OK) {
        postgresql_source_drop(engine);
        return status;
    }
    if (!postgresql_lsn_parse(text, ret_lsn)) {
        return error_set(error, REASON_SOURCE_CHANGED, "the source has no WAL position");
    }
    return STATUS_OK;
}

// Caught up: at this moment replay is where the source was at most a few seconds ago.
static bool is_caught_up(PostgresqlEngine *engine, uint64_t replayed_lsn)
{
    int64_t now_ms = clock_monotonic_ms();
    bool has_sample = engine->sample_ms != 0;
    bool is_old = !has_sample || now_ms - engine->sample_ms > SAMPLE_AGE_MS_MAX;
    bool is_passed = has_sample && !is_old && replayed_lsn >= engine->sample_lsn;
    if (is_passed || is_old) {
        Error ignored = {0}; // the receiver decides how long the source may be away
        uint64_t lsn;
        if (source_position(engine, &lsn, &ignored) == STATUS_OK) {
            engine->sample_lsn = lsn;
            engine->sample_ms = now_ms;
            is_passed = is_passed || replayed_lsn >= lsn;
        } else {
            engine->sample_ms = 0;
            is_passed = false;
        }
    }
    return is_passed;
}

void postgresql_fill_progress(const PostgresqlEngine *engine, const PostgresqlReceiverState *state,
                              uint64_t replayed_lsn, EngineProgress *ret_progress)
{
    *ret_progress = (EngineProgress){
        .done_bytes = (int64_t)(state->written_lsn - engine->start_lsn),
        .total_bytes = -1,
        .received_bytes = engine->seed_received_bytes + state->received_bytes,
    };
    if (engine->sample_ms != 0 && engine->sample_lsn >= state->written_lsn) {
        ret_progress->total_bytes = (int64_t)(engine->sample_lsn - engine->start_lsn);
    }
    if (replayed_lsn != 0) {
        postgresql_lsn_format(replayed_lsn, ret_progress->position);
    }
}

Status postgresql_position(Engine *base, EngineProgress *ret_progress, bool *ret_is_caught_up,
                           Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    assert(engine->receiver != NULL);
    PostgresqlReceiverState state;
    uint64_t lsn = 0;
    RETURN_IF_ERROR(postgresql_receiver_look(engine->receiver, &state, error));
    RETURN_IF_ERROR(postgresql_replayed_or_restart(engine, &lsn, error));
    if (postgresql_is_canceled(engine)) {
        return error_set(error, REASON_CANCELED, "canceled");
    }
    // With a checkpoint taken, nothing more comes than what is before it.
    *ret_is_caught_up = engine->taken_lsn != 0
                            ? (lsn != 0 ? lsn : state.written_lsn) >= engine->taken_lsn
                            : state.is_streaming && (lsn != 0 || postgresql_is_blind(engine)) &&
                                  is_caught_up(engine, lsn != 0 ? lsn : state.written_lsn);
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - engine->slot_advanced_ms > SLOT_ADVANCE_MS) {
        engine->slot_advanced_ms = now_ms;
        postgresql_slots_advance_run(engine, state.written_lsn);
    }
    postgresql_fill_progress(engine, &state, lsn, ret_progress);
    return STATUS_OK;
}
