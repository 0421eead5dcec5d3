// SPDX-License-Identifier: Apache-2.0
// Dividing a table into ranges of its primary key that are about equally large, so that several
// connections can copy it. Included by engine_mariadb*.c only.
#pragma once

#include "agent/engine/engine_mariadb_copy.h"
#include "common/arena.h"

#define MARIADB_RANGE_COUNT_MAX 16

// Conditions on the primary key; every row of the snapshot fulfils exactly one. Count 0: the table
// has no key that it can be divided by, or too few values of it.
typedef struct MariadbRanges {
    const char *conditions[MARIADB_RANGE_COUNT_MAX];
    size_t count;
} MariadbRanges;

// `source` has its snapshot open and speaks "binary". Costs some hundred small questions at most
// and reads no rows but single ones by their key.
Status mariadb_ranges_plan(MysqlClient *source, Arena *arena, const MariadbTable *table,
                           MariadbRanges *ret_ranges, Error *error);
