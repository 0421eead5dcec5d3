// SPDX-License-Identifier: Apache-2.0
// Checkpoints: taking one on the source, and replaying exactly to it.
#include "agent/engine/engine_postgresql.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 50
#define PROGRESS_MS 500

// Checkpoints
// -----------------------------------------------------------------------------------------------------

#define SUFFIX_BYTES 4
#define BASE_NAME_MAX (POSTGRESQL_NAME_SIZE - 1 - (2 * SUFFIX_BYTES + 1))

// A name of our own making: recovery stops at the first restore point of that name, so none may
// come twice, not even when an attempt is repeated.
static bool make_unique_name(const char *name, char ret_name[POSTGRESQL_NAME_SIZE])
{
    uint8_t random[SUFFIX_BYTES];
    char suffix[2 * SUFFIX_BYTES + 1];
    size_t length = strlen(name);
    if (length == 0 || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-_.:") != length) {
        return false;
    }
    crypto_random(random, sizeof(random));
    hex_encode(random, sizeof(random), suffix);
    (void)snprintf(ret_name, POSTGRESQL_NAME_SIZE, "%.*s-%s", BASE_NAME_MAX, name, suffix);
    return true;
}

// The restore point's record stays in memory until something is flushed behind it: a transaction
// with a number does that.
static Status create_restore_point(PostgresqlEngine *engine, const char *name, uint64_t *ret_lsn,
                                   uint32_t *ret_timeline, Error *error)
{
    char sql[512];
    (void)snprintf(
        sql, sizeof(sql),
        "BEGIN; SET LOCAL synchronous_commit = local;"
        " SELECT p.lsn, pg_catalog.pg_walfile_name(p.lsn), pg_catalog.pg_current_xact_id()"
        " FROM pg_catalog.pg_create_restore_point('%s') AS p(lsn); COMMIT",
        name);
    PostgresqlClient *client;
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    Status status =
        postgresql_query(client, REASON_SOURCE_CONFIGURATION, sql, NULL, 0, &result, error);
    if (status != STATUS_OK) {
        postgresql_source_drop(engine);
        if (error->reason == REASON_SOURCE_PRIVILEGES) {
            (void)error_hint(
                error, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO "
                       "<user>; in the database that the agent connects to");
        }
        return status;
    }
    char timeline[9] = "";
    (void)snprintf(timeline, sizeof(timeline), "%s",
                   PQntuples(result) == 1 ? PQgetvalue(result, 0, 1) : "");
    *ret_timeline = (uint32_t)strtoul(timeline, NULL, 16);
    if (*ret_timeline == 0 || !postgresql_lsn_parse(PQgetvalue(result, 0, 0), ret_lsn)) {
        return error_set(error, REASON_SOURCE_CONFIGURATION,
                         "the source did not say where its restore point is");
    }
    return STATUS_OK;
}

Status postgresql_checkpoint_take(Engine *base, const char *name, Checkpoint *ret_checkpoint,
                                  Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    assert(engine->receiver != NULL);
    char unique_name[POSTGRESQL_NAME_SIZE];
    if (!make_unique_name(name, unique_name)) {
        return error_set(error, REASON_INVALID, "'%s' is not a name for a checkpoint", name);
    }
    // Nothing behind the restore point may reach the standby: hold, make it, go on up to it.
    postgresql_receiver_hold(engine->receiver);
    uint64_t lsn = 0;
    uint32_t timeline = 0;
    Status status = create_restore_point(engine, unique_name, &lsn, &timeline, error);
    if (status != STATUS_OK && error->reason == REASON_SOURCE_UNREACHABLE &&
        !postgresql_is_canceled(engine)) {
        error_clear(error); // the session may be of before a restart
        status = create_restore_point(engine, unique_name, &lsn, &timeline, error);
    }
    uint64_t earlier = engine->taken_lsn != 0 ? engine->taken_lsn : UINT64_MAX;
    postgresql_receiver_limit(engine->receiver, status == STATUS_OK ? lsn : earlier);
    RETURN_IF_ERROR(status);
    engine->taken_lsn = lsn;
    engine->taken_timeline = timeline;
    Checkpoint checkpoint = {.taken_us = clock_now_us()};
    postgresql_lsn_format(lsn, checkpoint.position);
    (void)snprintf(checkpoint.name, sizeof(checkpoint.name), "%s", unique_name);
    (void)snprintf(checkpoint.server_identity, sizeof(checkpoint.server_identity), "%" PRIu64,
                   engine->control.system_identifier);
    *ret_checkpoint = checkpoint;
    return STATUS_OK;
}

typedef struct Replay {
    uint64_t target_lsn;
    int64_t stall_ms;
    uint64_t last_written, last_replayed;
    int64_t progressed_ms, reported_ms;
} Replay;

static Status check_stall(Replay *replay, uint64_t written, uint64_t lsn, Error *error)
{
    int64_t now_ms = clock_monotonic_ms();
    if (written != replay->last_written || lsn != replay->last_replayed) {
        replay->last_written = written;
        replay->last_replayed = lsn;
        replay->progressed_ms = now_ms;
    }
    if (now_ms - replay->progressed_ms <= replay->stall_ms) {
        return STATUS_OK;
    }
    char reached[POSTGRESQL_LSN_TEXT_SIZE];
    postgresql_lsn_format(lsn, reached);
    return error_set(error, REASON_REPLAY_STALLED,
                     "replay has been at %s for %" PRId64 " s, before the checkpoint", reached,
                     replay->stall_ms / 1000);
}

static void fill_state(PostgresqlEngine *engine, const Checkpoint *checkpoint)
{
    engine->state = (PostgresqlState){
        .system_identifier = engine->control.system_identifier,
        .timeline = engine->taken_timeline,
        .checkpoint_lsn = engine->taken_lsn,
    };
    (void)snprintf(engine->state.checkpoint_name, sizeof(engine->state.checkpoint_name), "%s",
                   checkpoint->name);
    // The role we use on the source is in the copy; the cluster's first role may do more.
    (void)snprintf(engine->state.superuser, sizeof(engine->state.superuser), "%s",
                   engine->base.source.username);
    PostgresqlClient *client;
    Error ignored = {0};
    char name[POSTGRESQL_NAME_SIZE] = "";
    if (engine->server.pid != 0 &&
        postgresql_local_session(engine, &client, &ignored) == STATUS_OK &&
        postgresql_query_text(client, REASON_ENGINE_FAILED,
                              "SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10", NULL, name,
                              sizeof(name), &ignored) == STATUS_OK &&
        name[0] != '\0') {
        (void)snprintf(engine->state.superuser, sizeof(engine->state.superuser), "%s", name);
    }
    engine->is_checkpoint_reached = true;
}

static Status arrive(PostgresqlEngine *engine, const Checkpoint *checkpoint, uint32_t timeline,
                     uint64_t lsn, Error *error)
{
    if (engine->taken_timeline == 0) {
        engine->taken_timeline = timeline;
    }
    // The limit stopped the WAL at the checkpoint; standing elsewhere means that the history is
    // another one.
    if (lsn != engine->taken_lsn || timeline != engine->taken_timeline) {
        return error_set(
            error, REASON_SOURCE_CHANGED,
            "the source failed over while it was replayed, and its checkpoint '%s' is not part "
            "of the history it goes on with",
            checkpoint->name);
    }
    fill_state(engine, checkpoint);
    return STATUS_OK;
}

// The standby cannot be asked where it is: it is run again with the restore point as its target,
// where it shuts down.
static Status arrive_blindly(PostgresqlEngine *engine, const Checkpoint *checkpoint,
                             uint32_t timeline, int64_t stall_ms, Error *error)
{
    RETURN_IF_ERROR(postgresql_server_stop(&engine->server, error));
    RETURN_IF_ERROR(postgresql_read_control(&engine->server, &engine->control, error));
    PostgresqlRun run = {.control = &engine->control,
                         .is_standby = true,
                         .ends_at_target = true,
                         .target_name = checkpoint->name};
    RETURN_IF_ERROR(postgresql_server_run(&engine->server, &run, stall_ms, error));
    if (!postgresql_server_log_has(&engine->server, "recovery stopping at restore point")) {
        return error_set(error, REASON_REPLICATION_BROKEN,
                         "PostgreSQL did not stop at the checkpoint '%s'", checkpoint->name);
    }
    return arrive(engine, checkpoint, timeline, engine->taken_lsn, error);
}

// At a checkpoint that another run of the agent took. Only one that is still ahead can be reached
// exactly. Every position comes from pg_create_restore_point, which answers with the end of its own
// record: replay stands there, and never behind a page header as pg_current_wal_insert_lsn() may.
static Status aim(PostgresqlEngine *engine, uint64_t target_lsn, Error *error)
{
    PostgresqlReceiverState state;
    postgresql_receiver_hold(engine->receiver);
    Status status = postgresql_receiver_look(engine->receiver, &state, error);
    if (status == STATUS_OK && state.written_lsn > target_lsn) {
        status = error_set(error, REASON_PRECONDITION,
                           "the copy is past the checkpoint already: take another one");
    }
    if (status == STATUS_OK) {
        engine->taken_lsn = target_lsn;
        engine->taken_timeline = 0; // whichever it is on
    }
    postgresql_receiver_limit(engine->receiver,
                              engine->taken_lsn != 0 ? engine->taken_lsn : UINT64_MAX);
    return status;
}

Status postgresql_replay_to(Engine *base, const Checkpoint *checkpoint, int64_t stall_ms,
                            EngineProgressFunction on_progress, void *context, Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    assert(engine->receiver != NULL);
    Replay replay = {.stall_ms = stall_ms, .progressed_ms = clock_monotonic_ms()};
    if (!postgresql_lsn_parse(checkpoint->position, &replay.target_lsn)) {
        return error_set(error, REASON_INVALID, "'%s' is not a position", checkpoint->position);
    }
    if (replay.target_lsn != engine->taken_lsn) {
        RETURN_IF_ERROR(aim(engine, replay.target_lsn, error));
    }
    for (;;) {
        PostgresqlReceiverState state;
        uint64_t lsn = 0;
        RETURN_IF_ERROR(postgresql_receiver_look(engine->receiver, &state, error));
        RETURN_IF_ERROR(postgresql_replayed_or_restart(engine, &lsn, error));
        int64_t now_ms = clock_monotonic_ms();
        bool is_there = lsn >= replay.target_lsn;
        if (on_progress != NULL && (is_there || now_ms - replay.reported_ms >= PROGRESS_MS)) {
            EngineProgress progress;
            postgresql_fill_progress(engine, &state, lsn, &progress);
            progress.total_bytes = (int64_t)(replay.target_lsn - engine->start_lsn);
            on_progress(context, &progress);
            replay.reported_ms = now_ms;
        }
        if (is_there) {
            return arrive(engine, checkpoint, state.timeline, lsn, error);
        }
        if (postgresql_is_blind(engine) && state.written_lsn >= replay.target_lsn) {
            return arrive_blindly(engine, checkpoint, state.timeline, stall_ms, error);
        }
        if (postgresql_is_canceled(engine)) {
            return error_set(error, REASON_CANCELED, "canceled while replaying");
        }
        RETURN_IF_ERROR(check_stall(&replay, state.written_lsn, lsn, error));
        clock_sleep_ms(POLL_MS);
    }
}
