// SPDX-License-Identifier: Apache-2.0
// The MariaDB engine: MariaDB 10.6 or newer. Everything but the first copy is shared with MySQL.
#include "agent/engine/engine_mysql_family.h"

static Status mariadb_probe(const EngineSource *source, int64_t timeout_ms, EngineInfo *ret_info,
                            Error *error)
{
    return mysql_family_probe(false, source, timeout_ms, ret_info, error);
}

static Status mariadb_open(const EngineOptions *options, const EngineSource *source,
                           Engine **ret_engine, Error *error)
{
    return mysql_family_open(&engine_mariadb, false, options, source, ret_engine, error);
}

const EngineDriver engine_mariadb = {
    .name = "mariadb",
    .probe = mariadb_probe,
    .clean_source = mysql_family_clean_source,
    .open = mariadb_open,
    .close = mysql_family_close,
    .seed = mariadb_seed,
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
