// SPDX-License-Identifier: Apache-2.0
// Secondary indexes of a table that is loaded by several connections: they are taken away while it
// is empty and made again, sorted, when it is full. Included by engine_mariadb*.c only.
#pragma once

#include "agent/engine/engine_mariadb_copy.h"
#include "common/arena.h"

// Takes away the secondary indexes and foreign keys of the empty local table. *ret_statement makes
// them again; NULL when there are none. It has been tried: the table was the same as before.
// *ret_is_lifted false: that does not work for this table, which is now in an unknown state.
Status mariadb_indexes_lift(MysqlClient *local, Arena *arena, const MariadbTable *table,
                            const char **ret_statement, bool *ret_is_lifted, Error *error);
Status mariadb_indexes_restore(MysqlClient *local, Arena *arena, const MariadbTable *table,
                               const char *statement, Error *error);
