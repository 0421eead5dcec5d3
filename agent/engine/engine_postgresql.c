// SPDX-License-Identifier: Apache-2.0
// The PostgreSQL engine: a private standby that replays the WAL the agent brings it, up to the
// checkpoint and never beyond, is never promoted, and stops cleanly. See
// engine_postgresql_receiver.h for how the WAL comes.
#include "agent/engine/engine_postgresql.h"

#include "agent/engine/engine_postgresql_settings.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_PATH_MAX 107
#define SOCKET_NAME_SIZE 16 // "/.s.PGSQL.65535"
#define POLL_MS 50
#define PARENT_REPLAY_MS 60000

static PostgresqlEngine *engine_of(Engine *base)
{
    assert(base->driver == &engine_postgresql);
    return (PostgresqlEngine *)base;
}

bool postgresql_is_canceled(const PostgresqlEngine *engine)
{
    const Cancel *cancel = engine->base.options.cancel;
    return cancel != NULL && atomic_load(&cancel->is_requested);
}

// Sessions
// --------------------------------------------------------------------------------------------------------

void postgresql_source_drop(PostgresqlEngine *engine)
{
    postgresql_closep(&engine->source_client);
}

Status postgresql_source_session(PostgresqlEngine *engine, PostgresqlClient **ret_client,
                                 Error *error)
{
    if (engine->base.source.host == NULL) {
        return error_set(error, REASON_PRECONDITION, "the engine was opened without a source");
    }
    if (engine->source_client != NULL && postgresql_is_lost(engine->source_client)) {
        postgresql_source_drop(engine);
    }
    if (engine->source_client == NULL) {
        RETURN_IF_ERROR(postgresql_connect_sql(&engine->base.source, POSTGRESQL_CONNECT_MS,
                                               engine->base.options.cancel, &engine->source_client,
                                               error));
    }
    *ret_client = engine->source_client;
    return STATUS_OK;
}

Status postgresql_source_check(PostgresqlEngine *engine, int major, Error *error)
{
    PostgresqlClient *client;
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    int source_major = PQserverVersion(client->connection) / 10000;
    if (source_major != major) {
        (void)error_set(error, REASON_ENGINE_VERSION,
                        "the source is PostgreSQL %d, the parent is of PostgreSQL %d", source_major,
                        major);
        return error_hint(error, "take a new seed: WAL is not compatible between major versions");
    }
    return STATUS_OK;
}

// Opening and closing
// ---------------------------------------------------------------------------------------------

static Status postgresql_open(const EngineOptions *options, const EngineSource *source,
                              Engine **ret_engine, Error *error)
{
    assert(options->work_directory != NULL);
    assert(options->data_directory != NULL);
    if (strlen(options->work_directory) + SOCKET_NAME_SIZE > SOCKET_PATH_MAX) {
        (void)error_set(error, REASON_INVALID,
                        "the work directory '%s' is too long for a socket in it",
                        options->work_directory);
        return error_hint(error, "choose a path of at most %d bytes",
                          SOCKET_PATH_MAX - SOCKET_NAME_SIZE);
    }
    PostgresqlEngine *engine = mem_alloc(sizeof(*engine));
    engine->base.driver = &engine_postgresql;
    engine->base.options = *options;
    if (source != NULL) {
        engine->base.source = *source;
        engine->base.source.password = secret_copy(&source->password);
    }
    engine->server.options = &engine->base.options;
    *ret_engine = &engine->base;
    return STATUS_OK;
}

static void remove_work_files(const PostgresqlEngine *engine)
{
    static const char *const names[] = {POSTGRESQL_CONF_NAME, POSTGRESQL_HBA_NAME,
                                        POSTGRESQL_IDENT_NAME, POSTGRESQL_LOG_NAME,
                                        "pg_basebackup.log"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        Error ignored = {0}; // the whole directory goes with the instance
        (void)postgresql_remove_file(engine->base.options.work_directory, names[i], &ignored);
    }
}

static void postgresql_close_engine(Engine *base)
{
    PostgresqlEngine *engine = engine_of(base);
    Error ignored = {0}; // closing always succeeds; what is left behind is swept
    postgresql_receiver_stop(engine->receiver);
    postgresql_closep(&engine->local_client);
    if (engine->is_served && engine->server.pid != 0) {
        engine->base.options.cancel = NULL;
        if (postgresql_server_stop(&engine->server, &ignored) == STATUS_OK) {
            (void)postgresql_auto_conf_put_back(engine->base.options.data_directory, &ignored);
            (void)postgresql_settings_complete(engine->base.options.data_directory, &ignored);
            (void)postgresql_settings_disarm(engine->base.options.data_directory, &ignored);
        }
    }
    postgresql_server_kill(&engine->server);
    (void)postgresql_auto_conf_put_back(engine->base.options.data_directory, &ignored);
    postgresql_source_drop(engine);
    postgresql_slots_release(engine);
    remove_work_files(engine);
    secret_done(&engine->base.source.password);
    mem_free(engine);
}

// Adopting and starting
// -------------------------------------------------------------------------------------------

static Status postgresql_adopt(Engine *base, const char *parent_version, const char *engine_state,
                               Error *error)
{
    PostgresqlEngine *engine = engine_of(base);
    RETURN_IF_ERROR(postgresql_state_parse(engine_state, &engine->state, error));
    int major;
    RETURN_IF_ERROR(postgresql_read_major(base->options.data_directory, &major, error));
    if (strtol(parent_version, NULL, 10) != major) {
        return error_set(error, REASON_ENGINE_VERSION,
                         "the parent's files are of PostgreSQL %d, its manifest says %s", major,
                         parent_version);
    }
    RETURN_IF_ERROR(postgresql_find_programs(&engine->server, major, error));
    engine->is_adopted = true;
    return STATUS_OK;
}

// Where the directory's own WAL ends: the parent's checkpoint, or the segment that the copy's WAL
// ends in.
static Status find_start(PostgresqlEngine *engine, Error *error)
{
    if (engine->is_adopted) {
        if (engine->state.system_identifier != engine->control.system_identifier) {
            return error_set(error, REASON_PARENT_UNRESTORABLE,
                             "the parent's files are of another cluster than its manifest says");
        }
        engine->start_lsn = engine->state.checkpoint_lsn;
        engine->start_timeline = engine->state.timeline;
        return STATUS_OK;
    }
    uint64_t segment;
    RETURN_IF_ERROR(postgresql_wal_newest(engine->base.options.data_directory,
                                          engine->control.wal_segment_bytes,
                                          &engine->start_timeline, &segment, error));
    engine->start_lsn = segment * (uint64_t)engine->control.wal_segment_bytes;
    return STATUS_OK;
}

Status postgresql_run_standby(PostgresqlEngine *engine, Reason otherwise, Error *error)
{
    PostgresqlRun run = {.control = &engine->control, .is_standby = true};
    return postgresql_server_start(&engine->server, &run, otherwise, error);
}

// The parent is proven when its server has replayed to exactly its checkpoint.
static Status wait_for_parent(PostgresqlEngine *engine, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + PARENT_REPLAY_MS;
    uint64_t lsn = 0;
    while (clock_monotonic_ms() < deadline_ms) {
        bool is_paused;
        RETURN_IF_ERROR(postgresql_replayed(engine, &lsn, &is_paused, error));
        if (lsn == engine->start_lsn) {
            return STATUS_OK;
        }
        if (lsn > engine->start_lsn || postgresql_is_blind(engine)) {
            break;
        }
        if (postgresql_is_canceled(engine)) {
            return error_set(error, REASON_CANCELED, "canceled while the parent was starting");
        }
        clock_sleep_ms(POLL_MS);
    }
    if (lsn == 0) {
        return STATUS_OK; // lets nobody in before more WAL has come: the server itself said it is
                          // consistent
    }
    char reached[POSTGRESQL_LSN_TEXT_SIZE];
    char expected[POSTGRESQL_LSN_TEXT_SIZE];
    postgresql_lsn_format(lsn, reached);
    postgresql_lsn_format(engine->start_lsn, expected);
    return error_set(error, REASON_PARENT_UNRESTORABLE,
                     "the parent replays to %s, not to its checkpoint %s", reached, expected);
}

static Status postgresql_start(Engine *base, Error *error)
{
    PostgresqlEngine *engine = engine_of(base);
    int major;
    RETURN_IF_ERROR(postgresql_read_major(base->options.data_directory, &major, error));
    RETURN_IF_ERROR(postgresql_find_programs(&engine->server, major, error));
    RETURN_IF_ERROR(postgresql_read_control(&engine->server, &engine->control, error));
    RETURN_IF_ERROR(find_start(engine, error));
    Reason otherwise = engine->is_adopted ? REASON_PARENT_UNRESTORABLE : REASON_ENGINE_FAILED;
    RETURN_IF_ERROR(postgresql_run_standby(engine, otherwise, error));
    return engine->is_adopted ? wait_for_parent(engine, error) : STATUS_OK;
}

// Stopping
// --------------------------------------------------------------------------------------------------------

static Status check_stopped(const PostgresqlEngine *engine, Error *error)
{
    const PostgresqlControl *control = &engine->control;
    if (!text_equal(control->state, "shut down in recovery") ||
        control->system_identifier != engine->state.system_identifier ||
        control->min_recovery_lsn > engine->state.checkpoint_lsn ||
        control->redo_lsn >= engine->state.checkpoint_lsn) {
        char reached[POSTGRESQL_LSN_TEXT_SIZE];
        postgresql_lsn_format(control->min_recovery_lsn, reached);
        return error_set(error, REASON_ENGINE_FAILED,
                         "the stopped data directory is not at its checkpoint (%s, to %s)",
                         control->state, reached);
    }
    return STATUS_OK;
}

static Status postgresql_stop(Engine *base, Arena *arena, const char **ret_engine_state,
                              Error *error)
{
    PostgresqlEngine *engine = engine_of(base);
    const char *data = base->options.data_directory;
    if (!engine->is_checkpoint_reached) {
        return error_set(error, REASON_PRECONDITION, "the engine has not reached a checkpoint");
    }
    postgresql_receiver_stop(engine->receiver);
    engine->receiver = NULL;
    postgresql_closep(&engine->local_client);
    if (engine->server.pid != 0) {
        RETURN_IF_ERROR(postgresql_server_stop(&engine->server, error));
    }
    RETURN_IF_ERROR(postgresql_read_control(&engine->server, &engine->control, error));
    RETURN_IF_ERROR(check_stopped(engine, error));
    RETURN_IF_ERROR(postgresql_wal_trim(data, engine->control.wal_segment_bytes,
                                        engine->control.redo_lsn, engine->state.checkpoint_lsn,
                                        base->options.recorder, error));
    RETURN_IF_ERROR(postgresql_remove_file(data, "standby.signal", error));
    RETURN_IF_ERROR(postgresql_auto_conf_put_back(data, error));
    engine->is_stopped = true;
    *ret_engine_state = postgresql_state_write(arena, &engine->state, engine->server.major);
    return STATUS_OK;
}

static Status postgresql_committed(Engine *base, Error *error)
{
    PostgresqlEngine *engine = engine_of(base);
    if (!engine->is_checkpoint_reached) {
        return error_set(error, REASON_PRECONDITION, "the engine has not reached a checkpoint");
    }
    return postgresql_slots_commit(engine, error);
}

static Status postgresql_check_alive(Engine *base, Error *error)
{
    return postgresql_server_check(&engine_of(base)->server, error);
}

const EngineDriver engine_postgresql = {
    .name = "postgresql",
    .probe = postgresql_probe,
    .clean_source = postgresql_clean_source,
    .open = postgresql_open,
    .close = postgresql_close_engine,
    .seed = postgresql_seed,
    .adopt = postgresql_adopt,
    .start = postgresql_start,
    .follow = postgresql_follow,
    .position = postgresql_position,
    .checkpoint_take = postgresql_checkpoint_take,
    .replay_to = postgresql_replay_to,
    .stop = postgresql_stop,
    .layout = postgresql_layout,
    .serve = postgresql_serve,
    .check_alive = postgresql_check_alive,
    .committed = postgresql_committed,
    .forget_source = postgresql_forget_source,
};
