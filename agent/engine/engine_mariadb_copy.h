// SPDX-License-Identifier: Apache-2.0
// Copying one table from a source connection to a local one, row by row and byte for byte. Included
// by engine_mariadb*.c only.
#pragma once

#include "agent/engine/engine_mysql_client.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct MariadbTable {
    const char *schema;
    const char *name;
    bool is_transactional; // else it is copied under the lock
    bool is_versioned;     // keeps its own history
    bool is_sequence;
    int64_t size_bytes; // estimate
} MariadbTable;

// A pair of connections; the source's has a snapshot open.
typedef struct MariadbPipe {
    MysqlClient *source;
    MysqlClient *local;
    atomic_int_fast64_t *copied_bytes;
} MariadbPipe;

// Makes the table as the source shows it and copies its rows.
Status mariadb_copy_table(const MariadbPipe *pipe, const MariadbTable *table, Error *error);
// The same in pieces: the table alone, and of its rows those that fulfil a condition.
Status mariadb_copy_definition(const MariadbPipe *pipe, const MariadbTable *table, Error *error);
Status mariadb_copy_range(const MariadbPipe *pipe, const MariadbTable *table, const char *condition,
                          Error *error);
// Names the failure of a question to the source: a table that was altered after the snapshot is
// SOURCE_CHANGED.
Status mariadb_source_failed(const MysqlClient *source, Error *error);
// Replaces the rows of a system table that both servers have: the columns that both have.
Status mariadb_copy_system_rows(const MariadbPipe *pipe, const char *name, Error *error);
