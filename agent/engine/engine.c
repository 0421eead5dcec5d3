// SPDX-License-Identifier: Apache-2.0
// The table of engines, and the functions that callers use: they check arguments and forward.
#include "agent/engine/engine_driver.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>

static const EngineDriver *const DRIVERS[] = {
    &engine_mariadb,
    &engine_mysql,
    &engine_postgresql,
};

static Status find_driver(const char *name, const EngineDriver **ret_driver, Error *error)
{
    for (size_t i = 0; i < ARRAY_COUNT(DRIVERS); i++) {
        if (text_equal(DRIVERS[i]->name, name)) {
            *ret_driver = DRIVERS[i];
            return STATUS_OK;
        }
    }
    error_set(error, REASON_INVALID, "there is no engine '%s'", name == NULL ? "" : name);
    error_hint(error, "engines are mariadb, mysql and postgresql");
    return error->status;
}

Status engine_probe(const char *engine, const EngineSource *source, int64_t timeout_ms,
                    EngineInfo *ret_info, Error *error)
{
    assert(source != NULL && source->host != NULL && source->username != NULL);
    assert(timeout_ms > 0 && ret_info != NULL);
    const EngineDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(engine, &driver, error));
    *ret_info = (EngineInfo){0};
    return driver->probe(source, timeout_ms, ret_info, error);
}

Status engine_clean_source(const char *engine, const EngineSource *source, const char *shard_id,
                           const char *const *alive, int *ret_removed, Error *error)
{
    assert(source != NULL && shard_id != NULL && alive != NULL && ret_removed != NULL);
    const EngineDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(engine, &driver, error));
    return driver->clean_source(source, shard_id, alive, ret_removed, error);
}

Status engine_open(const EngineOptions *options, const EngineSource *source, Engine **ret_engine,
                   Error *error)
{
    assert(options != NULL && ret_engine != NULL); // a restore has no source
    assert(options->data_directory != NULL && options->work_directory != NULL);
    assert(options->agent_program != NULL);
    const EngineDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(options->engine, &driver, error));
    return driver->open(options, source, ret_engine, error);
}

void engine_close(Engine *engine)
{
    if (engine != NULL) {
        engine->driver->close(engine);
    }
}

Status engine_seed(Engine *engine, EngineProgressFunction on_progress, void *context, Error *error)
{
    assert(engine != NULL);
    return engine->driver->seed(engine, on_progress, context, error);
}

Status engine_adopt(Engine *engine, const char *parent_version, const char *engine_state,
                    Error *error)
{
    assert(engine != NULL && parent_version != NULL && engine_state != NULL);
    return engine->driver->adopt(engine, parent_version, engine_state, error);
}

Status engine_start(Engine *engine, Error *error)
{
    assert(engine != NULL);
    return engine->driver->start(engine, error);
}

Status engine_follow(Engine *engine, Error *error)
{
    assert(engine != NULL);
    return engine->driver->follow(engine, error);
}

Status engine_position(Engine *engine, EngineProgress *ret_progress, bool *ret_is_caught_up,
                       Error *error)
{
    assert(engine != NULL && ret_progress != NULL && ret_is_caught_up != NULL);
    return engine->driver->position(engine, ret_progress, ret_is_caught_up, error);
}

Status engine_checkpoint_take(Engine *engine, const char *name, Checkpoint *ret_checkpoint,
                              Error *error)
{
    assert(engine != NULL && name != NULL && ret_checkpoint != NULL);
    return engine->driver->checkpoint_take(engine, name, ret_checkpoint, error);
}

Status engine_replay_to(Engine *engine, const Checkpoint *checkpoint, int64_t stall_ms,
                        EngineProgressFunction on_progress, void *context, Error *error)
{
    assert(engine != NULL && checkpoint != NULL && stall_ms > 0);
    return engine->driver->replay_to(engine, checkpoint, stall_ms, on_progress, context, error);
}

Status engine_stop(Engine *engine, Arena *arena, const char **ret_engine_state, Error *error)
{
    assert(engine != NULL && arena != NULL && ret_engine_state != NULL);
    return engine->driver->stop(engine, arena, ret_engine_state, error);
}

Status engine_layout(Engine *engine, Arena *arena, EngineLayout *ret_layout, Error *error)
{
    assert(engine != NULL && arena != NULL && ret_layout != NULL);
    return engine->driver->layout(engine, arena, ret_layout, error);
}

Status engine_serve(Engine *engine, const char *version, const char *engine_state, int port,
                    int64_t *ret_started_ms, Error *error)
{
    assert(engine != NULL && version != NULL && engine_state != NULL && ret_started_ms != NULL);
    assert(port >= 0 && port <= UINT16_MAX);
    return engine->driver->serve(engine, version, engine_state, port, ret_started_ms, error);
}

Status engine_check_alive(Engine *engine, Error *error)
{
    assert(engine != NULL);
    return engine->driver->check_alive(engine, error);
}

Status engine_committed(Engine *engine, Error *error)
{
    assert(engine != NULL);
    return engine->driver->committed == NULL ? STATUS_OK : engine->driver->committed(engine, error);
}

Status engine_forget_source(const char *engine, const EngineSource *source, const char *shard_id,
                            Error *error)
{
    assert(source != NULL && shard_id != NULL);
    const EngineDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(engine, &driver, error));
    return driver->forget_source == NULL ? STATUS_OK
                                         : driver->forget_source(source, shard_id, error);
}
