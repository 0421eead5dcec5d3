// SPDX-License-Identifier: Apache-2.0
// For implementers of engines only. Drivers embed Engine as their first member; engine.c holds the
// table of drivers, checks arguments and forwards. Every member is required but those marked
// optional: NULL means that there is nothing to do.
#pragma once

#include "agent/engine/engine.h"

typedef struct EngineDriver {
    const char *name; // "mariadb"
    Status (*probe)(const EngineSource *source, int64_t timeout_ms, EngineInfo *ret_info,
                    Error *error);
    Status (*clean_source)(const EngineSource *source, const char *shard_id,
                           const char *const *alive, int *ret_removed, Error *error);
    Status (*open)(const EngineOptions *options, const EngineSource *source, Engine **ret_engine,
                   Error *error);
    void (*close)(Engine *engine);
    Status (*seed)(Engine *engine, EngineProgressFunction on_progress, void *context, Error *error);
    Status (*adopt)(Engine *engine, const char *parent_version, const char *engine_state,
                    Error *error);
    Status (*start)(Engine *engine, Error *error);
    Status (*follow)(Engine *engine, Error *error);
    Status (*position)(Engine *engine, EngineProgress *ret_progress, bool *ret_is_caught_up,
                       Error *error);
    Status (*checkpoint_take)(Engine *engine, const char *name, Checkpoint *ret_checkpoint,
                              Error *error);
    Status (*replay_to)(Engine *engine, const Checkpoint *checkpoint, int64_t stall_ms,
                        EngineProgressFunction on_progress, void *context, Error *error);
    Status (*stop)(Engine *engine, Arena *arena, const char **ret_engine_state, Error *error);
    Status (*layout)(Engine *engine, Arena *arena, EngineLayout *ret_layout, Error *error);
    Status (*serve)(Engine *engine, const char *version, const char *engine_state, int port,
                    int64_t *ret_started_ms, Error *error);
    Status (*check_alive)(Engine *engine, Error *error);
    Status (*committed)(Engine *engine, Error *error); // optional
    Status (*forget_source)(const EngineSource *source, const char *shard_id,
                            Error *error); // optional
} EngineDriver;

struct Engine {
    const EngineDriver *driver;
    EngineOptions options;
    EngineSource source; // password copied
};

extern const EngineDriver engine_mariadb;
extern const EngineDriver engine_mysql;
extern const EngineDriver engine_postgresql;
