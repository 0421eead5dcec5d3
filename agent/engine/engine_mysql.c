// SPDX-License-Identifier: Apache-2.0
// The MySQL engine: MySQL 8.0.22 or newer. Everything but the first copy is shared with MariaDB.
#include "agent/engine/engine_mysql_family.h"

static Status mysql_engine_probe(const EngineSource *source, int64_t timeout_ms,
                                 EngineInfo *ret_info, Error *error)
{
    return mysql_family_probe(true, source, timeout_ms, ret_info, error);
}

static Status mysql_engine_open(const EngineOptions *options, const EngineSource *source,
                                Engine **ret_engine, Error *error)
{
    return mysql_family_open(&engine_mysql, true, options, source, ret_engine, error);
}

const EngineDriver engine_mysql = {
    .name = "mysql",
    .probe = mysql_engine_probe,
    .clean_source = mysql_family_clean_source,
    .open = mysql_engine_open,
    .close = mysql_family_close,
    .seed = mysql_seed,
    .adopt = mysql_family_adopt,
    .start = mysql_family_start,
    .follow = mysql_replica_follow,
    .position = mysql_replica_position,
    .checkpoint_take = mysql_replica_checkpoint_take,
    .replay_to = mysql_replica_replay_to,
    .stop = mysql_family_stop,
    .layout = mysql_family_layout,
    .serve = mysql_family_serve,
    .check_alive = mysql_family_check_alive,
};
